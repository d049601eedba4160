"""The accounting periods of a project: which are posted, which are closed, what their books say.

A month is *settled* once what comes for it can only be corrected in a later one: it is closed, or a
later month was closed while nothing had come for it, so that it was passed over.
"""

import json
from typing import Any

import polars as pl

from royalty_assets.domain.batches import LakeObject, Stage
from royalty_assets.domain.ledger import LEDGER_SCHEMA, booked
from royalty_assets.domain.terms import Period
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.storage.lake import read_frame, read_table


def period_of(month: Partition) -> Period:
    """The accounting period of a monthly partition."""
    return Period(month.window.start.date().replace(day=1))


def committed_months(context: PipelineContext) -> list[Partition]:
    """The months that have a committed ledger, in order."""
    commits = context.registry.commits(Stage.LEDGER, LEDGER_FEED)
    return [Partition.parse(Cadence.MONTHLY, commit.partition_key) for commit in commits]


def is_closed(context: PipelineContext, month: Partition) -> bool:
    """Whether a month is closed; what is in force of it stays."""
    return context.registry.commit(LEDGER_FEED, Stage.CLOSING, month.key) is not None


def closed_months(context: PipelineContext) -> list[Partition]:
    """The months that are closed, in order."""
    commits = context.registry.commits(Stage.CLOSING, LEDGER_FEED)
    return [Partition.parse(Cadence.MONTHLY, commit.partition_key) for commit in commits]


def passed_over_by(context: PipelineContext, month: Partition) -> Partition | None:
    """The first closed month after one that is not closed itself; None if there is none.

    Balances went on without such a month, so it has no books of its own any more.
    """
    if is_closed(context, month):
        return None
    return next((each for each in closed_months(context) if each.key > month.key), None)


def settled_months(context: PipelineContext, before: Partition) -> list[Partition]:
    """The months that a later one would correct, in order.

    Args:
        context: the project.
        before: what was settled by the months before this one, and no other.

    Returns:
        The closed ones, and those before the last of them that were passed over and that
        something has been delivered for since.
    """
    closed = [each for each in closed_months(context) if each.key < before.key]
    if not closed:
        return []
    known = {each.key for each in closed}
    passed_over: dict[str, Partition] = {}
    for feed in context.project.feeds:
        for commit in context.registry.commits(Stage.RAW, feed.name):
            if commit.partition_key != INBOX_PARTITION and commit.counts.get("payloads"):
                month = Partition.parse(feed.cadence, commit.partition_key).month
                if month.key < closed[-1].key and month.key not in known:
                    passed_over[month.key] = month
    return sorted([*closed, *passed_over.values()], key=lambda each: each.key)


def is_first_open(context: PipelineContext, month: Partition) -> bool:
    """Whether a month is the one that corrects those that are settled."""
    if passed_over_by(context, month) is not None:
        return False
    closed = [each.key for each in closed_months(context) if each.key < month.key]
    return bool(closed) and not any(
        closed[-1] < each.key < month.key for each in committed_months(context)
    )


def settled_by(context: PipelineContext, month: Partition, before: Partition) -> list[Partition]:
    """The closed months whose terms a settled month was booked by, the earliest first.

    What holds of it is as of its own closing; what was not known then, as of when it came to be
    known: of one that was passed over from the closing of the month after it on.
    """
    closed = closed_months(context)
    return [each for each in closed if month.key <= each.key < before.key]


def books_of(
    context: PipelineContext, closed: Partition, before: Partition | None = None
) -> pl.DataFrame:
    """``LEDGER_SCHEMA`` of a closed period, with what later ledgers correct of it.

    Args:
        context: the project.
        closed: the period.
        before: only ledgers of months before this one count; all, without it.
    """
    later = [
        ledger_in_force(context, each)
        for each in committed_months(context)
        if each.key > closed.key and (before is None or each.key < before.key)
    ]
    return booked(ledger_in_force(context, closed), later, period_of(closed).label)


def ledger_in_force(context: PipelineContext, month: Partition) -> pl.DataFrame:
    """``LEDGER_SCHEMA`` of a month; empty where none is posted."""
    commit = context.registry.commit(LEDGER_FEED, Stage.LEDGER, month.key)
    if commit is None:
        return pl.DataFrame(schema=LEDGER_SCHEMA)
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return read_table(context.lake, batch.objects[0], LEDGER_SCHEMA)


def closing_objects(context: PipelineContext, month: Partition) -> tuple[LakeObject, ...] | None:
    """What a month was closed with: record, statements as logged, evidence; None if it is open."""
    commit = context.registry.commit(LEDGER_FEED, Stage.CLOSING, month.key)
    if commit is None:
        return None
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return batch.objects


def closing_record(context: PipelineContext, month: Partition) -> dict[str, Any] | None:
    """``who`` closed a month, ``why``, ``closed_at``, and the ``content``; None if it is open."""
    objects = closing_objects(context, month)
    if objects is None:
        return None
    record: dict[str, Any] = read_frame(context.lake, objects[0]).row(0, named=True)
    return record | {"content": json.loads(record["content"])}
