"""Asking an HTTP API politely: limits, timeouts, retries, and answers that are whole.

A request waits for its feed's token bucket and semaphore; a transient failure is tried again
after an exponential wait with jitter, or after what ``Retry-After`` asks for. What comes back is
complete: a body that breaks off, or that is not what it should be, counts as a failure.

The other side is not trusted: what it may send is bounded in bytes (counted while they come, and
again while they unpack) and in time, where it points is never followed off its own origin, and
nothing that we tell of it holds the token. What is in an answer is for ``dialects`` and ``rows``.
"""

import asyncio
import hashlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from pathlib import Path
from ssl import SSLContext
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

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
from royalty_assets.logs import log_of
from royalty_assets.sources.payloads import (
    CHUNK_BYTES,
    NotDeliveredError,
    PermanentSourceError,
    SourceError,
    TransientSourceError,
)

RETRY_AFTER_SECONDS_MAX = 300.0
NESTING_MAX = 200
"""Lists and objects inside one another; the parser's own limit, held for its stand-in too."""
_SECRET_CHARACTERS_MIN = 16
"""A shorter token may be a word of a title as well."""
_PIECE_BYTES = 64 << 10
_UNPACKED_PIECE_BYTES = 1 << 20
_TOLD_CHARACTERS_MAX = 200
_TRANSIENT_STATUS = frozenset({408, 425, 429})

_Answer = TypeVar("_Answer")
_log = log_of(__name__)


class _RetryLaterError(TransientSourceError):
    """A transient failure that said when to come back."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class FeedClient:
    """Requests to one feed's API, all under one rate and concurrency limit."""

    def __init__(self, source: HttpSource, token: str | None = None) -> None:
        self._source = source
        self._token = token
        self._base = source.url.rstrip("/") + "/"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Redirects are not followed: a token must not travel to wherever an answer points. Gzip is
        # the one packing that is asked for, and it is unpacked here, where it can be bounded.
        self._client = httpx.AsyncClient(
            headers={**headers, "Accept-Encoding": "gzip"},
            timeout=source.timeout_seconds,
            follow_redirects=False,
            verify=_trusted_authorities(),
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
            PermanentSourceError: if it is on another host, port or scheme, or holds the token.
        """
        try:
            url = urljoin(self._base, path)
            origin = _origin(url)
        except (ValueError, httpx.InvalidURL):
            told = self._shown(path)
            raise PermanentSourceError(f"{self._base} names a URL that is none: {told}") from None
        if origin != _origin(self._base):
            raise PermanentSourceError(
                f"{self._base} points to another host, port or scheme: {self._shown(url)}; what it "
                "has is asked for there alone, since the token may go nowhere else"
            )
        if self._holds_token(unquote(url).encode()):
            # It would stand in the names of payloads, and so in lake and log.
            raise PermanentSourceError(f"{self._base} names a URL that holds the feed's token")
        return url

    async def page(self, path: str, **params: str | int) -> tuple[str, bytes, dict[str, Any]]:
        """A JSON object: the URL, its exact bytes, and what they say.

        Raises:
            TransientSourceError: if no attempt brought whole JSON in time.
            NotDeliveredError: on 404.
            PermanentSourceError: on other refusals, redirects, and pages beyond the limits.
        """
        url = self.url(str(httpx.URL(self.url(path), params=params)) if params else path)

        async def attempt() -> tuple[str, bytes, dict[str, Any]]:
            body = bytearray()
            async with self._client.stream("GET", url) as response:
                self._require_success(response, url)
                self._require_length(response, url)
                async for piece in _unpacked(response, url):
                    body += piece
                    if len(body) > self._source.page_bytes_max:
                        raise self._too_large(url)
            if self._holds_token(body):
                raise PermanentSourceError(f"{url} sends the feed's own token back; it is not kept")
            return url, bytes(body), self._json_object(url, bytes(body))

        return await self._attempts(url, attempt)

    async def download(
        self,
        path: str,
        target: Path,
        *,
        size_bytes: int | None,
        sha256: str | None,
        bytes_max: int | None = None,
    ) -> None:
        """Spool a file to ``target``; it is whole if it has the size and hash that were listed.

        Args:
            path: as it was listed.
            target: a file that may be there from an attempt before.
            size_bytes: as announced; not a byte more is taken.
            sha256: as announced, of the bytes as they come.
            bytes_max: what may come where no size is announced; the partition's limit by default.
        """
        url = self.url(path)
        limit = self._source.partition_bytes_max if bytes_max is None else bytes_max
        if size_bytes is not None and size_bytes > limit:
            raise self._beyond_partition(url)

        async def attempt() -> None:
            digest = hashlib.sha256()
            received = 0
            # The bytes as they rest there: those are what size and hash were announced for.
            as_is = {"Accept-Encoding": "identity"}
            async with self._client.stream("GET", url, headers=as_is) as response:
                self._require_success(response, url)
                with target.open("wb") as file:
                    async for chunk in response.aiter_raw(CHUNK_BYTES):
                        received += len(chunk)
                        if size_bytes is not None and received > size_bytes:
                            raise TransientSourceError(
                                f"{url} goes on after the {size_bytes} bytes that were announced"
                            )
                        if received > limit:
                            raise self._beyond_partition(url)
                        file.write(chunk)
                        digest.update(chunk)
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
            before_sleep=partial(self._tell_retry, url),
            reraise=True,
        )
        try:
            async for trial in retrying:
                with trial:
                    async with self._at_once, self._rate:
                        return await self._as_source_error(url, attempt)
        except TransientSourceError as error:
            raise TransientSourceError(
                f"{self._without_token(str(error))} (given up after {self._source.attempts} "
                "attempts)"
            ) from None
        except SourceError as error:
            raise type(error)(self._without_token(str(error))) from None
        raise AssertionError("tenacity returns or raises")

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _RetryLaterError):
            return min(error.seconds, RETRY_AFTER_SECONDS_MAX)
        return float(self._jittered(state))

    async def _as_source_error(
        self, url: str, attempt: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        seconds = self._source.answer_seconds_max
        try:
            async with asyncio.timeout(seconds):
                return await attempt()
        except TimeoutError:
            # Each piece may come in time, and the whole never.
            raise TransientSourceError(
                f"{url} was not there as a whole after {seconds:g} s (answer_seconds_max)"
            ) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            detail = str(error) or type(error).__name__
            raise TransientSourceError(f"{url} could not be read: {detail}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PermanentSourceError(f"{url} cannot be asked: {error}") from None

    def _tell_retry(self, url: str, state: RetryCallState) -> None:
        """Log a request that is tried again, without its query: a link may hold a secret in it."""
        error = state.outcome.exception() if state.outcome else None
        parts = urlsplit(url)
        place = f"{parts.hostname}{parts.path}"
        told = self._without_token(str(error)).replace(url, place)
        seconds = state.next_action.sleep if state.next_action else 0.0
        _log.warning(
            "%s; attempt %d, the next one in %.1f s",
            told,
            state.attempt_number,
            seconds,
            extra={"host": parts.hostname, "path": parts.path, "attempt": state.attempt_number},
        )

    def _require_success(self, response: httpx.Response, url: str) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        told = f"{url} answered {status} {response.reason_phrase}".rstrip()
        if status == httpx.codes.NOT_FOUND:
            raise NotDeliveredError(told)
        if response.has_redirect_location:
            raise PermanentSourceError(
                f"{told} and points to {self._shown(response.headers['Location'])}. Redirects are "
                "not followed, since the token may go nowhere else: if that is where the API is "
                "now, put it into feeds.yaml"
            )
        if status in _TRANSIENT_STATUS or status >= 500:
            seconds = _retry_after_seconds(response.headers.get("Retry-After"))
            raise TransientSourceError(told) if seconds is None else _RetryLaterError(told, seconds)
        raise PermanentSourceError(told)

    def _require_length(self, response: httpx.Response, url: str) -> None:
        """Refuse by what is announced; what comes is counted all the same."""
        announced = response.headers.get("Content-Length", "")
        is_number = re.fullmatch("[0-9]{1,19}", announced)
        if is_number and int(announced) > self._source.page_bytes_max:
            raise self._too_large(url)

    def _too_large(self, url: str) -> PermanentSourceError:
        return PermanentSourceError(
            f"{url} is larger than {self._source.page_bytes_max:,} bytes; ask for smaller pages "
            "(page_size), or raise page_bytes_max"
        )

    def _beyond_partition(self, url: str) -> PermanentSourceError:
        return PermanentSourceError(
            f"{url} brings its partition beyond {self._source.partition_bytes_max:,} bytes; if "
            "that is right, raise partition_bytes_max"
        )

    def _json_object(self, url: str, body: bytes) -> dict[str, Any]:
        try:
            content = parse_json(body)
        except ValueError:
            # With the whole token in it, or none of it: a cut one could not be found.
            start = self._shown(self._without_token(body[:2_000].decode(errors="replace"))[:80])
            raise TransientSourceError(f"{url} is not JSON; it begins {start}") from None
        if not isinstance(content, dict):
            raise PermanentSourceError(f"{url} is JSON, but not an object")
        return content

    def _holds_token(self, content: bytes | bytearray) -> bool:
        token = (self._token or "").encode()
        return len(token) >= _SECRET_CHARACTERS_MIN and token in content

    def _shown(self, text: str) -> str:
        """What the other side says, on one line, in quotes and bounded."""
        return json.dumps(self._without_token(text)[:_TOLD_CHARACTERS_MAX])

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "(the token)") if self._token else text


@cache
def _trusted_authorities() -> SSLContext:
    """Loading the certificates takes longer than asking for a page: once for all feeds."""
    return httpx.create_ssl_context()


def _origin(url: str) -> tuple[str, str, int | None, bytes]:
    """Scheme, host, port and user, as the client that will ask reads them."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port, parsed.userinfo


async def _unpacked(response: httpx.Response, url: str) -> AsyncIterator[bytes]:
    """The body in pieces of bounded size, whatever a few packed bytes hold.

    Raises:
        PermanentSourceError: if it is packed as nobody asked for, or several times over.
        TransientSourceError: if the packed data is damaged or breaks off.
    """
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in {"", "identity"}:
        async for piece in response.aiter_raw(_PIECE_BYTES):
            yield piece
        return
    if packing not in {"gzip", "x-gzip"}:
        raise PermanentSourceError(
            f"{url} is packed as {json.dumps(packing[:40])}, but only gzip was asked for"
        )
    unpacker = zlib.decompressobj(wbits=31)
    try:
        async for piece in response.aiter_raw(_PIECE_BYTES):
            rest = piece
            while rest:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(wbits=31)  # RFC 1952 §2.2: members may follow
                yield unpacker.decompress(rest, _UNPACKED_PIECE_BYTES)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise TransientSourceError(f"{url} is not the gzip data that it says: {error}") from None
    # What a last piece of bounded size left inside the unpacker.
    while tail := unpacker.decompress(b"", _UNPACKED_PIECE_BYTES):
        yield tail
    if not unpacker.eof:
        raise TransientSourceError(f"{url} could not be read: its gzip data breaks off")


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
        ValueError: if it is not JSON, or nested deeper than ``NESTING_MAX``.
    """
    try:
        return from_json(body)
    except ValueError:
        # Half a surrogate pair in one title is no reason to refuse a page of thousands.
        try:
            content = json.loads(body)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if _is_nested_beyond(NESTING_MAX, content):
            raise ValueError("it is nested too deeply") from None
        return content


def _is_nested_beyond(limit: int, content: Any) -> bool:
    level = [content]
    for _ in range(limit):
        containers = (each for each in level if isinstance(each, dict | list))
        level = [
            child
            for each in containers
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
