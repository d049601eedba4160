"""The monthly rhythm: pools, ledger and payouts of the month that has ended."""

from datetime import timedelta
from typing import Any

import dagster as dg

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.assets import LEDGER_KEY, PAYOUTS_KEY, STATEMENTS_KEY, stage_key

MONTH_END_JOB = "month_end"
CRON = "0 6 5 * *"
"""The fifth of the month at 06:00 UTC, when last month's reports have usually come."""


def month_end_job(project: Project) -> Any:  # dagster has no public name for an unresolved job
    """One month from pools to payouts."""
    pools = [stage_key(feed, Stage.POOL) for feed in project.feeds if feed.has_pool]
    return dg.define_asset_job(
        MONTH_END_JOB,
        selection=dg.AssetSelection.assets(*pools, LEDGER_KEY, PAYOUTS_KEY, STATEMENTS_KEY),
        description="Takes one month's pools, posts its ledger, pays it out and states it.",
    )


def month_end_schedule(months: dg.TimeWindowPartitionsDefinition) -> dg.ScheduleDefinition:
    """Runs the month that has ended; does nothing for months that are not in the project."""

    @dg.schedule(
        name="month_end",
        job_name=MONTH_END_JOB,
        cron_schedule=CRON,
        execution_timezone="UTC",
        description="Pays out the month that has ended, on the fifth of the next.",
    )
    def month_end(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        this_month = Partition.of(Cadence.MONTHLY, context.scheduled_execution_time)
        ended = Partition.of(Cadence.MONTHLY, this_month.window.start - timedelta(days=1)).key
        if ended not in months.get_partition_keys():
            return dg.SkipReason(f"{ended} is not a month of the project")
        return dg.RunRequest(run_key=f"month_end:{ended}", partition_key=ended)

    return month_end
