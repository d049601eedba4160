"""Tests of how the world speaks: readers, templates, and HTTP against the simulator."""
