"""Tests of the assets, sensors and schedules on real Dagster instances."""
