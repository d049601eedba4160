"""Polling and the monthly rhythm: pure plans, and ticks against the simulated services."""

import warnings
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.definitions import build_defs
from royalty_assets.orchestration.sensors import (
    REMEMBERED_DELIVERIES,
    RUNS_PER_TICK_MAX,
    PollCursor,
    plan_poll,
    run_key,
)
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.settings import Settings
from royalty_assets.sources.payloads import Delivery
from royalty_assets_tests.databases import settings_of
from royalty_assets_tests.projects import SMALL, demo_context, demo_project

KEYS = frozenset(f"{number:03d}" for number in range(300))


@pytest.fixture(autouse=True)
def _no_dagster_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def poll(cursor, listed):
    requested, after = plan_poll(cursor, [Delivery(*each) for each in listed], KEYS)
    return [(delivery.key, delivery.version) for delivery in requested], after


def test_what_is_new_or_changed_is_requested_once():
    first, cursor = poll(PollCursor(), [("002", "a"), ("001", "a")])
    assert first == [("001", "a"), ("002", "a")]
    assert poll(cursor, [("001", "a"), ("002", "a")])[0] == []
    assert poll(cursor, [("001", "b"), ("002", "a")])[0] == [("001", "b")]


def test_a_tick_requests_a_bounded_number_and_the_next_ones_go_on():
    listed = [(f"{number:03d}", "a") for number in range(30)]
    cursor, seen = PollCursor(), []
    for _ in range(3):
        requested, cursor = poll(cursor, listed)
        assert len(requested) <= RUNS_PER_TICK_MAX
        seen += requested
    assert seen == listed


def test_what_is_not_a_partition_of_the_feed_is_left_alone():
    assert poll(PollCursor(), [("nonsense", "a")])[0] == []


@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(KEYS)), st.sampled_from("abc"), max_size=40),
        max_size=12,
    )
)
def test_every_last_version_of_what_is_listed_is_requested_in_the_end(listings):
    """Whatever comes when: once listings stand still, all of them have been requested."""
    cursor, requested = PollCursor(), {}
    state: dict[str, str] = {}
    for listing in listings:
        state |= {key: version for key, version in listing.items() if key > cursor.settled}
        got, cursor = poll(cursor, list(state.items()))
        requested |= dict(got)
    for _ in range(len(state) // RUNS_PER_TICK_MAX + 1):
        visible = [(key, version) for key, version in state.items() if key > cursor.settled]
        got, cursor = poll(cursor, visible)
        requested |= dict(got)
    assert requested == state
    assert len(cursor.versions) <= REMEMBERED_DELIVERIES + RUNS_PER_TICK_MAX


@given(st.text(max_size=5), st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_a_cursor_survives_being_stored(settled, versions):
    cursor = PollCursor(settled, tuple(sorted(versions.items())))
    assert PollCursor.parse(cursor.render()) == cursor


def test_a_run_key_is_the_content_and_nothing_else():
    feed = demo_project(SMALL, "http://127.0.0.1:1").feed("sonora")
    first = run_key(feed, Delivery("2025-03-01-00:00", "v1"), None)
    assert first == run_key(feed, Delivery("2025-03-01-00:00", "v1"), None)
    others = {
        run_key(feed, Delivery("2025-03-01-00:00", "v2"), "v1"),
        run_key(feed, Delivery("2025-03-01-01:00", "v1"), None),
        # What was superseded and comes back is a change like any other.
        run_key(feed, Delivery("2025-03-01-00:00", "v1"), "v2"),
    }
    assert len(others | {first}) == 4


def tick(definitions, instance, cursor=None):
    sensor = definitions.get_sensor_def("vinylia_deliveries")
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=definitions.resources, definitions=definitions
    )
    return sensor(context)


def test_a_tick_requests_what_has_landed_and_again_what_came_late(tmp_path):
    with demo_context(tmp_path) as (context, services), dg.DagsterInstance.ephemeral() as instance:
        session = PipelineSession(settings_of(tmp_path), context.project)
        session._context = context
        definitions = build_defs(session.settings, context.project, session=session)
        services.clock.now = datetime(2025, 3, 1, 1, 0, tzinfo=UTC)
        skipped = tick(definitions, instance)
        assert "materialise catalog first" in skipped.skip_message
        take_catalog(context)
        first = tick(definitions, instance)
        assert [request.partition_key for request in first.run_requests] == ["2025-03-01-00:00"]
        again = tick(definitions, instance, first.cursor)
        assert not again.run_requests
        services.clock.now += timedelta(hours=1)
        late = tick(definitions, instance, first.cursor)
        keys = [request.partition_key for request in late.run_requests]
        assert keys == ["2025-03-01-00:00", "2025-03-01-01:00"]
        assert late.run_requests[0].run_key != first.run_requests[0].run_key


def test_a_service_that_does_not_answer_is_not_an_empty_list(tmp_path):
    project = demo_project(SMALL, "http://127.0.0.1:9")
    feeds = [
        feed.model_copy(update={"source": feed.source.model_copy(update={"attempts": 1})})
        for feed in project.feeds
    ]
    project = project.model_copy(update={"feeds": feeds})
    session = PipelineSession(settings_of(tmp_path), project)
    definitions = build_defs(session.settings, project, session=session)
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = tick(definitions, instance, '{"settled": "", "versions": {}}')
    assert "could not be asked" in skipped.skip_message
    session.close()


@pytest.mark.parametrize(
    ("now", "month"),
    [
        (datetime(2025, 4, 5, 6, tzinfo=UTC), "2025-03-01"),
        (datetime(2025, 3, 5, 6, tzinfo=UTC), None),
        (datetime(2026, 1, 5, 6, tzinfo=UTC), None),
    ],
)
def test_the_schedule_pays_out_the_month_that_has_ended(now, month):
    definitions = build_defs(Settings(), demo_project(SMALL, "http://127.0.0.1:1"))
    schedule = definitions.get_schedule_def("month_end")
    with dg.build_schedule_context(scheduled_execution_time=now) as context:
        result = schedule(context)
    if month is None:
        assert isinstance(result, dg.SkipReason)
    else:
        assert (result.partition_key, result.run_key) == (month, f"month_end:{month}")
