"""The log: fields on each line within, JSON for programs, lines for people, and no secret."""

import asyncio
import json
import logging
import sys
from contextlib import contextmanager
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.feeds import HttpSource
from royalty_assets.logs import FIELDS, LOGGER_NAME, JsonLines, bound, configure_logs, log_of
from royalty_assets.settings import SettingsError, configure_logs_as_set
from royalty_assets.simulator.faults import Fault, FaultPlan
from royalty_assets.simulator.server import SimulatedServices, serve
from royalty_assets.sources.http import FeedClient
from royalty_assets_tests.projects import MARCH, SMALL, demo_context, take_in


@contextmanager
def lines(wanted="json", level="DEBUG"):
    """What is written to standard error meanwhile."""
    logger = logging.getLogger(LOGGER_NAME)
    before, stderr = (list(logger.handlers), logger.level), sys.stderr
    sys.stderr = StringIO()
    configure_logs(wanted, level)
    try:
        yield sys.stderr
    finally:
        sys.stderr = stderr
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])


def parsed(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=8)), st.text(max_size=20))
def test_each_json_line_is_one_object_with_the_fields_in_force(fields, text):
    with lines() as stream:
        with bound(**fields):
            log_of("royalty_assets.any").info("told %s", text)
        log_of("royalty_assets.any").info("outside")
    inside, outside = parsed(stream)
    assert {name: inside[name] for name in fields} == fields
    assert not set(FIELDS) - set(fields) & set(inside)
    assert inside["message"].endswith(f"told {text}")
    assert not set(FIELDS) & set(outside)


def test_fields_reach_tasks_and_threads_and_end_with_their_block():
    async def work(partition):
        with bound(partition=partition):
            await asyncio.sleep(0)
            await asyncio.to_thread(log_of("royalty_assets.any").info, "stored")

    async def all_of_them():
        await asyncio.gather(work("a"), work("b"))

    with lines() as stream, bound(feed="sonora", stage="raw"):
        asyncio.run(all_of_them())
        log_of("royalty_assets.any").info("after")
    *within, after = parsed(stream)
    assert sorted(line["partition"] for line in within) == ["a", "b"]
    assert {line["message"] for line in within} == {
        "sonora/raw a: stored",
        "sonora/raw b: stored",
    }
    assert "partition" not in after


def test_a_line_for_people_is_one_line_whatever_is_in_it():
    with lines("text") as stream, bound(feed="100%s", partition="k"):
        log_of("royalty_assets.any").warning("two\nlines of %d%%", 5)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("WARNING 100%s k: two lines of 5%")


def test_an_exception_is_in_its_line():
    try:
        int("broken")
    except ValueError:
        record = logging.LogRecord("x", 40, "f", 1, "m", (), sys.exc_info())
    assert "ValueError: invalid literal" in json.loads(JsonLines().format(record))["exception"]


def test_a_stage_says_what_it_began_committed_and_skipped(tmp_path):
    with demo_context(tmp_path) as (context, _), lines() as stream:
        feed = context.project.feed("sonora")
        (hour, *_) = feed.partitions(MARCH, context.now())
        for _ in range(2):
            take_in(context, feed, [hour])
    told = [line for line in parsed(stream) if line["logger"].startswith("royalty_assets.pipeline")]
    assert [line["message"].split(": ")[1].split(" ")[0] for line in told] == [
        "started",
        "batch",
        "committed",
        "skipped",
    ]
    assert {(line["feed"], line["stage"], line["partition"]) for line in told} == {
        ("sonora", "raw", hour.key)
    }
    committed = told[2]
    assert committed["payloads"] > 0
    assert committed["seconds"] >= 0
    assert told[1]["batch"].startswith("sonora/raw/")


def test_a_request_that_is_tried_again_is_told_without_query_or_token():
    """A real server answers 429; what the URL carries in its query is in no line."""
    plan = FaultPlan(seed=1, enabled=frozenset({Fault.RATE_LIMITED}), rate=1)
    with serve(SimulatedServices(SMALL, faults=plan, token="the-token")) as url:
        source = HttpSource(
            dialect="cursor_json", url=f"{url}/sonora", attempts=9, requests_per_second=1000
        )

        async def ask():
            async with FeedClient(source, "the-token") as client:
                await client.page("deliveries", after="", limit=9, signature="the-secret")

        with lines() as stream:
            asyncio.run(ask())
    told = [line for line in parsed(stream) if line["level"] == "WARNING"]
    assert [line["attempt"] for line in told] == list(range(1, plan.struck.total() + 1))
    assert told
    assert {(line["host"], line["path"]) for line in told} == {("127.0.0.1", "/sonora/deliveries")}
    assert "answered 429" in told[0]["message"]
    assert "the-secret" not in stream.getvalue()
    assert "the-token" not in stream.getvalue()


@pytest.mark.parametrize("name", ["LOG_LEVEL", "LOG_FORMAT"])
def test_a_wrong_setting_of_the_log_is_named(monkeypatch, name):
    monkeypatch.setenv(f"ROYALTY_ASSETS_{name}", "loud")
    with pytest.raises(SettingsError, match=f"ROYALTY_ASSETS_{name}"):
        configure_logs_as_set()
