"""How the world speaks: HTTP APIs, folders, and the templates of report files.

What belongs here ends with payloads (exact bytes with a name) and the rows found in them. Where
payloads are kept and what rows mean is for ``storage``, ``domain`` and ``pipeline``.
"""
