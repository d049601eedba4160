"""Tests of how statements are written down."""
