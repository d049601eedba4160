"""Tests of the DSR reader."""
