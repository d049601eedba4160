"""What the operator does, one operation at a time: the stages, as a run of the project has them.

An operation is a value, so that another process can be told to do it. What there is to do follows
from the project's feeds and the time, as in ``orchestration.runner``.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from royalty_assets.audit.keys import ensure_signing_key
from royalty_assets.domain.adjudication import Action, AdjudicationError
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.windows import Cadence, Partition, partitions_between
from royalty_assets.pipeline.adjudicate import Ruling, known_recordings, last_number, rule_on
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.closing import close
from royalty_assets.pipeline.context import Outcome, PipelineContext, StageBlockedError
from royalty_assets.pipeline.contracts import take_contracts
from royalty_assets.pipeline.ingest import deliveries, ingest
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.month import post_ledger
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.pipeline.periods import is_closed
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.questions import questions
from royalty_assets.pipeline.statements import state
from royalty_assets.pipeline.validate import validate
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.storage.registry import Registry
from royalty_assets_tests.soak.faults import (
    Gate,
    StruckContext,
    StruckEngine,
    StruckLake,
    strike_transactions,
)
from royalty_assets_tests.soak.stores import Stores
from royalty_assets_tests.soak.world import World

SECONDS_A_SECOND = 25
"""How much faster than ours the clock of waiting runs: timeouts, retries, rate limits."""
_EVERYTHING = 1_000_000
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Operation:
    """One stage of one partition, or one deed of a person."""

    what: str
    feed: str = ""
    key: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.feed}/{self.what}".strip("/"), self.key) if part)

    @property
    def is_by_hand(self) -> bool:
        """Whether a person does it."""
        return self.what in {"decide", "close"}


class _FastLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes a fraction of its time; answers take theirs."""

    def time(self) -> float:
        return super().time() * SECONDS_A_SECOND

    def call_at(self, when: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        return super().call_at(when, *arguments, **options)


def at_once(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end."""
    with asyncio.Runner(loop_factory=_fast_loop) as runner:
        return runner.run(coroutine)


def _fast_loop() -> asyncio.AbstractEventLoop:
    loop = _FastLoop()
    loop._selector.select = _sooner(loop._selector.select)  # type: ignore[attr-defined]
    return loop


def _sooner(select: Callable[..., Any]) -> Callable[..., Any]:
    return lambda timeout=None: select(timeout if not timeout else timeout / SECONDS_A_SECOND)


def open_project(
    world: World, home: Path, stores: Stores, url: str, now: Callable[[], datetime], gate: Gate
) -> StruckContext:
    """Open the project in ``home``, as a process does that has just started."""
    strike_transactions()
    registry, opened = stores.registry(home), ExitStack()
    opened.callback(registry.close)
    context = StruckContext(
        project=world.project(url),
        home=home,
        lake=StruckLake(opened.enter_context(stores.lake(home)), gate),
        registry=Registry(StruckEngine(registry._engine, gate)),
        templates=bundled_templates(),
        now=now,
        signer=ensure_signing_key(home, name="soak"),
    )
    context.gate, context.opened = gate, opened
    return context


def perform(context: PipelineContext, world: World, operation: Operation) -> str:
    """Do an operation; what kept it from being done, in words.

    Whatever else goes wrong is raised, as a run would fail of it.
    """
    try:
        outcome = _STAGES[operation.what](context, world, operation)
    except StageBlockedError as error:
        return f"blocked: {error}"
    return (outcome.problem or "") if isinstance(outcome, Outcome) else ""


def changes_again(context: PipelineContext, world: World, operation: Operation) -> bool:
    """Whether a stage that was just done is done once more, as what stands is not of its input."""
    if operation.is_by_hand or operation.what == "sign":
        return False
    try:
        outcome = _STAGES[operation.what](context, world, operation)
    except StageBlockedError:
        return False
    return isinstance(outcome, Outcome) and outcome.commit is not None and outcome.changed


def what_is_due(context: PipelineContext) -> Iterator[Operation]:
    """Everything that a run of the project looks at, in order."""
    now = context.now()
    yield Operation("catalog")
    yield Operation("contracts")
    months: set[str] = set()
    for feed in context.project.feeds:
        partitions = _partitions(context, feed)
        for partition in partitions:
            yield Operation("raw", feed.name, partition.key)
        ended = [partition for partition in partitions if partition.window.end <= now]
        for stage in ("validated", "matched"):
            for partition in ended:
                yield Operation(stage, feed.name, partition.key)
        own = {p.month.key for p in ended if p.month.window.end <= now}
        months |= own
        if feed.has_pool:
            for key in sorted(own):
                yield Operation("pool", feed.name, key)
    for stage in ("ledger", "payouts", "statements"):
        for key in sorted(months):
            yield Operation(stage, "", key)
    yield Operation("sign")


def _partitions(context: PipelineContext, feed: Feed) -> list[Partition]:
    if isinstance(feed.source, InboxSource):
        listed = at_once(deliveries(context, feed, "", _EVERYTHING))
        return [Partition.parse(feed.cadence, delivery.key) for delivery in listed]
    end = min(feed.end or context.now(), context.now())
    starting = partitions_between(feed.cadence, feed.cadence.floor(feed.start), end)
    return [each for each in starting if each.window.end <= context.now()]


async def _take_in(context: PipelineContext, feed: Feed, partition: Partition) -> Outcome:
    (outcome,) = [outcome async for outcome in ingest(context, feed, [partition])]
    return outcome


def _of_partition(
    stage: Callable[[PipelineContext, Feed, Partition], Outcome],
) -> Callable[[PipelineContext, World, Operation], Outcome]:
    def do(context: PipelineContext, _world: World, operation: Operation) -> Outcome:
        feed = context.project.feed(operation.feed)
        return stage(context, feed, Partition.parse(feed.cadence, operation.key))

    return do


def _of_month(
    stage: Callable[[PipelineContext, Partition], Outcome],
) -> Callable[[PipelineContext, World, Operation], Outcome]:
    return lambda context, _, operation: stage(context, month_of(operation.key))


def month_of(key: str) -> Partition:
    """The month of a key."""
    return Partition.parse(Cadence.MONTHLY, key)


def _pool(context: PipelineContext, _world: World, operation: Operation) -> Outcome:
    feed = context.project.feed(operation.feed)
    return at_once(take_pool(context, feed, month_of(operation.key)))


def _decide(context: PipelineContext, world: World, operation: Operation) -> None:
    """Somebody answers a question, unless they see that they have done so already."""
    why = f"decision {operation.key}"
    if any(decision.why == why for decision in context.registry.adjudications()):
        return
    draw = random.Random(f"decision/{world.seed}/{operation.key}")
    asked = sorted(questions(context), key=lambda question: question.subject)
    if not asked:
        return
    question = draw.choice(asked)
    action = draw.choice((Action.ACCEPT, Action.ACCEPT, Action.REJECT))
    recording = draw.choice(sorted(known_recordings(context)))
    ruling = Ruling(
        action, "Ann", why, recording if action is Action.ACCEPT else None,
        seen=last_number(context, question.subject),
    )  # fmt: skip
    with suppress(AdjudicationError):  # it was answered so before
        rule_on(context, question, ruling)


def _close(context: PipelineContext, _world: World, operation: Operation) -> None:
    month = month_of(operation.key)
    if not is_closed(context, month):
        close(context, month, "Ann", "all is in")


_STAGES: dict[str, Callable[[PipelineContext, World, Operation], Any]] = {
    "catalog": lambda context, *_: take_catalog(context),
    "contracts": lambda context, *_: take_contracts(context),
    "raw": _of_partition(lambda context, feed, each: at_once(_take_in(context, feed, each))),
    "validated": _of_partition(validate),
    "matched": _of_partition(match),
    "pool": _pool,
    "ledger": _of_month(post_ledger),
    "payouts": _of_month(pay_out),
    "statements": _of_month(state),
    "sign": lambda context, *_: sign_checkpoint(context),
    "decide": _decide,
    "close": _close,
}
