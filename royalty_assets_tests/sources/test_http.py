"""Asking over HTTP, against the simulator: limits, retries, and answers that are whole.

Every fault is real: the server answers 5xx and 429, cuts bodies, serves HTML and repeats pages.
"""

import asyncio
from contextlib import contextmanager

import pytest
from pydantic_core import from_json
from starlette.responses import JSONResponse

from royalty_assets.domain.feeds import HttpSource
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.simulator.faults import PASSING_FAULTS, Fault, FaultPlan
from royalty_assets.simulator.scenario import REGION_DELAY, VINYLIA, Scenario
from royalty_assets.simulator.server import SimulatedServices, serve
from royalty_assets.sources.dialects import open_http_source
from royalty_assets.sources.http import FeedClient
from royalty_assets.sources.payloads import (
    NotDeliveredError,
    PermanentSourceError,
    TransientSourceError,
)

SCENARIO = Scenario(events=3_000, recordings=200, hours=2)
HOUR = Partition.parse(Cadence.HOURLY, "2025-03-01-01:00")


@contextmanager
def source(service, dialect, *, faults=None, token=None, given_token=None, **options):
    services = SimulatedServices(SCENARIO, faults=faults, token=token)
    with serve(services) as url:
        limits = {"page_size": 100, "requests_per_second": 1000} | options
        config = HttpSource(dialect=dialect, url=f"{url}/{service}", **limits)
        yield services, open_http_source(config, given_token)


async def fetched(opened, partition, spool):
    async with opened:
        return [
            (payload.name, b"".join(payload.chunks()))
            async for payload in opened.payloads(partition, spool)
        ]


def events_of(pages):
    return sorted(str(event) for _, body in pages for event in from_json(body)["events"])


def test_pages_are_followed_to_the_end(tmp_path):
    with source("sonora", "cursor_json") as (services, opened):
        pages = asyncio.run(fetched(opened, HOUR, tmp_path))
        hour = services._make_hour("sonora", HOUR)
    assert len(pages) == -(-len(hour.lines) // 100)
    assert events_of(pages) == sorted(str(from_json(line)) for line in hour.lines)


@pytest.mark.parametrize("fault", sorted(PASSING_FAULTS))
def test_each_fault_by_itself_loses_nothing(fault, tmp_path):
    plan = FaultPlan(seed=5, enabled=frozenset({fault}), rate=0.6)
    with source("sonora", "cursor_json") as (_, opened):
        whole = set(events_of(asyncio.run(fetched(opened, HOUR, tmp_path))))
    with source("sonora", "cursor_json", faults=plan) as (_, opened):
        faulty = set(events_of(asyncio.run(fetched(opened, HOUR, tmp_path))))
    assert plan.struck[fault] > 0
    assert faulty == whole


def test_files_are_whole_or_asked_for_again(tmp_path):
    plan = FaultPlan(seed=1, enabled=frozenset({Fault.TRUNCATED_BODY}), rate=0.9)
    with source("vinylia", "ndjson_files", faults=plan) as (services, opened):
        files = asyncio.run(fetched(opened, HOUR, tmp_path))
        listed = services._files(VINYLIA, HOUR)
    assert plan.struck[Fault.TRUNCATED_BODY] > 0
    assert dict(files) == dict(listed)


class Altering(SimulatedServices):
    """Announces files truly and serves them altered, at the same length."""

    def _file(self, request):
        response = super()._file(request)
        body = bytearray(response.body)
        body[-1] ^= 1
        response.body = bytes(body)
        return response


class Unannounced(SimulatedServices):
    """Lists files by name and length only."""

    def _delivery(self, request):
        content = from_json(super()._delivery(request).body)
        for file in content["files"]:
            file["sha256"] = None
        return JSONResponse(content)


def test_a_file_with_other_bytes_than_announced_is_refused(tmp_path):
    with serve(Altering(SCENARIO)) as url:
        config = HttpSource(dialect="ndjson_files", url=f"{url}/vinylia", attempts=1)
        with pytest.raises(TransientSourceError, match="SHA-256 that was announced"):
            asyncio.run(fetched(open_http_source(config), HOUR, tmp_path))


def test_a_file_shorter_than_announced_is_refused(tmp_path):
    plan = FaultPlan(seed=1, enabled=frozenset({Fault.TRUNCATED_BODY}), rate=1.0)
    services = Unannounced(SCENARIO)
    with serve(services) as url:
        config = HttpSource(dialect="ndjson_files", url=f"{url}/vinylia", attempts=1)
        opened = open_http_source(config)

        async def listed_then_cut():
            async with opened:
                await opened.version(HOUR)
                _, _, content = await opened._client.page(f"deliveries/{HOUR.key}")
                services.faults = plan
                file = content["files"][0]
                await opened._client.download(
                    file["url"], tmp_path / "x", size_bytes=file["bytes"], sha256=file["sha256"]
                )

        with pytest.raises(TransientSourceError, match="broke off"):
            asyncio.run(listed_then_cut())


def test_a_page_of_html_is_named_when_it_stays(tmp_path):
    plan = FaultPlan(seed=1, enabled=frozenset({Fault.HTML_PAGE}), rate=1.0)
    with (
        source("sonora", "cursor_json", faults=plan, attempts=2) as (_, opened),
        pytest.raises(TransientSourceError) as failed,
    ):
        asyncio.run(fetched(opened, HOUR, tmp_path))
    assert "is not JSON" in str(failed.value)
    assert "We'll be right back" in str(failed.value)
    assert "given up after 2 attempts" in str(failed.value)


def test_what_is_not_there_yet_is_not_an_error_of_the_network(tmp_path):
    with source("sonora", "cursor_json") as (services, opened):
        services.clock.now = HOUR.window.start

        async def version():
            async with opened:
                return await opened.version(HOUR)

        with pytest.raises(NotDeliveredError, match="404"):
            asyncio.run(version())


def test_regions_that_come_late_change_the_version(tmp_path):
    with source("vinylia", "ndjson_files") as (services, _):
        versions = []
        for region in ("EMEA", "AMER", "APAC"):
            services.clock.now = HOUR.window.end + REGION_DELAY[region]
            versions.append(services._version(VINYLIA, HOUR))
    assert len(set(versions)) == 3


@pytest.mark.parametrize(
    ("given_token", "works"), [("secret", True), ("wrong", False), (None, False)]
)
def test_a_refused_token_is_permanent(given_token, works, tmp_path):
    with source("sonora", "cursor_json", token="secret", given_token=given_token) as (_, opened):
        if works:
            assert asyncio.run(fetched(opened, HOUR, tmp_path))
        else:
            with pytest.raises(PermanentSourceError, match="401"):
                asyncio.run(fetched(opened, HOUR, tmp_path))


def test_a_url_on_another_host_is_never_asked():
    client = FeedClient(HttpSource(dialect="cursor_json", url="https://dsp.example/api"), "secret")
    assert client.url("/files/x") == "https://dsp.example/files/x"
    for elsewhere in ("https://evil.example/x", "//evil.example/x", "http://dsp.example/x"):
        with pytest.raises(PermanentSourceError, match="another host"):
            client.url(elsewhere)


def test_a_feed_keeps_its_own_rate_limit(tmp_path):
    """The server allows what the limit lets through at most, and one refusal would be final."""
    limits = {"page_size": 8, "requests_per_second": 20, "attempts": 1}
    with source("sonora", "cursor_json", **limits) as (services, opened):
        services._limit.per_second = 41
        pages = asyncio.run(fetched(opened, HOUR, tmp_path))
    assert len(pages) > 60
