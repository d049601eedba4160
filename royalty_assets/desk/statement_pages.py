"""A statement as the desk shows it, and its files as it gives them out.

What a statement says is ``domain.statements``', how its figures look is what the PDF's do; here
they become rows of a page, a page at a time.
"""

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from royalty_assets.desk.months import Amount, amount_of
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Statement
from royalty_assets.statement_files import payee_file_name, statement_contents
from royalty_assets.statements.pdf.figures import (
    LineStep,
    count_text,
    exact_text,
    largest,
    line_steps,
    line_text,
    paid_atoms,
    period_name,
    slices,
    sum_text,
    territory_name,
    walk,
    with_atoms,
)

MEDIA_TYPES = {
    "pdf": "application/pdf",
    "dsr": "text/tab-separated-values",
    "csv": "application/zip",
    "parquet": "application/zip",
}
_PARTS_SHOWN = 8
_BAR_WIDTH = 1_000
_ZIPPED_AT = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart that is 1,000 wide, and where nothing is on it."""

    x: int
    width: int
    zero: int
    is_minus: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A figure, what it is, and its bar."""

    name: str
    detail: str
    explanation: str
    amount: Amount
    bar: Bar


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a statement.

    Attributes:
        told: its columns, as ``STATEMENT_LINE_SCHEMA`` has them.
        corrects: the name of the month that it corrects; empty on others.
        steps: how it was computed.
    """

    told: dict[str, Any]
    territory: str
    units: str
    receipts: str
    amount: Amount
    corrects: str
    steps: Sequence[tuple[LineStep, str]]


def paid(statement: Statement) -> str:
    """What is paid, with the currency's decimals."""
    return sum_text(paid_atoms(statement), statement.currency)


def walk_rows(statement: Statement) -> list[Row]:
    """From what was brought forward to what is paid: each step's bar begins where one ended."""
    steps = walk(statement, statement.movements.height)
    reached = [0]
    for step in steps:
        reached.append(reached[-1] + step.atoms)
    total = paid_atoms(statement)
    scale = _Scale([*reached, total])
    currency = statement.currency
    rows = [
        Row(step.name, step.reference, step.explanation, amount_of(step.atoms, currency),
            scale.bar(before, after))
        for step, before, after in zip(steps, reached, reached[1:], strict=False)
    ]  # fmt: skip
    return [*rows, Row("Paid", currency, "", amount_of(total, currency), scale.bar(0, total))]


def parts(statement: Statement, column: str, others: str) -> list[Row]:
    """What each service or territory comes to, the largest first, the rest together."""
    found = largest(slices(statement, column), _PARTS_SHOWN, others)
    scale = _Scale([part.atoms for part in found])
    name_of = territory_name if column == "territory" else str
    return [
        Row(name_of(part.name[0]), f"{count_text(part.units)} units", "",
            amount_of(part.atoms, statement.currency), scale.bar(0, part.atoms))
        for part in found
    ]  # fmt: skip


class _Scale:
    """Places amounts on a bar's width."""

    def __init__(self, atoms: Iterable[int]) -> None:
        known = [0, *atoms]
        self._least = min(known)
        self._range = max(known) - self._least or 1

    def _at(self, atoms: int) -> int:
        return (atoms - self._least) * _BAR_WIDTH // self._range

    def bar(self, before: int, after: int) -> Bar:
        start, end = sorted((self._at(before), self._at(after)))
        # What is there is seen, be it a hair.
        width = max(end - start, 2) if before != after else 0
        x = min(start, _BAR_WIDTH - width)
        return Bar(x, width, self._at(0), after < before)


def wanted_lines(statement: Statement, text: str) -> pl.DataFrame:
    """The lines that have every word of a text in recording, title, artist, service or period."""
    words = text.casefold().split()
    if not words:
        return statement.lines
    told = pl.concat_str(
        "title", "artist", "isrc", "recording_id", "feed", "territory", "corrects", separator=" "
    ).str.to_lowercase()
    return statement.lines.filter(
        pl.all_horizontal(told.str.contains(word, literal=True) for word in words)
    )


def shown_lines(lines: pl.DataFrame, currency: str) -> list[Line]:
    """Lines for the eye, each with how it was computed."""
    return [
        Line(
            told=line,
            territory=territory_name(line["territory"]),
            units=count_text(line["units"]),
            receipts=f"{line_text(line['receipts_atoms'], line['currency'])} {line['currency']}",
            amount=Amount(
                line_text(line["payee_atoms"], currency), exact_text(line["payee_atoms"], currency)
            ),
            corrects=period_name(line["corrects"]) if line["corrects"] else "",
            steps=[(s, exact_text(s.atoms, s.currency)) for s in line_steps(line, currency)],
        )
        for line in with_atoms(lines)
    ]


def amounts_table(table: pl.DataFrame, currency: str) -> list[dict[str, Any]]:
    """The rows of a table of a statement, amounts for the eye and exactly."""
    amounts = {
        name: [amount_of(atoms, currency) for atoms in series_to_atoms(table[name])]
        for name, dtype in table.schema.items()
        if isinstance(dtype, pl.Decimal)
    }
    return [
        row | {name: amounts[name][i] for name in amounts}
        for i, row in enumerate(table.iter_rows(named=True))
    ]


def statement_file(statement: Statement, form: str, issued_by: str = "") -> tuple[str, bytes]:
    """What a statement is downloaded as: one file, or a ZIP file of its tables.

    Args:
        statement: to be downloaded.
        form: a key of ``MEDIA_TYPES``.
        issued_by: the name of who pays.

    Returns:
        The file's name, in ASCII, and its bytes.
    """
    written = list(statement_contents(statement, [form], issued_by))
    payee = payee_file_name(statement.payee_id)
    if len(written) == 1:
        name, content = written[0]
        return (name if form == "dsr" else f"{payee}-{name}"), content
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in written:
            # Equal statements are equal files, whenever they are downloaded.
            archive.writestr(zipfile.ZipInfo(name, _ZIPPED_AT), content, zipfile.ZIP_DEFLATED)
    return f"{payee}-statement-{statement.period}-{statement.currency}-{form}.zip", out.getvalue()
