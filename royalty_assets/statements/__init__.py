"""How a statement is written down: PDF, CSV, Parquet, and a DSR for the payee's own system.

Every function here is from a ``domain.statements.Statement`` to bytes, without a clock, a file or a
network: the same statement is the same bytes. What a statement says is decided before; nothing here
computes an amount that is not on it, save sums and what is rounded for the eye.
"""
