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
from royalty_assets.domain.territories import WORLDWIDE, territory_of

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
    code = territory_of(text)
    if code is None:
        raise PydanticCustomError("territory_unknown", "No such territory")
    return code


def _known_country(text: str) -> str:
    code = _known_territory(text)
    if code == WORLDWIDE:
        raise PydanticCustomError("territory_unknown", "A play happens in one territory")
    return code


def _known_currency(text: str) -> str:
    if text not in currency_codes():
        raise PydanticCustomError("currency_unknown", "No such ISO 4217 currency")
    return text


def exact_amount(value: Any) -> Decimal:
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


def isrc_as_understood(text: str) -> str:
    """The normal form where there is one; else as sent, for a person to look at."""
    return normalise_isrc(text) or text


NO_NUL = r"^[^\x00]*$"  # no database takes a NUL in a text
Text = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True, max_length=1000, pattern=NO_NUL)
]
Identifier = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=128, pattern=NO_NUL),
]
Isrc = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, max_length=64, pattern=NO_NUL),
    AfterValidator(isrc_as_understood),
]
Territory = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True), AfterValidator(_known_territory)
]
Country = Annotated[
    StrictStr, StringConstraints(strip_whitespace=True), AfterValidator(_known_country)
]
Currency = Annotated[StrictStr, AfterValidator(_known_currency)]
Amount = Annotated[Decimal, BeforeValidator(exact_amount)]
Tier = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Instant = Annotated[AwareDatetime, BeforeValidator(_require_text), AfterValidator(_to_utc)]
Day = Annotated[datetime, BeforeValidator(_start_of_day)]
Units = Annotated[StrictInt, Field(ge=-UNITS_MAX, le=UNITS_MAX)]
UseType = Literal[
    "AsPerContract",
    "Broadcast",
    "Cable",
    "ConditionalDownload",
    "ContentInfluencedStream",
    "Display",
    "Download",
    "Dub",
    "DubForAdvertisement",
    "DubForLivePerformance",
    "DubForMovies",
    "DubForMusicOnHold",
    "DubForPublicPerformance",
    "DubForRadio",
    "DubForTV",
    "ExtractForInternet",
    "KioskDownload",
    "Narrowcast",
    "NonInteractiveStream",
    "OnDemandStream",
    "Perform",
    "PerformAsMusicOnHold",
    "PerformInLivePerformance",
    "PerformInPublic",
    "PermanentDownload",
    "Playback",
    "PlayInPublic",
    "Podcast",
    "Print",
    "PrivateCopy",
    "PurchaseAsPhysicalProduct",
    "Rent",
    "Simulcast",
    "Stream",
    "TetheredDownload",
    "TimeInfluencedStream",
    "Unknown",
    "Use",
    "UseAsAlertTone",
    "UseAsDevice",
    "UseAsKaraoke",
    "UseAsRingbackTone",
    "UseAsRingbackTune",
    "UseAsRingtone",
    "UseAsRingtune",
    "UseAsScreensaver",
    "UseAsVoiceMail",
    "UseAsWallpaper",
    "UseForIdentification",
    "UseInMobilePhoneMessaging",
    "UseInPhoneListening",
    "UserDefined",
    "UserMakeAvailableLabelProvided",
    "UserMakeAvailableUserProvided",
    "Webcast",
]
"""DDEX's UseType list (allowed value sets of DSR)."""
CommercialModel = Literal[
    "AdvertisementSupportedModel",
    "AsPerContract",
    "DeviceFeeModel",
    "FreeOfChargeModel",
    "PayAsYouGoModel",
    "PerformanceRoyaltiesModel",
    "RightsClaimModel",
    "SubscriptionModel",
    "Unknown",
    "UserDefined",
]
"""DDEX's CommercialModelType list."""


class _Record(BaseModel):
    """What all records share: the instant, in UTC, that decides their partition and window."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    used_at: datetime


class PlayEvent(_Record):
    """One play, as a DSP's telemetry tells it."""

    event_id: Identifier
    used_at: Annotated[Instant, Field(validation_alias="played_at")]
    user_id: Identifier
    isrc_as_sent: Annotated[Text, Field(validation_alias="isrc")] = ""
    isrc: Isrc = ""
    title: Text = ""
    artist: Text = ""
    territory: Country
    tier: Tier
    played_ms: Annotated[StrictInt, Field(ge=0, le=86_400_000)]

    @model_validator(mode="after")
    def _identifies_a_recording(self) -> Self:
        if not self.isrc and not self.title:
            raise PydanticCustomError("unidentified", "Neither an ISRC nor a title is given")
        return self


IDENTIFYING = ("isrc", "title", "upc", "grid", "dsp_recording_id", "release_title")
"""The fields of a report line of which one has to say what was used."""


class ReportLine(_Record):
    """One line of a sales or usage report. Without an amount it shares its feed's pool.

    ``reported_at`` is when the sender accounts for the use, where it says so: it decides the
    accounting period, since sales are told up to years late. ``units`` are net of ``returns``.
    """

    used_at: Annotated[Day, Field(validation_alias="used_on")]
    reported_at: Annotated[Day | None, Field(validation_alias="reported_on")] = None
    isrc_as_sent: Annotated[Text, Field(validation_alias="isrc")] = ""
    isrc: Isrc = ""
    upc: Text = ""
    grid: Text = ""
    iswc: Text = ""
    dsp_recording_id: Text = ""
    title: Text = ""
    artist: Text = ""
    release_title: Text = ""
    label: Text = ""
    store: Text = ""
    territory: Territory
    tier: Tier = ALL_TIERS
    use_type: UseType = "Stream"
    commercial_model: CommercialModel = "Unknown"
    units: Units
    returns: Units = 0
    amount: Amount | None = None
    currency: Currency | None = None
    transaction_id: Text = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not any(getattr(self, name) for name in IDENTIFYING):
            raise PydanticCustomError(
                "unidentified", "Nothing says which recording or release it is"
            )
        if (self.amount is None) != (self.currency is None):
            raise PydanticCustomError("money_incomplete", "An amount needs a currency, and back")
        return self


class PoolLine(_Record):
    """Money that the usage of a feed shares in a month, by territory and tier."""

    used_at: Annotated[Day, Field(validation_alias="used_on")]
    territory: Territory = WORLDWIDE
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
    "feed": pl.String(),
    "event_id": pl.String(),
    "used_at": INSTANT_DTYPE,
    "reported_at": INSTANT_DTYPE,
    "user_id": pl.String(),
    "isrc": pl.String(),
    "isrc_as_sent": pl.String(),
    "upc": pl.String(),
    "upc_as_sent": pl.String(),
    "grid": pl.String(),
    "iswc": pl.String(),
    "dsp_recording_id": pl.String(),
    "title": pl.String(),
    "artist": pl.String(),
    "release_title": pl.String(),
    "label": pl.String(),
    "store": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "commercial_model": pl.String(),
    "units": pl.Int64(),
    "returns": pl.Int64(),
    "played_ms": pl.Int64(),
    "currency": pl.String(),
    "amount": AMOUNT_DTYPE,
    "transaction_id": pl.String(),
    "corrects": pl.String(),
    "notes": pl.String(),
    "source_sha256": pl.String(),
    "row_number": pl.Int64(),
}
"""The canonical usage line, after DSR Part 9: what a play and a report line both become.

Texts are empty where nothing was sent, and null where the kind of record, or of file, has no
place for them: ``event_id``, ``user_id`` and ``played_ms`` in report lines, ``grid`` in most files.
``isrc_as_sent`` is null where it is the ``isrc``. ``reported_at`` is
null where the accounting period follows from ``used_at``; ``currency`` and ``amount`` are null
where the line shares a pool. ``isrc`` and ``upc`` are normal forms (as sent where there is none,
and empty, respectively), with what was sent beside them. ``notes`` holds what was understood
rather than read, as ``field:what`` words (see ``notes``). ``source_sha256`` and ``row_number`` name
the bytes that the line was read from; ``corrects`` those of the line that it takes back.
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
    "upc",
    "release_title",
    "territory",
    "tier",
    "use_type",
    "used_on",
    "currency",
]
"""What must be equal for two usage lines to be decided, and paid, alike."""
