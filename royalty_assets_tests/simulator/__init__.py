"""Tests of the simulated world: the same seed is the same bytes, with a known truth."""
