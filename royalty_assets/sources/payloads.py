"""What a source hands over: payloads, and the failures that keep it from doing so."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from royalty_assets.domain.windows import Partition

CHUNK_BYTES = 4 << 20
"""The largest piece of a payload that is held in memory at once."""


class SourceError(Exception):
    """A source that did not deliver, in words for the person who has to act."""


class TransientSourceError(SourceError):
    """Asking again may help: 408, 429, 5xx, timeouts, bodies that broke off."""


class PermanentSourceError(SourceError):
    """Asking again will not help: 4xx, a token that is refused, a file that is no report."""


class NotDeliveredError(SourceError):
    """The source has nothing for this partition yet."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes exactly as received: a page in memory, or a file on disk.

    Attributes:
        name: what a person knows it by (a URL's path, a file's name).
        body: the bytes of a page.
        path: the file that holds the bytes, where there is no ``body``.
    """

    name: str
    body: bytes = b""
    path: Path | None = None

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of ``CHUNK_BYTES`` at most; one empty piece if there are none."""
        if self.path is None:
            for start in range(0, max(len(self.body), 1), CHUNK_BYTES):
                yield self.body[start : start + CHUNK_BYTES]
            return
        with self.path.open("rb") as file:
            yield file.read(CHUNK_BYTES)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True, slots=True)
class Delivery:
    """A partition that a source says it has, and an opaque token of what is in it."""

    key: str
    version: str


class Source(Protocol):
    """One feed's way of being asked. Used as an async context manager."""

    async def deliveries(self, after: str, limit: int) -> list[Delivery]:
        """What can be had, for partitions with keys above ``after``, at most ``limit``."""

    async def version(self, partition: Partition) -> str:
        """What the source has for the partition now.

        Raises:
            NotDeliveredError: if it has nothing yet.
        """

    def payloads(self, partition: Partition, spool: Path, /) -> AsyncIterator[Payload]:
        """Everything the source has for the partition; files are put into ``spool``."""
