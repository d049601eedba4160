"""Failures: each real error of a bad day has its kind; one partition's does not stop the others.

The errors are the real ones: a device that is full (/dev/full), a database with a page limit, one
that another writer holds, a port where no database listens.
"""

import asyncio
import errno
import logging
import os
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.failures import Actor, Failure, Remedy
from royalty_assets.pipeline.attempts import attempted, with_second_try
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import Outcome, StageBlockedError, StageWaitingError
from royalty_assets.pipeline.failures import failure_of
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.validate import validate
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.sources.payloads import (
    NotDeliveredError,
    PermanentSourceError,
    TransientSourceError,
)
from royalty_assets.storage.database import connect, parsed_url
from royalty_assets.storage.lake import LakeError, write_frame
from royalty_assets.storage.registry import RegistryConflictError
from royalty_assets_tests.projects import MARCH, FullLake, demo_context, take_in

KINDS = [
    (TransientSourceError("503"), Remedy.RETRY, Actor.NOBODY),
    (NotDeliveredError("404"), Remedy.WAIT, Actor.NOBODY),
    (PermanentSourceError("401"), Remedy.MEND, Actor.FEED_OWNER),
    (RegistryConflictError("taken over"), Remedy.WAIT, Actor.NOBODY),
    (StageWaitingError("raw is not committed"), Remedy.WAIT, Actor.NOBODY),
    (StageBlockedError("raw is red"), Remedy.MEND, Actor.ROYALTY_MANAGER),
    (LakeError("no object"), Remedy.MEND, Actor.OPERATOR),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Remedy.MEND, Actor.OPERATOR),
    (PermissionError(errno.EACCES, "denied"), Remedy.MEND, Actor.OPERATOR),
    (ConnectionResetError(errno.ECONNRESET, "reset"), Remedy.RETRY, Actor.NOBODY),
]
TINY = Scenario(events=600, recordings=100, hours=2)
FAULTS = [ValueError("a fault"), KeyError("x"), ZeroDivisionError(), AssertionError()]


def the_error(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, is looked at
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(("error", "remedy", "actor"), KINDS)
def test_each_error_of_a_bad_day_has_its_kind(error, remedy, actor):
    failure = failure_of(error)
    assert (failure.remedy, failure.actor) == (remedy, actor)
    assert failure.is_transient == (actor is Actor.NOBODY)
    assert str(error) in failure.problem


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_program_is_none(fault):
    assert failure_of(fault) is None
    with pytest.raises(type(fault)):
        attempted("a", "raw", "k", lambda: (_ for _ in ()).throw(fault))


@given(
    st.recursive(
        st.sampled_from([error for error, *_ in KINDS] + FAULTS),
        lambda inner: st.lists(inner, min_size=1, max_size=3).map(
            lambda errors: ExceptionGroup("together", errors)
        ),
        max_leaves=6,
    )
)
def test_of_errors_together_the_one_counts_that_needs_a_person(error):
    def leaves(each):
        if isinstance(each, ExceptionGroup):
            return [leaf for inner in each.exceptions for leaf in leaves(inner)]
        return [each]

    alone = [failure_of(leaf) for leaf in leaves(error)]
    together = failure_of(error)
    if None in alone:
        assert together is None
    else:
        assert together in alone
        assert together.is_transient == all(each.is_transient for each in alone)


def test_a_full_disk_is_known_whoever_tells_it():
    small, large = (pl.DataFrame({"a": list(range(rows))}) for rows in (10, 100_000))
    by_polars = [the_error(lambda f=f: write_frame(Path("/dev/full"), f)) for f in (small, large)]
    by_python = the_error(lambda: Path("/dev/full").write_bytes(b"x"))
    engine = connect(parsed_url("sqlite://"))
    with engine.begin() as connection:
        connection.execute(sa.text("PRAGMA max_page_count = 2"))
        connection.execute(sa.text("CREATE TABLE t (a)"))
        by_sqlite = the_error(
            lambda: connection.execute(sa.text("INSERT INTO t VALUES (:a)"), {"a": "x" * 99_999})
        )
    engine.dispose()
    for error in (*by_polars, by_python, by_sqlite):
        failure = failure_of(error)
        assert (failure.remedy, failure.actor) == (Remedy.MEND, Actor.OPERATOR)
        assert "make room" in failure.problem
        assert "xxx" not in failure.problem  # whose row it was is no news


def test_a_database_that_is_not_there_may_come_back():
    engine = connect(parsed_url("postgresql://nobody:secret@127.0.0.1:9/none"))
    failure = failure_of(the_error(engine.connect))
    assert failure.remedy is Remedy.RETRY
    assert "secret" not in failure.problem
    engine.dispose()


def test_a_file_that_cannot_be_opened_stays_so_until_somebody_sees_to_it(tmp_path):
    engine = connect(parsed_url(f"sqlite:///{tmp_path}"))  # a folder, and no file
    failure = failure_of(the_error(engine.connect))
    assert (failure.remedy, failure.actor) == (Remedy.MEND, Actor.OPERATOR)
    assert "see to the file, its folder" in failure.problem
    engine.dispose()


def test_a_wrong_statement_is_a_fault():
    engine = connect(parsed_url("sqlite://"))
    with engine.connect() as connection:
        error = the_error(lambda: connection.execute(sa.text("SELECT 1 FROM t WHERE a = :a")))
    engine.dispose()
    assert failure_of(error) is None


@contextmanager
def held_by_another(context):
    """The database of the registry, held by another writer that does not let go."""
    impatient = sa.event.listens_for(context.registry._engine, "connect")
    impatient(lambda connection, _: connection.execute("PRAGMA busy_timeout = 1"))
    context.registry._engine.dispose()
    other = sa.create_engine(context.registry._engine.url)
    with other.connect() as connection:
        connection.execute(sa.text("BEGIN IMMEDIATE"))
        yield
    other.dispose()


def test_disk_and_database_fail_one_partition_of_any_stage_and_the_others_go_on(tmp_path):
    with demo_context(tmp_path, TINY) as (context, _):
        feed = context.project.feed("sonora")
        first, second = feed.partitions(MARCH, context.now())[:2]
        take_catalog(context)
        lake = context.lake
        context.lake = FullLake(context.lake)
        full = take_in(context, feed, [first, second])
        assert {o.failure.actor for o in full} == {Actor.OPERATOR}
        assert all("disk is full" in o.problem for o in full)
        context.lake = lake
        assert all(o.commit for o in take_in(context, feed, [first, second]))
        for stage, call in (("validated", validate), ("matched", match)):
            context.lake = FullLake(context.lake)
            failed = attempted(
                "sonora", stage, first.key, lambda call=call: call(context, feed, first)
            )
            assert "disk is full" in failed.problem
            context.lake = lake
            for each in (first, second):
                assert attempted(
                    "sonora",
                    stage,
                    each.key,
                    lambda call=call, each=each: call(context, feed, each),
                ).commit.is_green
        with held_by_another(context):
            locked = attempted("sonora", "pool", MARCH.key, lambda: _pool(context, feed))
            assert locked.failure.remedy is Remedy.RETRY
            assert "locked" in locked.problem
        assert attempted("sonora", "pool", MARCH.key, lambda: _pool(context, feed)).commit


def _pool(context, feed):
    return asyncio.run(take_pool(context, feed, MARCH))


def test_what_may_pass_is_tried_once_more_after_all_others(tmp_path, caplog):
    with demo_context(tmp_path, TINY) as (context, _):
        partitions = context.project.feed("sonora").partitions(MARCH, context.now())[:2]
        hours = [each.key for each in partitions]
        failures = {
            Remedy.RETRY: Failure("busy", Remedy.RETRY),
            Remedy.WAIT: Failure("not yet", Remedy.WAIT),
            Remedy.MEND: Failure("refused", Remedy.MEND, Actor.FEED_OWNER),
        }
        for first_remedy in Remedy:
            calls = []

            def stage(_, wanted, first_remedy=first_remedy, calls=calls):
                for each in wanted:
                    calls.append(each.key)
                    busy = each.key == hours[0] and len(calls) <= len(hours)
                    yield (
                        Outcome.failed(each.key, failures[first_remedy])
                        if busy
                        else Outcome(each.key, None)
                    )

            with caplog.at_level(logging.WARNING):
                told = list(with_second_try(context, partitions, stage))
            again = [hours[0]] if first_remedy is Remedy.RETRY else []
            assert calls == hours + again
            assert sorted(o.partition_key for o in told) == sorted(hours)
            assert any(o.failure for o in told) == (first_remedy is not Remedy.RETRY)
        assert caplog.messages == ["1 partitions are tried once more"]


def test_a_stage_that_waits_says_so_and_one_that_is_red_names_who(tmp_path):
    with demo_context(tmp_path, TINY) as (context, _):
        feed = context.project.feed("sonora")
        hour = feed.partitions(MARCH, context.now())[0]
        outcome = attempted("sonora", "validated", hour.key, lambda: validate(context, feed, hour))
        assert outcome.failure.remedy is Remedy.WAIT
        assert "sonora/raw is not committed" in outcome.problem
        assert context.registry.commit("sonora", Stage.VALIDATED, hour.key) is None


@given(st.sampled_from(Remedy), st.sampled_from(Actor))
def test_who_acts_and_whether_somebody_has_to_agree(remedy, actor):
    if (remedy is Remedy.MEND) == (actor is not Actor.NOBODY):
        assert Failure("x", remedy, actor).is_transient == (actor is Actor.NOBODY)
    else:
        with pytest.raises(ValueError, match="contradict"):
            Failure("x", remedy, actor)
