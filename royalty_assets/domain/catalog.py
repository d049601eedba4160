"""The master catalog: recordings, who holds which share of them, and where rights hold.

A catalog is built from rows of three tables. Rows that contradict the rules come back as
problems that name the row; the rest of the catalog stands. What a contract pays beyond a plain
share (rates, advances, deductions) does not belong here.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Self

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from royalty_assets.domain.identifiers import normalise_gtin, normalise_isrc
from royalty_assets.domain.money import AmountError, parse_amount
from royalty_assets.domain.territories import WORLDWIDE, TerritorySet
from royalty_assets.domain.usage import Identifier, Text

SHARE_DECIMALS = 6
SHARE_WHOLE = 100 * 10**SHARE_DECIMALS
"""100 % in the integers that ``share_parts`` holds: a ten-thousandth of a basis point each."""


def _valid_isrc(text: str) -> str:
    isrc = normalise_isrc(text)
    if isrc is None:
        raise PydanticCustomError("isrc", "Not a well-formed ISRC")
    return isrc


def _valid_upc(text: str) -> str:
    upc = normalise_gtin(text) if text else ""
    if upc is None:
        raise PydanticCustomError("upc", "No UPC, EAN or GTIN")
    return upc


def _percentage(value: Any) -> Decimal:
    try:
        share = parse_amount(
            value.strip().removesuffix("%") if isinstance(value, str) else str(value)
        )
    except AmountError as error:
        raise PydanticCustomError("share", "{reason}", {"reason": str(error)}) from None
    if not 0 < share <= 100 or share * 10**SHARE_DECIMALS % 1:
        raise PydanticCustomError(
            "share", "A share is a percentage above 0, up to 100, of 6 decimals"
        )
    return share


def _territory_set(text: str) -> str:
    try:
        TerritorySet.parse(text)
    except ValueError as error:
        raise PydanticCustomError("territories", "{reason}", {"reason": str(error)}) from None
    return text


def _blank_to_none(value: Any) -> Any:
    return None if value == "" else value


OptionalDate = Annotated[date | None, BeforeValidator(_blank_to_none)]


class Recording(BaseModel):
    """A recording; its id is its ISRC unless the catalog gives one of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recording_id: Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)] = ""
    isrc: Annotated[StrictStr, AfterValidator(_valid_isrc)]
    title: Annotated[Text, StringConstraints(min_length=1)]
    artist: Text = ""
    upc: Annotated[StrictStr, AfterValidator(_valid_upc)] = ""
    release_title: Text = ""


class Share(BaseModel):
    """A rights holder's percentage of what a recording earns."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recording_id: Identifier
    rights_holder_id: Identifier
    rights_holder_name: Text = ""
    share: Annotated[Decimal, BeforeValidator(_percentage)]


class Right(BaseModel):
    """Where and when a recording may be exploited on the rights holders' account."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recording_id: Identifier
    territories: Annotated[StrictStr, AfterValidator(_territory_set)]
    valid_from: OptionalDate = None
    valid_to: OptionalDate = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise PydanticCustomError("dates", "valid_to is before valid_from")
        return self


RECORDING_SCHEMA: dict[str, pl.DataType] = {
    "recording_id": pl.String(),
    "isrc": pl.String(),
    "title": pl.String(),
    "artist": pl.String(),
    "upc": pl.String(),
    "release_title": pl.String(),
}
"""``upc`` (14 digits) and ``release_title`` are of one release, and empty where none is known."""
SHARE_SCHEMA: dict[str, pl.DataType] = {
    "recording_id": pl.String(),
    "rights_holder_id": pl.String(),
    "rights_holder_name": pl.String(),
    "share_parts": pl.Int64(),
}
"""``share_parts`` is the percentage times 10⁶, so that 100 % is ``SHARE_WHOLE``."""
RIGHT_SCHEMA: dict[str, pl.DataType] = {
    "recording_id": pl.String(),
    "territories": pl.String(),
    "valid_from": pl.Date(),
    "valid_to": pl.Date(),
}
"""``valid_from`` and ``valid_to`` are inclusive days; null is open."""


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One row of a catalog table as read, and where it stands."""

    source: str
    row_number: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CatalogProblem:
    """What is wrong with one row (or, with row number 0, one recording) of a catalog."""

    source: str
    row_number: int
    rule: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """A consistent catalog, sorted by recording id.

    Attributes:
        recordings: ``RECORDING_SCHEMA``, one row per recording, ISRCs unique.
        shares: ``SHARE_SCHEMA``; the shares of each recording in it sum to 100 %.
        rights: ``RIGHT_SCHEMA``; a recording without a row may be exploited nowhere.
    """

    recordings: pl.DataFrame
    shares: pl.DataFrame
    rights: pl.DataFrame

    @property
    def version(self) -> str:
        """SHA-256 over the content in canonical order: equal catalogs have equal versions."""
        digest = hashlib.sha256()
        for table in (self.recordings, self.shares, self.rights):
            digest.update(table.write_csv(include_header=True).encode())
        return digest.hexdigest()


def build_catalog(
    recordings: Iterable[CatalogRow],
    shares: Iterable[CatalogRow],
    rights: Iterable[CatalogRow],
) -> tuple[Catalog, list[CatalogProblem]]:
    """Build the catalog from rows as read, and say what in them could not be used.

    A recording whose shares do not sum to 100 % stays in the catalog without shares: usage of it
    is matched, and its money is held until the split is mended. A recording without a rights row
    is cleared for the whole world.
    """
    problems: list[CatalogProblem] = []
    recording_rows = _read(Recording, recordings, problems)
    recording_frame = _distinct_recordings(recording_rows, problems)
    known = set(recording_frame["recording_id"])

    share_rows = _of_known(_read(Share, shares, problems), known, problems)
    share_frame = pl.DataFrame(
        [
            {
                "recording_id": share.recording_id,
                "rights_holder_id": share.rights_holder_id,
                "rights_holder_name": share.rights_holder_name or share.rights_holder_id,
                "share_parts": int(share.share * 10**SHARE_DECIMALS),
            }
            for _, share in share_rows
        ],
        schema=SHARE_SCHEMA,
    )
    share_frame = _whole_splits(share_frame, problems)

    rights = list(rights)
    right_rows = _of_known(_read(Right, rights, problems), known, problems)
    right_frame = pl.DataFrame([right.model_dump() for _, right in right_rows], schema=RIGHT_SCHEMA)
    # A recording whose rights rows were all refused is not cleared for the world by that.
    mentioned = {str(row.fields.get("recording_id", "")).strip() for row in rights}
    right_frame = pl.concat([right_frame, _worldwide(known - mentioned)])
    catalog = Catalog(
        recording_frame,
        share_frame.sort("recording_id", "rights_holder_id"),
        right_frame.unique().sort(
            "recording_id", "territories", "valid_from", "valid_to", nulls_last=False
        ),
    )
    return catalog, problems


def _read(
    model: type[Any], rows: Iterable[CatalogRow], problems: list[CatalogProblem]
) -> list[tuple[CatalogRow, Any]]:
    read = []
    validator = model.__pydantic_validator__
    for row in rows:
        try:
            read.append((row, validator.validate_python(dict(row.fields))))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "record"
            value = "" if isinstance(first["input"], Mapping) else str(first["input"])[:200]
            problems.append(_problem(row, f"{place}:{first['type']}", value, first["msg"]))
    return read


def _problem(row: CatalogRow, rule: str, value: str, reason: str) -> CatalogProblem:
    return CatalogProblem(row.source, row.row_number, rule, value, reason)


def _distinct_recordings(
    rows: list[tuple[CatalogRow, Recording]], problems: list[CatalogProblem]
) -> pl.DataFrame:
    by_isrc: dict[str, Recording] = {}
    taken_ids: dict[str, str] = {}
    for row, recording in rows:
        recording_id = recording.recording_id or recording.isrc
        earlier = by_isrc.get(recording.isrc)
        if earlier is not None:
            same = (earlier.title, earlier.artist) == (recording.title, recording.artist)
            rule = "isrc:repeated" if same else "isrc:conflicting"
            told = "told again" if same else f"also {earlier.title!r} by {earlier.artist!r}"
            problems.append(_problem(row, rule, recording.isrc, f"{told}; the first row counts"))
        elif recording_id in taken_ids:
            reason = f"the id is taken by ISRC {taken_ids[recording_id]}"
            problems.append(_problem(row, "recording_id:taken", recording_id, reason))
        else:
            by_isrc[recording.isrc] = recording
            taken_ids[recording_id] = recording.isrc
    return pl.DataFrame(
        [r.model_dump() | {"recording_id": r.recording_id or isrc} for isrc, r in by_isrc.items()],
        schema=RECORDING_SCHEMA,
    ).sort("recording_id")


def _of_known(
    rows: list[tuple[CatalogRow, Any]], known: set[str], problems: list[CatalogProblem]
) -> list[tuple[CatalogRow, Any]]:
    of_known = []
    for row, item in rows:
        if item.recording_id in known:
            of_known.append((row, item))
        else:
            reason = "no such recording in the catalog"
            problems.append(_problem(row, "recording_id:unknown", item.recording_id, reason))
    return of_known


def _whole_splits(shares: pl.DataFrame, problems: list[CatalogProblem]) -> pl.DataFrame:
    sums = shares.group_by("recording_id").agg(
        pl.col("share_parts").sum(),
        (pl.col("rights_holder_id").n_unique() != pl.len()).alias("repeats"),
    )
    broken = sums.filter((pl.col("share_parts") != SHARE_WHOLE) | pl.col("repeats"))
    for recording_id, parts, repeats in broken.sort("recording_id").iter_rows():
        percent = (Decimal(parts) / 10**SHARE_DECIMALS).normalize()
        rule = "share:repeated_rights_holder" if repeats else "share:sum"
        reason = (
            "a rights holder has two shares of it"
            if repeats
            else f"the shares sum to {percent:f} %, not 100 %"
        )
        problems.append(
            CatalogProblem("shares", 0, rule, recording_id, f"{reason}; its money is held")
        )
    return shares.join(broken, on="recording_id", how="anti")


def _worldwide(recording_ids: Iterable[str]) -> pl.DataFrame:
    ids = sorted(recording_ids)
    return pl.DataFrame(
        {"recording_id": ids, "territories": [WORLDWIDE] * len(ids)},
        schema_overrides={"recording_id": pl.String, "territories": pl.String},
    ).with_columns(
        pl.lit(None, pl.Date).alias("valid_from"), pl.lit(None, pl.Date).alias("valid_to")
    )
