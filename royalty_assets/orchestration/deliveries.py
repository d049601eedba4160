"""The delivery calendar in the UI: an asset with a table, a check per feed, a daily schedule."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from royalty_assets.domain.calendar import IN_ORDER, DeliveryState, ExpectedDelivery
from royalty_assets.domain.feeds import Feed, Project
from royalty_assets.orchestration.metadata import markdown_table, plain_markdown
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.calendar import CALENDAR_COLUMNS, calendar_rows, delivery_calendar

DELIVERIES_KEY = dg.AssetKey(["deliveries"])
JOB = "delivery_calendar"
CRON = "0 7 * * *"


def check_name(feed: Feed) -> str:
    """The name of a feed's check on the calendar."""
    return f"{feed.name}_delivers_on_time"


def with_calendar(project: Project) -> list[Feed]:
    """The feeds that promise something."""
    return [feed for feed in project.feeds if feed.calendar is not None]


def deliveries_asset(project: Project) -> dg.AssetsDefinition:
    """The calendar's table, with a check per feed that has one."""
    feeds = with_calendar(project)

    @dg.asset(
        key=DELIVERIES_KEY,
        description="What each feed owes by when, and where each delivery stands: expected, late, "
        "missing, arrived, valid-empty (nothing was sold), or re-sent with other bytes. Feeds "
        "promise something by their `calendar` in feeds.yaml.",
        group_name="calendar",
        owners=["team:royalties"],
        kinds={"table"},
        check_specs=[
            dg.AssetCheckSpec(
                check_name(feed),
                asset=DELIVERIES_KEY,
                description=f"No delivery of {feed.name} is late or missing. If not: ask "
                "the sender, or see whether it waits in the inbox (`royalty-assets calendar`).",
            )
            for feed in feeds
        ],
    )
    def deliveries(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        lines = delivery_calendar(session.context)
        context.log.info("%d deliveries in the calendar", len(lines))
        yield dg.MaterializeResult(
            metadata={
                "calendar": dg.MetadataValue.md(calendar_table(lines)),
                **{str(state): _count(lines, state) for state in DeliveryState},
            },
            check_results=[_result(feed, lines) for feed in feeds],
        )

    return deliveries


def _count(lines: Sequence[ExpectedDelivery], state: DeliveryState) -> int:
    return sum(line.state is state for line in lines)


def _result(feed: Feed, lines: Sequence[ExpectedDelivery]) -> dg.AssetCheckResult:
    """Late is a warning, missing an error."""
    overdue = [x for x in lines if x.feed == feed.name and x.state not in IN_ORDER]
    is_missing = any(line.state is DeliveryState.MISSING for line in overdue)
    told = "\n".join(f"- {plain_markdown(line.told)}" for line in overdue)
    return dg.AssetCheckResult(
        check_name=check_name(feed),
        asset_key=DELIVERIES_KEY,
        passed=not overdue,
        severity=dg.AssetCheckSeverity.ERROR if is_missing else dg.AssetCheckSeverity.WARN,
        metadata={"overdue": dg.MetadataValue.md(told)} if overdue else {},
    )


def calendar_table(lines: Sequence[ExpectedDelivery]) -> str:
    """The calendar as a Markdown table."""
    if not lines:
        return "No feed has a calendar; see `calendar` in feeds.yaml."
    return markdown_table(CALENDAR_COLUMNS, calendar_rows(lines))


def deliveries_job() -> Any:  # dagster has no public name for an unresolved job
    """Look at the calendar."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(DELIVERIES_KEY),
        description="Holds what has been delivered against what was due.",
    )


def deliveries_schedule() -> dg.ScheduleDefinition:
    """Every morning at 07:00 UTC."""
    return dg.ScheduleDefinition(
        name="deliveries_daily",
        job_name=JOB,
        cron_schedule=CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_timezone="UTC",
        description="Looks each morning whether deliveries are late or missing.",
    )
