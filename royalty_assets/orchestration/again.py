"""Asking again for partitions whose run failed: the third layer of retries.

A delivery is requested once for each version (``sensors``). If its run fails, nothing about the
delivery changes, so that somebody has to ask again: the same sensor does, after a wait that
doubles with every failure in a row. Dagster's records say what failed and when; the registry says
whether another run would change anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

FIRST_WAIT = timedelta(minutes=5)
LONGEST_WAIT = timedelta(days=1)
RUNS_LOOKED_AT = 500
PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True, slots=True)
class FailedPartition:
    """A partition whose newest run failed.

    Attributes:
        run_id: of that run.
        ended_at: when it failed, in UTC.
        times: how many of its newest runs failed in a row.
    """

    partition_key: str
    run_id: str
    ended_at: datetime
    times: int

    @property
    def due_at(self) -> datetime:
        """When to ask again."""
        # Bounded before it is doubled: a span of time holds only so much.
        wait = FIRST_WAIT * (1 << min(self.times - 1, 20))
        return self.ended_at + min(wait, LONGEST_WAIT)


def failed_partitions(runs: Sequence[dg.RunRecord]) -> dict[str, FailedPartition]:
    """Partition key → failure, of those whose newest run failed.

    Args:
        runs: of one job, the newest first.
    """
    found: dict[str, FailedPartition] = {}
    settled: set[str] = set()
    for record in runs:
        run = record.dagster_run
        key = run.tags.get(PARTITION_TAG)
        if key is None or key in settled:
            continue
        if run.status is not dg.DagsterRunStatus.FAILURE:
            settled.add(key)
            continue
        before = found.get(key)
        if before is None:
            ended = record.end_time or record.update_timestamp.timestamp()
            found[key] = FailedPartition(key, run.run_id, datetime.fromtimestamp(ended, UTC), 1)
        else:
            found[key] = FailedPartition(key, before.run_id, before.ended_at, before.times + 1)
    return found


def due_again(
    failed: Mapping[str, FailedPartition], now: datetime, besides: Iterable[str], limit: int
) -> list[FailedPartition]:
    """Whom to ask for again now, the longest due first.

    Args:
        failed: by partition key.
        now: the present.
        besides: keys that are requested anyway.
        limit: how many at most.
    """
    left = set(besides)
    due = [each for key, each in failed.items() if key not in left and each.due_at <= now]
    return sorted(due, key=lambda each: (each.due_at, each.partition_key))[: max(limit, 0)]
