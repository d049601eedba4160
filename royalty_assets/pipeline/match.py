"""The matched stage: each validated batch becomes usage per recording, with every decision.

A matched object holds one row per distinct usage identity of its batch: how often it was used,
what was decided, how, and on which batch (its SHA-256). It is the decision log and the ledger's
input in one. Judgements on names and open questions also go to the registry, for people.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.matching import DECISION_SCHEMA, MATCHER_VERSION, Matcher
from royalty_assets.domain.usage import USAGE_IDENTITY, USAGE_LINE_SCHEMA
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, matcher_in_force
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    commit_batch,
    green_input,
    next_revision,
    standing,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.storage.lake import put_frame, read_frame

_READ = [
    *(name for name in USAGE_IDENTITY if name in USAGE_LINE_SCHEMA),
    "used_at",
    "units",
    "amount",
]
METHODS = ("isrc", "title_artist_equal", "title_artist_similar", "exception")


def matched(context: PipelineContext, feed: Feed, partition: Partition) -> Commit | None:
    """The commit in force, if there is nothing to match anew.

    Raises:
        StageBlockedError: if there is no catalog, or the validated input is absent or red.
    """
    version, _ = catalog_in_force(context)
    _, usage = green_input(context, feed.name, Stage.VALIDATED, partition.key)
    input_sha256 = matched_input_sha256(version, usage)
    return standing(context, feed.name, Stage.MATCHED, partition.key, input_sha256)


def matched_input_sha256(version: str, validated: list[Batch]) -> str:
    """A digest of what a partition is matched from: its lines, and the catalog."""
    return combined_sha256([version, MATCHER_VERSION, *(batch.sha256 for batch in validated)])


def match(context: PipelineContext, feed: Feed, partition: Partition) -> Outcome:
    """Match one partition of a feed against the catalog in force.

    Raises:
        StageBlockedError: if there is no catalog, or the validated input is absent or red.
    """
    if (commit := matched(context, feed, partition)) is not None:
        return Outcome(partition.key, commit, changed=False)
    version, matcher = matcher_in_force(context)
    _, validated = green_input(context, feed.name, Stage.VALIDATED, partition.key)
    names = ["isrc", "title", "artist"]
    for source in validated:
        matcher.note(_in_lake(context, [source], names))
    matcher.prepare()
    in_force = context.registry.batches(feed.name, Stage.MATCHED, partition.key)
    batches = [
        _match_batch(context, feed, partition, in_force, source, version, matcher)
        for source in validated
    ]
    counts = _sum_counts(batches)
    commit = Commit(
        feed=feed.name,
        stage=Stage.MATCHED,
        partition_key=partition.key,
        revision=next_revision(context, feed.name, Stage.MATCHED, partition.key).revision,
        input_sha256=matched_input_sha256(version, validated),
        batch_ids=tuple(batch.batch_id for batch in batches),
        counts=counts,
        checks=_checks(context, validated, batches),
    )
    context.registry.commit_partition(commit)
    return Outcome(partition.key, commit)


def _match_batch(
    context: PipelineContext,
    feed: Feed,
    partition: Partition,
    in_force: dict[str, Batch],
    source: Batch,
    version: str,
    matcher: Matcher,
) -> Batch:
    input_sha256 = combined_sha256([source.sha256, version, MATCHER_VERSION])
    existing = in_force.get(source.window_label)
    if existing is not None and existing.input_sha256 == input_sha256:
        return existing
    lines = read_frame(context.lake, source.objects[0], _READ)
    usage = matched_usage(lines, matcher).with_columns(
        pl.lit(feed.name).alias("feed"), pl.lit(source.sha256).alias("batch_sha256")
    )
    folder = f"{feed.name}/{Stage.MATCHED}/{hive_folder(partition)}"
    stored = put_frame(context.lake, folder, source.window_label, usage)
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
        input_sha256=input_sha256,
        objects=(stored,),
        counts=counts,
    )
    return commit_batch(
        context,
        batch,
        decisions=_decisions(usage, version, source),
        exceptions=lambda committed: _exceptions(usage, committed),
    )


def matched_usage(lines: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """Validated lines summed by usage identity, each with its decision.

    Args:
        lines: the columns ``_READ`` of ``usage.USAGE_LINE_SCHEMA``, at least.
        matcher: of the catalog to decide by.

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
    return matcher.decide(identities)


def _decisions(usage: pl.DataFrame, version: str, source: Batch) -> Iterator[dict[str, Any]]:
    # Whether a right covers a use is no judgement on the name; that is told as an exception.
    by_name = pl.col("method") != "isrc"
    by_right = pl.col("reason") == "no_right_at_territory_and_date"
    judged = usage.filter(by_name & ~by_right.fill_null(False)).unique(
        ["isrc", "title", "artist"], keep="first", maintain_order=True
    )
    for row in judged.select("isrc", "title", "artist", *DECISION_SCHEMA).iter_rows(named=True):
        yield row | {
            "usage_key": usage_key(row["isrc"], row["title"], row["artist"]),
            "catalog_version": version,
            "matcher_version": MATCHER_VERSION,
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
    context: PipelineContext, validated: list[Batch], matched: list[Batch]
) -> dict[str, list[str]]:
    """The gate; units are counted again in the objects of both sides."""
    received = _in_lake(context, validated, ["units"])
    decided = _in_lake(context, matched, ["units", "method", "batch_sha256"])
    units = int(decided["units"].sum())
    in_suspense = int(decided.filter(pl.col("method") == "exception")["units"].sum())
    hashes = {batch.sha256 for batch in validated}
    strangers = set(decided["batch_sha256"]) - hashes
    return {
        "every_unit_is_accounted_for": invariants.units_are_accounted_for(
            int(received["units"].sum()), units - in_suspense, in_suspense
        ),
        "every_decision_names_its_batch": [
            f"a decision names batch {sha256}, which is not its input" for sha256 in strangers
        ],
    }


def _in_lake(context: PipelineContext, batches: list[Batch], columns: list[str]) -> pl.DataFrame:
    frames = [
        read_frame(context.lake, stored, columns) for batch in batches for stored in batch.objects
    ]
    if not frames:
        types = {name: pl.Int64() if name == "units" else pl.String() for name in columns}
        return pl.DataFrame(schema=types)
    return pl.concat(frames)
