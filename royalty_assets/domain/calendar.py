"""The delivery calendar: what a feed owes by when, and in which state each delivery is.

"Nothing was sold" and "nothing was delivered" are different states: a report without lines is a
delivery. No clock is read here; "now" is an argument.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from royalty_assets.domain.windows import Partition


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    EXPECTED = "expected"
    LATE = "late"
    MISSING = "missing"
    ARRIVED = "arrived"
    VALID_EMPTY = "valid-empty"
    RESENT = "re-sent with other bytes"


IN_ORDER = frozenset(
    {
        DeliveryState.EXPECTED,
        DeliveryState.ARRIVED,
        DeliveryState.VALID_EMPTY,
        DeliveryState.RESENT,
    }
)
"""The states that nobody has to act on."""


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"no such time zone: {name}; write it as Europe/Berlin")
    return name


class RegionalDelivery(BaseModel):
    """A part of a period's delivery that comes as a file of its own.

    Attributes:
        name: for people.
        files: pattern of its files' names (``*_EU_*``).
        due_after_days: if it is due at another time than the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    files: str
    due_after_days: Annotated[int, Field(ge=0, le=400)] | None = None


class DeliveryCalendar(BaseModel):
    """When a feed's deliveries are due.

    Attributes:
        due_after_days: days after the end of the period, in the sender's time zone.
        due_at: time of that day.
        time_zone: the sender's.
        missing_after_days: days after which a late delivery counts as missing.
        since: the first day of the first period that is owed; the feed's start if not given.
        regions: the files that make up a delivery, where it comes in several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    due_after_days: Annotated[int, Field(ge=0, le=400)]
    due_at: time = time(23, 59)
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    missing_after_days: Annotated[int, Field(ge=0, le=400)] = 14
    since: date | None = None
    regions: list[RegionalDelivery] = []

    def due(self, partition: Partition, region: RegionalDelivery | None = None) -> datetime:
        """The instant by which a partition's delivery has to be there."""
        days = self.due_after_days
        if region is not None and region.due_after_days is not None:
            days = region.due_after_days
        # A period's last day ends when it does at the sender's, whatever the hour is in UTC.
        ends_on = (partition.window.end - timedelta(microseconds=1)).date()
        due_on = ends_on + timedelta(days=days)
        return datetime.combine(due_on, self.due_at, ZoneInfo(self.time_zone))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that came for a partition."""

    name: str
    sha256: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ExpectedDelivery:
    """One line of the calendar's table.

    Attributes:
        rows: rows in what arrived; None while it has not been read.
    """

    feed: str
    partition_key: str
    region: str
    due: datetime
    state: DeliveryState
    received_at: datetime | None
    files: int
    rows: int | None

    @property
    def told(self) -> str:
        """The line in words."""
        which = f"{self.feed} {self.partition_key}" + (f" {self.region}" if self.region else "")
        return f"{which} was due {self.due:%Y-%m-%d %H:%M %Z} and is {self.state}"


def expected_deliveries(
    feed: str,
    calendar: DeliveryCalendar,
    partition: Partition,
    arrivals: Sequence[Arrival],
    rows: int | None,
    now: datetime,
) -> list[ExpectedDelivery]:
    """A partition's lines in the calendar: one, or one per region.

    Args:
        feed: its name.
        calendar: its.
        partition: the period.
        arrivals: all files that came for it, in any order.
        rows: rows that they hold together; None while they have not been read.
        now: the present.
    """
    lines = []
    whole: list[RegionalDelivery | None] = [None]
    for region in [*calendar.regions] or whole:
        own = [a for a in arrivals if region is None or fnmatchcase(a.name, region.files)]
        due = calendar.due(partition, region)
        lines.append(
            ExpectedDelivery(
                feed,
                partition.key,
                "" if region is None else region.name,
                due,
                _state(calendar, due, own, rows, now),
                min((arrival.received_at for arrival in own), default=None),
                len({arrival.name for arrival in own}),
                rows if own else None,
            )
        )
    return lines


def _state(
    calendar: DeliveryCalendar,
    due: datetime,
    arrivals: Iterable[Arrival],
    rows: int | None,
    now: datetime,
) -> DeliveryState:
    versions: dict[str, set[str]] = {}
    for arrival in arrivals:
        versions.setdefault(arrival.name, set()).add(arrival.sha256)
    if not versions:
        if now <= due:
            return DeliveryState.EXPECTED
        given_up = due + timedelta(days=calendar.missing_after_days)
        return DeliveryState.LATE if now <= given_up else DeliveryState.MISSING
    if any(len(hashes) > 1 for hashes in versions.values()):
        return DeliveryState.RESENT
    return DeliveryState.VALID_EMPTY if rows == 0 else DeliveryState.ARRIVED
