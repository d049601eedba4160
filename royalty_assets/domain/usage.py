"""Usage: what one record of a feed may say, and the one line that every dialect becomes.

The Pydantic models are the law: a record is valid exactly when its model accepts it. Field types
are explicit about strictness, so that a model accepts the same records whether they come as JSON
text or as Python values. How records are found in a file belongs to ``sources``.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import polars as pl
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from royalty_assets.domain.identifiers import normalise_isrc
from royalty_assets.domain.money import (
    ATOMS_PER_UNIT,
    AmountError,
    currency_codes,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.money_columns import AMOUNT_DTYPE
from royalty_assets.domain.territories import WORLDWIDE, territory_codes

ALL_TIERS = "all"
AMOUNT_UNITS_MAX = 10**12
"""A line of more than a million million is a mistake, and sums of such would not fit 128 bits."""
UNITS_MAX = 10**12
"""More plays of one recording in one line than there have ever been in the world."""


class RecordKind(StrEnum):
    """What the records of a feed are."""

    PLAY_EVENTS = "play_events"
    REPORT_LINES = "report_lines"
    POOLS = "pools"


def _require_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("instant_type", "Input should be an ISO 8601 text")
    return value


def _to_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant", "No such instant in UTC") from None


def _start_of_day(value: Any) -> datetime:
    """Midnight UTC of a date, given as such or as ISO 8601 text."""
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise PydanticCustomError("date", "Input should be a date")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _known_territory(text: str) -> str:
    code = text.upper()
    if code not in territory_codes():
        raise PydanticCustomError("territory_unknown", "No such territory")
    return code


def _known_territory_or_world(text: str) -> str:
    return WORLDWIDE if text.casefold() == WORLDWIDE.casefold() else _known_territory(text)


def _known_currency(text: str) -> str:
    if text not in currency_codes():
        raise PydanticCustomError("currency_unknown", "No such ISO 4217 currency")
    return text


def _exact_amount(value: Any) -> Decimal:
    """Money arrives as text or Decimal, never as a float: its digits are already gone."""
    if isinstance(value, Decimal):
        amount = value
    elif isinstance(value, str):
        try:
            amount = parse_amount(value)
        except AmountError as error:
            raise PydanticCustomError("amount", "{reason}", {"reason": str(error)}) from None
    else:
        raise PydanticCustomError("amount_type", "Input should be an amount as text")
    try:
        atoms = to_atoms(amount)
    except AmountError as error:
        raise PydanticCustomError("amount", "{reason}", {"reason": str(error)}) from None
    if abs(atoms) > AMOUNT_UNITS_MAX * ATOMS_PER_UNIT:
        raise PydanticCustomError("amount_too_large", "More than a million million")
    return amount


def _isrc_as_understood(text: str) -> str:
    """The normal form where there is one; else as sent, for a person to look at."""
    return normalise_isrc(text) or text


_NO_NUL = r"^[^\x00]*$"  # no database takes a NUL in a text
Text = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True, max_length=1000, pattern=_NO_NUL)
]
Identifier = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=128, pattern=_NO_NUL),
]
Isrc = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, max_length=64, pattern=_NO_NUL),
    AfterValidator(_isrc_as_understood),
]
Territory = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True), AfterValidator(_known_territory)
]
PoolTerritory = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True), AfterValidator(_known_territory_or_world)
]
Currency = Annotated[StrictStr, AfterValidator(_known_currency)]
Amount = Annotated[Decimal, BeforeValidator(_exact_amount)]
Tier = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Instant = Annotated[AwareDatetime, BeforeValidator(_require_text), AfterValidator(_to_utc)]
Day = Annotated[datetime, BeforeValidator(_start_of_day)]
UseType = Literal["OnDemandStream", "NonInteractiveStream", "Stream", "PermanentDownload"]
"""From DDEX's UseType list; the part of it that the dialects here report."""


class _Record(BaseModel):
    """What all records share: the instant, in UTC, that decides their partition and window."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    used_at: datetime


class PlayEvent(_Record):
    """One play, as a DSP's telemetry tells it."""

    event_id: Identifier
    used_at: Annotated[Instant, Field(validation_alias="played_at")]
    user_id: Identifier
    isrc: Isrc = ""
    title: Text = ""
    artist: Text = ""
    territory: Territory
    tier: Tier
    played_ms: Annotated[StrictInt, Field(ge=0, le=86_400_000)]

    @model_validator(mode="after")
    def _identifies_a_recording(self) -> Self:
        if not self.isrc and not self.title:
            raise PydanticCustomError("unidentified", "Neither an ISRC nor a title is given")
        return self


class ReportLine(_Record):
    """One line of a sales or usage report. Without an amount it shares its feed's pool."""

    used_at: Annotated[Day, Field(validation_alias="used_on")]
    isrc: Isrc = ""
    title: Text = ""
    artist: Text = ""
    territory: Territory
    tier: Tier = ALL_TIERS
    use_type: UseType = "Stream"
    units: Annotated[StrictInt, Field(ge=-UNITS_MAX, le=UNITS_MAX)]
    amount: Amount | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.isrc and not self.title:
            raise PydanticCustomError("unidentified", "Neither an ISRC nor a title is given")
        if (self.amount is None) != (self.currency is None):
            raise PydanticCustomError("money_incomplete", "An amount needs a currency, and back")
        return self


class PoolLine(_Record):
    """Money that the usage of a feed shares in a month, by territory and tier."""

    used_at: Annotated[Day, Field(validation_alias="used_on")]
    territory: PoolTerritory = WORLDWIDE
    tier: Tier = ALL_TIERS
    amount: Amount
    currency: Currency


Record = PlayEvent | ReportLine | PoolLine

RECORD_MODELS: dict[RecordKind, type[Record]] = {
    RecordKind.PLAY_EVENTS: PlayEvent,
    RecordKind.REPORT_LINES: ReportLine,
    RecordKind.POOLS: PoolLine,
}

INSTANT_DTYPE = pl.Datetime("us", "UTC")

USAGE_LINE_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "used_at": INSTANT_DTYPE,
    "user_id": pl.String(),
    "isrc": pl.String(),
    "title": pl.String(),
    "artist": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "units": pl.Int64(),
    "played_ms": pl.Int64(),
    "currency": pl.String(),
    "amount": AMOUNT_DTYPE,
    "source_sha256": pl.String(),
    "row_number": pl.Int64(),
}
"""The canonical usage line, after DSR Part 9: what a play and a report line both become.

``isrc``, ``title`` and ``artist`` are empty where not sent; ``user_id`` and ``played_ms`` are
null for report lines; ``currency`` and ``amount`` are null where the line shares a pool.
``source_sha256`` and ``row_number`` name the bytes that it was read from.
"""

POOL_SCHEMA: dict[str, pl.DataType] = {
    "used_at": INSTANT_DTYPE,
    "territory": pl.String(),
    "tier": pl.String(),
    "currency": pl.String(),
    "amount": AMOUNT_DTYPE,
    "is_agreed": pl.Boolean(),
    "source_sha256": pl.String(),
    "row_number": pl.Int64(),
}
"""A validated pool line; territory ``Worldwide`` and tier ``all`` stand for every one.

``is_agreed`` marks an amount that configuration states rather than a report: it is due only in
months whose usage shares it."""

USAGE_IDENTITY = [
    "isrc",
    "title",
    "artist",
    "territory",
    "tier",
    "use_type",
    "used_on",
    "currency",
]
"""What must be equal for two usage lines to be decided, and paid, alike."""
