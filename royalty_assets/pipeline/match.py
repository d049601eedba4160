"""The matched stage: each validated batch becomes usage per recording, with every decision.

A matched object holds one row per distinct usage identity of its batch: how often it was used,
what was decided, how, and on which batch (its SHA-256). It is the decision log and the ledger's
input in one. Judgements on names and open questions also go to the registry, for people.

A feed that keeps its listening has a second object beside each: plays by listener, under
pseudonyms (``listening.LISTENING_SCHEMA``), for the models that need them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.adjudication import Rule, rules_in_force, rules_sha256
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.listening import count_listening
from royalty_assets.domain.matching import MATCHER_VERSION, METHODS, Matcher
from royalty_assets.domain.usage import USAGE_IDENTITY, USAGE_LINE_SCHEMA
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, matcher_in_force
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    begin,
    commit_batch,
    green_input,
    standing,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.storage import tables
from royalty_assets.storage.lake import put_frame, read_frame
from royalty_assets.storage.registry import Turn

_READ = [
    *(name for name in USAGE_IDENTITY if name in USAGE_LINE_SCHEMA),
    "used_at",
    "units",
    "amount",
]
LISTENING_READ = [*_READ, "user_id"]
"""What listening is counted from in validated lines."""
USAGE, LISTENING = 0, 1
"""Where a matched batch has its objects; the second is there for feeds that keep listening."""


def matched(context: PipelineContext, feed: Feed, partition: Partition) -> Commit | None:
    """The commit in force, if there is nothing to match anew.

    Raises:
        StageBlockedError: if there is no catalog, or the validated input is absent or red.
    """
    version, _ = catalog_in_force(context)
    _, usage = green_input(context, feed.name, Stage.VALIDATED, partition.key)
    current = context.registry.commit(feed.name, Stage.MATCHED, partition.key)
    if current is None:
        return None
    rules = rules_touching(context, rules_of(context), current.batch_ids)
    input_sha256 = matched_input_sha256(feed, version, usage, rules)
    return standing(context, feed.name, Stage.MATCHED, partition.key, input_sha256)


def matched_input_sha256(
    feed: Feed, version: str, validated: list[Batch], rules: Sequence[Rule]
) -> str:
    """A digest of what a partition is matched from: its lines, the catalog, the rules for it."""
    lines = (batch.sha256 for batch in validated)
    kept = ["listening"] if feed.keeps_listening else []
    return combined_sha256([version, MATCHER_VERSION, rules_sha256(rules), *kept, *lines])


def rules_of(context: PipelineContext) -> list[Rule]:
    """What people have decided, in force."""
    number = context.registry.last_adjudication()
    return context.rules(number, lambda: rules_in_force(context.registry.adjudications()))


def rules_touching(
    context: PipelineContext, rules: Sequence[Rule], batch_ids: Sequence[str]
) -> list[Rule]:
    """Those of some rules that usage in these matched batches is a subject of."""
    if not rules:
        return []
    subjects = context.registry.subjects_of(batch_ids, (rule.subject for rule in rules))
    return [rule for rule in rules if rule.subject in subjects]


def match(context: PipelineContext, feed: Feed, partition: Partition) -> Outcome:
    """Match one partition of a feed against the catalog in force.

    Raises:
        StageBlockedError: if there is no catalog, or the validated input is absent or red.
    """
    turn = begin(
        context, feed.name, Stage.MATCHED, partition.key, lambda: matched(context, feed, partition)
    )
    if isinstance(turn, Commit):
        return Outcome(partition.key, turn, changed=False)
    version, matcher = matcher_in_force(context)
    rules = rules_of(context)
    _, validated = green_input(context, feed.name, Stage.VALIDATED, partition.key)
    names = ["isrc", "title", "artist"]
    for source in validated:
        matcher.note(_in_lake(context, [source], names))
    matcher.prepare()
    in_force = context.registry.batches(feed.name, Stage.MATCHED, partition.key)
    batches = [
        _match_batch(
            _Work(context, feed, partition, turn, version, matcher, rules), in_force, source
        )
        for source in validated
    ]
    batch_ids = tuple(batch.batch_id for batch in batches)
    counts = _sum_counts(batches)
    disagreeing = _disagreements(context, matcher, batches)
    blocks = context.project.drift.severity == "block"
    commit = Commit(
        feed=feed.name,
        stage=Stage.MATCHED,
        partition_key=partition.key,
        revision=turn.revision,
        input_sha256=matched_input_sha256(
            feed, version, validated, rules_touching(context, rules, batch_ids)
        ),
        batch_ids=batch_ids,
        counts=counts,
        checks=_checks(context, feed, validated, batches)
        | {"usage_agrees_with_catalog": disagreeing if blocks else []},
        warnings={"usage_agrees_with_catalog": disagreeing} if disagreeing and not blocks else {},
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(partition.key, commit)


_DISAGREEMENTS_TOLD = 10


@dataclass(frozen=True, slots=True)
class _Work:
    """One partition under way."""

    context: PipelineContext
    feed: Feed
    partition: Partition
    turn: Turn
    version: str
    matcher: Matcher
    rules: Sequence[Rule]


def _match_batch(work: _Work, in_force: dict[str, Batch], source: Batch) -> Batch:
    context, feed, partition = work.context, work.feed, work.partition
    existing = in_force.get(source.window_label)
    if existing is not None:
        rules = rules_touching(context, work.rules, [existing.batch_id])
        if existing.input_sha256 == matched_input_sha256(feed, work.version, [source], rules):
            return existing
    columns = LISTENING_READ if feed.keeps_listening else _READ
    lines = read_frame(context.lake, source.objects[0], columns)
    usage = matched_usage(lines, work.matcher, work.rules).with_columns(
        pl.lit(feed.name).alias("feed"),
        pl.lit(source.sha256).alias("batch_sha256"),
        pl.lit(work.version).alias("catalog_version"),
        pl.lit(MATCHER_VERSION).alias("matcher_version"),
    )
    subjects = usage["subject"].drop_nulls().unique().sort().to_list()
    asked = set(subjects)
    rules = [rule for rule in work.rules if rule.subject in asked]
    folder = f"{feed.name}/{Stage.MATCHED}/{hive_folder(partition)}"
    objects = [put_frame(context.lake, folder, source.window_label, usage)]
    if feed.keeps_listening:
        listening = count_listening(feed.name, lines, usage)
        label = f"{source.window_label}-listening"
        objects.append(put_frame(context.lake, folder, label, listening))
    counts = {name: 0 for method in METHODS for name in (f"lines_{method}", f"units_{method}")}
    for method, lines, units in (
        usage.group_by("method").agg(pl.col("lines").sum(), pl.col("units").sum()).iter_rows()
    ):
        counts[f"lines_{method}"], counts[f"units_{method}"] = lines, units

    batch = Batch(
        feed=feed.name,
        stage=Stage.MATCHED,
        partition_key=partition.key,
        window_start=source.window_start,
        window_label=source.window_label,
        revision=0,
        input_sha256=matched_input_sha256(feed, work.version, [source], rules),
        objects=tuple(objects),
        counts=counts,
    )
    return commit_batch(
        context,
        batch,
        work.turn,
        decisions=_decisions(usage, source),
        exceptions=lambda committed: _exceptions(usage, committed),
        subjects=subjects,
    )


def matched_usage(
    lines: pl.DataFrame, matcher: Matcher, rules: Sequence[Rule] = ()
) -> pl.DataFrame:
    """Validated lines summed by usage identity, each with its decision.

    Args:
        lines: the columns ``_READ`` of ``usage.USAGE_LINE_SCHEMA``, at least.
        matcher: of the catalog to decide by.
        rules: what people decided.

    Returns:
        ``USAGE_IDENTITY``, ``lines`` and ``units`` (Int64), ``amount`` (null where the usage
        shares a pool) and ``DECISION_SCHEMA``, in canonical order.
    """
    identities = (
        lines.with_columns(pl.col("used_at").dt.date().alias("used_on"))
        .group_by(USAGE_IDENTITY)
        .agg(
            pl.len().cast(pl.Int64).alias("lines"),
            pl.col("units").sum(),
            pl.col("amount").sum().alias("amount"),
        )
        .with_columns(pl.when(pl.col("currency").is_not_null()).then("amount").alias("amount"))
        .sort(USAGE_IDENTITY, nulls_last=False)
    )
    return matcher.decide(identities, rules)


def _decisions(usage: pl.DataFrame, source: Batch) -> Iterator[dict[str, Any]]:
    # Whether a right covers a use is no judgement on the name; that is told as an exception.
    by_name = pl.col("method") != "isrc"
    by_right = pl.col("reason") == "no_right_at_territory_and_date"
    judged = usage.filter(by_name & ~by_right.fill_null(False)).unique(
        ["isrc", "title", "artist"], keep="first", maintain_order=True
    )
    told = [column.name for column in tables.decisions.columns if column.name in judged.columns]
    for row in judged.select(told).iter_rows(named=True):
        yield row | {
            "usage_key": usage_key(row["isrc"], row["title"], row["artist"]),
            "batch_id": source.batch_id,
            "batch_sha256": source.sha256,
        }


def _exceptions(usage: pl.DataFrame, batch: Batch) -> Iterator[dict[str, Any]]:
    questions = (
        usage.filter(pl.col("method") == "exception")
        .group_by("isrc", "title", "artist", "territory", "reason")
        .agg(pl.col("units").sum())
        .sort("isrc", "title", "artist", "territory", "reason")
    )
    for row in questions.iter_rows(named=True):
        key = usage_key(row["isrc"], row["title"], row["artist"])
        yield row | {"batch_id": batch.batch_id, "usage_key": key}


def usage_key(isrc: str, title: str, artist: str) -> str:
    """What one decision on a name would settle, as a fixed-length key."""
    return hashlib.sha256(f"{isrc}\t{title}\t{artist}".encode()).hexdigest()


def _sum_counts(batches: list[Batch]) -> dict[str, int]:
    counts = {name: 0 for method in METHODS for name in (f"lines_{method}", f"units_{method}")}
    for batch in batches:
        for name, number in batch.counts.items():
            counts[name] += number
    return counts


def _checks(
    context: PipelineContext, feed: Feed, validated: list[Batch], matched: list[Batch]
) -> dict[str, list[str]]:
    """The gate; units are counted again in the objects of both sides."""
    received = _in_lake(context, validated, ["units"])
    decided = _in_lake(context, matched, ["units", "method", "batch_sha256"])
    units = int(decided["units"].sum())
    in_suspense = int(decided.filter(pl.col("method") == "exception")["units"].sum())
    hashes = {batch.sha256 for batch in validated}
    strangers = set(decided["batch_sha256"]) - hashes
    unaccounted = invariants.units_are_accounted_for(
        int(received["units"].sum()), units - in_suspense, in_suspense
    )
    if feed.keeps_listening:
        listened = int(_in_lake(context, matched, ["units"], LISTENING)["units"].sum())
        if listened != units:
            unaccounted.append(f"{units} units were decided, but {listened} are by listener")
    return {
        "every_unit_is_accounted_for": unaccounted,
        "every_decision_names_its_batch": [
            f"a decision names batch {sha256}, which is not its input" for sha256 in strangers
        ],
    }


def _disagreements(context: PipelineContext, matcher: Matcher, matched: list[Batch]) -> list[str]:
    """Titles of known ISRCs that the catalog calls otherwise, if they are many."""
    names = ["method", "isrc", "title", "artist", "recording_id", "units"]
    decided = _in_lake(context, matched, names)
    units = int(decided["units"].sum())
    found = matcher.disagreements(decided)
    differing = int(found["units"].sum())
    if differing <= context.project.drift.disagreeing_fraction_max * units:
        return []
    told = [f"{differing:,} of {units:,} units have an ISRC that the catalog calls otherwise"]
    return told + [
        f"{row['isrc']}: usage says {row['title'][:80]!r} by {row['artist'][:80]!r}, the catalog "
        f"{row['title_known']!r} by {row['artist_known']!r} ({row['units']:,} units)"
        for row in found.head(_DISAGREEMENTS_TOLD).iter_rows(named=True)
    ]


def _in_lake(
    context: PipelineContext, batches: list[Batch], columns: list[str], number: int = USAGE
) -> pl.DataFrame:
    frames = [
        read_frame(context.lake, batch.objects[number], columns)
        for batch in batches
        if number < len(batch.objects)
    ]
    if not frames:
        types = {name: pl.Int64() if name == "units" else pl.String() for name in columns}
        return pl.DataFrame(schema=types)
    return pl.concat(frames)
