"""Which recording was used: identifiers first, then names, else a question for a person.

The vocabulary: a *usage identity* is compared with *candidates* that *blocking keys* bring up; a
comparison has *scores*; a *decision* accepts one recording or states why none. Deciding depends
on the identity and the catalog alone, never on row order, batch cut or what was decided before.

``linkage`` learns from labelled records and pairs instead; it is measured, and decides no usage.
"""

from royalty_assets.domain.matching.cascade import (
    DECISION_SCHEMA,
    MATCHER_VERSION,
    METHODS,
    RECORDING_GONE,
    Matcher,
)

__all__ = ["DECISION_SCHEMA", "MATCHER_VERSION", "METHODS", "RECORDING_GONE", "Matcher"]
