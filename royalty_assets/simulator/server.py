"""The simulated services over HTTP on localhost: one host, three dialects.

Every service lists what it has under ``/<service>/deliveries``; *sonora* then gives events page
by page, *vinylia* gzip files per hour and region, *mercado* monthly report files. Telemetry
services also deliver a monthly pool report under ``/<service>/pools`` in the same way. Times are
simulated: ``Clock`` says what "now" is, and an hour's regions appear with their delays.
"""

import asyncio
import gzip
import hashlib
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.simulator.faults import Fault, FaultPlan
from royalty_assets.simulator.reports import ReportFile, make_pool_report, make_sales_reports
from royalty_assets.simulator.scenario import (
    MERCADO,
    REGION_DELAY,
    SERVICES,
    Scenario,
    Service,
)
from royalty_assets.simulator.telemetry import HourOfPlays, make_hour
from royalty_assets.simulator.world import World, make_world

PAGE_EVENTS_MAX = 5_000
SILENCE_SECONDS = 2.0
"""How long a service says nothing where it times out; a client is to have lost patience."""
_HTML_PAGE = "<html><body><h1>We'll be right back</h1></body></html>"
_RENAMED = (b'"territory":', b'"country_code":')
FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Clock:
    """Simulated time; by default everything has long been delivered."""

    now: datetime = FAR_FUTURE


@dataclass(slots=True)
class _RateLimit:
    """At most ``per_second`` requests of a service in any second."""

    per_second: int
    times: dict[str, deque[float]] = field(default_factory=dict)

    def exceeded(self, service: str) -> bool:
        times = self.times.setdefault(service, deque())
        now = monotonic()
        while times and times[0] <= now - 1:
            times.popleft()
        if len(times) >= self.per_second:
            return True
        times.append(now)
        return False


class SimulatedServices:
    """An ASGI application for one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        faults: FaultPlan | None = None,
        clock: Clock | None = None,
        requests_per_second: int = 1_000,
        token: str | None = None,
    ) -> None:
        self.scenario = scenario
        self.world: World = make_world(scenario)
        self.faults = faults or FaultPlan()
        self.clock = clock or Clock()
        # Another scenario is other content, so its versions must be others too.
        self._edition = hashlib.sha256(repr(scenario).encode()).hexdigest()[:12]
        self._limit = _RateLimit(requests_per_second)
        self._token = token
        # An hour is asked for page by page; two are kept so that each is made once.
        self._hour = lru_cache(maxsize=2)(self._make_hour)
        self._hour_lock = threading.Lock()
        routes = [
            Route("/{service}/deliveries", self._deliveries),
            Route("/{service}/deliveries/{key}", self._delivery),
            Route("/{service}/events", self._events),
            Route("/{service}/pools/deliveries", self._pools),
            Route("/{service}/pools/deliveries/{key}", self._pool),
            Route("/{service}/files/{name}", self._file),
        ]
        misbehaviour = Middleware(BaseHTTPMiddleware, dispatch=self._misbehave)
        self.app = Starlette(routes=routes, middleware=[misbehaviour])

    # What is there

    def _make_hour(self, service: str, hour: Partition) -> HourOfPlays:
        return make_hour(self.scenario, self.world, SERVICES[service], hour)

    def _plays(self, service: Service, hour: Partition) -> HourOfPlays:
        with self._hour_lock:
            return self._hour(service.name, hour)

    def _regions(self, hour: Partition) -> list[str]:
        return [r for r, delay in REGION_DELAY.items() if hour.window.end + delay <= self.clock.now]

    def _version(self, service: Service, partition: Partition) -> str | None:
        """What has been delivered so far, as an opaque token; None for nothing."""
        if service.cadence is Cadence.HOURLY:
            delivered = "-".join(self._regions(partition))
        else:
            delivered = "all" if partition.window.end <= self.clock.now else ""
        if service.cadence is Cadence.HOURLY and self.faults.changes_schema(partition.key):
            delivered += "-renamed"
        return f"{delivered}@{self._edition}" if delivered else None

    def _lines(self, service: Service, hour: Partition, regions: list[str]) -> list[bytes]:
        lines = self._plays(service, hour).of_regions(regions)
        if not self.faults.changes_schema(hour.key):
            return lines
        half = len(lines) // 2
        return lines[:half] + [line.replace(*_RENAMED) for line in lines[half:]]

    def _files(self, service: Service, partition: Partition) -> list[tuple[str, bytes]]:
        if service is MERCADO:
            reports = make_sales_reports(self.scenario, self.world, service, partition)
            return [(report.name, report.body) for report in reports]
        return [
            (
                f"{partition.window.label}_{region}.ndjson.gz",
                gzip.compress(
                    _joined(self._lines(service, partition, [region])), compresslevel=1, mtime=0
                ),
            )
            for region in self._regions(partition)
        ]

    # Endpoints

    def _deliveries(self, request: Request) -> Response:
        service = _service(request)
        after = request.query_params.get("after", "")
        listed = [
            {"key": partition.key, "version": version}
            for partition in self.scenario.partitions(service)
            if partition.key > after and (version := self._version(service, partition))
        ]
        limit = int(request.query_params.get("limit", 1_000))
        return JSONResponse({"deliveries": listed[:limit]})

    def _delivery(self, request: Request) -> Response:
        service, partition = _partition(request)
        version = self._version(service, partition)
        if version is None:
            raise HTTPException(404, f"{partition.key} is not delivered yet")
        if service is SERVICES["sonora"]:
            return JSONResponse({"key": partition.key, "version": version})
        files = self._files(service, partition)
        return JSONResponse(_listing(partition.key, version, f"/{service.name}/files", files))

    def _events(self, request: Request) -> Response:
        service = _service(request)
        hour = _parse(service, request.query_params["hour"])
        regions = self._regions(hour)
        lines = self._lines(service, hour, regions) if regions else []
        limit = min(int(request.query_params.get("limit", PAGE_EVENTS_MAX)), PAGE_EVENTS_MAX)
        page = int(request.query_params.get("cursor", 0))
        pages = max(-(-len(lines) // limit), 1)
        if page and self.faults.repeats_page(_resource(request)):
            return _page(lines, page - 1, limit, str(page))
        shown = page ^ 1 if self.faults.swaps_pages(hour.key, page // 2) else page
        shown = shown if shown < pages else page
        return _page(lines, shown, limit, str(page + 1) if page + 1 < pages else None)

    def _pools(self, request: Request) -> Response:
        months = {p.month.key: p.month for p in self.scenario.partitions(_service(request))}
        listed = [
            {"key": key, "version": self._edition}
            for key, month in months.items()
            if self._pool_is_out(month)
        ]
        return JSONResponse({"deliveries": listed})

    def _pool(self, request: Request) -> Response:
        service = _service(request)
        month = Partition.parse(Cadence.MONTHLY, request.path_params["key"])
        if not self._pool_is_out(month):
            raise HTTPException(404, f"the pool of {month.key} is not delivered yet")
        report = make_pool_report(self.scenario, service, month)
        files = [(report.name, report.body)]
        return JSONResponse(_listing(month.key, self._edition, f"/{service.name}/files", files))

    def _pool_is_out(self, month: Partition) -> bool:
        return month.window.end <= self.clock.now

    def _file(self, request: Request) -> Response:
        service = _service(request)
        name = request.path_params["name"]
        body = dict(self._files_named(service, name)).get(name)
        if body is None:
            raise HTTPException(404, f"no file {name}")
        return Response(body, media_type="application/octet-stream")

    def _files_named(self, service: Service, name: str) -> list[tuple[str, bytes]]:
        for month in {p.month for p in self.scenario.partitions(service)}:
            reports: list[ReportFile] = [make_pool_report(self.scenario, service, month)]
            if any(report.name == name for report in reports):
                return [(report.name, report.body) for report in reports]
        for partition in self.scenario.partitions(service):
            if service is MERCADO or name.startswith(f"{partition.window.label}_"):
                files = self._files(service, partition)
                if name in dict(files):
                    return files
        return []

    # Misbehaviour

    async def _misbehave(
        self, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if self._token and request.headers.get("authorization") != f"Bearer {self._token}":
            return JSONResponse({"error": "who are you?"}, status_code=401)
        service = request.url.path.split("/")[1]
        fault = self.faults.transport_fault(_resource(request))
        if self._limit.exceeded(service):
            fault = Fault.RATE_LIMITED
        if fault in _REFUSALS:
            return _REFUSALS[fault]()
        if fault is Fault.TIMEOUT:
            await asyncio.sleep(SILENCE_SECONDS)
        response = await answer(request)
        if response.status_code == 200 and fault in {Fault.TRUNCATED_BODY, Fault.CONNECTION_RESET}:
            body = await _body(response)
            if fault is Fault.CONNECTION_RESET:
                return _Reset(body)
            # Half of it, announced as if it were all.
            media_type = response.headers.get("content-type")
            return Response(body[: len(body) // 2], media_type=media_type)
        return response


_REFUSALS: dict[Fault | None, Callable[[], Response]] = {
    Fault.RATE_LIMITED: lambda: JSONResponse(
        {"error": "slow down"}, 429, headers={"Retry-After": "1"}
    ),
    Fault.SERVER_ERROR: lambda: JSONResponse({"error": "try again"}, status_code=503),
    Fault.HTML_PAGE: lambda: HTMLResponse(_HTML_PAGE),
}


class _Reset(Response):
    """An answer in the middle of which the connection goes."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send half of it, and nothing that would end it."""
        body = bytes(self.body)
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        raise ConnectionResetError("as the plan of faults says")


async def _body(response: Response) -> bytes:
    chunks: AsyncIterator[bytes] = response.body_iterator  # type: ignore[attr-defined]
    return b"".join([chunk async for chunk in chunks])


def _resource(request: Request) -> str:
    """The URL without host and port, which differ between runs."""
    return f"{request.url.path}?{request.url.query}"


def _service(request: Request) -> Service:
    try:
        return SERVICES[request.path_params["service"]]
    except KeyError:
        raise HTTPException(404, "no such service") from None


def _parse(service: Service, key: str) -> Partition:
    try:
        return Partition.parse(service.cadence, key)
    except ValueError as error:
        raise HTTPException(404, str(error)) from None


def _partition(request: Request) -> tuple[Service, Partition]:
    service = _service(request)
    return service, _parse(service, request.path_params["key"])


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _page(lines: list[bytes], page: int, limit: int, next_cursor: str | None) -> Response:
    events = b",".join(lines[page * limit : (page + 1) * limit])
    body = b'{"events":[' + events + b'],"next_cursor":' + json.dumps(next_cursor).encode() + b"}"
    return Response(body, media_type="application/json")


def _listing(
    key: str, version: str, folder: str, files: list[tuple[str, bytes]]
) -> dict[str, object]:
    return {
        "key": key,
        "version": version,
        "files": [
            {
                "name": name,
                "url": f"{folder}/{name}",
                "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
            for name, body in files
        ],
    }


@contextmanager
def serve(services: SimulatedServices, port: int = 0) -> Iterator[str]:
    """Serve on 127.0.0.1 from a thread of this process; yields the base URL.

    Args:
        services: the application.
        port: 0 for any that is free.
    """
    config = uvicorn.Config(services.app, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
