"""What royalties are, in pure Python: no Dagster, no I/O, no clock, no environment.

Everything here takes values and returns values. Reading, writing and scheduling belong to
``sources``, ``storage``, ``pipeline`` and ``orchestration``.
"""
