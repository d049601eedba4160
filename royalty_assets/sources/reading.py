"""What all readers of report files share: blocks of lines and rejections, and control totals."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import polars as pl

from royalty_assets.domain.money import (
    ATOMS_PER_UNIT,
    AmountError,
    format_atoms,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.notes import with_notes
from royalty_assets.domain.screening import ColumnReading, screen
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA, RecordKind
from royalty_assets.domain.validation import (
    UNTOLD,
    Rejection,
    SourceRow,
    usage_lines,
    validate_rows,
)

_TEXTS_THAT_MAY_BE_UNTOLD = (
    "grid",
    "iswc",
    "dsp_recording_id",
    "release_title",
    "label",
    "store",
    "transaction_id",
)
"""What a kind of file may have no place for; null then, so that it is not taken for empty."""

_CENTS = 2
TOTALS_AGREE = "report_totals_agree"
CROSS_SUMS_AGREE = "report_cross_sums_agree"
NAME_AGREES = "report_name_agrees"


@dataclass(slots=True)
class Totals:
    """What a file says of itself, and what its lines come to.

    Attributes:
        stated: ``lines``, ``units``, ``amount`` → the file's figure in atoms, if it has one.
        summed: the same, added up over the file's own summary.
        lines, units: counted over all lines as read, rejected ones included.
        atoms: the amounts of all lines as read.
    """

    stated: dict[str, int] = field(default_factory=dict)
    summed: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    units: int = 0
    atoms: int = 0
    _decimals: dict[str, int] = field(default_factory=dict)

    def state(self, figure: str, text: str, *, of_summary: bool = False) -> None:
        """Take in what the file says: a total, or a part of one.

        Raises:
            AmountError: if it is no number.
        """
        atoms = to_atoms(parse_amount(text))
        if of_summary:
            self.summed[figure] = self.summed.get(figure, 0) + atoms
            return
        self.stated[figure] = atoms
        self._decimals[figure] = len(text.strip().partition(".")[2])

    def differences(self) -> list[str]:
        """What the file says and its lines do not.

        An amount that is stated in cents may be rounded to cents.
        """
        counted = {
            "lines": self.lines * ATOMS_PER_UNIT,
            "units": self.units * ATOMS_PER_UNIT,
            "amount": self.atoms,
        }
        told = []
        for of_what, figures in (("file", self.stated), ("file's summary", self.summed)):
            for name, stated in figures.items():
                decimals = self._decimals.get(name, 0)
                rounded = name == "amount" and of_what == "file" and decimals >= _CENTS
                allowed = ATOMS_PER_UNIT // 10**decimals // 2 if rounded else 0
                if abs(stated - counted[name]) > allowed:
                    told.append(
                        f"the {of_what} says {format_atoms(stated)} {name}, but the lines come "
                        f"to {format_atoms(counted[name])}"
                    )
        return told

    def count(self, fields: Mapping[str, Any]) -> None:
        """Add what a row that was not accepted says."""
        if isinstance(units := fields.get("units"), int):
            self.units += units
        if isinstance(amount := fields.get("amount"), str):
            # What is no amount is refused by the model, which says so.
            with suppress(AmountError):
                self.atoms += to_atoms(parse_amount(amount))


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A DDEX message's identity: the sender's, and the order in which corrections follow.

    Attributes:
        created_at: as the sender writes it; texts in ISO 8601 order as instants do.
        file_number, number_of_files: which part of the report this file is.
        scope: service and period: what messages must share for one to correct another.
    """

    sender: str
    message_id: str
    created_at: str
    file_number: int
    number_of_files: int
    scope: str = ""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A part of a report: usage lines (``USAGE_LINE_SCHEMA``, ``feed`` empty), and the rest."""

    lines: pl.DataFrame
    rejections: list[Rejection]


def read_block(
    source_sha256: str,
    cells: pl.DataFrame,
    readings: Mapping[str, ColumnReading],
    totals: Totals,
    notes: Mapping[str, Collection[int]],
    *,
    may_hold_nul: bool = True,
) -> ReadBlock:
    """Put cells to the screen, and to the model what it does not clear.

    Args:
        source_sha256: of the file.
        cells: see ``screening.screen``.
        readings: see there.
        totals: added to.
        notes: word → numbers of the rows that it is said of.
        may_hold_nul: see ``screening.screen``.
    """
    screened = screen(cells, readings, may_hold_nul=may_hold_nul)
    rows = [SourceRow(source_sha256, number, fields) for number, fields in screened.suspects]
    validated = validate_rows(RecordKind.REPORT_LINES, rows)
    totals.units += int(screened.lines["units"].sum())
    totals.atoms += sum_of(screened.lines["amount"])
    for _, fields in screened.suspects:
        totals.count(fields)
    parts = [usage_lines(validated)] if validated.accepted else []
    if screened.lines.height:
        parts.insert(0, _canonical(screened.lines, source_sha256))
    lines = pl.concat(parts) if parts else pl.DataFrame(schema=USAGE_LINE_SCHEMA)
    lines = lines.with_columns(
        pl.lit(None, pl.String).alias(name)
        for name in _TEXTS_THAT_MAY_BE_UNTOLD
        if name not in cells.columns
    )
    if len(parts) > 1:
        lines = lines.sort("row_number")
    for word, numbers in notes.items():
        lines = noted(lines, word, numbers)
    lines = with_notes(lines, all_isrcs_hold="isrc" in screened.plain)
    return ReadBlock(lines, validated.rejections)


def noted(lines: pl.DataFrame, word: str, numbers: Collection[int]) -> pl.DataFrame:
    """The lines with a note on those that have one of these row numbers."""
    if not numbers:
        return lines
    notes = pl.concat_str("notes", pl.lit(f" {word}")).str.strip_chars()
    affected = pl.col("row_number").is_in(list(numbers))
    return lines.with_columns(notes=pl.when(affected).then(notes).otherwise("notes"))


def sum_of(amounts: pl.Series) -> int:
    """The sum of amounts in atoms, gaps left out."""
    return to_atoms(Decimal(amounts.sum()))


def _canonical(lines: pl.DataFrame, source_sha256: str) -> pl.DataFrame:
    """Screened lines with the columns that are not the model's."""
    rest = [
        pl.lit(UNTOLD.get(name), dtype).alias(name)
        for name, dtype in USAGE_LINE_SCHEMA.items()
        if name not in lines.columns and name != "source_sha256"
    ]
    lines = lines.with_columns(*rest, pl.lit(source_sha256).alias("source_sha256"))
    return lines.select(USAGE_LINE_SCHEMA.keys())
