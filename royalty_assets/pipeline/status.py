"""How a project stands, from the registry alone: what is in, and what is not finished.

What is unfinished is told with since when, why, who acts and what they do. What Dagster's records
add (runs that failed, runs that hang) is in ``orchestration.unfinished``. Nothing is changed and
no source is asked; the cost is a few queries per stage.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.calendar import DeliveryState
from royalty_assets.domain.failures import Actor
from royalty_assets.domain.feeds import Feed, HttpSource
from royalty_assets.domain.windows import Cadence, Partition, partitions_between
from royalty_assets.pipeline.calendar import delivery_calendar
from royalty_assets.pipeline.context import (
    DATA_CHECKS,
    LEDGER_FEED,
    PipelineContext,
    StageBlockedError,
    first_finding,
)
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.pipeline.match import matched
from royalty_assets.pipeline.month import posted
from royalty_assets.pipeline.payouts import paid_out
from royalty_assets.pipeline.pool import standing_pool
from royalty_assets.pipeline.statements import stated
from royalty_assets.pipeline.validate import validated

BEGUN_LONG_AGO = timedelta(hours=2)
"""A stage takes minutes; who has been at a partition for longer than this is no more."""
MISSING_AFTER = timedelta(days=1)
"""How long after its end a partition of a feed without a calendar may be untaken."""
FEED_STAGES = (Stage.RAW, Stage.VALIDATED, Stage.MATCHED)
MONTH_STAGES = (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS)


class State(StrEnum):
    """In what way something is unfinished."""

    FAILED = "failed"
    RED = "red"
    QUARANTINED = "quarantined"
    MISSING = "missing"
    BEGUN = "begun, not committed"
    HANGING = "hanging"
    BEHIND = "waiting"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Something that no run has finished.

    Attributes:
        partition_key: of the partition, or the first and last of several; a run's id for a run.
        since: in UTC; None where nobody noted it.
        actor: ``NOBODY`` where it goes on by itself.
    """

    feed: str
    stage: str
    partition_key: str
    state: State
    since: datetime | None
    why: str
    actor: Actor
    to_do: str

    @property
    def needs_person(self) -> bool:
        """Whether it stays as it is until somebody acts."""
        return self.actor is not Actor.NOBODY

    @property
    def place(self) -> tuple[str, str, str]:
        """Feed, stage and partition."""
        return (self.feed, self.stage, self.partition_key)


def last_green(context: PipelineContext) -> list[tuple[str, Stage, str]]:
    """(feed, stage, key) of the newest green partition of each stage; an empty key for none."""
    found = []
    for feed in context.project.feeds:
        stages = (*FEED_STAGES, Stage.POOL) if feed.has_pool else FEED_STAGES
        found += [(feed.name, stage, _newest(context, feed.name, stage)) for stage in stages]
    found += [(LEDGER_FEED, stage, _newest(context, LEDGER_FEED, stage)) for stage in MONTH_STAGES]
    return found


def _newest(context: PipelineContext, feed: str, stage: Stage) -> str:
    commits = context.registry.commits(stage, feed)
    keys = (c.partition_key for c in commits if c.is_green and c.partition_key != INBOX_PARTITION)
    return max(keys, default="")


def unfinished(context: PipelineContext) -> list[Unfinished]:
    """What the registry knows to be unfinished, what needs a person first."""
    found = [*_red(context), *_begun(context), *_missing(context)]
    known = {each.place for each in found}
    found += [each for each in _behind(context) if each.place not in known]
    return in_order(found)


def in_order(found: list[Unfinished]) -> list[Unfinished]:
    """What needs a person first, then by place."""
    return sorted(found, key=lambda each: (not each.needs_person, each.place))


def _red(context: PipelineContext) -> Iterator[Unfinished]:
    for stage in Stage:
        for commit in context.registry.commits(stage):
            if commit.is_green:
                continue
            is_quarantine = commit.partition_key == INBOX_PARTITION
            actor, to_do = _after_red(commit)
            yield Unfinished(
                commit.feed,
                str(stage),
                commit.partition_key,
                State.QUARANTINED if is_quarantine else State.RED,
                context.registry.committed_at(commit),
                first_finding(commit),
                actor,
                to_do,
            )


def _after_red(commit: Commit) -> tuple[Actor, str]:
    """Who acts on a red partition, and what they do."""
    red = {name for name, findings in commit.checks.items() if findings}
    if commit.partition_key == INBOX_PARTITION:
        return Actor.FEED_OWNER, (
            "`royalty-assets inspect FILE` says what it is; give it a template, or ask the sender "
            "for another file, and run again"
        )
    if not red <= DATA_CHECKS:
        return Actor.OPERATOR, "`royalty-assets verify` says what is damaged; then run again"
    if commit.stage is Stage.VALIDATED:
        return Actor.FEED_OWNER, (
            f"`royalty-assets dead-letters --feed {commit.feed}` shows the rows; mend template or "
            "limit, or ask the sender for a corrected delivery, and run again"
        )
    return Actor.ROYALTY_MANAGER, (
        "see to what is named, and run again; `royalty-assets periods` shows the month"
    )


def _begun(context: PipelineContext) -> Iterator[Unfinished]:
    before = context.now() - BEGUN_LONG_AGO
    for feed, stage, key, holder, taken_at in context.registry.turns_without_commit(before):
        has_commit = context.registry.commit(feed, stage, key) is not None
        if has_commit and _stands(context, feed, stage, key):
            continue
        yield Unfinished(
            feed,
            str(stage),
            key,
            State.BEGUN,
            taken_at,
            f"{holder} began it and never committed",
            # What was taken before stays in force; whoever looks next for news finds it.
            Actor.NOBODY if has_commit else Actor.OPERATOR,
            "run it again: `royalty-assets run`, or materialise it; half-done work is found and "
            "kept",
        )


def _stands(context: PipelineContext, name: str, stage: Stage, key: str) -> bool:
    """Whether the commit in force of a derived partition is of its present input."""
    months: dict[Stage, Callable[[PipelineContext, Partition], Commit | None]] = {
        Stage.LEDGER: posted,
        Stage.PAYOUTS: paid_out,
        Stage.STATEMENTS: stated,
    }
    of_feeds: dict[Stage, Callable[[PipelineContext, Feed, Partition], Commit | None]] = {
        Stage.VALIDATED: validated,
        Stage.MATCHED: matched,
        Stage.POOL: standing_pool,
    }
    with suppress(StageBlockedError):
        if stage in months:
            return months[stage](context, Partition.parse(Cadence.MONTHLY, key)) is not None
        feed = next((feed for feed in context.project.feeds if feed.name == name), None)
        if feed is not None and stage in of_feeds:
            cadence = Cadence.MONTHLY if stage is Stage.POOL else feed.cadence
            return of_feeds[stage](context, feed, Partition.parse(cadence, key)) is not None
    return False


def is_settled(context: PipelineContext, feed: Feed, partition: Partition) -> bool:
    """Whether another run of a taken partition's chain would change nothing.

    It would not where all of it stands, nor where it is red for its data: that waits for a person.
    """
    for stage in FEED_STAGES:
        commit = context.registry.commit(feed.name, stage, partition.key)
        if commit is None:
            return False
        if not commit.is_green:
            return {name for name, findings in commit.checks.items() if findings} <= DATA_CHECKS
        if stage is not Stage.RAW and not _stands(context, feed.name, stage, partition.key):
            return False
    return True


def _missing(context: PipelineContext) -> Iterator[Unfinished]:
    for line in delivery_calendar(context):
        if line.state in {DeliveryState.LATE, DeliveryState.MISSING}:
            is_missing = line.state is DeliveryState.MISSING
            yield Unfinished(
                line.feed,
                str(Stage.RAW),
                line.partition_key,
                State.MISSING,
                line.due,
                line.told,
                Actor.FEED_OWNER if is_missing else Actor.NOBODY,
                "ask the sender; `royalty-assets calendar` shows what was due",
            )
    now = context.now()
    for feed in context.project.feeds:
        if feed.calendar is not None or not isinstance(feed.source, HttpSource):
            continue
        end = min(feed.end or now, now - MISSING_AFTER)
        taken = {c.partition_key for c in context.registry.commits(Stage.RAW, feed.name)}
        due = partitions_between(feed.cadence, feed.cadence.floor(feed.start), end)
        never = [each for each in due if each.key not in taken and each.window.end <= end]
        if never:
            yield Unfinished(
                feed.name,
                str(Stage.RAW),
                _span([each.key for each in never]),
                State.MISSING,
                never[0].window.end,
                f"{len(never)} partitions have ended and were never taken",
                Actor.FEED_OWNER,
                "run it: `royalty-assets run`, or a backfill in the UI; if the service has "
                "nothing for them, ask it",
            )


def _behind(context: PipelineContext) -> Iterator[Unfinished]:
    for feed in context.project.feeds:
        for before, stage in pairwise(FEED_STAGES):
            there = {c.partition_key for c in context.registry.commits(stage, feed.name)}
            keys = [
                commit.partition_key
                for commit in context.registry.commits(before, feed.name)
                if commit.is_green
                and commit.partition_key not in there
                and commit.partition_key != INBOX_PARTITION
            ]
            if keys:
                yield Unfinished(
                    feed.name,
                    str(stage),
                    _span(keys),
                    State.BEHIND,
                    None,
                    f"{len(keys)} partitions are {before} and not yet {stage}",
                    Actor.NOBODY,
                    "the next run takes them",
                )


def _span(keys: list[str]) -> str:
    first, last = min(keys), max(keys)
    return first if first == last else f"{first} … {last}"
