"""Polling: one sensor per feed asks what has been delivered, and requests runs for it.

A tick is one listing request under a time budget; downloading is the asset's work. The plan is a
pure function of listing and cursor. A delivery is known by its content: the run key holds the
version, so a re-sent hour runs again and an hour that is listed twice does not. What failed is
requested again later (``again``).
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from royalty_assets.domain.batches import Stage, combined_sha256
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.windows import Partition
from royalty_assets.orchestration.again import RUNS_LOOKED_AT, due_again, failed_partitions
from royalty_assets.orchestration.assets import CATALOG_KEY, stage_key
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.ingest import deliveries
from royalty_assets.pipeline.status import is_settled
from royalty_assets.sources.payloads import Delivery, SourceError

TICK_SECONDS_MAX = 30.0
"""Well below the 60 s after which Dagster gives a tick up."""
RUNS_PER_TICK_MAX = 12
LISTED_MAX = 10_000
REMEMBERED_DELIVERIES = 96
"""How many newest partitions are looked at again for late or corrected data."""


@dataclass(frozen=True, slots=True)
class PollCursor:
    """What has been requested.

    Attributes:
        settled: the key up to which nothing is asked for any more.
        versions: key → version, for the newest partitions above ``settled``.
    """

    settled: str = ""
    versions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> "PollCursor":
        """The cursor in a sensor's stored text."""
        if not text:
            return cls()
        content = json.loads(text)
        return cls(content["settled"], tuple(sorted(content["versions"].items())))

    def render(self) -> str:
        """The text to store."""
        return json.dumps({"settled": self.settled, "versions": dict(self.versions)})


def plan_poll(
    cursor: PollCursor,
    listed: Sequence[Delivery],
    partition_keys: frozenset[str],
    remembered: int = REMEMBERED_DELIVERIES,
) -> tuple[list[Delivery], PollCursor]:
    """Which deliveries to request now, oldest first, and the cursor after that.

    Args:
        cursor: what was requested before.
        listed: what the source says it has, in any order.
        partition_keys: those that the feed's asset has; what is outside is not for us.
        remembered: how many newest partitions are looked at again.
    """
    known = dict(cursor.versions)
    fresh = sorted(
        (d for d in listed if d.key in partition_keys and known.get(d.key) != d.version),
        key=lambda delivery: delivery.key,
    )
    requested = fresh[:RUNS_PER_TICK_MAX]
    known |= {delivery.key: delivery.version for delivery in requested}
    newest = sorted(known.items())
    # What is still waiting must not be settled over.
    oldest_waiting = fresh[RUNS_PER_TICK_MAX].key if len(fresh) > RUNS_PER_TICK_MAX else None
    settled = cursor.settled
    while len(newest) > remembered and (oldest_waiting is None or newest[0][0] < oldest_waiting):
        settled = newest.pop(0)[0]
    return requested, PollCursor(settled, tuple(newest))


def run_key(feed: Feed, delivery: Delivery, superseded: str | None) -> str:
    """The same for the same change of the same partition, and for nothing else.

    It holds what is superseded too: content that comes back after a correction is a change.
    """
    change = f"{superseded or ''}\n{delivery.version}"
    digest = hashlib.sha256(change.encode()).hexdigest()[:16]
    return f"{feed.name}:{delivery.key}:{digest}"


def chain_job_name(feed: Feed) -> str:
    """The name of a feed's job."""
    return f"{feed.name}_delivery"


def chain_job(feed: Feed) -> Any:  # dagster has no public name for an unresolved job
    """One partition of a feed from raw to matched."""
    keys = [stage_key(feed, stage) for stage in (Stage.RAW, Stage.VALIDATED, Stage.MATCHED)]
    return dg.define_asset_job(
        chain_job_name(feed),
        selection=dg.AssetSelection.assets(*keys),
        description=f"Takes one partition of {feed.name} from raw to matched.",
    )


def delivery_sensor(
    feed: Feed, partitions: dg.TimeWindowPartitionsDefinition
) -> dg.SensorDefinition:
    """The sensor that polls a feed."""

    @dg.sensor(
        name=f"{feed.name}_deliveries",
        job_name=chain_job_name(feed),
        minimum_interval_seconds=60,
        description=f"Asks {feed.name} what it has delivered, and runs what is new or changed.",
    )
    def poll(
        context: dg.SensorEvaluationContext, session: dg.ResourceParam[PipelineSession]
    ) -> dg.SensorResult | dg.SkipReason:
        cursor = PollCursor.parse(context.cursor)
        try:
            listed = asyncio.run(_listed(session, feed, max(cursor.settled, _before(feed))))
        except (SourceError, TimeoutError) as error:
            # A failed read is not an empty list: the cursor stays, and the next tick asks again.
            return dg.SkipReason(f"{feed.name} could not be asked: {error or 'timed out'}")
        if session.context.registry.commit("catalog", Stage.CATALOG, "current") is None:
            return dg.SkipReason(f"materialise {CATALOG_KEY.to_user_string()} first")
        keys = frozenset(partitions.get_partition_keys())
        # Late files are what an inbox is for, so none of its partitions is ever settled.
        is_inbox = isinstance(feed.source, InboxSource)
        remembered = len(keys) if is_inbox else REMEMBERED_DELIVERIES
        requested, after = plan_poll(cursor, listed, keys, remembered)
        known = dict(cursor.versions)
        requests = [
            dg.RunRequest(
                run_key=run_key(feed, delivery, known.get(delivery.key)),
                partition_key=delivery.key,
            )
            for delivery in requested
        ]
        requests += _requests_again(
            context.instance, session, feed, listed, [r.partition_key for r in requests]
        )
        skip = None if requests else f"nothing new; {len(listed)} deliveries listed"
        return dg.SensorResult(run_requests=requests, cursor=after.render(), skip_reason=skip)

    return poll


def _requests_again(
    instance: dg.DagsterInstance,
    session: PipelineSession,
    feed: Feed,
    listed: Sequence[Delivery],
    requested: Sequence[str | None],
) -> list[dg.RunRequest]:
    """Requests for partitions whose run failed some time ago, and that another run may finish."""
    context = session.context
    runs = instance.get_run_records(
        dg.RunsFilter(job_name=chain_job_name(feed)), limit=RUNS_LOOKED_AT
    )
    versions = {delivery.key: delivery.version for delivery in listed}
    due = due_again(
        failed_partitions(runs),
        context.now(),
        [key for key in requested if key is not None],
        RUNS_PER_TICK_MAX - len(requested),
    )
    return [
        dg.RunRequest(
            run_key=f"{feed.name}:{failed.partition_key}:after:{failed.run_id}",
            partition_key=failed.partition_key,
        )
        for failed in due
        if not _is_finished(context, feed, failed.partition_key, versions)
    ]


def _is_finished(
    context: PipelineContext, feed: Feed, key: str, versions: Mapping[str, str]
) -> bool:
    """Whether what is delivered now has been taken, and waits for nobody but a person."""
    raw = context.registry.commit(feed.name, Stage.RAW, key)
    if raw is None:
        return False
    if key in versions and raw.input_sha256 != combined_sha256([versions[key]]):
        return False
    return is_settled(context, feed, Partition.parse(feed.cadence, key))


async def _listed(session: PipelineSession, feed: Feed, settled: str) -> list[Delivery]:
    async with asyncio.timeout(TICK_SECONDS_MAX):
        return await deliveries(session.context, feed, settled, LISTED_MAX)


def _before(feed: Feed) -> str:
    """The key before the feed's first partition: what is older is not for us."""
    first = feed.cadence.floor(feed.start)
    return Partition.of(feed.cadence, first - timedelta(seconds=1)).key
