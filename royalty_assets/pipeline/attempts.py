"""Attempts: a stage is called on a partition, and whatever becomes of it is an outcome and a line.

This is the second of three layers of retries (docs/explanation/retries.md): what failed in a way
that may pass is called once more when all others are done. Requests are tried again below, in
``sources``; runs above, by Dagster and the sensors.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from royalty_assets.domain.failures import Failure, Remedy
from royalty_assets.domain.windows import Partition
from royalty_assets.logs import bound, log_of
from royalty_assets.pipeline.context import Outcome, PipelineContext, first_finding
from royalty_assets.pipeline.failures import failure_of

StageCall = Callable[[PipelineContext, list[Partition]], Iterable[Outcome]]

_log = log_of(__name__)


class _Attempt:
    """What came of one call."""

    def __init__(self, partition_key: str) -> None:
        self._partition_key = partition_key
        self._began = perf_counter()
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def came_to(self, outcome: Outcome) -> None:
        self._outcome = outcome
        _tell(outcome, perf_counter() - self._began)

    def failed(self, failure: Failure) -> None:
        self.came_to(Outcome.failed(self._partition_key, failure))


@contextmanager
def _attempt(name: str, stage: str, partition_key: str) -> Iterator[_Attempt]:
    with bound(feed=name, stage=stage, partition=partition_key):
        attempt = _Attempt(partition_key)
        try:
            yield attempt
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            attempt.failed(failure)


def attempted(name: str, stage: str, partition_key: str, call: Callable[[], Outcome]) -> Outcome:
    """Call a stage on one partition.

    Args:
        name: of the feed, or of what else the partition is of.
        stage: its name.
        partition_key: of the partition.
        call: the stage.

    Returns:
        Its outcome, also where source, lake, registry or disk kept it from committing. Errors
        that ``failure_of`` does not know are raised.
    """
    with _attempt(name, stage, partition_key) as attempt:
        attempt.came_to(call())
    return attempt.outcome


async def attempted_async(
    name: str, stage: str, partition_key: str, call: Callable[[], Awaitable[Outcome]]
) -> Outcome:
    """See ``attempted``, for a stage that waits for a network."""
    with _attempt(name, stage, partition_key) as attempt:
        attempt.came_to(await call())
    return attempt.outcome


def with_second_try(
    context: PipelineContext, partitions: Sequence[Partition], call: StageCall
) -> Iterator[Outcome]:
    """The outcomes of a stage; what may pass is tried once more, when all others are done.

    What waits for something else is not: that would not come any sooner.
    """
    again: list[Partition] = []
    by_key = {partition.key: partition for partition in partitions}
    for outcome in call(context, list(partitions)):
        if outcome.failure is not None and outcome.failure.remedy is Remedy.RETRY:
            again.append(by_key[outcome.partition_key])
        else:
            yield outcome
    if again:
        _log.warning("%d partitions are tried once more", len(again))
        yield from call(context, again)


def _tell(outcome: Outcome, seconds: float) -> None:
    if (failure := outcome.failure) is not None:
        tell = _log.warning if failure.is_transient else _log.error
        who = {"remedy": failure.remedy, "actor": failure.actor}
        tell("not committed: %s", failure.problem, extra=who)
        return
    commit = outcome.commit
    assert commit is not None
    if not outcome.changed:
        _log.debug("skipped: revision %d was made from the same input", commit.revision)
        return
    counts = ", ".join(f"{name} {number:,}" for name, number in commit.counts.items())
    told = f"committed revision {commit.revision} in {seconds:.2f} s"
    facts = {"revision": commit.revision, "seconds": round(seconds, 3), **commit.counts}
    _log.info("%s", f"{told}: {counts}" if counts else told, extra=facts)
    if not commit.is_green:
        _log.error("blocked by its own check: %s", first_finding(commit), extra=facts)
