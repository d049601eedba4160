"""A ledger whose pools are shared by a model: what is counted over all pools of a feed."""

import polars as pl
import pytest

from royalty_assets.domain.allocation import ArtistCentric, StreamThreshold, UserCentric
from royalty_assets.domain.ledger import build_ledger
from royalty_assets.domain.listening import LISTENING_SCHEMA
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.pool_sharing import FeedSharing, first_credited_artists
from royalty_assets_tests.domain.test_month import CENT, pool_frame, usage_frame

PLAYS = [("DE", "u1", "A", 6), ("DE", "u3", "C", 6), ("FR", "u1", "B", 6), ("FR", "u2", "A", 2)]
ARTISTS = pl.DataFrame({"recording_id": ["A", "B", "C"], "artist": ["Ann", "Ben", "Ann & Cid"]})
POOLS = [("f", "DE", "premium", "EUR", 120 * CENT), ("f", "FR", "premium", "EUR", 160 * CENT)]


def cents_of(model) -> dict[tuple[str, str], int]:
    """(territory, recording) → whole cents of the plays above."""
    usage = usage_frame(
        [("f", place, "premium", None, what, None, units, None) for place, _, what, units in PLAYS]
    )
    rows = [("f", place, "premium", "Stream", who, what, None, n) for place, who, what, n in PLAYS]
    listening = pl.DataFrame(rows, schema=LISTENING_SCHEMA, orient="row")
    sharing = FeedSharing(model, [listening], first_credited_artists(ARTISTS))
    ledger = build_ledger([usage], pool_frame(POOLS), {"f": sharing})
    claims = ledger.filter(pl.col("account") != "receivable")
    keys = claims.select("territory", "recording_id").rows()
    return {
        key: -atoms // CENT
        for key, atoms in zip(keys, series_to_atoms(claims["amount"]), strict=True)
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # Each pool has two listeners, of whom each plays one recording there.
        (UserCentric(), (60, 60, 80, 80)),
        # A's 6 and 2 plays are 8 of one recording; nothing else in either pool has so many.
        (StreamThreshold(units_min=8), (120, 0, 160, 0)),
        # Ann has A and C, three listeners and 14 plays in both pools: her 2 in France are 4.
        (
            ArtistCentric(plays_cap=None, artist_units_min=14, artist_listeners_min=3),
            (60, 60, 64, 96),
        ),
        # u1 plays 12 over both pools and counts for 6: 3 of 9 in Germany, 3 of 5 in France.
        (ArtistCentric(plays_cap=6), (40, 80, 64, 96)),
    ],
    ids=["user_centric", "threshold", "boost", "cap"],
)
def test_what_is_counted_over_all_pools_decides_in_each(model, expected):
    claims = [("DE", "A"), ("DE", "C"), ("FR", "A"), ("FR", "B")]
    assert cents_of(model) == dict(zip(claims, expected, strict=True))


def test_two_spellings_are_one_artist_and_no_credit_is_nobodys():
    recordings = pl.DataFrame(
        {"recording_id": ["1", "2", "3", "4"], "artist": ["Ann", "ANN feat. Ben", "", " "]}
    )
    artists = first_credited_artists(recordings)["artist"].to_list()
    assert artists[0] == artists[1]
    assert len(set(artists)) == 3
