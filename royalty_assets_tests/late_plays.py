"""A service of a few plays that tests deliver one by one, as late as they like."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from royalty_assets.domain.feeds import Project
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.simulator.server import serve
from royalty_assets_tests.monthly_reports import ISRCS, project

HOURS = {"2025-01": "2025-01-31-23:00", "2025-02": "2025-02-01-00:00"}
"""Month → its only hour: the feed begins with January's last and ends with February's first."""


class Plays:
    """An ASGI application that has what was delivered to it, hour by hour."""

    def __init__(self) -> None:
        self._events: dict[str, list[dict[str, object]]] = {hour: [] for hour in HOURS.values()}
        self.app = Starlette(
            routes=[
                Route("/deliveries/{key}", self._delivery),
                Route("/events", self._page),
            ]
        )

    def deliver(self, month: str, *plays: tuple[str, str, str]) -> None:
        """Add plays to the hour of a month: (event id, listener, recording)."""
        day, _, hour = HOURS[month].rpartition("-")
        self._events[HOURS[month]] += [
            {
                "event_id": event,
                "played_at": f"{day}T{hour[:2]}:01:00Z",
                "user_id": listener,
                "isrc": ISRCS.get(recording, ""),
                "title": recording,
                "artist": "Ada",
                "territory": "DE",
                "tier": "premium",
                "played_ms": 60_000,
            }
            for event, listener, recording in plays
        ]

    def _events_of(self, key: str) -> list[dict[str, object]]:
        if key not in self._events:
            raise HTTPException(404, f"{key} is not delivered yet")
        return self._events[key]

    def _delivery(self, request: Request) -> Response:
        key = request.path_params["key"]
        told = json.dumps(self._events_of(key)).encode()
        return JSONResponse({"key": key, "version": hashlib.sha256(told).hexdigest()})

    def _page(self, request: Request) -> Response:
        events = self._events_of(request.query_params["hour"])
        return JSONResponse({"events": events, "next_cursor": None})


@contextmanager
def playing(home: Path, **feed: object) -> Iterator[tuple[PipelineContext, Plays]]:
    """The project of ``monthly_reports`` whose only feed is such a service, and the service."""
    plays = Plays()
    with serve(plays) as url:
        context = project(home)
        content = {
            "name": "plays",
            "records": "play_events",
            "cadence": "hourly",
            "start": "2025-01-31T23:00:00Z",
            "end": "2025-02-01T01:00:00Z",
            "source": {"dialect": "cursor_json", "url": url},
            "pool": {"amount": "12.00", "currency": "EUR"},
        } | feed
        context.project = Project.model_validate({"feeds": [content]})
        yield context, plays
        context.registry.close()
