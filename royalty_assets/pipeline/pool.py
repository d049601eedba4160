"""The pool stage: the money that a feed's usage of a month shares, from its report or agreed.

The report comes by the same ways as any other, is kept byte for byte, and validated; one asset
does both, since a pool is a handful of lines.
"""

import json
from collections.abc import Mapping
from io import BufferedReader
from typing import Any

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.failures import Actor, Failure, Remedy
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS, POOL_SCHEMA, RecordKind
from royalty_assets.domain.validation import SourceRow, pool_lines, validate_rows
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    begin,
    commit_batch,
    first_finding,
    green_input,
    standing,
)
from royalty_assets.pipeline.failures import failure_of
from royalty_assets.pipeline.ingest import hive_folder, ingest_partition, open_source
from royalty_assets.pipeline.payload_store import StoredPayload, stored_payloads
from royalty_assets.pipeline.validate import VALIDATOR_VERSION
from royalty_assets.sources.delimited import DelimitedFile
from royalty_assets.sources.inbox import InboxSource as InboxReader
from royalty_assets.sources.inbox import PartitionOfDay, rows_of_partition
from royalty_assets.sources.payloads import SourceError
from royalty_assets.sources.rows import ChunkReader
from royalty_assets.sources.templates import templates_sha256
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError
from royalty_assets.storage.lake import put_frame
from royalty_assets.storage.registry import DeadLetter, ReportRecord, Turn


async def pooled(context: PipelineContext, feed: Feed, month: Partition) -> Commit | None:
    """The commit in force, if there is no other pool than before."""
    if feed.pool_source is None:
        input_sha256 = stated_pool_sha256(context, feed, month)
        return standing(context, feed.name, Stage.POOL, month.key, input_sha256)
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


def stated_pool_sha256(context: PipelineContext, feed: Feed, month: Partition) -> str:
    """A digest of the pool that configuration and the reports in force tell for a month."""
    return _stated_sha256(feed, _told_in_reports(context, feed, month)[0])


def _stated_sha256(feed: Feed, told: list[SourceRow]) -> str:
    """A digest of what is agreed and what reports tell of pools."""
    agreed = [] if feed.pool is None else [str(to_atoms(feed.pool.amount)), feed.pool.currency]
    rows = [
        f"{row.source_sha256}:{row.row_number}:{json.dumps(row.content, sort_keys=True)}"
        for row in told
    ]
    return combined_sha256(["agreed", *agreed, *rows])


def _told_in_reports(
    context: PipelineContext, feed: Feed, month: Partition
) -> tuple[list[SourceRow], list[str]]:
    """The pools that the month's reports bring, and in words where files of one disagree.

    Of each sender, service, period and territory the newest message's pools count: a later one
    tells them anew, whatever it calls its summaries. A report of several files tells each once.
    """
    if not feed.pools_in_reports:
        return [], []
    keys = [partition.key for partition in feed.partitions(month, context.now())]
    newest: dict[tuple[str, str, str], tuple[str, str]] = {}
    told: dict[tuple[str, ...], tuple[SourceRow, str, str]] = {}
    disagreeing: list[str] = []
    reports = context.registry.reports(feed.name, keys)
    for report in reports:
        for pool in report.pools:
            group, version, _ = _pool_identity(report, pool)
            newest[group] = max(newest.get(group, version), version)
    for report in reports:
        for pool in report.pools:
            group, version, summary_id = _pool_identity(report, pool)
            if newest[group] != version:
                continue
            content = {name: text for name, text in pool.items() if name != "row_number"}
            row = SourceRow(report.source_sha256, int(pool["row_number"]), content)
            said = f"{pool['amount']} {pool['currency']}"
            _, before, name = told.setdefault((*group, summary_id), (row, said, report.name))
            if before != said:
                disagreeing.append(
                    f"summary {summary_id} says {before} in {name}, but {said} in {report.name}"
                )
    return [row for _, (row, _, _) in sorted(told.items(), key=lambda item: item[0])], disagreeing


def _pool_identity(
    report: ReportRecord, pool: Mapping[str, Any]
) -> tuple[tuple[str, str, str], tuple[str, str], str]:
    """What a pool is replaced by its like of, which version of it this is, and its summary."""
    message = report.message
    sender = str(message.get("sender", report.source_sha256))
    group = (sender, str(message.get("scope", "")), str(pool["territory"]))
    version = (str(message.get("created_at", "")), str(message.get("message_id", "")))
    return group, version, str(pool.get("summary_record_id", pool["row_number"]))


def _report_sha256(context: PipelineContext, feed: Feed, raw: Batch) -> str:
    templates = templates_sha256(context.templates, RecordKind.POOLS)
    return combined_sha256([raw.input_sha256, VALIDATOR_VERSION, templates, str(feed.start)])


async def take_pool(context: PipelineContext, feed: Feed, month: Partition) -> Outcome:
    """Commit the feed's pool of a month, unless it is the one in force."""
    if feed.pool_source is None:
        return _take_stated(context, feed, month)
    try:
        async with open_source(context, feed, feed.pool_source, RecordKind.POOLS) as source:
            if isinstance(source, InboxReader) and source.quarantined:
                first = source.quarantined[0]
                told = f"the pool report {first.name} cannot be used: {first.reason}"
                return Outcome.failed(month.key, Failure(told, Remedy.MEND, Actor.FEED_OWNER))
            raw = await ingest_partition(context, feed, source, Stage.POOL_REPORT, month)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        return Outcome.failed(month.key, failure)
    assert raw.commit is not None
    if not raw.commit.is_green:
        told = first_finding(raw.commit)
        return Outcome.failed(month.key, Failure(told, Remedy.MEND, Actor.OPERATOR))
    return _validate(context, feed, month)


def derive_pool(context: PipelineContext, feed: Feed, month: Partition) -> Outcome:
    """Commit the pool that follows from what has been taken in; no source is asked.

    Raises:
        StageBlockedError: if reports of the month are red, or its pool report is not taken.
    """
    if feed.pool_source is None:
        return _take_stated(context, feed, month)
    return _validate(context, feed, month)


def standing_pool(context: PipelineContext, feed: Feed, month: Partition) -> Commit | None:
    """The pool in force, if it is of what has been taken in; no source is asked.

    Raises:
        StageBlockedError: if its pool report is not taken.
    """
    if feed.pool_source is None:
        input_sha256 = stated_pool_sha256(context, feed, month)
    else:
        _, (batch,) = green_input(context, feed.name, Stage.POOL_REPORT, month.key)
        input_sha256 = _report_sha256(context, feed, batch)
    return standing(context, feed.name, Stage.POOL, month.key, input_sha256)


def _begin(context: PipelineContext, feed: Feed, month: Partition) -> Commit | Turn:
    return begin(
        context, feed.name, Stage.POOL, month.key, lambda: standing_pool(context, feed, month)
    )


def _take_stated(context: PipelineContext, feed: Feed, month: Partition) -> Outcome:
    """The pool that configuration and the reports themselves tell.

    Raises:
        StageBlockedError: if reports of the month are red.
    """
    turn = _begin(context, feed, month)
    if isinstance(turn, Commit):
        return Outcome(month.key, turn, changed=False)
    if feed.pools_in_reports:
        for partition in feed.partitions(month, context.now()):
            if context.registry.commit(feed.name, Stage.VALIDATED, partition.key) is not None:
                green_input(context, feed.name, Stage.VALIDATED, partition.key)
    told, disagreeing = _told_in_reports(context, feed, month)
    validated = validate_rows(RecordKind.POOLS, told, month.window)
    lines = pool_lines(validated)
    if feed.pool is not None:
        agreed = pl.DataFrame(
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
        lines = pl.concat([agreed, lines])
    letters = [
        DeadLetter(
            r.source_sha256, r.row_number, "report summary", r.rule, r.value, r.reason, r.content
        )
        for r in validated.rejections
    ]
    context.registry.add_dead_letters(turn, letters)
    findings = [f"summary in row {x.row_number}: {x.reason}" for x in letters] + disagreeing
    received = len(told) + (feed.pool is not None)
    return _commit(context, turn, month, _stated_sha256(feed, told), lines, received, findings)


def _validate(context: PipelineContext, feed: Feed, month: Partition) -> Outcome:
    """Commit the pool of a pool report that has been taken in.

    Raises:
        StageBlockedError: if the report is not taken, or is red.
    """
    turn = _begin(context, feed, month)
    if isinstance(turn, Commit):
        return Outcome(month.key, turn, changed=False)
    _, (raw,) = green_input(context, feed.name, Stage.POOL_REPORT, month.key)
    frames = []
    received = 0
    findings: list[str] = []
    for payload in stored_payloads(context.lake, raw.objects):
        letters: list[DeadLetter] = []
        try:
            opened = _open(context, payload)
            if isinstance(feed.pool_source, InboxSource):
                rows = list(
                    rows_of_partition(opened, PartitionOfDay(feed, month.cadence), month.key)
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
        context.registry.add_dead_letters(turn, letters)
        frames.append(pool_lines(validated))
    lines = pl.concat(frames) if frames else pl.DataFrame(schema=POOL_SCHEMA)
    input_sha256 = _report_sha256(context, feed, raw)
    return _commit(context, turn, month, input_sha256, lines, received, findings)


def _open(context: PipelineContext, payload: StoredPayload) -> DelimitedFile:
    stream = BufferedReader(ChunkReader(payload.chunks))
    templates = [t for t in context.templates if t.records == "pools"]
    return DelimitedFile(payload.sha256, TextLines(stream), templates, payload.name)


def _commit(
    context: PipelineContext,
    turn: Turn,
    month: Partition,
    input_sha256: str,
    lines: pl.DataFrame,
    received: int,
    findings: list[str],
) -> Outcome:
    registry = context.registry
    ordered = lines.sort("territory", "tier", "currency", "source_sha256", "row_number")
    folder = f"{turn.feed}/{Stage.POOL}/{hive_folder(month)}"
    stored = put_frame(context.lake, folder, month.window.label, ordered)

    batch = Batch(
        feed=turn.feed,
        stage=Stage.POOL,
        partition_key=month.key,
        window_start=month.window.start,
        window_label=month.window.label,
        revision=0,
        input_sha256=input_sha256,
        objects=(stored,),
        counts={"lines": lines.height},
    )
    committed = commit_batch(context, batch, turn)
    recorded, _ = registry.count_dead_letters(turn)
    rows = invariants.RowCount(received, lines.height, recorded, 0)
    commit = Commit(
        feed=turn.feed,
        stage=Stage.POOL,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=input_sha256,
        batch_ids=(committed.batch_id,),
        counts={"received": received, "accepted": lines.height, "rejected": recorded},
        checks={
            "every_row_is_accounted_for": invariants.rows_are_accounted_for(rows),
            "every_pool_line_is_accepted": findings,
        },
    )
    registry.commit_partition(commit, turn)
    return Outcome(month.key, commit)
