"""Made-up splits for a catalog that has none, to try things out with; never for real payouts.

They follow from each recording's ISRC, so the same catalog always gets the same splits, and
every holder's name says that it is simulated.
"""

import hashlib
from collections.abc import Iterator

import polars as pl

from royalty_assets.domain.catalog import SHARE_SCHEMA, SHARE_WHOLE
from royalty_assets.domain.matching.normalise import normalise_credits

_ARTIST_PERCENT = (20, 25, 50, 80)
_LABELS = 12


def simulated_shares(recordings: pl.DataFrame) -> pl.DataFrame:
    """An artist's and a label's share for each of these recordings (``SHARE_SCHEMA``)."""
    rows = [row for recording in recordings.iter_rows(named=True) for row in _split(recording)]
    return pl.DataFrame(rows, schema=SHARE_SCHEMA, orient="row").sort(
        "recording_id", "rights_holder_id"
    )


def _split(recording: dict[str, str]) -> Iterator[tuple[str, str, str, int]]:
    draw = hashlib.sha256(recording["isrc"].encode()).digest()
    artist_parts = SHARE_WHOLE * _ARTIST_PERCENT[draw[0] % len(_ARTIST_PERCENT)] // 100
    credited = normalise_credits(recording["artist"]) or ["unknown artist"]
    artist = credited[0].replace(" ", "-")[:100]
    label = f"{draw[1] % _LABELS + 1:02d}"
    yield (
        recording["recording_id"],
        f"sim-artist:{artist}",
        f"{credited[0]} (simulated)",
        artist_parts,
    )
    yield (
        recording["recording_id"],
        f"sim-label:{label}",
        f"Label {label} (simulated)",
        SHARE_WHOLE - artist_parts,
    )
