"""What failed is requested again, and what nobody finished is told: by sensor, check and command.

Runs go through real Dagster instances; a process that died is a run that is on record as started.
"""

import logging
import warnings
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from importlib.resources import files
from pathlib import Path

import dagster as dg
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.definitions import build_defs
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.failures import Actor
from royalty_assets.orchestration.again import (
    FIRST_WAIT,
    LONGEST_WAIT,
    FailedPartition,
    due_again,
    failed_partitions,
)
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.orchestration.unfinished import CHECK, unfinished_table, unfinished_work
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.status import State, Unfinished
from royalty_assets.settings import Settings
from royalty_assets.simulator.scenario import Scenario
from royalty_assets_tests.projects import MARCH, demo_context, take_in

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TINY = Scenario(events=600, recordings=100, hours=2)
HOUR = "2025-03-01-00:00"
NOW = datetime(2025, 3, 9, tzinfo=UTC)
TEMPLATE = files("royalty_assets").joinpath("project_template/dagster.yaml")


@pytest.fixture(autouse=True)
def _no_dagster_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def definitions_of(context):
    session = PipelineSession(Settings(home=context.home), context.project)
    session._context = context
    return build_defs(session.settings, context.project, session=session)


def tick(definitions, instance, cursor=None):
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=definitions.resources, definitions=definitions
    ) as context:
        return definitions.get_sensor_def("vinylia_deliveries")(context)


def run_chain(definitions, instance, key=HOUR):
    return definitions.resolve_job_def("vinylia_delivery").execute_in_process(
        instance=instance, partition_key=key, run_config=QUIET, raise_on_error=False
    )


def test_the_two_copies_of_the_instance_s_settings_agree():
    """The repository's own, and the one that a project of one's own is started with."""
    own = Path(__file__).parents[2] / "dagster.yaml"
    assert own.read_text(encoding="utf-8") == TEMPLATE.read_text(encoding="utf-8")


def test_a_dead_worker_s_run_is_ended_and_retried_and_a_failed_check_s_is_not():
    settings = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    assert settings["run_monitoring"]["enabled"]
    assert settings["run_monitoring"]["max_runtime_seconds"] == 7200
    assert settings["run_retries"] == {
        "enabled": True,
        "max_retries": 2,
        "retry_on_asset_or_op_failure": False,
    }


def test_a_partition_whose_run_failed_is_requested_again_until_it_is_in(tmp_path):
    """The service refuses the token; nothing about the delivery changes when it is mended."""
    with (
        demo_context(tmp_path, TINY) as (context, services),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        definitions = definitions_of(context)
        take_catalog(context)
        services.clock.now = datetime(2025, 3, 1, 1, 0, tzinfo=UTC)
        first = tick(definitions, instance)
        assert [request.partition_key for request in first.run_requests] == [HOUR]
        services._token = "another"
        failed = run_chain(definitions, instance)
        assert not failed.success
        (failure,) = [event for event in failed.all_events if event.is_step_failure]
        told = failure.step_failure_data.user_failure_data.metadata["failures"].data
        assert told["partitions"][HOUR]["actor"] == "feed owner"
        services._token = None
        assert not tick(definitions, instance, first.cursor).run_requests  # too soon
        context.now = lambda: datetime.now(UTC) + FIRST_WAIT
        (again,) = tick(definitions, instance, first.cursor).run_requests
        assert again.partition_key == HOUR
        assert failed.run_id in again.run_key
        assert run_chain(definitions, instance).success
        context.now = lambda: datetime.now(UTC) + LONGEST_WAIT
        assert not tick(definitions, instance, first.cursor).run_requests


def test_what_is_red_for_its_data_is_not_requested_again(tmp_path):
    """It would be red again; its delivery has to change, or a person the limit."""
    with (
        demo_context(tmp_path, TINY) as (context, services),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        strict = [
            feed.model_copy(update={"rejected_fraction_max": 0}) for feed in context.project.feeds
        ]
        context.project = context.project.model_copy(update={"feeds": strict})
        definitions = definitions_of(context)
        take_catalog(context)
        services.clock.now = datetime(2025, 3, 1, 1, 0, tzinfo=UTC)
        first = tick(definitions, instance)
        assert not run_chain(definitions, instance).success
        red = context.registry.commit("vinylia", Stage.VALIDATED, HOUR)
        assert red.checks["rejects_are_within_limits"]
        context.now = lambda: datetime.now(UTC) + LONGEST_WAIT
        assert not tick(definitions, instance, first.cursor).run_requests
        (told,) = [u for u in unfinished_work(context, instance) if u.state is State.RED]
        assert told.place == ("vinylia", "validated", HOUR)
        assert told.actor is Actor.FEED_OWNER


RUNS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]),
    ),
    max_size=20,
)


@given(RUNS)
def test_failures_in_a_row_are_counted_from_the_newest_back(runs):
    def record(number, key, status):
        at = NOW - timedelta(minutes=number)
        run = dg.DagsterRun(
            "job", run_id=str(number), status=status, tags={"dagster/partition": key}
        )
        return dg.RunRecord(number, run, at, at, at.timestamp(), at.timestamp())

    found = failed_partitions([record(n, *each) for n, each in enumerate(runs)])
    for key in "abc":
        own = [(n, status) for n, (each, status) in enumerate(runs) if each == key]
        in_a_row = 0
        while in_a_row < len(own) and own[in_a_row][1] is dg.DagsterRunStatus.FAILURE:
            in_a_row += 1
        if in_a_row:
            assert (found[key].times, found[key].run_id) == (in_a_row, str(own[0][0]))
        else:
            assert key not in found


@given(st.integers(1, 30), st.integers(0, 5))
def test_the_wait_doubles_up_to_a_day_and_requests_are_bounded(times, limit):
    one = FailedPartition("a", "r", NOW, times)
    wait = one.due_at - NOW
    assert wait == min(LONGEST_WAIT, FIRST_WAIT * 2 ** (times - 1))
    assert due_again({"a": one}, one.due_at - timedelta(seconds=1), [], 9) == []
    many = {key: FailedPartition(key, "r", NOW, times) for key in "fedcba"}
    due = due_again(many, one.due_at, ["c"], limit)
    assert [each.partition_key for each in due] == list("abdef")[:limit]


def test_the_daily_check_is_red_while_a_person_is_needed_and_then_green(tmp_path):
    with (
        demo_context(tmp_path, TINY) as (context, services),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        definitions = definitions_of(context)
        take_catalog(context)
        services._token = "another"
        assert not run_chain(definitions, instance).success

        def look():
            result = definitions.resolve_job_def("unfinished_work").execute_in_process(
                instance=instance, run_config=QUIET
            )
            (check,) = result.get_asset_check_evaluations()
            assert check.check_name == CHECK
            (made,) = result.asset_materializations_for_node("unfinished")
            return check.passed, unescape(made.metadata["unfinished"].value)

        passed, table = look()
        assert not passed
        assert f"failed | vinylia/raw {HOUR}" in table
        assert "answered 401" in table
        assert "feed owner" in table
        services._token = None
        for feed in context.project.feeds:
            hours = feed.partitions(MARCH, context.now())
            assert all(outcome.commit for outcome in take_in(context, feed, hours))
        passed, table = look()
        assert passed, table
        assert "2 partitions are raw and not yet validated" in table
    schedule = definitions.get_schedule_def("unfinished_daily")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_what_was_begun_and_a_run_that_hangs_are_told_after_a_while(tmp_path):
    with demo_context(tmp_path, TINY) as (context, _), dg.DagsterInstance.ephemeral() as instance:
        take_catalog(context)
        context.registry.take_turn("sonora", Stage.RAW, HOUR)  # and then its process dies
        instance.add_run(dg.DagsterRun("sonora_delivery", status=dg.DagsterRunStatus.STARTED))
        states = {State.BEGUN, State.HANGING}
        assert not states & {each.state for each in unfinished_work(context, instance)}
        context.now = lambda: datetime.now(UTC) + timedelta(hours=3)
        told = {each.state: each for each in unfinished_work(context, instance)}
        assert told[State.BEGUN].place == ("sonora", "raw", HOUR)
        assert told[State.HANGING].feed == ""
        assert all(told[state].actor is Actor.OPERATOR for state in states)
        feed = context.project.feed("sonora")
        take_in(context, feed, feed.partitions(MARCH, context.now()))
        assert State.BEGUN not in {each.state for each in unfinished_work(context, instance)}


def test_an_unexpected_error_is_a_fault_and_told_as_one(tmp_path, monkeypatch):
    with demo_context(tmp_path, TINY) as (context, _), dg.DagsterInstance.ephemeral() as instance:
        definitions = definitions_of(context)
        take_catalog(context)
        with monkeypatch.context() as broken:
            broken.setattr(context.registry, "commit_partition", lambda *_: 1 / 0)
            assert not run_chain(definitions, instance).success
        faults = [u for u in unfinished_work(context, instance) if "a fault" in u.to_do]
        assert [(fault.stage, fault.why) for fault in faults] == [
            ("vinylia_delivery", "ZeroDivisionError: division by zero")
        ]
        assert run_chain(definitions, instance).success
        assert not [u for u in unfinished_work(context, instance) if "a fault" in u.to_do]


def test_what_is_logged_is_in_the_run_s_event_log_once_and_tells_its_place(tmp_path):
    overrides = {"python_logs": yaml.safe_load(TEMPLATE.read_text())["python_logs"]}
    with (
        demo_context(tmp_path, TINY) as (context, _),
        dg.instance_for_test(overrides=overrides) as instance,
    ):
        level = logging.getLogger("royalty_assets").level
        definitions = definitions_of(context)
        take_catalog(context)
        result = run_chain(definitions, instance)
        logging.getLogger("royalty_assets").setLevel(level)
        assert result.success
        messages = Counter(
            entry.user_message
            for entry in instance.all_logs(result.run_id)
            if "committed revision" in entry.user_message
        )
    assert set(messages.values()) == {1}
    assert sorted(message.partition(":")[0] for message in messages) == [
        f"vinylia/{stage} {HOUR.partition(':')[0]}" for stage in ("matched", "raw", "validated")
    ]


def test_a_text_from_outside_is_shown_in_the_table_and_not_obeyed():
    hostile = "x.csv: <img src=a> [mend](http://evil.example) | a\n| b | c |"
    table = unfinished_table(
        [Unfinished("f", "raw", HOUR, State.FAILED, NOW, hostile, Actor.OPERATOR, "look")]
    )
    (_, _, row) = table.splitlines()
    assert row.count(" | ") == 5
    assert not any(markup in row for markup in ("<", "](", "http://"))
