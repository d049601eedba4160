"""Closing in the UI: an asset per month that says whether it can be closed, and a daily proposal.

A person closes (`royalty-assets close`, or the desk); what runs here only looks.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.assets import STATEMENTS_KEY, partitioned_check
from royalty_assets.orchestration.metadata import plain_markdown
from royalty_assets.orchestration.partitions import partitions_of_run
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.closing import Proposal, closing_of, propose

CLOSING_KEY = dg.AssetKey(["closing"])
CHECK = "month_can_be_closed"
JOB = "closing_proposal"
CRON = "0 8 * * *"


def closing_asset(months: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """The state of each accounting period, with what stands against closing it."""

    @dg.asset(
        key=CLOSING_KEY,
        deps=[STATEMENTS_KEY],
        partitions_def=months,
        description="Whether the month is closed, can be, or what stands against it. A person "
        "closes it: `royalty-assets close --month 2025-03`. From then on its ledger, payouts and "
        "statements stay as signed; what comes later is corrected in the first open month.",
        group_name="ledger",
        owners=["team:royalties"],
        kinds={"table"},
        check_specs=[
            partitioned_check(
                CLOSING_KEY,
                CHECK,
                "Nothing stands against closing the month. If not: see to what is named; open "
                "usage is decided at the desk.",
                months,
                blocking=False,
            )
        ],
    )
    def closing(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        (month,) = partitions_of_run(context, Cadence.MONTHLY)
        proposal = propose(session.context, month)
        signed = closing_of(session.context, month)
        metadata: dict[str, Any] = {
            "state": _state(proposal),
            "money": dg.MetadataValue.md(_list(proposal.figures)),
        }
        if signed is not None:
            metadata |= {
                "closed_by": signed.who,
                "closed_at": signed.closed_at,
                "root": signed.root,
            }
        result = dg.AssetCheckResult(
            check_name=CHECK,
            asset_key=CLOSING_KEY,
            passed=not proposal.reasons,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"against": dg.MetadataValue.md(_list(proposal.reasons))}
            if proposal.reasons
            else {},
        )
        yield dg.MaterializeResult(metadata=metadata, check_results=[result])

    return closing


def _state(proposal: Proposal) -> str:
    if proposal.is_closed:
        return "closed"
    return "can be closed" if proposal.is_ready else "open"


def _list(texts: tuple[str, ...]) -> str:
    return "\n".join(f"- {plain_markdown(text)}" for text in texts) or "nothing"


def closing_job() -> Any:  # dagster has no public name for an unresolved job
    """Look whether a month can be closed."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(CLOSING_KEY),
        description="Says whether a month can be closed, and what stands against it.",
    )


def closing_schedule(months: dg.TimeWindowPartitionsDefinition) -> dg.ScheduleDefinition:
    """Every morning: the last month that has ended, until it is closed."""

    @dg.schedule(
        name="closing_daily",
        job_name=JOB,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Proposes each morning to close the month that has ended, until a person does.",
    )
    def closing_daily(
        context: dg.ScheduleEvaluationContext, session: dg.ResourceParam[PipelineSession]
    ) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time
        ended = list(months.get_partition_keys(current_time=now))
        if not ended:
            return dg.SkipReason("no month of the project has ended")
        month = Partition.parse(Cadence.MONTHLY, ended[-1])
        if closing_of(session.context, month) is not None:
            return dg.SkipReason(f"{month.key} is closed")
        return dg.RunRequest(run_key=f"closing:{month.key}:{now:%Y-%m-%d}", partition_key=month.key)

    return closing_daily
