"""An inbox: a folder that report files are dropped into, whatever periods they cover.

A file is taken in whole, and each of its rows belongs to one partition of its feed: the one that
its date falls in. A row whose date is unreadable, or outside the feed's time, belongs to the
file's first partition, to be refused there by name. A file that no template recognises, or that
breaks off, is quarantined: it is told, and the others go on.

An inbox promises nothing, so a partition without files is empty and not missing. A file that has
been taken stays taken when it is moved away; one that is there again under its name with other
bytes is a correction, and takes the place of the first.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

from royalty_assets.domain.batches import combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.validation import Rejection, SourceRow
from royalty_assets.domain.windows import Partition
from royalty_assets.sources.delimited import DelimitedFile, UnreadableFileError
from royalty_assets.sources.payloads import Delivery, Payload
from royalty_assets.sources.templates import Template

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class InboxFile:
    """A file that a template recognises, and the partitions that its rows belong to."""

    path: Path
    sha256: str
    template: str
    partition_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that is refused as a whole, by rule and reason."""

    path: Path
    sha256: str
    rule: str
    reason: str


class PartitionOfRow:
    """Which partition of a feed a report row belongs to."""

    def __init__(self, feed: Feed, now: datetime) -> None:
        self._feed = feed
        self._start = feed.cadence.floor(feed.start)
        self._end = min(feed.end or now, now)

    def key(self, row: SourceRow | Rejection) -> str | None:
        """The key, or None where the row's date does not name a partition of the feed."""
        if isinstance(row, Rejection) or not isinstance(row.content, dict):
            return None
        used_on = row.content.get("used_on")
        if not isinstance(used_on, date):
            return None
        instant = datetime(used_on.year, used_on.month, used_on.day, tzinfo=UTC)
        if not self._start <= instant < self._end:
            return None
        return Partition.of(self._feed.cadence, instant).key

    def first_key(self, keys: Sequence[str]) -> str:
        """Where rows without a key belong, given the file's keys."""
        return min(keys, default=Partition.of(self._feed.cadence, self._start).key)


class InboxSource:
    """The files of one feed's folder. Reads it once, when it is opened."""

    def __init__(
        self,
        feed: Feed,
        folder: Path,
        records: RecordKind,
        templates: Sequence[Template],
        now: datetime,
    ) -> None:
        self._partition_of = PartitionOfRow(feed, now)
        self._templates = [t for t in templates if t.records == records]
        self._folder = folder
        self.files: list[InboxFile] = []
        self.quarantined: list[Quarantined] = []

    async def __aenter__(self) -> Self:
        for path in self._paths():
            sha256 = _sha256(path)
            try:
                self.files.append(self._look_into(path, sha256))
            except UnreadableFileError as error:
                self.quarantined.append(Quarantined(path, sha256, error.rule, error.reason))
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def _paths(self) -> Iterator[Path]:
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            # A name that begins with a dot is a file still being copied, by old custom.
            if path.is_file() and not path.name.startswith(".") and path.name != "README.md":
                yield path

    def _look_into(self, path: Path, sha256: str) -> InboxFile:
        with path.open("rb") as stream:
            opened = DelimitedFile(sha256, stream, self._templates)
            keys = {self._partition_of.key(row) for row in opened.rows()}
        named = sorted(key for key in keys if key is not None)
        if None in keys:
            named = sorted({*named, self._partition_of.first_key(named)})
        return InboxFile(path, sha256, opened.template.name, tuple(named))

    @property
    def names(self) -> frozenset[str]:
        """The names of all files that are there now, quarantined ones included."""
        taken = {file.path.name for file in self.files}
        return frozenset(taken | {file.path.name for file in self.quarantined})

    async def deliveries(self, after: str, limit: int) -> list[Delivery]:
        """See ``payloads.Source``."""
        keys = sorted({key for file in self.files for key in file.partition_keys if key > after})
        return [Delivery(key, self._version(key)) for key in keys[:limit]]

    async def version(self, partition: Partition) -> str:
        """See ``payloads.Source``."""
        return self._version(partition.key)

    def _version(self, key: str) -> str:
        holding = (file.sha256 for file in self.files if key in file.partition_keys)
        return combined_sha256(sorted(set(holding)))

    async def payloads(self, partition: Partition, _spool: Path) -> AsyncIterator[Payload]:
        """See ``payloads.Source``; nothing is spooled."""
        for file in self.files:
            if partition.key in file.partition_keys:
                yield Payload(file.path.name, path=file.path)


def rows_by_partition(
    opened: DelimitedFile, partition_of: PartitionOfRow
) -> dict[str, list[SourceRow | Rejection]]:
    """All rows of a file by the key of the partition that they belong to."""
    by_key: dict[str, list[SourceRow | Rejection]] = {}
    homeless: list[SourceRow | Rejection] = []
    for row in opened.rows():
        key = partition_of.key(row)
        (homeless if key is None else by_key.setdefault(key, [])).append(row)
    if homeless:
        by_key.setdefault(partition_of.first_key(sorted(by_key)), []).extend(homeless)
    return by_key


def rows_of_partition(
    opened: DelimitedFile, partition_of: PartitionOfRow, key: str
) -> Iterator[SourceRow | Rejection]:
    """The rows of a file that belong to one partition, without holding the others.

    Rows that name no partition are held back until the file's first partition is known.
    """
    keys: set[str] = set()
    homeless: list[SourceRow | Rejection] = []
    for row in opened.rows():
        own = partition_of.key(row)
        if own is None:
            homeless.append(row)
            continue
        keys.add(own)
        if own == key:
            yield row
    if homeless and partition_of.first_key(sorted(keys)) == key:
        yield from homeless


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
