"""Tests of the stages against the simulated services, without Dagster."""
