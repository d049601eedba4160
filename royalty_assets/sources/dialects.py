"""The dialects of HTTP feeds: pages of events behind a cursor, and files behind a listing.

All of them list what they have under ``deliveries``; they differ in how a partition's content is
then had. How much of it is taken is bounded by the source's configuration, however much there is on
offer. How the rows in a payload are read is in ``rows``.
"""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from royalty_assets.domain.feeds import HttpSource
from royalty_assets.domain.windows import Partition
from royalty_assets.sources.http import FeedClient
from royalty_assets.sources.payloads import Delivery, Payload, PermanentSourceError

_Model = TypeVar("_Model", bound=BaseModel)

CURSOR_ASKED_MAX = 3
"""A service may answer with a page once more; one that goes in a circle comes by ever again."""
CURSOR_CHARACTERS_MAX = 4_000


class _Listed(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _ListedDelivery(_Listed):
    key: str
    version: str


class _ListedFile(_Listed):
    name: Annotated[str, Field(max_length=1_000)]
    url: Annotated[str, Field(max_length=8_000)]
    bytes: Annotated[int | None, Field(ge=0)] = None
    sha256: str | None = None


class _HttpSource:
    """What cursors and files have in common: the listing."""

    def __init__(self, source: HttpSource, token: str | None) -> None:
        self._source = source
        self._client = FeedClient(source, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    async def deliveries(self, after: str, limit: int) -> list[Delivery]:
        """See ``payloads.Source``."""
        url, _, content = await self._client.page("deliveries", after=after, limit=limit)
        listed = [_parse(_ListedDelivery, url, item) for item in _items(url, content, "deliveries")]
        return [Delivery(item.key, item.version) for item in listed]

    async def version(self, partition: Partition) -> str:
        """See ``payloads.Source``."""
        url, _, content = await self._client.page(f"deliveries/{partition.key}")
        return _parse(_ListedDelivery, url, content).version


class CursorSource(_HttpSource):
    """``events?hour=…&cursor=…``: JSON pages, each naming the next."""

    async def payloads(self, partition: Partition, _spool: Path) -> AsyncIterator[Payload]:
        """See ``payloads.Source``; nothing is spooled."""
        params: dict[str, str | int] = {"hour": partition.key, "limit": self._source.page_size}
        asked: Counter[str] = Counter()
        left = self._source.partition_bytes_max
        for _ in range(self._source.answers_max):
            url, body, content = await self._client.page("events", **params)
            _items(url, content, "events")
            left -= len(body)
            if left < 0:
                raise PermanentSourceError(
                    f"{partition.key} has more than {self._source.partition_bytes_max:,} bytes; if "
                    "that is right, raise partition_bytes_max"
                )
            yield Payload(url, body)
            cursor = content.get("next_cursor")
            if cursor is None:
                return
            params["cursor"] = _cursor(url, str(cursor), asked)
        raise _too_many(self._source, partition)


class FileSource(_HttpSource):
    """``deliveries/<key>`` lists files with size and hash; each is spooled whole."""

    async def payloads(self, partition: Partition, spool: Path) -> AsyncIterator[Payload]:
        """See ``payloads.Source``."""
        url, _, content = await self._client.page(f"deliveries/{partition.key}")
        items = _items(url, content, "files")
        if len(items) > self._source.answers_max:
            raise _too_many(self._source, partition)
        left = self._source.partition_bytes_max
        for number, item in enumerate(items):
            listed = _parse(_ListedFile, url, item)
            # The name is the API's to choose; it is told to people, and never used as a path.
            target = spool / f"{number:06d}"
            await self._client.download(
                listed.url,
                target,
                size_bytes=listed.bytes,
                sha256=listed.sha256,
                bytes_max=left,
            )
            left -= target.stat().st_size
            yield Payload(listed.name, path=target)


def open_http_source(source: HttpSource, token: str | None = None) -> CursorSource | FileSource:
    """The dialect's implementation, not yet connected."""
    return (CursorSource if source.dialect == "cursor_json" else FileSource)(source, token)


def _cursor(url: str, cursor: str, asked: Counter[str]) -> str:
    """The cursor to go on with, unless the pages go in a circle."""
    asked[cursor] += 1
    if len(cursor) > CURSOR_CHARACTERS_MAX:
        raise PermanentSourceError(
            f"{url} names a next cursor of {len(cursor):,} characters; no service does that"
        )
    if asked[cursor] > CURSOR_ASKED_MAX:
        raise PermanentSourceError(
            f"{url} names {cursor!r} as the next cursor for the {asked[cursor]}th time: its pages "
            "go in a circle; tell the service"
        )
    return cursor


def _too_many(source: HttpSource, partition: Partition) -> PermanentSourceError:
    return PermanentSourceError(
        f"{partition.key} has more than {source.answers_max:,} pages or files; if that is right, "
        "raise answers_max"
    )


def _items(url: str, content: dict[str, Any], name: str) -> list[Any]:
    items = content.get(name)
    if not isinstance(items, list):
        raise PermanentSourceError(f"{url} has no list {name!r}; is this the right API?")
    return items


def _parse(model: type[_Model], url: str, item: Any) -> _Model:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise PermanentSourceError(f"{url}: {place}: {first['msg']}") from None
