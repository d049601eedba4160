"""Tests of matching: by example, by property, by an oracle that compares everything."""
