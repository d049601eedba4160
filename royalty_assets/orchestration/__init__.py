"""Dagster only: assets, checks, sensors, schedules and partitions over the stages.

Assets call the pipeline and hold no rules; checks tell what the registry has on record.
"""
