"""Invariant 2: any faults, any order, any crash, any number of runs give one and the same ledger.

Every run here goes over real HTTP to the simulated services and into a real lake and registry.
"""

import itertools
from dataclasses import replace

import pytest

from royalty_assets.domain.batches import Stage
from royalty_assets.pipeline import validate as validate_module
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.simulator.faults import PASSING_FAULTS, FaultPlan
from royalty_assets.simulator.scenario import SONORA
from royalty_assets.storage.registry import Registry
from royalty_assets_tests.databases import using
from royalty_assets_tests.lakes import LakeOver
from royalty_assets_tests.projects import SMALL, counts, demo_context, month_hash, run_month


@pytest.fixture(scope="module")
def fault_free(tmp_path_factory, database):
    """The month without faults: its hash, and the truth that its counts must agree with."""
    with demo_context(tmp_path_factory.mktemp("calm")) as (context, services):
        outcomes = run_month(context)
        assert all(outcome.commit.is_green for outcome in outcomes)
        return month_hash(context), counts(context, Stage.VALIDATED, "sonora"), services


def test_the_counts_are_those_of_the_simulators_truth(fault_free):
    _, counted, services = fault_free
    partitions = services.scenario.partitions(SONORA)
    truths = [services._make_hour("sonora", hour).truth for hour in partitions]
    good = sum(int(truth["is_well_formed"].sum()) for truth in truths)
    repeated = sum(int((truth["is_repeated"]).sum()) for truth in truths)
    assert counted["received"] == sum(truth.height for truth in truths)
    assert counted["rejected"] == counted["received"] - good
    # A repetition of a record that was spoilt the first time is the only good copy of it.
    assert counted["duplicates"] <= repeated
    assert counted["accepted"] == len(
        {e for truth in truths for e in truth.filter("is_well_formed")["event_id"]}
    )


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_all_faults_at_once_give_the_hash_of_none(fault_free, tmp_path, seed):
    plan = FaultPlan.all(seed, rate=0.4)
    with demo_context(tmp_path, faults=plan) as (context, _):
        run_month(context)
        assert month_hash(context) == fault_free[0]
    assert set(plan.struck) == PASSING_FAULTS
    assert all(plan.struck.values())


def test_another_seed_is_another_hash(fault_free, tmp_path):
    with demo_context(tmp_path, replace(SMALL, seed=SMALL.seed + 1)) as (context, _):
        run_month(context)
        assert month_hash(context) != fault_free[0]


def test_running_again_changes_nothing(fault_free, tmp_path):
    with demo_context(tmp_path) as (context, _):
        run_month(context)
        before = set(context.lake.listing())
        again = run_month(context)
        assert not any(outcome.changed for outcome in again)
        assert set(context.lake.listing()) == before
        assert month_hash(context) == fault_free[0]


class Crash(BaseException):
    """The process dies here: nothing that catches ordinary errors may catch it."""


class CrashingLake(LakeOver):
    """Dies before or after the n-th object is stored."""

    def __init__(self, beneath, crash_at, *, after):
        super().__init__(beneath)
        self.puts = itertools.count()
        self.crash_at = crash_at
        self.after = after

    def put(self, *arguments):
        number = next(self.puts)
        if number == self.crash_at and not self.after:
            raise Crash
        stored = super().put(*arguments)
        if number == self.crash_at and self.after:
            raise Crash
        return stored


class CrashingRegistry(Registry):
    """Dies before or after the n-th transaction that writes."""

    def __init__(self, engine, crash_at, *, after):
        super().__init__(engine)
        self.writes = itertools.count()
        self.crash_at = crash_at
        self.after = after

    def _perhaps(self, write, *arguments, **options):
        number = next(self.writes)
        if number == self.crash_at and not self.after:
            raise Crash
        write(*arguments, **options)
        if number == self.crash_at and self.after:
            raise Crash

    def commit_batch(self, *arguments, **options):
        self._perhaps(super().commit_batch, *arguments, **options)

    def commit_partition(self, *arguments):
        self._perhaps(super().commit_partition, *arguments)

    def add_dead_letters(self, *arguments):
        self._perhaps(super().add_dead_letters, *arguments)


def crashing(
    context: PipelineContext, where: str, crash_at: int, *, after: bool
) -> PipelineContext:
    """The same project over a store that dies."""
    lake, registry = context.lake, context.registry
    if where == "lake":
        lake = CrashingLake(context.lake, crash_at, after=after)
    else:
        registry = CrashingRegistry(context.registry._engine, crash_at, after=after)
    return PipelineContext(context.project, context.home, lake, registry, context.templates)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["lake", "registry"])
@pytest.mark.parametrize(
    "crashes",
    [(0, 31, 60), *(pytest.param(c, marks=pytest.mark.long) for c in ((9, 3, 17), (45, 70, 90)))],
)
def test_crashes_at_any_write_give_the_hash_of_none(fault_free, tmp_path, where, after, crashes):
    """Three crashes in a row, each in what the one before left; then a run to the end."""
    with demo_context(tmp_path) as (context, _):
        died = 0
        for crash_at in crashes:
            try:
                run_month(crashing(context, where, crash_at, after=after))
            except Crash:
                died += 1
        assert died
        run_month(context)
        assert month_hash(context) == fault_free[0]
        assert counts(context, Stage.VALIDATED, "sonora") == fault_free[1]


@pytest.mark.on_databases("postgresql")
def test_crashes_on_postgresql_give_the_hash_of_none_on_sqlite(tmp_path):
    tiny = replace(SMALL, events=1_500, hours=1)
    with using("sqlite"), demo_context(tmp_path / "calm", tiny) as (context, _):
        run_month(context)
        calm = month_hash(context)
    with demo_context(tmp_path / "crashing", tiny) as (context, _):
        for crash_at, after in ((4, True), (15, False), (25, True)):
            with pytest.raises(Crash):
                run_month(crashing(context, "registry", crash_at, after=after))
        run_month(context)
        assert month_hash(context) == calm


def test_a_partition_that_spills_to_disk_is_the_same(fault_free, tmp_path, monkeypatch):
    monkeypatch.setattr(validate_module, "WAITING_ROWS_MAX", 100)
    monkeypatch.setattr(validate_module, "CHUNK_ROWS", 64)
    with demo_context(tmp_path) as (context, _):
        run_month(context)
        assert month_hash(context) == fault_free[0]
