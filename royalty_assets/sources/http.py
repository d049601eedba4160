"""Asking an HTTP API politely: limits, timeouts, retries, and answers that are whole.

A request waits for its feed's token bucket and semaphore; a transient failure is tried again
after an exponential wait with jitter, or after what ``Retry-After`` asks for. What comes back is
complete: a body that breaks off, or that is not what it should be, counts as a failure.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
from aiolimiter import AsyncLimiter
from pydantic_core import from_json
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from royalty_assets.domain.feeds import HttpSource
from royalty_assets.sources.payloads import (
    CHUNK_BYTES,
    NotDeliveredError,
    PermanentSourceError,
    TransientSourceError,
)

BODY_BYTES_MAX = 64 << 20
"""The largest page; files are spooled to disk and may be larger."""
RETRY_AFTER_SECONDS_MAX = 300.0
_TRANSIENT_STATUS = frozenset({408, 425, 429})

_Answer = TypeVar("_Answer")


class _RetryLaterError(TransientSourceError):
    """A transient failure that said when to come back."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class FeedClient:
    """Requests to one feed's API, all under one rate and concurrency limit."""

    def __init__(self, source: HttpSource, token: str | None = None) -> None:
        self._source = source
        self._base = source.url.rstrip("/") + "/"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Redirects are not followed: a token must not travel to wherever an answer points.
        self._client = httpx.AsyncClient(
            headers=headers, timeout=source.timeout_seconds, follow_redirects=False
        )
        self._at_once = asyncio.Semaphore(source.requests_at_once)
        per_second = source.requests_per_second
        self._rate = AsyncLimiter(max(per_second, 1), max(1 / per_second, 1))
        self._jittered = wait_exponential_jitter(multiplier=0.1, max=20, jitter=0.2)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def url(self, path: str) -> str:
        """The absolute URL of a path that the API named.

        Raises:
            PermanentSourceError: if it is on another host.
        """
        try:
            url = urljoin(self._base, path)
        except ValueError:
            raise PermanentSourceError(f"{self._base} names a URL that is none: {path}") from None
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise PermanentSourceError(f"{self._base} points to another host: {url}")
        return url

    async def page(self, path: str, **params: str | int) -> tuple[str, bytes, dict[str, Any]]:
        """A JSON object: the URL, its exact bytes, and what they say.

        Raises:
            TransientSourceError: if no attempt brought whole JSON.
            NotDeliveredError: on 404.
            PermanentSourceError: on other refusals.
        """
        url = str(httpx.URL(self.url(path), params=params) if params else self.url(path))

        async def attempt() -> tuple[str, bytes, dict[str, Any]]:
            body = bytearray()
            async with self._client.stream("GET", url) as response:
                _require_success(response, url)
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > BODY_BYTES_MAX:
                        raise PermanentSourceError(f"{url} is larger than {BODY_BYTES_MAX} bytes")
            return url, bytes(body), _json_object(url, bytes(body))

        return await self._attempts(url, attempt)

    async def download(
        self, path: str, target: Path, *, size_bytes: int | None, sha256: str | None
    ) -> None:
        """Spool a file to ``target``; it is whole if it has the size and hash that were listed."""
        url = self.url(path)

        async def attempt() -> None:
            digest = hashlib.sha256()
            received = 0
            # The bytes as they rest there: those are what size and hash were announced for.
            as_is = {"Accept-Encoding": "identity"}
            async with self._client.stream("GET", url, headers=as_is) as response:
                _require_success(response, url)
                with target.open("wb") as file:
                    async for chunk in response.aiter_raw(CHUNK_BYTES):
                        file.write(chunk)
                        digest.update(chunk)
                        received += len(chunk)
            if size_bytes is not None and received != size_bytes:
                raise TransientSourceError(
                    f"{url} broke off: {received} bytes came, {size_bytes} were announced"
                )
            if sha256 is not None and digest.hexdigest() != sha256:
                raise TransientSourceError(f"{url} does not have the SHA-256 that was announced")

        await self._attempts(url, attempt)

    async def _attempts(self, url: str, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._source.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(TransientSourceError),
            reraise=True,
        )
        try:
            async for trial in retrying:
                with trial:
                    async with self._at_once, self._rate:
                        return await _as_source_error(url, attempt)
        except TransientSourceError as error:
            raise TransientSourceError(
                f"{error} (given up after {self._source.attempts} attempts)"
            ) from error
        raise AssertionError("tenacity returns or raises")

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _RetryLaterError):
            return min(error.seconds, RETRY_AFTER_SECONDS_MAX)
        return float(self._jittered(state))


async def _as_source_error(url: str, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
    try:
        return await attempt()
    except (httpx.TransportError, httpx.DecodingError) as error:
        detail = str(error) or type(error).__name__
        raise TransientSourceError(f"{url} could not be read: {detail}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PermanentSourceError(f"{url} cannot be asked: {error}") from error


def _require_success(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    told = f"{url} answered {status} {response.reason_phrase}".rstrip()
    if status == httpx.codes.NOT_FOUND:
        raise NotDeliveredError(told)
    if status in _TRANSIENT_STATUS or status >= 500:
        seconds = _retry_after_seconds(response.headers.get("Retry-After"))
        raise TransientSourceError(told) if seconds is None else _RetryLaterError(told, seconds)
    raise PermanentSourceError(told)


def _retry_after_seconds(header: str | None) -> float | None:
    """RFC 9110 §10.2.3: a number of seconds, or a date."""
    if header is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", header):
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((until.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def parse_json(body: bytes) -> Any:
    """What a body of JSON says, one bad text in it included: that is for a record's model.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return from_json(body)
    except ValueError:
        # Half a surrogate pair in one title is no reason to refuse a page of thousands.
        return json.loads(body)


def _json_object(url: str, body: bytes) -> dict[str, Any]:
    try:
        content = parse_json(body)
    except ValueError:
        start = json.dumps(body[:80].decode("utf-8", errors="replace"))
        raise TransientSourceError(f"{url} is not JSON; it begins {start}") from None
    if not isinstance(content, dict):
        raise PermanentSourceError(f"{url} is JSON, but not an object")
    return content
