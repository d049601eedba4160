"""Making everything again from the raw bytes, in stores that are thrown away, and comparing.

Each stage is made from what is committed before it, by the very functions that made it first, and
its objects are compared with the committed ones. That every stage follows from the one before,
and the first from the raw bytes, is that all of it follows from the raw bytes. The catalog is
made of files that are not kept; its snapshots are held by their hashes alone.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.context import (
    LEDGER_FEED,
    Outcome,
    PipelineContext,
    StageBlockedError,
)
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.pipeline.match import match, matched
from royalty_assets.pipeline.month import post_ledger, posted, posting_sha256
from royalty_assets.pipeline.payouts import paid_out, pay_out, payout_input_sha256
from royalty_assets.pipeline.periods import is_closed
from royalty_assets.pipeline.pool import derive_pool, standing_pool
from royalty_assets.pipeline.statements import state, stated, statement_input_sha256
from royalty_assets.pipeline.validate import validate, validated
from royalty_assets.pipeline.verify import Checked, Progress
from royalty_assets.storage.lake import LakeError, read_frame
from royalty_assets.storage.registry import RegistryConflictError
from royalty_assets.storage.scratch import ScratchLake, forget, scratch_registry

_ORDER = (
    Stage.VALIDATED,
    Stage.MATCHED,
    Stage.POOL,
    Stage.LEDGER,
    Stage.PAYOUTS,
    Stage.STATEMENTS,
)


@dataclass(frozen=True, slots=True)
class _Again:
    """One committed partition that is to be made again.

    Attributes:
        standing: the commit in force, if it is of what is committed before it.
        is_of_other_input: whether it is closed, and what it was made of is no longer in force.
    """

    commit: Commit
    standing: Callable[[PipelineContext], Commit | None]
    make: Callable[[PipelineContext], Outcome]
    is_of_other_input: Callable[[PipelineContext], bool] = lambda _: False

    @property
    def place(self) -> str:
        return f"{self.commit.feed}/{self.commit.stage} {self.commit.partition_key}"


def rederive(
    context: PipelineContext, month: str | None = None, told: Progress = lambda *_: None
) -> list[Checked]:
    """Make every derived partition in force again, stage by stage.

    Args:
        context: the project; it is only read.
        month: only partitions of this accounting period, as ``2025-03``.
        told: progress.
    """
    found = []
    with tempfile.TemporaryDirectory(dir=context.spool()) as folder:
        for stage in _ORDER:
            partitions = [a for a in _partitions(context, stage) if _is_of(a, month)]
            checked = Checked(f"{stage} made again", len(partitions))
            found.append(checked)
            if not partitions:
                continue
            home = Path(folder) / str(stage)
            home.mkdir()
            # A month goes on from those before it, which are to be there; it is taken out alone.
            without = None if stage in _MONTHLY else stage
            registry = scratch_registry(context.registry, home / "registry.db", without)
            scratch = replace(
                context,
                lake=ScratchLake(context.lake, home / "lake"),
                registry=registry,
                signer=None,
                inbox_looks={},
                holds_rules=False,
                _rules=(0, []),
                _cut_reports={},
            )
            for number, again in enumerate(partitions):
                told(checked.name, number, len(partitions))
                _make(context, scratch, again, checked)
            registry.close()
    return found


def _partitions(context: PipelineContext, stage: Stage) -> Iterator[_Again]:
    feeds = {feed.name: feed for feed in context.project.feeds}
    for commit in context.registry.commits(stage):
        if commit.feed == LEDGER_FEED:
            month = Partition.parse(Cadence.MONTHLY, commit.partition_key)
            yield _month_again(stage, month, commit)
        elif commit.feed in feeds and commit.partition_key != INBOX_PARTITION:
            yield _feed_again(stage, feeds[commit.feed], commit)


def _month_again(stage: Stage, month: Partition, commit: Commit) -> _Again:
    standing, make, input_sha256 = _MONTHLY[stage]
    return _Again(
        commit,
        lambda c: standing(c, month),
        lambda c: make(c, month),
        lambda c: is_closed(c, month) and input_sha256(c, month) != commit.input_sha256,
    )


_MONTHLY: dict[
    Stage,
    tuple[
        Callable[[PipelineContext, Partition], Commit | None],
        Callable[[PipelineContext, Partition], Outcome],
        Callable[[PipelineContext, Partition], str],
    ],
] = {
    Stage.LEDGER: (posted, post_ledger, posting_sha256),
    Stage.PAYOUTS: (paid_out, pay_out, payout_input_sha256),
    Stage.STATEMENTS: (stated, state, statement_input_sha256),
}


def _feed_again(stage: Stage, feed: Feed, commit: Commit) -> _Again:
    if stage is Stage.POOL:
        month = Partition.parse(Cadence.MONTHLY, commit.partition_key)
        return _Again(
            commit,
            lambda c: standing_pool(c, feed, month),
            lambda c: derive_pool(c, feed, month),
        )
    partition = Partition.parse(feed.cadence, commit.partition_key)
    if stage is Stage.VALIDATED:
        return _Again(
            commit, lambda c: validated(c, feed, partition), lambda c: validate(c, feed, partition)
        )
    return _Again(
        commit, lambda c: matched(c, feed, partition), lambda c: match(c, feed, partition)
    )


def _is_of(again: _Again, month: str | None) -> bool:
    return month is None or again.commit.partition_key.startswith(month)


def _make(
    context: PipelineContext, scratch: PipelineContext, again: _Again, checked: Checked
) -> None:
    try:
        if again.is_of_other_input(context):
            checked.notices.append(
                f"{again.place}: the month is closed, and other data, catalogs or terms have come "
                "since; it stays as it was signed, and they are corrections in the first open month"
            )
            return
        if again.standing(context) != again.commit:
            checked.notices.append(
                f"{again.place}: it is of other input, rules or versions than are in force, and "
                "cannot be made again; a run brings it up to date"
            )
            return
        forget(scratch.registry, again.commit)
        outcome = again.make(scratch)
    except (StageBlockedError, LakeError, RegistryConflictError, OSError) as error:
        checked.differences.append(f"{again.place}: it cannot be made again: {error}")
        return
    if outcome.commit is None:
        checked.differences.append(f"{again.place}: it cannot be made again: {outcome.problem}")
        return
    if dict(outcome.commit.counts) != dict(again.commit.counts):
        checked.differences.append(
            f"{again.place}: made again it has {_counts(outcome.commit, again.commit)}"
        )
    made = _objects(scratch.registry.batches_by_id(outcome.commit.batch_ids))
    committed = _objects(context.registry.batches_by_id(again.commit.batch_ids))
    for window in sorted(made.keys() | committed.keys()):
        _compare(
            context, scratch, again, window, (committed.get(window), made.get(window)), checked
        )


def _objects(batches: list[Batch]) -> dict[str, tuple[LakeObject, ...]]:
    return {batch.window_label: batch.objects for batch in batches}


def _compare(
    context: PipelineContext,
    scratch: PipelineContext,
    again: _Again,
    window: str,
    objects: tuple[tuple[LakeObject, ...] | None, tuple[LakeObject, ...] | None],
    checked: Checked,
) -> None:
    committed, made = objects
    place = f"{again.place}, window {window}"
    if committed is None or made is None or len(committed) != len(made):
        which = "committed" if made is None else "made again"
        checked.differences.append(f"{place}: only what is {which} has it, or more objects of it")
        return
    for before, now in zip(committed, made, strict=True):
        if before.sha256 == now.sha256:
            continue
        try:
            is_equal = read_frame(context.lake, before).equals(read_frame(scratch.lake, now))
        except Exception as error:  # noqa: BLE001 - of a damaged object any reader may say anything
            checked.differences.append(f"{place}: {before.path} cannot be read: {error}")
            continue
        if is_equal:
            checked.notices.append(
                f"{place}: {before.path} has the same rows, written by another version"
            )
        else:
            checked.differences.append(f"{place}: made again, {before.path} has other rows")


def _counts(made: Commit, committed: Commit) -> str:
    return ", ".join(
        f"{name} {made.counts.get(name)} and not {committed.counts.get(name)}"
        for name in sorted(made.counts.keys() | committed.counts.keys())
        if made.counts.get(name) != committed.counts.get(name)
    )
