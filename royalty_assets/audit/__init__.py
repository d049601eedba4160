"""Proofs: the Merkle log, signed checkpoints, keys and receipts; pure but for the key files.

Where leaves rest is the registry's affair, what is logged the pipeline's. Of this package only
``keys`` touches files. ``verify_receipt`` is for people who have nothing of ours: it uses the
standard library alone, and shares no code with the rest, so that one can check the other.
"""
