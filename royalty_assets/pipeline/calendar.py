"""The delivery calendar of a project: what is due, and in which state each delivery is."""

from collections.abc import Sequence

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.calendar import Arrival, ExpectedDelivery, expected_deliveries
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.windows import Partition, partitions_between
from royalty_assets.pipeline.context import PipelineContext

PERIODS_SHOWN = 24
"""Of each feed, the newest: what is older is history, and in the registry."""

CALENDAR_COLUMNS = ("feed", "period", "region", "due", "state", "received", "files", "rows")


def delivery_calendar(
    context: PipelineContext, periods: int = PERIODS_SHOWN
) -> list[ExpectedDelivery]:
    """The newest periods of every feed that has a calendar, by feed and period."""
    return [
        line
        for feed in context.project.feeds
        if feed.calendar is not None
        for partition in _periods(context, feed)[-periods:]
        for line in _lines(context, feed, partition)
    ]


def _periods(context: PipelineContext, feed: Feed) -> list[Partition]:
    """The feed's periods that have begun."""
    now = context.now()
    end = min(feed.end or now, now)
    periods = partitions_between(feed.cadence, feed.cadence.floor(feed.start), end)
    since = None if feed.calendar is None else feed.calendar.since
    return [p for p in periods if since is None or p.window.start.date() >= since]


def _lines(context: PipelineContext, feed: Feed, partition: Partition) -> list[ExpectedDelivery]:
    assert feed.calendar is not None
    arrivals = [
        Arrival(delivered.name, delivered.sha256, delivered.received_at)
        for delivered in context.registry.deliveries(feed.name, partition.key)
    ]
    validated = context.registry.commit(feed.name, Stage.VALIDATED, partition.key)
    rows = None if validated is None else validated.counts["received"]
    return expected_deliveries(feed.name, feed.calendar, partition, arrivals, rows, context.now())


def calendar_rows(lines: Sequence[ExpectedDelivery]) -> list[tuple[str, ...]]:
    """The calendar as texts, by ``CALENDAR_COLUMNS``; the newest period of each feed first."""
    newest_first = sorted(lines, key=lambda line: line.partition_key, reverse=True)
    newest_first.sort(key=lambda line: line.feed)
    return [
        (
            line.feed,
            line.partition_key,
            line.region,
            f"{line.due:%Y-%m-%d}",
            str(line.state),
            "" if line.received_at is None else f"{line.received_at:%Y-%m-%d}",
            str(line.files),
            "" if line.rows is None else f"{line.rows:,}",
        )
        for line in newest_first
    ]
