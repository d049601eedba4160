"""Running a project from the command line: the same assets, in this process, stage by stage.

Runs go into the project's own Dagster instance, so the UI shows them like any others. A stage
takes all of a feed's partitions as ranges. What fails is told; everything else goes on.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

import dagster as dg

from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.windows import Cadence, Partition, partitions_between
from royalty_assets.orchestration.assets import (
    CATALOG_KEY,
    CONTRACTS_KEY,
    LEDGER_KEY,
    PAYOUTS_KEY,
    STATEMENTS_KEY,
    stage_key,
)
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.catalog import taken
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.context import CATALOG_PARTITION, Outcome, StageBlockedError
from royalty_assets.pipeline.contracts import contracts_taken
from royalty_assets.pipeline.ingest import INBOX_PARTITION, delivered, deliveries, ingest
from royalty_assets.pipeline.match import matched, rules_of
from royalty_assets.pipeline.month import posted
from royalty_assets.pipeline.payouts import paid_out
from royalty_assets.pipeline.pool import pooled
from royalty_assets.pipeline.statements import stated
from royalty_assets.pipeline.validate import validated
from royalty_assets.sources.payloads import SourceError

_LAUNCHED_BY = "royalty_assets/launched_by"
_COMMAND_LINE = "command-line"
_INTERRUPTIONS = frozenset({"KeyboardInterrupt", "DagsterExecutionInterruptedError"})
_EVERYTHING = 1_000_000
GAP_BRIDGED_MAX = 3
"""Empty partitions between two of an inbox that are run along with them."""
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_UNFINISHED = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of one feed (or of the whole project) over some partitions."""

    name: str
    stage: Stage
    key: dg.AssetKey
    partitions: tuple[Partition, ...]


@dataclass(slots=True)
class RunReport:
    """What came of running a project: each partition that could not commit, and each red one.

    Attributes:
        waiting: what has been taken and waits for its period to end.
    """

    plans: list[StagePlan]
    outcomes: list[tuple[str, Stage, Outcome]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What is wanting, in words."""
        told = list(self.failures)
        for name, stage, outcome in self.outcomes:
            place = f"{name}/{stage} {outcome.partition_key}"
            if outcome.problem is not None:
                told.append(f"{place}: {outcome.problem}")
            elif outcome.commit is not None:
                told += [
                    f"{place}: {check}: {finding}"
                    for check, findings in outcome.commit.checks.items()
                    for finding in findings
                ]
        return told

    @property
    def failed(self) -> list[str]:
        """What could not be brought up to date, in words."""
        return self.failures + [
            f"{name}/{stage} {outcome.partition_key}: {outcome.problem}"
            for name, stage, outcome in self.outcomes
            if outcome.commit is None
        ]


def fail_orphaned_runs(instance: dg.DagsterInstance, *, everyone: bool) -> int:
    """Fail runs that a killed process left as started; they would hold their places for ever.

    Args:
        instance: where runs are on record.
        everyone: also those that were not launched from the command line. Only right before the
            daemon is started, when nothing else can be running.
    """
    tags = {} if everyone else {_LAUNCHED_BY: _COMMAND_LINE}
    orphans = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags=tags))
    for run in orphans:
        instance.report_run_failed(run, "Its process ended before the run did.")
    return len(orphans)


def plan_run(session: PipelineSession) -> list[StagePlan]:
    """What there is to do, stage by stage; unchanged partitions will find that out cheaply."""
    project = session.project
    plans = []
    months: dict[str, Partition] = {}
    for feed in project.feeds:
        partitions = _partitions(session, feed)
        plans += [
            StagePlan(feed.name, stage, stage_key(feed, stage), partitions)
            for stage in (Stage.RAW, Stage.VALIDATED, Stage.MATCHED)
        ]
        own_months = {
            partition.month.key: partition.month
            for partition in partitions
            if partition.month.window.end <= session.context.now()
        }
        months |= own_months
        if feed.has_pool:
            key = stage_key(feed, Stage.POOL)
            plans.append(StagePlan(feed.name, Stage.POOL, key, tuple(own_months.values())))
    in_order = tuple(months[key] for key in sorted(months))
    plans.append(StagePlan("all feeds", Stage.LEDGER, LEDGER_KEY, in_order))
    plans.append(StagePlan("all feeds", Stage.PAYOUTS, PAYOUTS_KEY, in_order))
    plans.append(StagePlan("all feeds", Stage.STATEMENTS, STATEMENTS_KEY, in_order))
    return plans


def _partitions(session: PipelineSession, feed: Feed) -> tuple[Partition, ...]:
    now = session.context.now()
    if isinstance(feed.source, InboxSource):
        try:
            listed = asyncio.run(deliveries(session.context, feed, "", _EVERYTHING))
        except SourceError:
            return ()  # told when the feed's turn comes; the others go on
        there = [Partition.parse(feed.cadence, delivery.key) for delivery in listed]
        return tuple(each for each in _bridged(there) if each.window.end <= now)
    end = min(feed.end or now, now)
    starting = partitions_between(feed.cadence, feed.cadence.floor(feed.start), end)
    return tuple(partition for partition in starting if partition.window.end <= now)


def _bridged(partitions: list[Partition]) -> list[Partition]:
    """Partitions with the few between them that are empty: one longer run beats many short ones."""
    bridged: list[Partition] = []
    for partition in sorted(partitions, key=lambda each: each.window.start):
        if bridged:
            between = list(
                partitions_between(
                    partition.cadence, bridged[-1].window.end, partition.window.start
                )
            )
            bridged += between if len(between) <= GAP_BRIDGED_MAX else []
        bridged.append(partition)
    return bridged


def run_project(
    definitions: dg.Definitions,
    session: PipelineSession,
    instance: dg.DagsterInstance,
    plans: list[StagePlan],
) -> RunReport:
    """Take the catalog and the contracts, then every plan in order."""
    report = RunReport(plans)
    told = session.on_outcome

    def listen(name: str, stage: Stage, outcome: Outcome) -> None:
        report.outcomes.append((name, stage, outcome))
        told(name, stage, outcome)

    session.on_outcome = listen
    rules_of(session.context)
    session.context.holds_rules = True
    try:
        for key, stage, commit in (
            (CATALOG_KEY, Stage.CATALOG, taken(session.context)),
            (CONTRACTS_KEY, Stage.CONTRACTS, contracts_taken(session.context)),
        ):
            if commit is not None and instance.get_latest_materialization_event(key):
                listen(str(stage), stage, Outcome(CATALOG_PARTITION, commit, changed=False))
            else:
                report.failures += _execute(definitions, instance, key)
        for feed in session.project.feeds:
            try:
                report.waiting += _take_early(session, feed)
            except SourceError as error:
                report.failures.append(f"{feed.name}/raw: {error}")
        for plan in plans:
            unchanged = _unchanged(session, instance, plan)
            for partition_key, commit in unchanged.items():
                listen(plan.name, plan.stage, Outcome(partition_key, commit, changed=False))
            todo = [each for each in plan.partitions if each.key not in unchanged]
            for first, last in _ranges(todo):
                report.failures += _execute(definitions, instance, plan.key, first.key, last.key)
        # Also what no stage signed: decisions of people, files taken early, stages that failed.
        sign_checkpoint(session.context)
    finally:
        session.on_outcome = told
        session.context.holds_rules = False
    return report


def _take_early(session: PipelineSession, feed: Feed) -> list[str]:
    """Take what an inbox holds for periods that have not ended, lest it be tidied away.

    Files that cannot be read are told on the way, also where there is nothing else to take.

    Dagster has no partition for them yet; the registry has, and the run that comes after the
    period's end finds it there.
    """
    if not isinstance(feed.source, InboxSource):
        return []
    context = session.context
    listed = asyncio.run(deliveries(context, feed, "", _EVERYTHING))
    partitions = [Partition.parse(feed.cadence, delivery.key) for delivery in listed]
    early = [each for each in partitions if each.window.end > context.now()]

    async def take() -> list[Outcome]:
        return [outcome async for outcome in ingest(context, feed, early)]

    told = [
        outcome.problem
        or f"{feed.name}: lines for {outcome.partition_key} are taken, and wait until it has ended"
        for outcome in asyncio.run(take())
    ]
    looked_at = context.registry.commit(feed.name, Stage.RAW, INBOX_PARTITION)
    if looked_at is not None:
        told += looked_at.warnings.get("every_file_is_complete", [])
    return told


def _unchanged(
    session: PipelineSession, instance: dg.DagsterInstance, plan: StagePlan
) -> dict[str, Commit]:
    """Partition key → commit, where neither the registry nor Dagster has anything to learn."""
    context = session.context
    told = instance.get_materialized_partitions(plan.key)
    if not plan.partitions:
        return {}
    if plan.stage is Stage.RAW:
        feed = session.project.feed(plan.name)
        found = asyncio.run(delivered(context, feed, plan.partitions))
        return {key: commit for key, commit in found.items() if key in told}
    found = {}
    for partition in plan.partitions:
        with suppress(StageBlockedError):
            commit = _standing(session, plan, partition)
            if commit is not None and partition.key in told:
                found[partition.key] = commit
        # Each month starts from the balances of the one before, which is to be made anew.
        if plan.stage in {Stage.PAYOUTS, Stage.STATEMENTS} and partition.key not in found:
            break
    return found


def _standing(session: PipelineSession, plan: StagePlan, partition: Partition) -> Commit | None:
    context = session.context
    if plan.stage in _MONTHLY:
        return _MONTHLY[plan.stage](context, partition)
    feed = session.project.feed(plan.name)
    match plan.stage:
        case Stage.VALIDATED:
            return validated(context, feed, partition)
        case Stage.MATCHED:
            return matched(context, feed, partition)
        case Stage.POOL:
            return asyncio.run(pooled(context, feed, partition))
    return None


_MONTHLY = {Stage.LEDGER: posted, Stage.PAYOUTS: paid_out, Stage.STATEMENTS: stated}


def _execute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    first: str | None = None,
    last: str | None = None,
) -> list[str]:
    """Materialise one asset over a range; returns failures that no outcome tells of."""
    tags = {_LAUNCHED_BY: _COMMAND_LINE}
    if first != last:
        tags |= {
            "dagster/asset_partition_range_start": str(first),
            "dagster/asset_partition_range_end": str(last),
        }
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[key],
        partition_key=first if first == last else None,
        tags=tags,
        run_config=_QUIET,
        raise_on_error=False,
    )
    errors = [
        event.step_failure_data.error
        for event in result.filter_events(lambda event: event.is_step_failure)
    ]
    roots = [error.cause or error for error in errors if error is not None]
    if any(root.cls_name in _INTERRUPTIONS for root in roots):
        raise KeyboardInterrupt
    # What an asset fails with on purpose has been told as an outcome already.
    return [
        f"{key.to_user_string()}: {root.message.strip()}"
        for root in roots
        if root.cls_name not in {"Failure", "DagsterAssetCheckFailedError"}
    ]


def _ranges(partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Partition]]:
    """First and last of each stretch without gaps."""
    numbered = list(enumerate(sorted(partitions, key=lambda p: p.window.start)))

    def stretch(item: tuple[int, Partition]) -> int:
        number, partition = item
        return _ordinal(partition) - number

    for _, group in groupby(numbered, key=stretch):
        members = [partition for _, partition in group]
        yield members[0], members[-1]


def _ordinal(partition: Partition) -> int:
    """Consecutive partitions have consecutive numbers."""
    start = partition.window.start
    if partition.cadence is Cadence.MONTHLY:
        return start.year * 12 + start.month
    seconds = 3_600 if partition.cadence is Cadence.HOURLY else 86_400
    return int(start.timestamp()) // seconds
