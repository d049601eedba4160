"""Time: the cadence of a feed, its partitions, and the event-time windows that batches cover.

All instants are UTC. A *partition* is what the UI can materialise and recover (an hour, a day, a
month); a *window* is the span of one batch inside it. Windows tile a partition without gap or
overlap, so an instant belongs to exactly one. No clock is read here: "now" is an argument.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Cadence(StrEnum):
    """How often a feed delivers; also the width of its partitions."""

    HOURLY = "hourly"
    DAILY = "daily"
    MONTHLY = "monthly"

    @property
    def key_format(self) -> str:
        """The strftime format of partition keys, the one that Dagster uses by default."""
        return "%Y-%m-%d-%H:%M" if self is Cadence.HOURLY else "%Y-%m-%d"

    def floor(self, instant: datetime) -> datetime:
        """The start of the partition that holds ``instant``."""
        instant = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if self is Cadence.HOURLY:
            return instant
        return instant.replace(hour=0, day=1 if self is Cadence.MONTHLY else instant.day)

    def after(self, start: datetime) -> datetime:
        """The start of the next partition."""
        match self:
            case Cadence.HOURLY:
                return start + timedelta(hours=1)
            case Cadence.DAILY:
                return start + timedelta(days=1)
            case Cadence.MONTHLY:
                return self.floor(start + timedelta(days=32))


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of time, ``start`` included and ``end`` excluded."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window needs instants with a time zone")
        if self.start >= self.end:
            raise ValueError(f"an empty window: {self.start} to {self.end}")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    @property
    def label(self) -> str:
        """A short sortable name: ``20250301T0510Z``."""
        return self.start.strftime("%Y%m%dT%H%MZ")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a feed (or of the ledger): its key and the time it spans."""

    cadence: Cadence
    window: Window

    @classmethod
    def of(cls, cadence: Cadence, instant: datetime) -> "Partition":
        """The partition that holds ``instant``."""
        start = cadence.floor(instant)
        return cls(cadence, Window(start, cadence.after(start)))

    @classmethod
    def parse(cls, cadence: Cadence, key: str) -> "Partition":
        """The partition with this key.

        Raises:
            ValueError: if the key is not one of this cadence.
        """
        partition = cls.of(cadence, datetime.strptime(key, cadence.key_format).replace(tzinfo=UTC))
        if partition.key != key:
            raise ValueError(f"{key!r} is not the key of a partition of cadence {cadence}")
        return partition

    @property
    def key(self) -> str:
        """The partition's name in the UI and the registry."""
        return self.window.start.strftime(self.cadence.key_format)

    @property
    def month(self) -> "Partition":
        """The accounting period that this partition falls in."""
        return Partition.of(Cadence.MONTHLY, self.window.start)

    def windows(self, length: timedelta) -> list[Window]:
        """The event-time windows that tile this partition; the last one may be shorter."""
        starts = []
        start = self.window.start
        while start < self.window.end:
            starts.append(start)
            start += length
        return [Window(start, min(start + length, self.window.end)) for start in starts]


def partitions_between(cadence: Cadence, start: datetime, end: datetime) -> Iterator[Partition]:
    """The partitions that begin at or after ``start`` and before ``end``, in order."""
    partition = Partition.of(cadence, start)
    if partition.window.start < start:
        partition = Partition.of(cadence, partition.window.end)
    while partition.window.start < end:
        yield partition
        partition = Partition.of(cadence, partition.window.end)
