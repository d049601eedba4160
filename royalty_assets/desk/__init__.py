"""The desk: web pages on this machine, where people decide about open usage.

What belongs here is what is shown and asked; what a decision means is in ``domain.adjudication``,
what it touches in ``pipeline.adjudicate``.
"""
