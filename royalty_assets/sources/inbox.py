"""An inbox: a folder that report files are dropped into, whatever periods they cover.

A file is taken in whole, and each of its rows belongs to one partition of its feed: the one that
its date falls in. A row whose date is unreadable, or outside the feed's time, belongs to the
file's first partition, to be refused there by name. A file that no template recognises, or that
breaks off, is quarantined: it is told, and the others go on.

An inbox promises nothing, so a partition without files is empty and not missing. A file that has
been taken stays taken when it is moved away. One that is there again under its name with other
bytes replaces the first in the partitions that it holds rows of, and in no others: there it is
another delivery.

Who may drop files here may not thereby read others: a link that leads out of the folder is left,
and told.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import polars as pl

from royalty_assets.domain.batches import combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.validation import Rejection, SourceRow, belongs_on
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.sources.delimited import DelimitedFile, readable
from royalty_assets.sources.drops import Drop
from royalty_assets.sources.payloads import Delivery, Payload
from royalty_assets.sources.reading import Message, ReadBlock
from royalty_assets.sources.reports import file_sha256, open_report
from royalty_assets.sources.templates import Template
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError


@dataclass(frozen=True, slots=True)
class InboxFile:
    """A file that a template recognises, and the partitions that its rows belong to."""

    path: Path
    sha256: str
    template: str
    partition_keys: tuple[str, ...]
    message: Message | None = None

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


class PartitionOfDay:
    """Which partition of a feed a day belongs to, if the feed has it."""

    def __init__(self, feed: Feed, cadence: Cadence) -> None:
        self._cadence = cadence
        self._start = cadence.floor(feed.start)
        self._end = feed.end

    def key(self, day: date) -> str | None:
        """The key, or None for a day before the feed's start or after its end."""
        instant = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if instant < self._start or (self._end is not None and instant >= self._end):
            return None
        return Partition.of(self._cadence, instant).key

    def key_of_row(self, row: SourceRow | Rejection) -> str | None:
        """The key of a row that is not read by column: by its day, where it has one."""
        day = row.belongs_on if isinstance(row, Rejection) else belongs_on(row)
        return None if day is None else self.key(day)

    def first_key(self, keys: Sequence[str]) -> str:
        """Where rows without a key belong, given the file's keys."""
        return min(keys, default=Partition.of(self._cadence, self._start).key)


def _age_seconds(path: Path) -> float:
    """How long ago a file was changed; none at all for one that has just gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def is_no_report(name: str) -> bool:
    """Names of what stands in an inbox and is no report.

    One that begins with a dot is a file still being copied, by old custom.
    """
    return name.startswith((".", "ACK_")) or name == "README.md" or name.endswith(".ctrl")


def semaphores_of(path: Path) -> list[Path]:
    """What a report's semaphore may be called: after the whole name, or instead of its end."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    return [path.with_name(f"{path.name}.ctrl"), path.with_name(f"{stem}.ctrl")]


def days_of(lines: pl.DataFrame) -> pl.Series:
    """The day that decides each usage line's partition: of accounting, else of use."""
    return lines.select(pl.coalesce("reported_at", "used_at").dt.date().alias("day")).to_series()


Look = InboxFile | Quarantined
LookKey = tuple[str, int, int]


class InboxSource:
    """The files of one folder, for one kind of record. Looks into them when it is opened.

    Args:
        folder: where files are dropped.
        partition_of: assigns rows.
        templates: that may recognise a file here.
        records: what the files hold.
        drop: the remote folder that ``folder`` mirrors, if it does.
        settle_seconds: a file changed more recently is left to be finished.
        semaphore: whether a file is whole only when an empty ``.ctrl`` file stands beside it.
        looks: what was seen in a file of this name, size and time before; added to.
    """

    def __init__(
        self,
        folder: Path,
        partition_of: PartitionOfDay,
        templates: Sequence[Template],
        records: RecordKind,
        looks: dict[LookKey, Look],
        *,
        drop: Drop | None = None,
        semaphore: bool = False,
        settle_seconds: int = 0,
    ) -> None:
        self._drop = drop
        self._semaphore = semaphore
        self._settle_seconds = settle_seconds
        self._folder = folder
        self._records = records
        self._partition_of = partition_of
        self._templates = templates
        self._looks = looks
        self.files: list[InboxFile] = []
        self.quarantined: list[Quarantined] = []
        self.waiting: list[tuple[str, str]] = []

    async def __aenter__(self) -> Self:
        if self._drop is not None:
            self.waiting += await self._drop.mirror()
        for path in self._paths():
            look = self._look(path)
            if isinstance(look, InboxFile) and not look.partition_keys:
                told = "has no rows for this feed's time, and so belongs to no period"
                self.waiting.append((look.name, told))
            elif isinstance(look, InboxFile):
                self.files.append(look)
            else:
                self.quarantined.append(look)
        self._hold_incomplete_messages()
        return self

    def _hold_incomplete_messages(self) -> None:
        """Leave files of a report whose other parts have not come."""
        parts: dict[tuple[str, str], set[int]] = {}
        for file in self.files:
            if (message := file.message) is not None:
                parts.setdefault((message.sender, message.message_id), set()).add(
                    message.file_number
                )
        for file in list(self.files):
            if (message := file.message) is None:
                continue
            there = parts[message.sender, message.message_id]
            wanted = set(range(1, message.number_of_files + 1))
            if lacking := sorted(wanted - there):
                self.files.remove(file)
                told = ", ".join(f"{n}of{message.number_of_files}" for n in lacking)
                self.waiting.append((file.name, f"waits for {told} of its report"))

    async def __aexit__(self, *_: object) -> None:
        pass

    def _paths(self) -> Iterator[Path]:
        if not self._folder.is_dir():
            return
        root = self._folder.resolve()
        for path in sorted(self._folder.iterdir()):
            if not path.is_file() or is_no_report(path.name):
                continue
            if not path.resolve().is_relative_to(root):
                told = "is a link that leads out of the inbox; put the file itself here"
                self.waiting.append((readable(path.name), told))
                continue
            if self._semaphore and not any(other.exists() for other in semaphores_of(path)):
                self.waiting.append((readable(path.name), "waits for its .ctrl file"))
                continue
            if self._settle_seconds and _age_seconds(path) < self._settle_seconds:
                told = f"was changed less than {self._settle_seconds} s ago"
                self.waiting.append((readable(path.name), told))
                continue
            yield path

    def _look(self, path: Path) -> Look:
        sha256 = ""
        try:
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            if key not in self._looks:
                sha256 = file_sha256(path)
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
            if self._records is RecordKind.REPORT_LINES:
                report = open_report(sha256, stream, self._templates, readable(path.name))
                keys = self._keys_of_blocks(report.blocks())
                message, kind, day = report.message, report.kind, report.day
            else:
                opened = DelimitedFile(sha256, TextLines(stream), self._templates, path.name)
                keys = {self._partition_of.key_of_row(row) for row in opened.rows()}
                message, kind, day = None, opened.kind, opened.day
        named = sorted(key for key in keys if key is not None)
        if None in keys and not named:
            # It would have to be put somewhere, and could not be replaced there by the whole file.
            raise UnreadableFileError(
                "file:no_day",
                "no row of it tells a day of this feed's time, so it belongs to no period; it may "
                "be cut off, or its days are before the feed's start or written in another way "
                "(royalty-assets inspect FILE tells what is wrong with each row)",
            )
        if None in keys:
            named = sorted({*named, self._partition_of.first_key(named)})
        if not keys and day is not None and (key := self._partition_of.key(day)) is not None:
            # A report of no sales is a delivery of its period all the same.
            named = [key]
        return InboxFile(path, sha256, kind, tuple(named), message)

    def _keys_of_blocks(self, blocks: Iterable[ReadBlock]) -> set[str | None]:
        days: set[date | None] = set()
        for block in blocks:
            days.update(days_of(block.lines).unique())
            days.update(rejection.belongs_on for rejection in block.rejections)
        return {None if day is None else self._partition_of.key(day) for day in days}

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


def rows_of_partition(
    opened: DelimitedFile, partition_of: PartitionOfDay, key: str
) -> Iterator[SourceRow | Rejection]:
    """The rows of a file that belong to one partition, without holding the others.

    Rows that name no partition are held back until the file's first partition is known.
    """
    keys: set[str] = set()
    homeless: list[SourceRow | Rejection] = []
    for row in opened.rows():
        own = partition_of.key_of_row(row)
        if own is None:
            homeless.append(row)
            continue
        keys.add(own)
        if own == key:
            yield row
    if homeless and partition_of.first_key(sorted(keys)) == key:
        yield from homeless
