"""Reading delimited files (CSV, TSV, semicolons) by their template.

Streams: a file of any size is read block by block. Every line after the header comes out as a
usage line (or a row, for other records), as a rejection with its line number, or as totals;
blank lines are nothing. What a file as a whole cannot be read for is an ``UnreadableFileError``.

A line whose cells can be told apart for sure is split with its whole block; every other is looked
at by itself.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from decimal import localcontext
from functools import partial
from itertools import islice, pairwise
from typing import Any, get_args

import numpy as np
import polars as pl

from royalty_assets.domain.money import AmountError, parse_amount, to_atoms
from royalty_assets.domain.notes import NOT_UTF8, UNKNOWN_WORD
from royalty_assets.domain.screening import ColumnReading, convert_row
from royalty_assets.domain.usage import CommercialModel, UseType
from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.sources.reading import (
    TOTALS_AGREE,
    Message,
    ReadBlock,
    Totals,
    noted,
    read_block,
)
from royalty_assets.sources.templates import (
    HEADER_LINES_MAX,
    Template,
    fold,
    nearest,
    recognise,
)
from royalty_assets.sources.text_lines import LineBlock, TextLines, UnreadableFileError
from royalty_assets.sources.written import (
    Decimals,
    decimal_mark,
    plain_column,
    read_amount,
    read_date,
    read_store,
    read_tier,
    read_whole_number,
    word_reader,
)

_DELIMITERS = (",", "\t", ";", "|")
_DATES = frozenset({"used_on", "reported_on", "period", "received_on"})
_COUNTS = frozenset({"units", "returns"})
_KEEP_EMPTY = frozenset({"isrc", "title", "artist", "rights_holder_name", "valid_from", "valid_to"})
_LINE_KEPT = 2000


class DelimitedFile:
    """One open file: its template, and then its content. The stream is read once, by whom asks.

    Args:
        source_sha256: of the file's bytes.
        text: its lines, from the first.
        templates: that may recognise it.
        name: the file's, which may tell of a period or a currency.

    Raises:
        UnreadableFileError: on opening if no template knows it; while reading if it breaks off.
    """

    message: Message | None = None

    def __init__(
        self, source_sha256: str, text: TextLines, templates: Sequence[Template], name: str = ""
    ) -> None:
        self._sha256 = source_sha256
        self._text = text
        self.totals = Totals()
        self._preamble: dict[str, str] = {}
        self.template, self._delimiter, self._header = self._find_header(templates)
        self._folded = [fold(column) for column in self._header]
        self._products: dict[str, list[int]] = {}
        self._not_usage: dict[int, frozenset[str]] = {}
        self._positions = self._find_columns()
        needed = [*self._positions.values(), *self._products.values(), self._not_usage]
        self._wanted = sorted({0, *(at for some in needed for at in some)})
        self._constants = dict(self.template.constants) | self._told_above() | self._told_by(name)
        self._in_summary: list[str] | None = None
        self._unknown_words: set[str] = set()
        self._readings: dict[str, ColumnReading] = {}
        self._footers = {fold(footer.starts_with): footer for footer in self.template.footers}
        for figure, name_above in self.template.stated.items():
            if told := self._preamble.get(fold(name_above)):
                self._state(figure, told)

    @property
    def kind(self) -> str:
        """What the file is, for people: its template's name."""
        return self.template.name

    @property
    def generation(self) -> str:
        """Which generation of the template."""
        return self.template.generation

    @property
    def content_sha256(self) -> str:
        """A digest of the text that was read, however it was packed, encoded and named."""
        return self._text.content_sha256

    @property
    def encoding(self) -> str:
        """Of the file as a whole."""
        return self._text.encoding

    # Report lines, by block

    def blocks(self) -> Iterator[ReadBlock]:
        """The file's usage lines and rejections."""
        for cells, rejections, not_utf8 in self._cells():
            notes: dict[str, Collection[int]] = {NOT_UTF8: not_utf8}
            block = read_block(self._sha256, cells, self._readings, self.totals, notes)
            if self._unknown_words:
                word = pl.col("use_type").is_in(list(self._unknown_words))
                numbers = cells.filter(word)["row_number"].to_list()
                block = ReadBlock(noted(block.lines, UNKNOWN_WORD, numbers), block.rejections)
            yield ReadBlock(block.lines, rejections + block.rejections)

    @property
    def day(self) -> date | None:
        """The day that the file tells for all its lines, if it does."""
        text = self._constants.get("reported_on") or self._constants.get("used_on") or ""
        day = read_date(text, tuple(self.template.date_format))
        return day if isinstance(day, date) else None

    @property
    def findings(self) -> dict[str, list[str]]:
        """Check → what breaks it, once all has been read."""
        return {TOTALS_AGREE: self.totals.differences()}

    @property
    def pools(self) -> list[SourceRow]:
        """Pools that the file itself tells: none, in this kind of report."""
        return []

    # Other records, row by row

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """Each line as fields of the template's record, or as a rejection, in order."""
        for cells, rejections, not_utf8 in self._cells():
            rows: list[SourceRow | Rejection] = list(rejections)
            for row in cells.to_dicts():
                number = row.pop("row_number")
                fields = convert_row(row, self._readings)
                fields |= {n: "" for n, text in row.items() if not text and n in _KEEP_EMPTY}
                self.totals.count(fields)
                source = SourceRow(self._sha256, number, fields)
                if number in not_utf8:
                    told = f"line {number} is not UTF-8 text"
                    rows.append(reject(source, "record:encoding", "", told))
                else:
                    rows.append(source)
            yield from sorted(rows, key=lambda row: row.row_number)

    # Lines into cells

    def _cells(self) -> Iterator[tuple[pl.DataFrame, list[Rejection], frozenset[int]]]:
        """Blocks of ``row_number`` and a String column per field; rejections; numbers not UTF-8."""
        for block in self._text.blocks():
            frame, rejections = self._split(block)
            if not self._readings:
                self._readings = self._make_readings(frame)
            self.totals.lines += frame.height + len(rejections)
            if frame.height or rejections:
                yield frame, rejections, block.not_utf8

    def _split(self, block: LineBlock) -> tuple[pl.DataFrame, list[Rejection]]:
        lines = pl.DataFrame({"text": block.texts}).with_row_index("number", block.first)
        lines = lines.with_columns(pl.col("number").cast(pl.Int64))
        regular = self._is_regular(block)
        if regular.all():
            frame = self._split_regular(lines["number"], block.body)
        else:
            kept = lines.filter(regular)
            frame = self._split_regular(kept["number"], _joined(kept["text"]))
        special = self._is_special(frame)
        others = lines.filter(~regular)
        if special.any():
            numbers = frame.filter(special)["number"]
            others = pl.concat([others, lines.filter(pl.col("number").is_in(numbers.implode()))])
            others = others.sort("number")
            frame = frame.filter(~special)
        rejections: list[Rejection] = []
        if not others.is_empty():
            frame, rejections = self._one_by_one(block, lines, frame, others)
        fields, refused = self._fields(frame)
        return fields, rejections + refused

    def _is_regular(self, block: LineBlock) -> pl.Series:
        """Whether a line falls into the header's number of cells without any doubt."""
        texts = block.texts
        if self._in_summary is not None:
            return pl.repeat(False, texts.len(), dtype=pl.Boolean, eager=True)
        borders = texts.str.count_matches(self._delimiter, literal=True)
        regular = borders == len(self._header) - 1
        if b'"' in block.body:
            delimiter = re.escape(self._delimiter)
            cell = rf'(?:"(?:[^"]|"")*"|[^"{delimiter}]*)'
            more = f"(?:{delimiter}{cell})" + "{" + str(len(self._header) - 1) + "}"
            unquoted = ~texts.str.contains('"', literal=True)
            regular = (regular & unquoted) | texts.str.contains(f"^{cell}{more}$")
        for control in ("\r", "\x00"):
            if control.encode() in block.body:
                regular = regular & ~texts.str.contains(control, literal=True)
        if block.too_long:
            numbers = pl.int_range(block.first, block.first + texts.len(), eager=True)
            regular = regular & ~numbers.is_in(list(block.too_long))
        return regular

    def _split_regular(self, numbers: pl.Series, body: bytes) -> pl.DataFrame:
        """``number`` and the cells that are needed, by position, stripped."""
        wanted = self._wanted
        names = [f"cell_{at}" for at in wanted]
        if numbers.is_empty():
            return pl.DataFrame(schema={"number": pl.Int64} | dict.fromkeys(names, pl.String))
        cells = pl.read_csv(
            body,
            separator=self._delimiter,
            quote_char='"' if b'"' in body else None,
            has_header=False,
            infer_schema=False,
            columns=wanted,
        )
        if cells.height != numbers.len():
            raise AssertionError(f"{numbers.len()} lines fell into {cells.height} rows")
        cells.columns = names
        cells = cells.with_columns(pl.all().fill_null(""))
        if _may_need_stripping(body, self._delimiter):
            cells = cells.with_columns(pl.all().str.strip_chars())
        return cells.insert_column(0, numbers.alias("number"))

    def _is_special(self, frame: pl.DataFrame) -> pl.Series:
        """Lines that may be a total, a header again, or nothing at all."""
        first = frame["cell_0"].str.to_lowercase()
        names = [*self._footers, *self._folded]
        empty = pl.all_horizontal(pl.exclude("number") == "")
        return frame.select(empty | first.is_in([*names, ""])).to_series()

    def _fields(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejection]]:
        """``row_number`` and a String column per field; what is no usage is refused."""
        refused: list[Rejection] = []
        for at, words in self._not_usage.items():
            is_other = frame[f"cell_{at}"].str.to_lowercase().is_in(list(words))
            if is_other.any():
                for row in frame.filter(is_other).to_dicts():
                    what = row[f"cell_{at}"]
                    told = f"line {row['number']} tells of {what!r}, which is no usage"
                    content = {self._header[n]: row[f"cell_{n}"] for n in self._wanted}
                    source = SourceRow(self._sha256, row["number"], content)
                    refused.append(reject(source, "record:not_usage", what, told))
                frame = frame.filter(~is_other)
        columns = [pl.col("number").alias("row_number")]
        for name, places in self._positions.items():
            cell = pl.col(f"cell_{places[-1]}")
            for at in reversed(places[:-1]):
                cell = pl.when(pl.col(f"cell_{at}") != "").then(f"cell_{at}").otherwise(cell)
            columns.append(cell.alias(name))
        given = {*self._positions, *self._products}
        columns += [
            pl.lit(value).alias(name)
            for name, value in self._constants.items()
            if name not in given
        ]
        fields = frame.select(columns)
        for name, (first, second) in self._products.items():
            product = [
                _product(a, b, self.template.decimal)
                for a, b in frame.select(f"cell_{first}", f"cell_{second}").iter_rows()
            ]
            fields = fields.with_columns(pl.Series(name, product, dtype=pl.String))
        return fields, refused

    def _one_by_one(
        self,
        block: LineBlock,
        lines: pl.DataFrame,
        frame: pl.DataFrame,
        others: pl.DataFrame,
    ) -> tuple[pl.DataFrame, list[Rejection]]:
        """The same block, with its doubtful lines looked at in order."""
        kept: list[tuple[int, list[str]]] = []
        rejections: list[Rejection] = []
        for number, text in others.iter_rows():
            was_in_summary = self._in_summary is not None
            taken = self._look_at(number, text, number in block.too_long)
            if isinstance(taken, Rejection):
                rejections.append(taken)
            elif taken is not None:
                kept.append((number, taken))
            if self._in_summary is not None and not was_in_summary:
                # All that follows in this block is summary too, however regular it looks.
                later = lines.filter(pl.col("number") > number)
                frame = frame.filter(pl.col("number") < number)
                for after, line in later.iter_rows():
                    taken = self._look_at(after, line, after in block.too_long)
                    if isinstance(taken, Rejection):
                        rejections.append(taken)
                break
        wanted = [int(name.removeprefix("cell_")) for name in frame.columns[1:]]
        rows = [[number, *(cells[at].strip() for at in wanted)] for number, cells in kept]
        extra = pl.DataFrame(rows, schema=frame.schema, orient="row")
        return pl.concat([frame, extra]).sort("number"), rejections

    def _look_at(self, number: int, text: str, is_too_long: bool) -> list[str] | Rejection | None:
        """The cells of a line of data, a rejection, or None for what is no data."""
        row = SourceRow(self._sha256, number, {"line": text[:_LINE_KEPT]})
        if is_too_long:
            told = f"line {number} has more than a million bytes; it is no record"
            return reject(row, "record:too_long", text[:100], told)
        try:
            cells = _cells(text, self._delimiter, len(self._header))
        except csv.Error as error:
            return reject(row, "record:csv", text[:100], f"line {number}: {error}")
        if self._is_no_data(cells):
            return None
        return self._data(row, cells)

    def _is_no_data(self, cells: list[str]) -> bool:
        """Whether a line is blank, a total, a header again, or of a summary; totals are kept."""
        if not any(cell.strip() for cell in cells) or self._read_footer(cells):
            return True
        if self._begins_summary(cells):
            return True
        if self._in_summary is not None:
            self._read_summary(cells)
            return True
        return False

    def _data(self, row: SourceRow, cells: list[str]) -> list[str] | Rejection:
        number = row.row_number
        named = SourceRow(self._sha256, number, dict(zip(self._header, cells, strict=False)))
        surplus = cells[len(self._header) :]
        if len(cells) < len(self._header) or (
            len(surplus) > self.template.extra_cells and any(cell.strip() for cell in surplus)
        ):
            told = f"line {number} has {len(cells)} cells, the header has {len(self._header)}"
            return reject(named, "record:cells", self._delimiter.join(cells), told)
        return cells

    def _begins_summary(self, cells: list[str]) -> bool:
        """Whether a line is a header again; then what follows may be a summary."""
        named = [fold(cell) for cell in cells if cell.strip()]
        if len(named) < 2 or not set(named) <= set(self._folded):
            return False
        if self.template.summary_after_repeated_header:
            self._in_summary = [fold(cell) for cell in cells]
        return True

    def _read_summary(self, cells: list[str]) -> None:
        assert self._in_summary is not None
        by_name = dict(zip(self._in_summary, cells, strict=False))
        for figure in ("units", "amount"):
            text = next(
                (
                    by_name[fold(column)]
                    for column in self.template.columns.get(figure, [])
                    if fold(column) in by_name
                ),
                "",
            )
            if text.strip():
                self._state(figure, text, add=True)

    def _read_footer(self, cells: list[str]) -> bool:
        # A line with all its cells filled is data, whatever its first cell says: there are songs
        # called "Total".
        if len(cells) >= len(self._header) and all(cell.strip() for cell in cells):
            return False
        footer = self._footers.get(fold(cells[0]))
        if footer is None:
            return False
        for name, at in {
            "units": footer.units,
            "amount": footer.amount,
            "lines": footer.lines,
        }.items():
            position = self._folded.index(fold(at)) if isinstance(at, str) else at
            if position is not None and position < len(cells) and cells[position].strip():
                self._state(name, cells[position])
        return True

    def _state(self, name: str, text: str, *, add: bool = False) -> None:
        decimal = self.template.decimal
        try:
            atoms = to_atoms(parse_amount(read_amount(text, decimal)))
        except AmountError as error:
            raise UnreadableFileError("file:footer", f"the file's total {name}: {error}") from None
        self.totals.stated[name] = atoms + (self.totals.stated.get(name, 0) if add else 0)

    # How cells are read

    def _make_readings(self, first: pl.DataFrame) -> dict[str, ColumnReading]:
        decimal: Decimals = self.template.decimal
        if decimal == "either":
            numbers = [n for n in ("amount", "units", "returns") if n in first.columns]
            decimal = decimal_mark(text for name in numbers for text in first[name])
        formats = tuple(self.template.date_format)
        fixed: dict[str, ColumnReading] = {
            "amount": ColumnReading(partial(read_amount, decimal=decimal), plain_column(decimal)),
            "tier": ColumnReading(read_tier),
            "store": ColumnReading(read_store),
            "currency": ColumnReading(str.upper),
            "use_type": ColumnReading(self._use_type_reader()),
            "commercial_model": ColumnReading(
                word_reader(
                    {"*": "Unknown"} | self.template.values.get("commercial_model", {}),
                    get_args(CommercialModel),
                )
            ),
        }
        fixed |= {n: ColumnReading(partial(read_date, formats=formats)) for n in _DATES}
        fixed |= {
            n: ColumnReading(partial(read_whole_number, decimal=decimal), plain_column(decimal))
            for n in _COUNTS
        }
        for name, words in self.template.values.items():
            if name not in {"use_type", "commercial_model"}:
                after = fixed[name].convert if name in fixed else str
                fixed[name] = ColumnReading(_both(word_reader(words), after))
        return {name: reading for name, reading in fixed.items() if name in first.columns}

    def _use_type_reader(self) -> Callable[[str], Any]:
        words = self.template.values.get("use_type", {})
        read = word_reader(words, get_args(UseType))

        def read_use_type(text: str) -> Any:
            ours = read(text)
            if ours in _USE_TYPES:
                return ours
            self._unknown_words.add(text)
            return "Unknown"

        return read_use_type

    # The head of the file

    def _find_columns(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        for name, columns in self.template.columns.items():
            if found := [at for column in columns for at in self._position(column, name)]:
                positions[name] = found
        for name, columns in self.template.products.items():
            factors = [at for column in columns for at in self._position(column, name)]
            if name not in positions and len(factors) == len(columns):
                self._products[name] = factors
        for column, others in self.template.not_usage.items():
            for at in self._position(column, "not_usage"):
                self._not_usage[at] = frozenset(word.casefold() for word in others)
        return positions

    def _position(self, column: str, name: str) -> list[int]:
        number = self._folded.count(fold(column))
        if number > 1:
            raise UnreadableFileError(
                "file:column_repeated",
                f"the column {column!r}, which is read as {name}, stands {number} times in the "
                "header; which one is meant would be a guess",
            )
        return [self._folded.index(fold(column))] if number else []

    def _told_above(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, places in self.template.preamble.items():
            text = next((self._preamble[fold(p)] for p in places if fold(p) in self._preamble), "")
            if text:
                found[name] = text
            elif name not in self._positions and name not in self.template.constants:
                raise UnreadableFileError(
                    "file:preamble",
                    f"the lines above the header do not say {places[0]!r}, which "
                    f"{self.template.told} files tell there",
                )
        return found

    def _told_by(self, name: str) -> dict[str, str]:
        if self.template.file_name is None:
            return {}
        match = re.search(self.template.file_name, name)
        told = {} if match is None else {n: v for n, v in match.groupdict().items() if v}
        missing = set(re.compile(self.template.file_name).groupindex) - set(told)
        if missing := missing - set(self._positions) - set(self.template.constants):
            raise UnreadableFileError(
                "file:name",
                f"files of {self.template.told} tell {', '.join(sorted(missing))} in their name, "
                f"as {self.template.file_name!r}; {name!r} does not. Rename the file",
            )
        return told

    def _find_header(self, templates: Sequence[Template]) -> tuple[Template, str, list[str]]:
        seen: list[list[str]] = []
        for line in islice(self._text.lines(), HEADER_LINES_MAX):
            splits = {delimiter: header_cells(line.text, delimiter) for delimiter in _DELIMITERS}
            for delimiter, cells in splits.items():
                template = recognise(cells, templates)
                if template is not None:
                    self._preamble = _preamble(seen)
                    return template, delimiter, cells
            seen.append(max(splits.values(), key=len))
        raise _unrecognised(seen, templates)


def _product(first: str, second: str, decimal: Decimals) -> str:
    """The exact product of two numbers; the second as written where one is none."""
    try:
        factors = [parse_amount(read_amount(text, decimal)) for text in (first, second)]
    except AmountError:
        return second
    with localcontext(prec=80):
        return f"{factors[0] * factors[1]:f}"


_USE_TYPES = frozenset(get_args(UseType))
# The bytes that white space beyond ASCII begins with in UTF-8.
_WIDE_SPACES = (
    b"\xc2\x85",
    b"\xc2\xa0",
    b"\xe1\x9a\x80",
    b"\xe2\x80",
    b"\xe2\x81\x9f",
    b"\xe3\x80\x80",
)


def _may_need_stripping(body: bytes, delimiter: str) -> bool:
    """Whether white space may stand at an edge of a cell; sure where it says no."""
    if any(space in body for space in (b"\x0b", b"\x0c")):
        return True
    if delimiter != "\t" and b"\t" in body:
        return True
    if not body.isascii() and any(space in body for space in _WIDE_SPACES):
        return True
    characters = np.frombuffer(b"\n" + body + b"\n", np.uint8)
    spaces = np.flatnonzero(characters == ord(" "))
    is_edge = np.zeros(256, np.bool_)
    is_edge[[ord(delimiter), ord("\n"), ord('"'), ord(" ")]] = True
    return bool(is_edge[characters[spaces - 1]].any() or is_edge[characters[spaces + 1]].any())


def _joined(texts: pl.Series) -> bytes:
    return "".join(texts.str.join("\n").to_list()).encode()


def _both(first: Callable[[str], Any], then: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: then(first(text))


def _preamble(lines: Sequence[Sequence[str]]) -> dict[str, str]:
    """Folded name → value: of lines that hold both, and of a line of names above one of values."""
    told: dict[str, str] = {}
    for names, values in pairwise(lines):
        if len(names) == len(values) and len(names) > 2:
            told |= {fold(n): v for n, v in zip(names, values, strict=True) if n and v}
    for cells in lines:
        if len(cells) >= 2 and cells[0]:
            told.setdefault(fold(cells[0].rstrip(":")), cells[1])
    return told


def _cells(text: str, delimiter: str, expected: int = 0) -> list[str]:
    """The cells of one line.

    Raises:
        csv.Error: if its quotation marks do not pair, or a cell is beyond all measure.
    """
    plain = text.rstrip("\r\n").split(delimiter)
    try:
        cells = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        if delimiter != "\t" or len(text) > csv.field_size_limit():
            raise
        # Tab-separated files are mostly written without quoting: the mark is a part of the title.
        return plain
    if delimiter == "\t" and len(cells) < expected == len(plain):
        return plain
    return cells


def header_cells(text: str, delimiter: str) -> list[str]:
    """The cells of a line that may be a header, however it is quoted."""
    try:
        cells = _cells(text, delimiter)
    except csv.Error:
        cells = text[:1000].split(delimiter)
    return [cell.strip() for cell in cells]


def _unrecognised(seen: list[list[str]], templates: Sequence[Template]) -> UnreadableFileError:
    if not seen:
        return UnreadableFileError("file:empty", "the file is empty")
    widest = max(seen, key=len)
    reason = f"no template knows a header in its first {HEADER_LINES_MAX} lines"
    near = nearest(widest, templates)
    if near is not None:
        template, missing = near
        known = {fold(c) for columns in template.columns.values() for c in columns}
        known |= template.folded_signature
        strange = [cell for cell in widest if cell and fold(cell) not in known]
        reason += f"; nearest is {template.told}"
        if missing:
            reason += f", which also has {', '.join(missing)}"
        if strange:
            reason += f", and does not have {', '.join(strange[:8])[:200]}"
    else:
        reason += f"; the widest line begins {', '.join(widest[:4])[:120]!r}"
    return UnreadableFileError("file:template_unknown", reason)


def readable(name: str) -> str:
    """A file's name as text, with U+FFFD for each byte that was no UTF-8."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
