"""The batch boundary: raw records in; usage lines and named rejections out.

Errors are data. One bad record never stops a batch, and none disappears: every record that goes
in comes out as exactly one of accepted, rejected or duplicate (invariants 1 to 3).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
from pydantic import ValidationError

from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.usage import (
    POOL_SCHEMA,
    RECORD_MODELS,
    USAGE_LINE_SCHEMA,
    Record,
    RecordKind,
)
from royalty_assets.domain.windows import Window

UNTOLD: dict[str, int | str | bool] = {
    "units": 1,
    "returns": 0,
    "use_type": "OnDemandStream",
    "commercial_model": "Unknown",
    "is_agreed": False,
    "feed": "",
    "upc": "",
    "upc_as_sent": "",
    "grid": "",
    "iswc": "",
    "dsp_recording_id": "",
    "release_title": "",
    "label": "",
    "store": "",
    "transaction_id": "",
    "corrects": "",
    "notes": "",
}
"""What a canonical line holds where its kind of record has no such field; else it is null."""
CONTENT_KEPT_MAX = 2000
"""Characters of a rejected record that are kept beside its reason; the bytes stay in raw."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One record as found in a payload.

    Attributes:
        source_sha256: hash of the payload's exact bytes.
        row_number: counted from 1 within the payload, preamble lines included for report files.
        content: JSON text of the record, or its fields as already read from a report.
    """

    source_sha256: str
    row_number: int
    content: bytes | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one record was not accepted: which row, which rule, which value.

    ``belongs_on`` is the day that decides its partition, where one could be read.
    """

    source_sha256: str
    row_number: int
    rule: str
    value: str
    reason: str
    content: str
    belongs_on: date | None = None


@dataclass(slots=True)
class ValidatedRows:
    """Accepted records with where they came from, and what was rejected."""

    accepted: list[Record] = field(default_factory=list)
    origins: list[tuple[str, int]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def validate_rows(
    kind: RecordKind, rows: Iterable[SourceRow | Rejection], partition: Window | None = None
) -> ValidatedRows:
    """Put each row to its model; an accepted one must also lie in the partition's time, if given.

    What its reader has already rejected passes through.

    A record outside the partition is rejected, not moved: the partition that it belongs to asks
    for its own deliveries, and silently counting it here would count it twice.
    """
    validator = RECORD_MODELS[kind].__pydantic_validator__
    result = ValidatedRows()
    for row in rows:
        if isinstance(row, Rejection):
            result.rejections.append(row)
            continue
        content = row.content
        try:
            record = (
                validator.validate_json(content)
                if isinstance(content, bytes)
                else validator.validate_python(content)
            )
        except ValidationError as error:
            result.rejections.append(_rejection(row, error))
            continue
        if partition is not None and record.used_at not in partition:
            result.rejections.append(_outside_partition(row, record, partition))
            continue
        result.accepted.append(record)
        result.origins.append((row.source_sha256, row.row_number))
    return result


def reject(row: SourceRow, rule: str, value: str, reason: str) -> Rejection:
    """A rejection of ``row``; the content is kept up to ``CONTENT_KEPT_MAX`` characters."""
    if isinstance(row.content, bytes):
        text = row.content[: CONTENT_KEPT_MAX * 4].decode("utf-8", errors="replace")
    else:
        text = json.dumps(row.content, default=str, ensure_ascii=False)
    return Rejection(
        row.source_sha256,
        row.row_number,
        rule,
        _storable(value[:200]),
        _storable(reason[:500]),
        _storable(text[:CONTENT_KEPT_MAX]),
        belongs_on(row),
    )


def belongs_on(row: SourceRow) -> date | None:
    """The day that decides a row's partition: of accounting, else of use; None if unreadable."""
    if isinstance(row.content, dict):
        for name in ("reported_on", "used_on"):
            if isinstance(day := row.content.get(name), date):
                return day
    return None


def _storable(text: str) -> str:
    """The text without what databases refuse: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()


def _rejection(row: SourceRow, error: ValidationError) -> Rejection:
    # All of a record's errors are told in the reason; the rule is the first one's, so that
    # dead letters can be counted by rule.
    details = error.errors(include_url=False, include_context=False)
    first = details[0]
    place = ".".join(map(str, first["loc"])) or "record"
    reasons = "; ".join(f"{'.'.join(map(str, d['loc'])) or 'record'}: {d['msg']}" for d in details)
    value = first["input"]
    if isinstance(value, dict | bytes):
        value = "" if first["type"] != "missing" else "(absent)"
    return reject(row, f"{place}:{first['type']}", str(value), reasons)


def _outside_partition(row: SourceRow, record: Record, partition: Window) -> Rejection:
    return reject(
        row,
        "used_at:outside_partition",
        record.used_at.isoformat(),
        f"used at {record.used_at.isoformat()}, but this partition runs from "
        f"{partition.start.isoformat()} to {partition.end.isoformat()}",
    )


def usage_lines(rows: ValidatedRows) -> pl.DataFrame:
    """Accepted plays or report lines as canonical usage lines (``USAGE_LINE_SCHEMA``)."""
    return _frame(rows, USAGE_LINE_SCHEMA)


def pool_lines(rows: ValidatedRows) -> pl.DataFrame:
    """Accepted pool lines (``POOL_SCHEMA``)."""
    return _frame(rows, POOL_SCHEMA)


def _frame(rows: ValidatedRows, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    # Column by column over the models' own dicts: attribute access is several times slower, and
    # this runs once for every record there is.
    fields = [record.__dict__ for record in rows.accepted]
    columns: dict[str, list[Any] | pl.Series] = {}
    for name, dtype in schema.items():
        if name == "source_sha256":
            columns[name] = [sha256 for sha256, _ in rows.origins]
        elif name == "row_number":
            columns[name] = [row_number for _, row_number in rows.origins]
        elif not fields:
            columns[name] = []
        elif name in fields[0]:
            values = [record[name] for record in fields]
            columns[name] = _amounts(values) if name == "amount" else values
        else:
            columns[name] = pl.repeat(UNTOLD.get(name), len(fields), dtype=dtype, eager=True)
    return pl.DataFrame(columns, schema=schema)


def _amounts(amounts: Sequence[Decimal | None]) -> pl.Series:
    known = atoms_to_series("amount", [0 if a is None else to_atoms(a) for a in amounts])
    present = pl.Series([a is not None for a in amounts], dtype=pl.Boolean)
    return pl.select(pl.when(present).then(known)).to_series()


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """One window without repetitions.

    Attributes:
        lines: one line per event id, in canonical order.
        repeated: rows that told again what a kept line tells.
        conflicting: rows with a kept line's event id but other content, one row each.
    """

    lines: pl.DataFrame
    repeated: int
    conflicting: pl.DataFrame


def deduplicate(lines: pl.DataFrame) -> Deduplicated:
    """Keep one line per event id, whatever the order and number of deliveries.

    Which copy is kept follows from content alone. A copy that differs from the kept one is not
    a repetition: it comes back as conflicting, to be put before a person.
    """
    told = [name for name in lines.columns if name not in {"source_sha256", "row_number"}]
    rest = [name for name in told if name not in {"used_at", "event_id"}]
    ordered = lines.sort(
        ["used_at", "event_id", *rest, "source_sha256", "row_number"], nulls_last=False
    )
    distinct = ordered.unique(told, keep="first", maintain_order=True)
    kept = distinct.unique("event_id", keep="first", maintain_order=True)
    conflicting = distinct.join(kept, on=["source_sha256", "row_number"], how="anti")
    return Deduplicated(kept, lines.height - kept.height - conflicting.height, conflicting)
