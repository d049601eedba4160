"""Reading delimited files (CSV, TSV, semicolons; plain or gzip) by their template.

Streams: a file of any size is read line by line. Every line after the header comes out as a row,
a rejection with its line number, or a footer's totals; blank lines are nothing. What a file as a
whole cannot be read for is an ``UnreadableFileError``.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO

from royalty_assets.domain.money import (
    ATOMS_PER_UNIT,
    AmountError,
    format_atoms,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.sources.templates import (
    HEADER_LINES_MAX,
    Template,
    fold,
    nearest,
    recognise,
)

_DELIMITERS = (",", "\t", ";", "|")
_GZIP_MAGIC = b"\x1f\x8b"
_LINE_CHARACTERS_MAX = 1 << 20
# A comma counts only where it can be nothing but a thousands separator.
_WHOLE_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})")
_OPTIONAL_TEXT = frozenset(
    {"isrc", "title", "artist", "rights_holder_name", "valid_from", "valid_to"}
)


class UnreadableFileError(Exception):
    """A file that is refused as a whole: by which rule, and what to do."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


@dataclass(slots=True)
class Totals:
    """What a file's footer says of it, and what its lines come to.

    Attributes:
        stated: ``lines``, ``units``, ``amount`` → the footer's figure in atoms, if it has one.
        lines, units: counted over all lines as read, rejected ones included.
        atoms: the amounts of all lines as read.
    """

    stated: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    units: int = 0
    atoms: int = 0

    def differences(self) -> list[str]:
        """What the footer says and the lines do not."""
        counted = {
            "lines": self.lines * ATOMS_PER_UNIT,
            "units": self.units * ATOMS_PER_UNIT,
            "amount": self.atoms,
        }
        return [
            f"the footer says {format_atoms(stated)} {name}, but the lines come to "
            f"{format_atoms(counted[name])}"
            for name, stated in self.stated.items()
            if stated != counted[name]
        ]


class DelimitedFile:
    """One open file: its template, and then its rows. The stream is closed when they are read.

    Raises:
        UnreadableFileError: on opening if no template knows it; while reading if it breaks off.
    """

    def __init__(self, source_sha256: str, stream: BinaryIO, templates: Sequence[Template]) -> None:
        self._sha256 = source_sha256
        self._lines = _numbered_lines(stream)
        self._line_number = 0
        self.totals = Totals()
        self._preamble: dict[str, str] = {}
        self.template, self._delimiter, self._header = self._find_header(templates)
        positions = {fold(column): i for i, column in enumerate(self._header)}
        self._positions = {
            name: positions[fold(column)]
            for name, column in self.template.columns.items()
            if fold(column) in positions
        }
        self._constants: dict[str, Any] = dict(self.template.constants)
        for name, first_cell in self.template.preamble.items():
            if fold(first_cell) not in self._preamble:
                raise UnreadableFileError(
                    "file:preamble",
                    f"the lines above the header do not say {first_cell!r}, which "
                    f"{self.template.name} files tell there",
                )
            self._constants[name] = self._preamble[fold(first_cell)]

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """Each line as fields of the template's record, or as a rejection.

        A line is a line: a quoted cell does not go on in the next, or one stray quotation mark
        would swallow rows until it meets another.
        """
        for self._line_number, text in self._lines:  # noqa: B020 - ruff takes self for the loop's
            try:
                cells = _cells(text, self._delimiter)
            except csv.Error as error:
                self.totals.lines += 1
                row = SourceRow(self._sha256, self._line_number, {"line": readable(text[:2000])})
                told = f"line {self._line_number}: {error}"
                yield reject(row, "record:csv", readable(text[:100]), told)
                continue
            if not any(cell.strip() for cell in cells) or self._read_footer(cells):
                continue
            self.totals.lines += 1
            yield self._row(cells)

    def _row(self, cells: list[str]) -> SourceRow | Rejection:
        number = self._line_number
        plain = [readable(cell) for cell in cells]
        named = SourceRow(self._sha256, number, dict(zip(self._header, plain, strict=False)))
        if len(cells) != len(self._header):
            reason = f"line {number} has {len(cells)} cells, the header has {len(self._header)}"
            return reject(named, "record:cells", self._delimiter.join(plain), reason)
        if plain != cells:
            return reject(named, "record:encoding", "", f"line {number} is not UTF-8 text")
        fields = {name: cells[at].strip() for name, at in self._positions.items()}
        return SourceRow(self._sha256, number, self._typed(fields) | self._constants)

    def _typed(self, fields: dict[str, str]) -> dict[str, Any]:
        """Dates and numbers as what they are where they can be read, else as written.

        What stays text is for the record's model to refuse, naming it.
        """
        typed: dict[str, Any] = {
            name: text for name, text in fields.items() if text or name in _OPTIONAL_TEXT
        }
        if "used_on" in typed:
            typed["used_on"] = _date(typed["used_on"], self.template.date_format)
        if "units" in typed:
            typed["units"] = _whole_number(typed["units"])
            if isinstance(typed["units"], int):
                self.totals.units += typed["units"]
        if "amount" in typed:
            # What is no amount is refused by the model, which says so.
            with suppress(AmountError):
                self.totals.atoms += to_atoms(parse_amount(typed["amount"]))
        return typed

    def _read_footer(self, cells: list[str]) -> bool:
        # A line with all its cells filled is data, whatever its first cell says: there are songs
        # called "Total".
        if len(cells) == len(self._header) and all(cell.strip() for cell in cells):
            return False
        for footer in self.template.footers:
            if fold(cells[0]) != fold(footer.starts_with):
                continue
            places = {fold(column): i for i, column in enumerate(self._header)}
            at = {
                "units": places.get(fold(footer.units)) if footer.units else None,
                "amount": places.get(fold(footer.amount)) if footer.amount else None,
                "lines": footer.lines,
            }
            for name, position in at.items():
                if position is not None and position < len(cells):
                    self._state(name, cells[position])
            return True
        return False

    def _state(self, name: str, text: str) -> None:
        try:
            self.totals.stated[name] = to_atoms(parse_amount(text))
        except AmountError as error:
            raise UnreadableFileError("file:footer", f"the footer's {name}: {error}") from None

    def _find_header(self, templates: Sequence[Template]) -> tuple[Template, str, list[str]]:
        seen: list[list[str]] = []
        for number, text in islice(self._lines, HEADER_LINES_MAX):
            self._line_number = number
            splits = {delimiter: _header_cells(text, delimiter) for delimiter in _DELIMITERS}
            for delimiter, cells in splits.items():
                template = recognise(cells, templates)
                if template is not None:
                    return template, delimiter, cells
            widest = max(splits.values(), key=len)
            seen.append(widest)
            if len(widest) >= 2:
                self._preamble[fold(widest[0])] = widest[1]
        raise _unrecognised(seen, templates)


def _cells(text: str, delimiter: str) -> list[str]:
    """The cells of one line.

    Raises:
        csv.Error: if its quotation marks do not pair, or a cell is beyond all measure.
    """
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        if delimiter != "\t" or len(text) > csv.field_size_limit():
            raise
        # Tab-separated files are mostly written without quoting: the mark is a part of the title.
        return text.rstrip("\r\n").split("\t")


def _header_cells(text: str, delimiter: str) -> list[str]:
    try:
        cells = _cells(text, delimiter)
    except csv.Error:
        cells = text[:1000].split(delimiter)
    return [readable(cell).strip() for cell in cells]


def _unrecognised(seen: list[list[str]], templates: Sequence[Template]) -> UnreadableFileError:
    if not seen:
        return UnreadableFileError("file:empty", "the file is empty")
    widest = max(seen, key=len)
    reason = f"no template knows a header in its first {HEADER_LINES_MAX} lines"
    near = nearest(widest, templates)
    if near is not None:
        template, missing = near
        reason += f"; nearest is {template.name}, which also has {', '.join(missing)}"
    else:
        reason += f"; the widest line begins {', '.join(widest[:4])[:120]!r}"
    return UnreadableFileError("file:template_unknown", reason)


def _numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    packed = buffered.peek(2)[:2] == _GZIP_MAGIC
    binary: Any = gzip.GzipFile(fileobj=buffered) if packed else buffered
    text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
    number = 0
    try:
        with text:
            while line := text.readline(_LINE_CHARACTERS_MAX):
                number += 1
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFileError(
            "file:truncated_gzip",
            f"the gzip data breaks off after line {number} ({error}); fetch the file again",
        ) from None


def readable(cell: str) -> str:
    """The cell, with U+FFFD for each byte that was no UTF-8."""
    if cell.isascii():
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=4096)
def _date(text: str, date_format: str) -> date | str:
    try:
        return datetime.strptime(text, date_format).date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return text


def _whole_number(text: str) -> int | str:
    return int(text.replace(",", "")) if _WHOLE_NUMBER.fullmatch(text) else text
