"""Plays by listener: kept for feeds that ask, whole per listener, and what a ledger makes of them.

The oracle shares each pool in fractions over the validated lines and the decisions on them, as
plain Python objects; the ledger has to agree to the last atom but one of rounding.
"""

from collections import defaultdict
from fractions import Fraction

import polars as pl
import pytest
from pydantic import ValidationError

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Project
from royalty_assets.domain.listening import LISTENING_SCHEMA, listener_pseudonyms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.usage import USAGE_IDENTITY
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.listening import whole_listeners
from royalty_assets.pipeline.month import month_frames, posted, wanting
from royalty_assets.storage.lake import read_frame
from royalty_assets_tests.lakes import LakeOver
from royalty_assets_tests.projects import MARCH, demo_context, month_hash, run_feed, run_month


def with_feed(context: PipelineContext, name: str, **changes) -> PipelineContext:
    """The same project and stores with a feed configured otherwise."""
    content = context.project.model_dump()
    content["feeds"] = [
        feed | (changes if feed["name"] == name else {}) for feed in content["feeds"]
    ]
    project = Project.model_validate(content)
    return PipelineContext(project, context.home, context.lake, context.registry, context.templates)


def matched_batches(context, feed):
    commits = context.registry.commits(Stage.MATCHED, feed)
    return [b for c in commits for b in context.registry.batches_by_id(c.batch_ids)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The demo's small month, shared pro rata."""
    with demo_context(tmp_path_factory.mktemp("plain")) as (context, _):
        run_month(context)
        yield context, month_hash(context)


@pytest.fixture(scope="module")
def user_centric(tmp_path_factory):
    """The same month with one telemetry feed shared by listener."""
    with demo_context(tmp_path_factory.mktemp("by-listener")) as (context, _):
        asking = with_feed(context, "sonora", allocation="user_centric")
        outcomes = run_month(asking)
        assert all(outcome.commit.is_green for outcome in outcomes)
        yield asking


def decided_lines(context, feed):
    """(user, territory, tier, use type, recording, reason) of each validated line, one by one."""
    decisions = {}
    for batch in matched_batches(context, feed):
        for row in read_frame(context.lake, batch.objects[0]).iter_rows(named=True):
            identity = tuple(row[name] for name in USAGE_IDENTITY)
            decisions[identity] = (row["recording_id"], row["reason"])
    lines = []
    for commit in context.registry.commits(Stage.VALIDATED, feed):
        for batch in context.registry.batches_by_id(commit.batch_ids):
            for row in read_frame(context.lake, batch.objects[0]).iter_rows(named=True):
                row["used_on"] = row["used_at"].date()
                identity = tuple(row[name] for name in USAGE_IDENTITY)
                place = (row["territory"], row["tier"], row["use_type"])
                lines.append((row["user_id"], *place, *decisions[identity]))
    return lines


def test_a_ledger_by_listener_is_the_definition_in_fractions(user_centric):
    ledger = month_frames(user_centric, MARCH)[0].filter(pl.col("feed") == "sonora")
    pools = defaultdict(int)
    receivable = ledger.filter(pl.col("account") == "receivable")
    for (territory, tier), atoms in zip(
        receivable.select("territory", "tier").rows(),
        series_to_atoms(receivable["amount"]),
        strict=True,
    ):
        pools[territory, tier] += atoms
    played = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for user, territory, tier, use_type, recording, reason in decided_lines(user_centric, "sonora"):
        claim = (territory, tier, use_type, recording or "", reason or "")
        pool = next(
            place
            for place in (
                (territory, tier), (territory, "all"), ("Worldwide", tier), ("Worldwide", "all"),
            )
            if place in pools
        )  # fmt: skip
        played[pool][user][claim] += 1
    due = defaultdict(Fraction)
    for pool, listeners in played.items():
        for claims in listeners.values():
            for claim, units in claims.items():
                part = Fraction(units, sum(claims.values()) * len(listeners))
                due[claim] += part * pools[pool]
    posted_lines = ledger.filter(pl.col("account") != "receivable")
    keys = posted_lines.select("territory", "tier", "use_type", "recording_id", "reason").rows()
    amounts = dict(zip(keys, series_to_atoms(posted_lines["amount"]), strict=True))
    assert amounts.keys() == due.keys()
    assert any(reason for *_, reason in due)
    assert all(abs(-amounts[claim] - due[claim]) < 1 for claim in due)


def test_other_models_pay_another_month(plain, user_centric):
    _, pro_rata_hash = plain
    assert month_hash(user_centric) != pro_rata_hash


def test_what_is_kept_is_the_lines_by_listener_under_pseudonyms(user_centric):
    counted = defaultdict(int)
    for user, *place_and_decision in decided_lines(user_centric, "sonora"):
        (listener,) = listener_pseudonyms("sonora", pl.Series([user])).to_list()
        counted[("sonora", *place_and_decision[:3], listener, *place_and_decision[3:])] += 1
    kept = pl.concat(
        read_frame(user_centric.lake, batch.objects[1])
        for batch in matched_batches(user_centric, "sonora")
    )
    assert dict(kept.schema) == LISTENING_SCHEMA
    total = defaultdict(int)
    for *key, units in kept.iter_rows():
        total[tuple(key)] += units
    assert total == counted
    users = {line[0] for line in decided_lines(user_centric, "sonora")}
    assert not users & set(kept["listener"])
    assert kept["listener"].str.contains("^[0-9a-f]{32}$").all()


def test_one_user_of_two_services_has_two_pseudonyms():
    users = pl.Series(["u1", "u2", "u1"])
    sonora = listener_pseudonyms("sonora", users).to_list()
    assert sonora[0] == sonora[2] != sonora[1]
    assert not set(sonora) & set(listener_pseudonyms("vinylia", users).to_list())


def test_keeping_listening_changes_neither_usage_nor_ledger(plain, tmp_path):
    """A feed that does not ask has one object a batch, and the usage of one that does."""
    context, digest = plain
    assert {len(batch.objects) for batch in matched_batches(context, "sonora")} == {1}
    with demo_context(tmp_path) as (fresh, _):
        keeping = with_feed(fresh, "sonora", keep_listening=True)
        run_month(keeping)
        assert month_hash(keeping) == digest
        kept, bare = matched_batches(keeping, "sonora"), matched_batches(context, "sonora")
        assert {len(batch.objects) for batch in kept} == {2}
        for each, other in zip(kept, bare, strict=True):
            one = read_frame(keeping.lake, each.objects[0]).drop("batch_sha256")
            assert one.equals(read_frame(context.lake, other.objects[0]).drop("batch_sha256"))


def test_a_feed_that_begins_to_ask_is_matched_again_before_its_month_is_posted(tmp_path):
    with demo_context(tmp_path) as (context, _):
        run_month(context)
        before = month_hash(context)
        asking = with_feed(context, "sonora", allocation="user_centric")
        assert posted(asking, MARCH) is None
        told = wanting(asking, MARCH)
        assert told
        assert all("sonora/matched is of other lines" in each for each in told)
        outcomes = run_month(asking)
        assert all(outcome.commit.is_green for outcome in outcomes)
        assert month_hash(asking) != before
        again = run_month(asking)
        assert not any(outcome.changed for outcome in again)
        run_month(context)
        assert month_hash(context) == before


def test_another_model_or_parameter_asks_for_another_ledger(plain):
    context, _ = plain
    assert posted(context, MARCH) is not None
    for units_min in (5, 50):
        allocation = {"model": "stream_threshold", "units_min": units_min}
        changed = with_feed(context, "sonora", allocation=allocation)
        assert wanting(changed, MARCH) == []
        assert posted(changed, MARCH) is None
    assert posted(with_feed(context, "sonora", allocation="pro_rata"), MARCH) is not None


def test_listeners_are_whole_in_parts_of_any_size_and_add_up(user_centric, plain):
    batches = matched_batches(user_centric, "sonora")
    (whole,) = whole_listeners(user_centric, batches)
    for rows_max in (1_000, 300):
        parts = list(whole_listeners(user_centric, batches, rows_max))
        assert len(parts) > 1
        names = [set(part["listener"]) for part in parts]
        assert sum(map(len, names)) == len(set().union(*names))
        assert pl.concat(parts).sort(pl.all()).equals(whole.sort(pl.all()))
    assert not list((user_centric.home / "spool").iterdir())
    bare, _ = plain
    (counted_again,) = whole_listeners(bare, matched_batches(bare, "sonora"))
    assert counted_again.equals(whole)


class LosingLake(LakeOver):
    """Loses the last row of each listening object."""

    def put(self, folder, label, rows, write):
        def write_less(path):
            write(path)
            if label.endswith("-listening"):
                pl.read_parquet(path).head(-1).write_parquet(path)

        return super().put(folder, label, rows, write_less)


def test_a_listening_object_that_lost_rows_makes_the_partition_red(tmp_path):
    """The gate counts plays in the lake again, by listener too."""
    with demo_context(tmp_path) as (context, _):
        keeping = with_feed(context, "sonora", keep_listening=True)
        keeping.lake = LosingLake(context.lake)
        feed = keeping.project.feed("sonora")
        take_catalog(keeping)
        outcomes = run_feed(keeping, feed, feed.partitions(MARCH, keeping.now())[:1])
        (finding,) = outcomes[-1].commit.checks["every_unit_is_accounted_for"]
        assert "are by listener" in finding


BASE = {"name": "f", "cadence": "hourly", "start": "2025-03-01"}
TELEMETRY = BASE | {
    "records": "play_events",
    "source": {"dialect": "cursor_json", "url": "http://localhost"},
    "pool": {"amount": "10", "currency": "EUR"},
}
REPORTS = BASE | {
    "records": "report_lines",
    "source": {"dialect": "inbox", "folder": "inbox"},
    "pool": {"amount": "10", "currency": "EUR"},
}


@pytest.mark.parametrize(
    ("feed", "told"),
    [
        (REPORTS | {"allocation": "user_centric"}, "telemetry .records: play_events. does"),
        (REPORTS | {"allocation": {"model": "artist_centric"}}, "who listened to what"),
        (REPORTS | {"keep_listening": True}, "report lines name no listeners"),
        (
            {k: v for k, v in TELEMETRY.items() if k != "pool"} | {"allocation": "user_centric"},
            "this feed has none; give it pool_source",
        ),
        (TELEMETRY | {"allocation": "user-centric"}, "does not match any of the expected tags"),
    ],
)
def test_an_allocation_that_cannot_be_is_refused_with_what_to_do(feed, told):
    with pytest.raises(ValidationError, match=told):
        Project.model_validate({"feeds": [feed]})


def test_reports_may_have_a_threshold():
    project = Project.model_validate(
        {"feeds": [REPORTS | {"allocation": {"model": "stream_threshold", "units_min": 50}}]}
    )
    assert project.feed("f").allocation.units_min == 50
    assert not project.feed("f").keeps_listening
