"""What no run has finished: the registry's view and Dagster's, as an asset with a daily check.

Retries are bounded, so what they do not mend would be silent. This is where it is told.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.failures import Actor, Failure
from royalty_assets.orchestration.metadata import markdown_table
from royalty_assets.orchestration.reporting import failures_of_run
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.status import State, Unfinished, in_order, unfinished

UNFINISHED_KEY = dg.AssetKey(["unfinished"])
CHECK = "no_partition_was_left_failed"
JOB = "unfinished_work"
CRON = "30 7 * * *"
RUNS_LOOKED_AT = 500
FAILED_RUNS_READ_MAX = 50
HANGS_AFTER = timedelta(hours=2, minutes=5)
"""A little more than ``max_runtime_seconds`` in dagster.yaml, at which monitoring ends a run."""
LOOKING_AGAIN_COUNTS_FOR = timedelta(days=1)
"""How long it is told that a partition that is in could not be asked about again."""
COLUMNS = ("what", "where", "since (UTC)", "why", "who acts", "what to do")
_UNFINISHED = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
]
_TOLD_OTHERWISE = frozenset({"Failure", "DagsterAssetCheckFailedError"})


def unfinished_work(
    context: PipelineContext, instance: dg.DagsterInstance | None
) -> list[Unfinished]:
    """All that is unfinished, what needs a person first.

    Args:
        context: the project.
        instance: Dagster's records; None for a project that Dagster has not run yet.
    """
    found = unfinished(context)
    if instance is None:
        return found
    failed = _failed(context, instance)
    told = {each.place for each in failed}
    # That somebody began a partition and did not commit is told better by why it failed.
    rest = [each for each in found if each.state is not State.BEGUN or each.place not in told]
    return in_order([*failed, *_hanging(context, instance), *rest])


def _failed(context: PipelineContext, instance: dg.DagsterInstance) -> list[Unfinished]:
    """What the newest failed runs told of partitions that are still not committed."""
    found: dict[tuple[str, str, str], Unfinished] = {}
    succeeded: set[tuple[str, frozenset[dg.AssetKey]]] = set()
    records = instance.get_run_records(limit=RUNS_LOOKED_AT)
    read = 0
    for record in records:
        run = record.dagster_run
        work = (run.job_name, frozenset(run.asset_selection or ()))
        if run.status is dg.DagsterRunStatus.SUCCESS:
            succeeded.add(work)
        if run.status is not dg.DagsterRunStatus.FAILURE or read == FAILED_RUNS_READ_MAX:
            continue
        read += 1
        ended = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
        for (feed, stage, key), failure in failures_of_run(instance, run.run_id).items():
            place = (feed, stage, key)
            if place not in found and not _is_over(context, feed, stage, key, ended):
                found[place] = _told(place, failure, ended)
        fault = _fault(instance, run.run_id)
        if fault and work not in succeeded:
            place = ("", run.job_name, run.run_id)
            found[place] = Unfinished(
                *place, State.FAILED, ended, fault, Actor.OPERATOR,
                "a fault of the program: its run in the UI has the stack trace; report it",
            )  # fmt: skip
    return list(found.values())


def _told(place: tuple[str, str, str], failure: Failure, ended: datetime) -> Unfinished:
    return Unfinished(
        *place,
        State.FAILED,
        ended,
        failure.problem,
        failure.actor,
        "nothing: it is requested again by itself"
        if failure.is_transient
        else "see to what is named, and run it again",
    )


def _is_over(context: PipelineContext, feed: str, stage: str, key: str, ended: datetime) -> bool:
    """Whether what a run failed with has been overtaken by a commit."""
    commit = context.registry.commit(feed, Stage(stage), key)
    if commit is None:
        return False
    if context.registry.committed_at(commit) >= ended:
        return True
    return context.now() - ended > LOOKING_AGAIN_COUNTS_FOR


def _fault(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """What a step of a run failed with, if it is an error that no outcome tells of."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        error = None if event is None else event.step_failure_data.error
        root = None if error is None else error.cause or error
        names = {each.cls_name for each in (error, root) if each is not None}
        if root is not None and not names & _TOLD_OTHERWISE:
            return root.message.strip()
    return None


def _hanging(context: PipelineContext, instance: dg.DagsterInstance) -> Iterator[Unfinished]:
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        began = datetime.fromtimestamp(
            record.start_time or record.create_timestamp.timestamp(), UTC
        )
        if context.now() - began <= HANGS_AFTER:
            continue
        run = record.dagster_run
        yield Unfinished(
            "",
            run.job_name,
            run.run_id,
            State.HANGING,
            began,
            f"the run has been {run.status.value} since then; its process is no more, or stuck",
            Actor.OPERATOR,
            "terminate it in the UI; after a crash of the host, start `royalty-assets ui` anew, "
            "which fails such runs",
        )


def unfinished_rows(found: Sequence[Unfinished]) -> list[tuple[str, ...]]:
    """What is unfinished as texts, by ``COLUMNS``."""
    return [
        (
            str(each.state),
            " ".join(filter(None, ["/".join(filter(None, each.place[:2])), each.partition_key])),
            "" if each.since is None else f"{each.since:%Y-%m-%d %H:%M}",
            each.why,
            str(each.actor),
            each.to_do,
        )
        for each in found
    ]


def unfinished_table(found: Sequence[Unfinished]) -> str:
    """What is unfinished as a Markdown table."""
    if not found:
        return "Nothing: every partition that is due is committed."
    rows = [[" ".join(text.split()) for text in row] for row in unfinished_rows(found)]
    return markdown_table(COLUMNS, rows)


def unfinished_asset() -> dg.AssetsDefinition:
    """The table of unfinished work, with the check that none of it needs a person."""

    @dg.asset(
        key=UNFINISHED_KEY,
        description="What no run has finished: partitions whose last run failed, red ones, files "
        "in quarantine, what is due and was never taken, what was begun and never committed, runs "
        "that hang. With since when, why, and who does what. `royalty-assets status` shows the "
        "same.",
        group_name="calendar",
        owners=["team:royalties"],
        kinds={"table"},
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=UNFINISHED_KEY,
                description="Nothing waits for a person. If not: the table says who does what; "
                "the runbook (docs/runbook.md) says how.",
            )
        ],
    )
    def unfinished_now(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        found = unfinished_work(session.context, context.instance)
        waiting = [each for each in found if each.needs_person]
        yield dg.MaterializeResult(
            metadata={
                "unfinished": dg.MetadataValue.md(unfinished_table(found)),
                "need_a_person": len(waiting),
                "go_on_by_themselves": len(found) - len(waiting),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=CHECK,
                    asset_key=UNFINISHED_KEY,
                    passed=not waiting,
                    metadata={"unfinished": dg.MetadataValue.md(unfinished_table(waiting))}
                    if waiting
                    else {},
                )
            ],
        )

    return unfinished_now


def unfinished_job() -> Any:  # dagster has no public name for an unresolved job
    """Look for what is unfinished."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(UNFINISHED_KEY),
        description="Looks for partitions that no run has finished.",
    )


def unfinished_schedule() -> dg.ScheduleDefinition:
    """Every morning at 07:30 UTC."""
    return dg.ScheduleDefinition(
        name="unfinished_daily",
        job_name=JOB,
        cron_schedule=CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_timezone="UTC",
        description="Looks each morning that no partition was left failed.",
    )
