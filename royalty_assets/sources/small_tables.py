"""Small tables that people keep by hand: CSV, TSV or semicolons, with a header of our own names.

For what comes with a project (payees, contracts, rates), not for what others send (``delimited``,
which knows their templates and streams). A table is read whole; every line that cannot be read
for sure is told with its number.
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from royalty_assets.sources.cells import header_cells
from royalty_assets.sources.templates import fold
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

_DELIMITERS = (",", ";", "\t", "|")
_NOTES = "notes"
"""A column for people, in any table."""
_SPACES = dict.fromkeys(map(ord, " \u00a0\u202f\u2009"))
_POINT = re.compile(r"[+-]?\d+\.\d+")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_COMMA_FOR_SURE = re.compile(r"[+-]?(?:0+,\d+|\d+,(?:\d{1,2}|\d{4,}))")


@dataclass(frozen=True, slots=True)
class Columns:
    """The header that a table is to have.

    Attributes:
        needed: columns without which it is none.
        optional: columns that it may have.
        numbers: those of them whose cells are numbers; a decimal comma becomes a point.
        takes_others: whether columns of other names are passed over, or make it unreadable.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    numbers: frozenset[str] = frozenset()
    takes_others: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line: its number in the file, and every known column's text, stripped."""

    number: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TableProblem:
    """A line that cannot be read; number 0 stands for the file as a whole."""

    number: int
    rule: str
    value: str
    reason: str


@dataclass(slots=True)
class Table:
    """What a file came to.

    Attributes:
        rows: those that were read, in order.
        problems: of the lines that were not.
    """

    rows: list[TableRow] = field(default_factory=list)
    problems: list[TableProblem] = field(default_factory=list)


def read_table(content: bytes, columns: Columns) -> Table:
    """Read a table; what is wrong with it is in its problems, and never raised."""
    table = Table()
    try:
        text = TextLines(BytesIO(content))
        delimiter, header = _find_header(text, columns)
        for number, line, not_utf8 in _lines(text):
            row = _read_line(number, line, delimiter, header, table.problems)
            if row is not None and not_utf8:
                reason = f"line {number} is not UTF-8 text; save the file as UTF-8"
                table.problems.append(TableProblem(number, "row:encoding", line[:200], reason))
            elif row is not None:
                table.rows.append(row)
    except UnreadableFileError as error:
        return Table(problems=[TableProblem(0, error.rule, "", error.reason)])
    return _with_plain_numbers(table, columns.numbers)


def _find_header(text: TextLines, columns: Columns) -> tuple[str, list[str]]:
    for line in text.lines():
        if not line.text.strip():
            continue
        headers = [(d, list(map(fold, header_cells(line.text, d)))) for d in _DELIMITERS]
        fewest_missing = min(headers, key=lambda each: len(set(columns.needed) - set(each[1])))
        _check_header(fewest_missing[1], columns)
        return fewest_missing
    raise UnreadableFileError("file:empty", f"the file is empty; {_told(columns)}")


def _check_header(header: Sequence[str], columns: Columns) -> None:
    if missing := [name for name in columns.needed if name not in header]:
        reason = f"the header has no column {', '.join(missing)}; {_told(columns)}"
        raise UnreadableFileError("file:column_missing", reason)
    known = {*columns.needed, *columns.optional}
    if twice := sorted({name for name in known if header.count(name) > 1}):
        reason = f"the column {', '.join(twice)} stands twice in the header; keep one"
        raise UnreadableFileError("file:column_repeated", reason)
    others = [name for name in header if name and name not in known and name != _NOTES]
    if others and not columns.takes_others:
        reason = (
            f"the column {', '.join(others)[:200]} is not known, and what it says would be lost; "
            f"{_told(columns)}, and {_NOTES} for anything else"
        )
        raise UnreadableFileError("file:column_unknown", reason)


def _told(columns: Columns) -> str:
    told = f"its columns are {', '.join(columns.needed)}"
    return told + (f", and if need be {', '.join(columns.optional)}" if columns.optional else "")


def _lines(text: TextLines) -> Iterator[tuple[int, str, bool]]:
    for block in text.blocks():
        for number, line in enumerate(block.texts.to_list(), start=block.first):
            yield number, line, number in block.not_utf8


def _read_line(
    number: int,
    line: str,
    delimiter: str,
    header: Sequence[str],
    problems: list[TableProblem],
) -> TableRow | None:
    try:
        # A stray quotation mark is no part of a name, as it may be of a title in a report.
        reader = csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True)
        cells = [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        problems.append(TableProblem(number, "row:csv", line[:200], f"line {number}: {error}"))
        return None
    if not any(cells):
        return None
    if any(cells[len(header) :]) or len(cells) < len(header):
        reason = (
            f"line {number} has {len(cells)} cells, the header has {len(header)}; put quotation "
            "marks around a cell that contains the delimiter"
        )
        problems.append(TableProblem(number, "row:cells", line[:200], reason))
        return None
    return TableRow(number, {name: cell for name, cell in zip(header, cells, strict=False) if name})


def _with_plain_numbers(table: Table, names: Collection[str]) -> Table:
    """Numbers with a decimal point; of a file that mixes the marks, those with a comma are refused.

    Separators of thousands are not read: ``1,085`` is 1085 to one and 1.085 to another.
    """
    cells = [_bare(row.fields.get(name, "")) for row in table.rows for name in names]
    has_points = any(_POINT.fullmatch(cell) for cell in cells)
    has_commas = any(_COMMA_FOR_SURE.fullmatch(cell) for cell in cells)
    read = Table(problems=table.problems)
    for row in table.rows:
        fields = dict(row.fields)
        doubtful = []
        for name in names & fields.keys():
            bare = _bare(fields[name])
            if _COMMA.fullmatch(bare) and (has_points or not has_commas):
                doubtful.append(fields[name])
            elif bare:
                fields[name] = bare.replace(",", ".") if _COMMA.fullmatch(bare) else bare
        if doubtful:
            reason = (
                f"line {row.number}: {', '.join(doubtful)} can be read in two ways; write numbers "
                "with a decimal point and without separators of thousands"
            )
            read.problems.append(TableProblem(row.number, "row:number", doubtful[0], reason))
        else:
            read.rows.append(TableRow(row.number, fields))
    return read


def _bare(cell: str) -> str:
    return cell.translate(_SPACES).removesuffix("%")
