"""After a decision: what it touches is matched again, and then its months are posted and paid.

A decision is recorded at the desk and requests nothing itself; the sensor here looks for new ones.
All partitions that a feed has to match again are one run, from the first to the last: those in
between that are not touched are skipped by their stage.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Feed, Project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.assets import stage_key
from royalty_assets.orchestration.schedules import MONTH_END_JOB
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.month import wanting
from royalty_assets.pipeline.periods import closed_months, committed_months


@dataclass(frozen=True, slots=True)
class DecisionCursor:
    """What has been requested.

    Attributes:
        number: of the last decision that was looked at.
        months: keys of months to be posted again once their partitions are matched.
    """

    number: int = 0
    months: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str | None) -> "DecisionCursor":
        """The cursor in a sensor's stored text."""
        if not text:
            return cls()
        content = json.loads(text)
        return cls(content["number"], frozenset(content["months"]))

    def render(self) -> str:
        """The text to store."""
        return json.dumps({"number": self.number, "months": sorted(self.months)})


def rematch_job_name(feed: Feed) -> str:
    """The name of the job that matches a feed again."""
    return f"{feed.name}_rematch"


def rematch_job(feed: Feed) -> Any:  # dagster has no public name for an unresolved job
    """A range of a feed's partitions, matched again."""
    return dg.define_asset_job(
        rematch_job_name(feed),
        selection=dg.AssetSelection.assets(stage_key(feed, Stage.MATCHED)),
        description=f"Matches partitions of {feed.name} again, after a decision at the desk.",
    )


def touched_partitions(context: PipelineContext, after: int) -> tuple[int, dict[str, list[str]]]:
    """The last decision's number, and feed → partition keys that decisions since one touch."""
    decisions = [one for one in context.registry.adjudications() if one.number > after]
    touched: dict[str, set[str]] = {}
    subjects = {decision.subject for decision in decisions}
    for feed, key in context.registry.partitions_with_subjects(subjects):
        touched.setdefault(feed, set()).add(key)
    last = max((decision.number for decision in decisions), default=after)
    return last, {feed: sorted(keys) for feed, keys in sorted(touched.items())}


def decisions_sensor(project: Project, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The sensor that requests what decisions touch.

    Args:
        project: the configuration.
        jobs: those that it may request: each feed's ``rematch_job``, and the month's.
    """

    @dg.sensor(
        name="decisions",
        jobs=list(jobs),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a decision at the desk: matches again what it touches, then posts and "
        "pays those months.",
    )
    def look(
        context: dg.SensorEvaluationContext, session: dg.ResourceParam[PipelineSession]
    ) -> dg.SensorResult:
        cursor = DecisionCursor.parse(context.cursor)
        known = session.context
        number, touched = touched_partitions(known, cursor.number)
        months = cursor.months | months_that_book(known, _months(project, touched))
        requests = list(_rematches(project, touched, number))
        if not requests:
            ready = {key for key in months if not wanting(known, _month(key))}
            months -= ready
            requests = [
                dg.RunRequest(
                    run_key=f"{MONTH_END_JOB}:{key}:decision:{number}",
                    job_name=MONTH_END_JOB,
                    partition_key=key,
                )
                for key in sorted(ready)
            ]
        after = DecisionCursor(number, frozenset(months))
        skip = None if requests else "no decision since the last look"
        return dg.SensorResult(run_requests=requests, cursor=after.render(), skip_reason=skip)

    return look


def _rematches(
    project: Project, touched: Mapping[str, list[str]], number: int
) -> Iterator[dg.RunRequest]:
    for name, keys in touched.items():
        yield dg.RunRequest(
            run_key=f"{name}:decision:{number}",
            job_name=rematch_job_name(project.feed(name)),
            tags={
                "dagster/asset_partition_range_start": keys[0],
                "dagster/asset_partition_range_end": keys[-1],
            },
        )


def _months(project: Project, touched: Mapping[str, list[str]]) -> set[str]:
    return {
        Partition.parse(project.feed(name).cadence, key).month.key
        for name, keys in touched.items()
        for key in keys
    }


def months_that_book(context: PipelineContext, touched: set[str]) -> set[str]:
    """The posted months whose ledgers have what is touched.

    Of a month that is closed, or was passed over, it is the first open one, which corrects it.
    """
    posted = {month.key for month in committed_months(context)}
    last_closed = max((month.key for month in closed_months(context)), default="")
    is_settled = any(key <= last_closed for key in touched)
    first_open = min((key for key in posted if key > last_closed), default=None)
    booking = {key for key in touched & posted if key > last_closed}
    return booking | ({first_open} if is_settled and first_open is not None else set())


def _month(key: str) -> Partition:
    return Partition.parse(Cadence.MONTHLY, key)
