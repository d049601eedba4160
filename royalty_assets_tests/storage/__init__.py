"""Tests of the lake and the registry, on real files and a real database."""
