"""The pool stage: the money that a feed's usage of a month shares, from its report or agreed.

The report comes by the same ways as any other, is kept byte for byte, and validated; one asset
does both, since a pool is a handful of lines.
"""

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.feeds import Feed, FixedPool, InboxSource
from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS, POOL_SCHEMA, RecordKind
from royalty_assets.domain.validation import pool_lines, validate_rows
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    commit_batch,
    first_finding,
    next_revision,
    standing,
)
from royalty_assets.pipeline.ingest import hive_folder, ingest_partition, open_source
from royalty_assets.pipeline.payload_store import stored_payloads
from royalty_assets.pipeline.validate import VALIDATOR_VERSION, read_report
from royalty_assets.sources.delimited import UnreadableFileError
from royalty_assets.sources.inbox import InboxSource as InboxReader
from royalty_assets.sources.inbox import PartitionOfRow, rows_of_partition
from royalty_assets.sources.payloads import SourceError
from royalty_assets.sources.templates import templates_sha256
from royalty_assets.storage.lake import put_frame
from royalty_assets.storage.registry import DeadLetter, PartitionRevision


async def pooled(context: PipelineContext, feed: Feed, month: Partition) -> Commit | None:
    """The commit in force, if the source has no other pool than before."""
    if feed.pool is not None:
        return standing(context, feed.name, Stage.POOL, month.key, _agreed_sha256(feed.pool))
    assert feed.pool_source is not None
    try:
        async with open_source(context, feed, feed.pool_source, RecordKind.POOLS) as source:
            version_sha256 = combined_sha256([await source.version(month)])
    except SourceError:
        return None
    raw = standing(context, feed.name, Stage.POOL_REPORT, month.key, version_sha256)
    if raw is None:
        return None
    (batch,) = context.registry.batches_by_id(raw.batch_ids)
    return standing(context, feed.name, Stage.POOL, month.key, _report_sha256(context, feed, batch))


def _agreed_sha256(pool: FixedPool) -> str:
    return combined_sha256(["agreed", str(to_atoms(pool.amount)), pool.currency])


def _report_sha256(context: PipelineContext, feed: Feed, raw: Batch) -> str:
    templates = templates_sha256(context.templates, RecordKind.POOLS)
    return combined_sha256([raw.input_sha256, VALIDATOR_VERSION, templates, str(feed.start)])


async def take_pool(context: PipelineContext, feed: Feed, month: Partition) -> Outcome:
    """Commit the feed's pool of a month, unless it is the one in force."""
    if feed.pool is not None:
        lines = pl.DataFrame(
            {
                "used_at": [month.window.start],
                "territory": [WORLDWIDE],
                "tier": [ALL_TIERS],
                "currency": [feed.pool.currency],
                "amount": atoms_to_series("amount", [to_atoms(feed.pool.amount)]),
                "is_agreed": [True],
                "source_sha256": ["feeds.yaml"],
                "row_number": [0],
            },
            schema=POOL_SCHEMA,
        )
        return _commit(
            context, feed, month, _agreed_sha256(feed.pool), lines, received=1, findings=[]
        )
    assert feed.pool_source is not None
    try:
        async with open_source(context, feed, feed.pool_source, RecordKind.POOLS) as source:
            if isinstance(source, InboxReader) and source.quarantined:
                first = source.quarantined[0]
                told = f"the pool report {first.name} cannot be used: {first.reason}"
                return Outcome(month.key, None, problem=told)
            raw = await ingest_partition(context, feed, source, Stage.POOL_REPORT, month)
    except SourceError as error:
        return Outcome(month.key, None, problem=str(error))
    assert raw.commit is not None
    if not raw.commit.is_green:
        return Outcome(month.key, None, problem=first_finding(raw.commit))
    (batch,) = context.registry.batches_by_id(raw.commit.batch_ids)
    return _validate(context, feed, month, batch)


def _validate(context: PipelineContext, feed: Feed, month: Partition, raw: Batch) -> Outcome:
    input_sha256 = _report_sha256(context, feed, raw)
    current = standing(context, feed.name, Stage.POOL, month.key, input_sha256)
    if current is not None:
        return Outcome(month.key, current, changed=False)
    revision = next_revision(context, feed.name, Stage.POOL, month.key)
    context.registry.discard_uncommitted(revision)
    frames = []
    received = 0
    findings: list[str] = []
    for payload in stored_payloads(context.lake, raw.objects):
        letters: list[DeadLetter] = []
        try:
            opened = read_report(context, payload, RecordKind.POOLS)
            if isinstance(feed.pool_source, InboxSource):
                rows = list(
                    rows_of_partition(opened, PartitionOfRow(feed, month.cadence), month.key)
                )
            else:
                rows = list(opened.rows())
        except UnreadableFileError as error:
            received += 1
            letters.append(
                DeadLetter(payload.sha256, 0, payload.name, error.rule, "", error.reason, "")
            )
            rows = []
        validated = validate_rows(RecordKind.POOLS, rows, month.window)
        received += len(rows)
        letters += [
            DeadLetter(
                r.source_sha256, r.row_number, payload.name, r.rule, r.value, r.reason, r.content
            )
            for r in validated.rejections
        ]
        # Part of a pool is not a pool: money that is left out would be missed by everyone.
        findings += [f"{x.source}, line {x.row_number}: {x.reason}" for x in letters]
        context.registry.add_dead_letters(revision, letters)
        frames.append(pool_lines(validated))
    lines = pl.concat(frames) if frames else pl.DataFrame(schema=POOL_SCHEMA)
    return _commit(context, feed, month, input_sha256, lines, received, findings)


def _commit(
    context: PipelineContext,
    feed: Feed,
    month: Partition,
    input_sha256: str,
    lines: pl.DataFrame,
    received: int,
    findings: list[str],
) -> Outcome:
    registry = context.registry
    current = standing(context, feed.name, Stage.POOL, month.key, input_sha256)
    if current is not None:
        return Outcome(month.key, current, changed=False)
    revision: PartitionRevision = next_revision(context, feed.name, Stage.POOL, month.key)
    ordered = lines.sort("territory", "tier", "currency", "source_sha256", "row_number")
    folder = f"{feed.name}/{Stage.POOL}/{hive_folder(month)}"
    stored = put_frame(context.lake, folder, month.window.label, ordered)

    batch = Batch(
        feed=feed.name,
        stage=Stage.POOL,
        partition_key=month.key,
        window_start=month.window.start,
        window_label=month.window.label,
        revision=0,
        input_sha256=input_sha256,
        objects=(stored,),
        counts={"lines": lines.height},
    )
    committed = commit_batch(context, batch)
    recorded, _ = registry.count_dead_letters(revision)
    rows = invariants.RowCount(received, lines.height, recorded, 0)
    commit = Commit(
        feed=feed.name,
        stage=Stage.POOL,
        partition_key=month.key,
        revision=revision.revision,
        input_sha256=input_sha256,
        batch_ids=(committed.batch_id,),
        counts={"received": received, "accepted": lines.height, "rejected": recorded},
        checks={
            "every_row_is_accounted_for": invariants.rows_are_accounted_for(rows),
            "every_pool_line_is_accepted": findings,
        },
    )
    registry.commit_partition(commit)
    return Outcome(month.key, commit)
