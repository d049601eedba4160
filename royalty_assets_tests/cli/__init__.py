"""Tests of the command line's own rules; commands as typed are in ``end_to_end``."""
