"""Tests of royalty_assets; the tree mirrors the package, plus ``end_to_end``."""
