"""Music services that do not exist: a seeded world of recordings, plays and reports.

``world`` makes the catalog, ``telemetry`` and ``reports`` what services would say of its use (with
the truth beside it), ``server`` speaks it over HTTP on localhost with ``faults`` that can be
switched on. Everything follows from the scenario's seed: the same scenario is the same bytes.
"""
