"""What another model would pay: nothing is committed, and no money comes or goes.

The yardstick is the other model's own month: the same project, configured so and run.
"""

import json
import xml.etree.ElementTree as ET
from collections import defaultdict
from fractions import Fraction
from io import StringIO

import polars as pl
import pytest
from rich.console import Console

from royalty_assets.domain.allocation import (
    ArtistCentric,
    ProRata,
    Shapley,
    StreamThreshold,
    UserCentric,
)
from royalty_assets.domain.money import parse_amount, to_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.pipeline.catalog import shares_in_force
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.month import month_frames
from royalty_assets.pipeline.periods import ledger_in_force
from royalty_assets.pipeline.what_if import HELD, IN_SUSPENSE, Change, what_if
from royalty_assets.what_if_report import largest, show_what_if, what_if_json, what_if_svg
from royalty_assets_tests.pipeline.test_listening import with_feed
from royalty_assets_tests.projects import MARCH, demo_context, inbox_context, month_hash, run_month

MODELS = [
    UserCentric(),
    Shapley(),
    StreamThreshold(units_min=30),
    ArtistCentric(plays_cap=20, artist_units_min=50, artist_listeners_min=20),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with demo_context(tmp_path_factory.mktemp("plain")) as (context, _):
        run_month(context)
        yield context


def by_recording(ledger, feeds):
    amounts = defaultdict(int)
    claims = ledger.filter(pl.col("feed").is_in(feeds) & (pl.col("account") != "receivable"))
    keys = claims.select("currency", "recording_id").rows()
    for (currency, recording), atoms in zip(keys, series_to_atoms(claims["amount"]), strict=True):
        amounts[currency, recording or IN_SUSPENSE] -= atoms
    return amounts


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.model)
def test_no_model_makes_or_loses_money_and_nothing_is_committed(plain, model):
    before = month_hash(plain)
    files = sorted(plain.lake.paths())
    found = what_if(plain, MARCH, model)
    assert found.totals
    assert all(now == then for now, then in found.totals.values())
    for changes in (found.recordings, found.rights_holders):
        moved = defaultdict(int)
        for change in changes:
            moved[change.currency] += change.difference
        assert set(moved.values()) == {0}
    assert any(change.difference for change in found.recordings)
    assert month_hash(plain) == before
    assert sorted(plain.lake.paths()) == files


def test_the_same_model_moves_nothing(plain):
    assert not any(change.difference for change in what_if(plain, MARCH, ProRata()).recordings)


@pytest.mark.parametrize("model", [UserCentric(), MODELS[3]], ids=lambda model: model.model)
def test_what_would_be_is_what_a_run_with_that_model_gives(plain, tmp_path, model):
    """And from there, pro rata is what was: the aggregate that is kept says the same."""
    found = what_if(plain, MARCH, model, "sonora")
    with demo_context(tmp_path) as (context, _):
        other = with_feed(context, "sonora", allocation=model.model_dump())
        run_month(other)
        run = by_recording(month_frames(other, MARCH)[0], ["sonora"])
        back = what_if(other, MARCH, ProRata(), "sonora")
    assert {(c.currency, c.key): c.after for c in found.recordings} == run
    now = by_recording(month_frames(plain, MARCH)[0], ["sonora"])
    assert {(c.currency, c.key): c.before for c in found.recordings} == now
    assert {(c.currency, c.key): c.after for c in back.recordings} == now


def test_rights_holders_have_their_shares_of_what_recordings_have(plain):
    """Each holder is within an atom per ledger line of the exact share; what has none is held."""
    found = what_if(plain, MARCH, UserCentric())
    _, shares = shares_in_force(plain)
    splits = defaultdict(dict)
    for recording, holder, parts in shares.select(
        "recording_id", "rights_holder_id", "share_parts"
    ).iter_rows():
        splits[recording][holder] = parts
    due = defaultdict(Fraction)
    for change in found.recordings:
        split = splits.get(change.key, {IN_SUSPENSE: 1})
        for holder, parts in split.items():
            due[change.currency, holder] += Fraction(change.difference * parts, sum(split.values()))
    told = {(c.currency, c.key): c.difference for c in found.rights_holders}
    assert told.keys() == due.keys()
    assert IN_SUSPENSE in {holder for _, holder in told}
    # Both sides are split, line by line, each to within an atom.
    lines = ledger_in_force(plain, MARCH).height
    assert all(abs(told[key] - due[key]) < 2 * lines for key in due)


CHART = "chart_date,region,song,performer,streams\n"
USED = {"USUM70600055": 60, "USUM70600056": 30, "USUM70600057": 10}


def threshold_month(home, **feed):
    """A pool of 10 EUR that three recordings share by report lines; R3 has no shares."""
    context = inbox_context(home, pool={"amount": "10.00", "currency": "EUR"}, **feed)
    recordings = "".join(f"R{n},{isrc},Song {n},A\n" for n, isrc in enumerate(USED, 1))
    (home / "catalog/recordings.csv").write_text(f"recording_id,isrc,title,artist\n{recordings}")
    shares = "recording_id,rights_holder_id,share\nR1,P1,100\nR2,P1,50\nR2,P2,50\n"
    (home / "catalog/shares.csv").write_text(shares)
    lines = (f"2025-03-01,de,Song {n},A,{units}\n" for n, units in enumerate(USED.values(), 1))
    (home / "inbox/usage.csv").write_text(CHART + "".join(lines))
    run_month(context)
    return context


def test_reports_can_be_asked_about_a_threshold_and_set_to_it(tmp_path):
    """6, 3 and 1 EUR become 6⅔ and 3⅓; what is held for want of shares is told as that."""
    context = threshold_month(tmp_path / "pro-rata")
    found = what_if(context, MARCH, StreamThreshold(units_min=25))
    cents = {c.key: (c.before * 100 // 10**18, c.after * 100 // 10**18) for c in found.recordings}
    assert cents == {"R1": (600, 666), "R2": (300, 333), "R3": (100, 0)}
    held = {c.key: (c.before * 100 // 10**18, c.after) for c in found.rights_holders}[HELD]
    assert held == (100, 0)
    allocation = {"model": "stream_threshold", "units_min": 25}
    configured = threshold_month(tmp_path / "threshold", allocation=allocation)
    run = by_recording(month_frames(configured, MARCH)[0], ["reports"])
    assert {(c.currency, c.key): c.after for c in found.recordings} == run
    with pytest.raises(StageBlockedError, match="pro_rata and stream_threshold can share those"):
        what_if(context, MARCH, UserCentric())


def test_a_month_that_is_not_posted_and_feeds_that_cannot_be_shared_are_refused(plain):
    with pytest.raises(StageBlockedError, match="run the project first"):
        what_if(with_feed(plain, "sonora", keep_listening=True), MARCH, ProRata())
    with pytest.raises(StageBlockedError, match="'mercado' shares a pool; those that do: sonora"):
        what_if(plain, MARCH, UserCentric(), "mercado")


def test_json_is_exact_and_whole(plain):
    found = what_if(plain, MARCH, UserCentric())
    told = json.loads(json.dumps(what_if_json(found)))
    assert told["model"] == {"model": "user_centric"}
    assert len(told["recordings"]) == len(found.recordings)
    for row, change in zip(told["recordings"], found.recordings, strict=True):
        assert to_atoms(parse_amount(row["change"])) == change.difference
        assert row["key"] == change.key


def shown(found, limit=3) -> str:
    console = Console(file=StringIO(), width=140)
    show_what_if(console, found, limit)
    return console.file.getvalue()


def test_the_terminal_shows_the_largest_of_both_kinds_with_bars(plain):
    found = what_if(plain, MARCH, UserCentric())
    text = shown(found)
    assert "the sum is the same" in text
    assert "DIFFERS" not in text
    for currency in found.totals:
        own = [c for c in found.recordings if c.currency == currency]
        for change in (max(own, key=lambda c: c.difference), min(own, key=lambda c: c.difference)):
            assert (change.name or change.key) in text
    assert "█" in text


def change(key, difference, name="", artist=""):
    return Change("EUR", key, name, artist, 1, 10**18, 10**18 + difference)


def test_the_largest_are_gains_then_losses_and_nothing_that_stays():
    changes = [change(k, d) for k, d in zip("abcdef", [0, 5, -7, 9, -1, 3], strict=True)]
    assert [c.key for c in largest(changes, 2)] == ["d", "b", "e", "c"]
    assert [c.key for c in largest(changes, 9)] == ["d", "b", "f", "e", "c"]


def test_the_drawing_is_well_formed_whatever_titles_hold():
    changes = [
        change("R1", 4 * 10**17, "<script>&\x07 title", 'A "B"'),
        change("R2", -2 * 10**17, "[red]x[/]" + "long " * 30),
    ]
    root = ET.fromstring(what_if_svg("a & b", changes, 5))
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("x")]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[0] == 2 * widths[1] > 0
    assert float(bars[1].get("x")) + widths[1] == float(bars[0].get("x"))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert '<script>&  title · A "B"' in texts
    assert "+0.40" in texts
    assert "-0.20" in texts
