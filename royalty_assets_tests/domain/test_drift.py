"""What changed between two catalogs, and the money that it moves, against a slow oracle."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.catalog import CatalogRow, build_catalog
from royalty_assets.domain.drift import compare_catalogs, drift_findings, money_moved
from royalty_assets.domain.money_columns import atoms_to_series


def catalog(recordings, shares=(), rights=()):
    tables = (
        [{"recording_id": r, "isrc": i, "title": t, "artist": "A"} for r, i, t in recordings],
        [{"recording_id": r, "rights_holder_id": h, "share": s} for r, h, s in shares],
        [{"recording_id": r, "territories": t} for r, t in rights],
    )
    rows = [[CatalogRow("f", n, row) for n, row in enumerate(table)] for table in tables]
    built, problems = build_catalog(*rows)
    assert not problems
    return built


ONE, TWO = ("R1", "USUM70600001", "Sun"), ("R2", "USUM70600002", "Moon")
SPLIT = [("R1", "P1", "60"), ("R1", "P2", "40")]


def told(before, after):
    return [(c.recording_id, c.what, c.before, c.after) for c in compare_catalogs(before, after)]


def test_every_kind_of_change_is_told_and_nothing_else():
    before = catalog([ONE, TWO], SPLIT)
    assert told(before, before) == []
    assert told(before, catalog([ONE], SPLIT)) == [("R2", "gone", "Moon by A", "")]
    assert told(before, catalog([ONE, TWO, ("R3", "USUM70600003", "New")], SPLIT)) == []
    renamed = catalog([("R1", "USUM70600001", "Sunny"), TWO], SPLIT)
    assert told(before, renamed) == [("R1", "title", "Sun", "Sunny")]
    swapped = catalog([("R1", "USUM70600002", "Sun"), ("R2", "USUM70600001", "Moon")], SPLIT)
    assert [change[:2] for change in told(before, swapped)] == [("R1", "isrc"), ("R2", "isrc")]
    other = catalog([ONE, TWO], [("R1", "P1", "50"), ("R1", "P2", "50")])
    assert told(before, other) == [("R1", "splits", "P1 60.0, P2 40.0", "P1 50.0, P2 50.0")]
    narrower = catalog([ONE, TWO], SPLIT, [("R1", "DE")])
    assert told(before, narrower) == [("R1", "rights", "Worldwide …", "DE …")]


def lines(amounts):
    keys = sorted(amounts)
    names = ["recording_id", "rights_holder_id", "currency"]
    frame = pl.DataFrame(keys, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_columns(atoms_to_series("amount", [amounts[key] for key in keys]))


_paid = st.dictionaries(
    st.tuples(
        st.sampled_from(["R1", "R2", "R3"]), st.sampled_from(["P1", "P2"]),
        st.sampled_from(["EUR", "USD"]),
    ),
    st.integers(-50, 50),
    max_size=6,
)  # fmt: skip


@given(_paid, _paid)
def test_what_moves_is_what_somebody_had_and_has_no_more(paid, due):
    moved = money_moved(["R1", "R2"], lines(paid), lines(due))
    expected = {}
    for key in paid:
        recording, _, currency = key
        old, new = paid[key], due.get(key, 0)
        loses = (old > 0 and new < old) or (old < 0 and new > old)
        if recording != "R3" and loses:
            amounts = expected.setdefault(recording, {})
            amounts[currency] = amounts.get(currency, 0) + abs(old - new)
    assert moved == expected


def test_findings_begin_with_the_sum_and_end_with_what_moves_least():
    changes = compare_catalogs(catalog([ONE, TWO], SPLIT), catalog([], []))
    moved = {"R1": {"EUR": 10**18}, "R2": {"EUR": 5 * 10**18}}
    first, *rest = drift_findings(changes, moved, {"EUR": 10**18})
    assert first == "changes in the catalog move 6 EUR that was paid to others"
    assert [one[:2] for one in rest] == ["R2", "R1"]
    assert drift_findings(changes, moved, {"EUR": 6 * 10**18}) == []
