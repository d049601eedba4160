"""Partitions: the feeds' cadences as Dagster knows them.

Keys are those of ``domain.windows``. A feed's partitions start where the feed does; the ledger,
the payouts and all pools share one monthly definition, so that one run can hold them.
"""

from datetime import datetime

import dagster as dg

from royalty_assets.domain.feeds import Feed, Project
from royalty_assets.domain.windows import Cadence, Partition

_DEFINITIONS: dict[Cadence, type[dg.TimeWindowPartitionsDefinition]] = {
    Cadence.HOURLY: dg.HourlyPartitionsDefinition,
    Cadence.DAILY: dg.DailyPartitionsDefinition,
    Cadence.MONTHLY: dg.MonthlyPartitionsDefinition,
}


def _partitions(
    cadence: Cadence, start: datetime, end: datetime | None
) -> dg.TimeWindowPartitionsDefinition:
    first = cadence.floor(start)
    # Dagster's end is exclusive and has to be a partition's start.
    last = None if end is None else cadence.floor(end)
    if last is not None and end is not None and last < end:
        last = cadence.after(last)
    return _DEFINITIONS[cadence](start_date=first, end_date=last, timezone="UTC")  # type: ignore[call-arg]


def feed_partitions(feed: Feed) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of a feed's raw, validated and matched assets."""
    return _partitions(feed.cadence, feed.start, feed.end)


def month_partitions(project: Project) -> dg.TimeWindowPartitionsDefinition:
    """The accounting periods."""
    ends = [feed.end for feed in project.feeds]
    known = [end for end in ends if end is not None]
    end = max(known) if len(known) == len(ends) else None
    return _partitions(Cadence.MONTHLY, project.start, end)


def partitions_of_run(context: dg.AssetExecutionContext, cadence: Cadence) -> list[Partition]:
    """The partitions that a run was asked for, in order."""
    return [Partition.parse(cadence, key) for key in context.partition_keys]
