"""Two runs of one partition at once: what is in force is of the one that began, and read, later.

One run is stopped before its n-th write, as a long pause of its machine would; another one does
the same work, with a report that has come meanwhile; then the first goes on.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from royalty_assets.domain.batches import Stage
from royalty_assets.pipeline.closing import close
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.contracts import take_contracts
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.storage.lake import LocalLake
from royalty_assets.storage.registry import Registry, RegistryConflictError
from royalty_assets_tests.monthly_reports import JANUARY, agree, project, report, row
from royalty_assets_tests.pipeline.test_closing import DEAL
from royalty_assets_tests.projects import month_hash, run_month

WRITES = ("take_turn", "commit_batch", "add_dead_letters", "add_reports", "commit_partition")


class Pause:
    """Calls ``meanwhile`` before the n-th write."""

    def __init__(self, at: int, meanwhile: Callable[[], object]) -> None:
        self.left = at
        self.meanwhile = meanwhile

    def before_a_write(self) -> None:
        self.left -= 1
        if self.left == -1:
            # In a thread of its own only because the first may be within an event loop.
            with ThreadPoolExecutor(1) as other:
                other.submit(self.meanwhile).result()


class PausedLake(LocalLake):
    def __init__(self, root, pause):
        super().__init__(root)
        self.pause = pause

    def put(self, *arguments):
        self.pause.before_a_write()
        return super().put(*arguments)


class PausedRegistry(Registry):
    def __init__(self, engine, pause):
        super().__init__(engine)
        self.pause = pause

    def __getattribute__(self, name):
        if name in WRITES:
            super().__getattribute__("pause").before_a_write()
        return super().__getattribute__(name)


def paused(context: PipelineContext, pause: Pause) -> PipelineContext:
    """The same project, as another process sees it."""
    return replace(
        context,
        lake=PausedLake(context.home / "lake", pause),
        registry=PausedRegistry(context.registry._engine, pause),
        inbox_looks={},
    )


@pytest.fixture
def newer_hash(tmp_path):
    """The ledger of both reports, taken in by one run after another."""
    context = project(tmp_path / "calm")
    first_report(context)
    run_month(context, JANUARY)
    second_report(context)
    run_month(context, JANUARY)
    return month_hash(context, JANUARY)


def first_report(context):
    good = [row(f"2025-01-0{day}", "10.00") for day in range(1, 6)]
    report(context, "a.csv", *good, row("2025-01-05", "x", "R2"))


def second_report(context):
    report(context, "b.csv", row("2025-01-06", "2.50", "R2"))


def test_wherever_one_run_is_stopped_the_later_one_stands(tmp_path, newer_hash):
    stopped = 0
    for at in range(1, 100, 4):  # the soak tries them all
        context = project(tmp_path / f"stopped-{at}")
        first_report(context)

        def meanwhile(context=context):
            second_report(context)
            run_month(context, JANUARY)
            assert month_hash(context, JANUARY) == newer_hash

        pause = Pause(at, meanwhile)
        try:
            run_month(paused(context, pause), JANUARY)
        except RegistryConflictError:
            stopped += 1
        if pause.left >= 0:
            break
        assert month_hash(context, JANUARY) == newer_hash, f"stopped before write {at}"
        # An overtaken run may have listed the inbox before the other: what is taken stays taken,
        # and the listing is told anew. Nothing else is left to do.
        again = {o.commit.stage for o in run_month(context, JANUARY) if o.changed}
        assert again <= {Stage.RAW}, f"stopped before write {at}"
        assert len(context.registry.dead_letters()) == 1
        context.registry.close()
    assert at > 15
    assert stopped > 2


@pytest.mark.parametrize("stage", [Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS])
def test_who_was_at_a_month_when_it_was_closed_commits_nothing_of_it(tmp_path, stage):
    context = project(tmp_path)
    first_report(context)
    run_month(context, JANUARY)
    asleep = context.registry.take_turn(LEDGER_FEED, stage, JANUARY.key)
    close(context, JANUARY, "Ann")
    (closed,) = context.registry.commits(stage)
    with pytest.raises(RegistryConflictError, match=f"ledger/{stage} .* taken over by another run"):
        context.registry.commit_partition(replace(closed, revision=asleep.revision), asleep)
    assert context.registry.commits(stage) == [closed]


def test_a_run_that_begins_while_a_month_is_closed_looks_again(tmp_path):
    context = project(tmp_path)
    first_report(context)
    run_month(context, JANUARY)
    agree(context, DEAL.format(payee="ada", percent=50))
    take_contracts(context)

    def meanwhile():
        run_month(context, JANUARY)
        close(context, JANUARY, "Ann")

    outcome = pay_out(paused(context, Pause(0, meanwhile)), JANUARY)
    assert not outcome.changed
    assert [commit.revision for commit in context.registry.commits(Stage.PAYOUTS)] == [1]
