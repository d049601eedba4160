"""An inbox: a folder that report files are dropped into, whatever periods they cover.

A file is taken in whole, and each of its rows belongs to one partition of its feed: the one that
its date falls in. A row whose date is unreadable, or outside the feed's time, belongs to the
file's first partition, to be refused there by name. A file that no template recognises, or that
breaks off, is quarantined: it is told, and the others go on.

An inbox promises nothing, so a partition without files is empty and not missing. A file that has
been taken stays taken when it is moved away. One that is there again under its name with other
bytes replaces the first in the partitions that it holds rows of, and in no others: there it is
another delivery.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

from royalty_assets.domain.batches import combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.validation import Rejection, SourceRow
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.sources.delimited import DelimitedFile, UnreadableFileError, readable
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

    @property
    def name(self) -> str:
        """The file's name as text, whatever bytes it is made of."""
        return readable(self.path.name)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that is refused as a whole, by rule and reason."""

    path: Path
    sha256: str
    rule: str
    reason: str

    @property
    def name(self) -> str:
        """The file's name as text, whatever bytes it is made of."""
        return readable(self.path.name)


class PartitionOfRow:
    """Which partition of a feed a report row belongs to: that of its date, if the feed has it."""

    def __init__(self, feed: Feed, cadence: Cadence) -> None:
        self._cadence = cadence
        self._start = cadence.floor(feed.start)
        self._end = feed.end

    def key(self, row: SourceRow | Rejection) -> str | None:
        """The key, or None where the row's date does not name a partition of the feed."""
        if isinstance(row, Rejection) or not isinstance(row.content, dict):
            return None
        used_on = row.content.get("used_on")
        if not isinstance(used_on, date):
            return None
        instant = datetime(used_on.year, used_on.month, used_on.day, tzinfo=UTC)
        if instant < self._start or (self._end is not None and instant >= self._end):
            return None
        return Partition.of(self._cadence, instant).key

    def first_key(self, keys: Sequence[str]) -> str:
        """Where rows without a key belong, given the file's keys."""
        return min(keys, default=Partition.of(self._cadence, self._start).key)


Look = InboxFile | Quarantined
LookKey = tuple[str, int, int]


class InboxSource:
    """The files of one folder, for one kind of record. Looks into them when it is opened.

    Args:
        folder: where files are dropped.
        partition_of: assigns rows.
        templates: that may recognise a file here.
        looks: what was seen in a file of this name, size and time before; added to.
    """

    def __init__(
        self,
        folder: Path,
        partition_of: PartitionOfRow,
        templates: Sequence[Template],
        looks: dict[LookKey, Look],
    ) -> None:
        self._folder = folder
        self._partition_of = partition_of
        self._templates = templates
        self._looks = looks
        self.files: list[InboxFile] = []
        self.quarantined: list[Quarantined] = []

    async def __aenter__(self) -> Self:
        for path in self._paths():
            look = self._look(path)
            if isinstance(look, InboxFile):
                self.files.append(look)
            else:
                self.quarantined.append(look)
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

    def _look(self, path: Path) -> Look:
        sha256 = ""
        try:
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            if key not in self._looks:
                sha256 = _sha256(path)
                self._looks[key] = self._look_into(path, sha256)
            return self._looks[key]
        except UnreadableFileError as error:
            look = Quarantined(path, sha256, error.rule, error.reason)
            self._looks[key] = look
            return look
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
            return Quarantined(path, combined_sha256([str(path)]), "file:unreadable", reason)

    def _look_into(self, path: Path, sha256: str) -> InboxFile:
        with path.open("rb") as stream:
            opened = DelimitedFile(sha256, stream, self._templates)
            keys = {self._partition_of.key(row) for row in opened.rows()}
        named = sorted(key for key in keys if key is not None)
        if None in keys:
            named = sorted({*named, self._partition_of.first_key(named)})
        return InboxFile(path, sha256, opened.template.name, tuple(named))

    def names_holding(self, key: str) -> frozenset[str]:
        """The names of the files that hold rows of a partition now."""
        return frozenset(file.name for file in self.files if key in file.partition_keys)

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
                yield Payload(file.name, path=file.path)


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
