"""Proofs: trees, notes, keys, receipts."""
