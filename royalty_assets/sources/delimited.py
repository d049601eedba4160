"""Reading delimited files (CSV, TSV, semicolons) by their template.

Streams: a file of any size is read block by block. Every line after the header comes out as a
usage line (or a row, for other records), as a rejection with its line number, or as totals;
blank lines are nothing. What a file as a whole cannot be read for is an ``UnreadableFileError``.

A line whose cells can be told apart for sure is split with its whole block; every other is looked
at by itself.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date
from decimal import localcontext
from functools import partial
from itertools import islice, pairwise
from typing import Any, get_args

import polars as pl

from royalty_assets.domain.money import AmountError, parse_amount
from royalty_assets.domain.notes import NOT_UTF8, UNKNOWN_WORD
from royalty_assets.domain.screening import ColumnReading, convert_row
from royalty_assets.domain.usage import IDENTIFYING, CommercialModel, UseType
from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.sources.cells import borders_of, cells_of, header_cells, joined, split_lines
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
    ISO_DATES,
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
    plain_number,
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
_DOUBTFUL = (b'"', b"\r", b"\x00")
NOT_USAGE = "record:not_usage"
"""The rule that refuses lines which tell of something else than usage."""
_NEEDED = ("used_on", "territory", "units")
_TELLING = 5
"""A signature of so many columns tells a layout, whatever else a file has."""


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
        while self._header and not self._header[-1]:
            self._header.pop()
        self._folded = [fold(column) for column in self._header]
        self._products: dict[str, list[int]] = {}
        self._not_usage: dict[int, frozenset[str]] = {}
        self._positions = self._find_columns()
        needed = [*self._positions.values(), *self._products.values(), self._not_usage]
        self._wanted = sorted({0, *(at for some in needed for at in some)})
        self._constants = dict(self.template.constants) | self._told_above() | self._told_by(name)
        self._identifying = [at for name in IDENTIFYING for at in self._positions.get(name, [])]
        self._in_summary: list[str] | None = None
        self._may_be_summary = False
        self._broken_totals: list[str] = []
        self._unknown_words: set[str] = set()
        self._readings: dict[str, ColumnReading] = {}
        self._footers = {fold(footer.starts_with): footer for footer in self.template.footers}
        self._check_columns()
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
        for cells, rejections, lines in self._cells():
            notes: dict[str, Collection[int]] = {NOT_UTF8: lines.not_utf8}
            block = read_block(
                self._sha256, cells, self._readings, self.totals, notes,
                may_hold_nul=b"\x00" in lines.body,
            )  # fmt: skip
            if self._unknown_words:
                word = pl.col("use_type").is_in(list(self._unknown_words))
                numbers = cells.filter(word)["row_number"].to_list()
                block = ReadBlock(noted(block.lines, UNKNOWN_WORD, numbers), block.rejections)
            yield ReadBlock(block.lines, rejections + block.rejections)

    @property
    def day(self) -> date | None:
        """The day that the file tells for all its lines, if it does."""
        text = self._constants.get("reported_on") or self._constants.get("used_on") or ""
        day = read_date(text, (*self.template.date_format, *ISO_DATES))
        return day if isinstance(day, date) else None

    @property
    def findings(self) -> dict[str, list[str]]:
        """Check → what breaks it, once all has been read."""
        return {TOTALS_AGREE: self.totals.differences() + self._broken_totals}

    @property
    def explains_its_columns(self) -> bool:
        """Whether the template is known by many columns, or knows all that the file has."""
        known = {fold(c) for columns in self.template.columns.values() for c in columns}
        known |= self.template.folded_signature
        return len(self.template.signature) >= _TELLING or set(self._folded) <= known

    @property
    def pools(self) -> list[SourceRow]:
        """Pools that the file itself tells: none, in this kind of report."""
        return []

    # Other records, row by row

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """Each line as fields of the template's record, or as a rejection, in order."""
        for cells, rejections, lines in self._cells():
            rows: list[SourceRow | Rejection] = list(rejections)
            for row in cells.to_dicts():
                number = row.pop("row_number")
                fields = convert_row(row, self._readings)
                fields |= {n: "" for n, text in row.items() if not text and n in _KEEP_EMPTY}
                self.totals.count(fields)
                source = SourceRow(self._sha256, number, fields)
                if number in lines.not_utf8:
                    told = f"line {number} is not UTF-8 text"
                    rows.append(reject(source, "record:encoding", "", told))
                else:
                    rows.append(source)
            yield from sorted(rows, key=lambda row: row.row_number)

    # Lines into cells

    def _cells(self) -> Iterator[tuple[pl.DataFrame, list[Rejection], LineBlock]]:
        """Blocks of ``row_number`` and a String column per field; rejections; their lines."""
        for block in self._text.blocks():
            frame, rejections = self._split(block)
            if not self._readings:
                self._readings = self._make_readings(frame)
            self.totals.lines += frame.height + len(rejections)
            if frame.height or rejections:
                yield frame, rejections, block

    def _split(self, block: LineBlock) -> tuple[pl.DataFrame, list[Rejection]]:
        borders = borders_of(block.body, self._delimiter)
        if self._is_plain(block) and (borders == len(self._header) - 1).all():
            numbers = pl.int_range(block.first, block.first + borders.len(), eager=True)
            frame = self._split_regular(numbers, block.body)
            if not self._is_special(frame).any():
                return self._fields(frame)
        texts, body, borders = self._without_last_border(block, borders)
        lines = pl.DataFrame({"text": texts}).with_row_index("number", block.first)
        lines = lines.with_columns(pl.col("number").cast(pl.Int64))
        regular = self._is_regular(block, texts, body, borders)
        if regular.all():
            frame = self._split_regular(lines["number"], body)
        else:
            kept = lines.filter(regular)
            frame = self._split_regular(kept["number"], joined(kept["text"]))
        special = self._is_special(frame)
        others = lines.filter(~regular)
        others = others.filter(pl.col("text").str.contains(rf'[^\s"{re.escape(self._delimiter)}]'))
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

    def _is_plain(self, block: LineBlock) -> bool:
        """Whether nothing but its number of delimiters could make a line of these doubtful."""
        is_summary = self._in_summary is not None or self._may_be_summary
        return not (is_summary or block.too_long) and not any(c in block.body for c in _DOUBTFUL)

    def _without_last_border(
        self, block: LineBlock, borders: pl.Series
    ) -> tuple[pl.Series, bytes, pl.Series]:
        """The lines and how many delimiters they have, without one after the last cell."""
        has_one_more = borders == len(self._header)
        if self.template.extra_cells or not has_one_more.any():
            return block.texts, block.body, borders
        spare = has_one_more & block.texts.str.ends_with(self._delimiter)
        spare = spare & ~block.texts.str.contains('"', literal=True)
        shorter = pl.when(spare).then(pl.col("line").str.head(-1)).otherwise("line")
        texts = block.texts.to_frame().select(shorter.alias("line"))["line"]
        return texts, joined(texts), borders - spare.cast(borders.dtype)

    def _is_regular(
        self, block: LineBlock, texts: pl.Series, body: bytes, borders: pl.Series
    ) -> pl.Series:
        """Whether a line falls into the header's number of cells without any doubt."""
        if self._in_summary is not None or self._may_be_summary:
            return pl.repeat(False, texts.len(), dtype=pl.Boolean, eager=True)
        regular = borders == len(self._header) - 1
        if b'"' in body:
            delimiter = re.escape(self._delimiter)
            # In tab-separated files a quotation mark is mostly a part of the title.
            inside = r"[^\"\t]" if self._delimiter == "\t" else '[^"]'
            cell = rf'(?:"(?:{inside}|"")*"|[^"{delimiter}]*)'
            more = f"(?:{delimiter}{cell})" + "{" + str(len(self._header) - 1) + "}"
            unquoted = ~texts.str.contains('"', literal=True)
            regular = (regular & unquoted) | texts.str.contains(f"^{cell}{more}$")
        for control in ("\r", "\x00"):
            if control.encode() in body:
                regular = regular & ~texts.str.contains(control, literal=True)
        if block.too_long:
            numbers = pl.int_range(block.first, block.first + texts.len(), eager=True)
            regular = regular & ~numbers.is_in(list(block.too_long))
        return regular

    def _split_regular(self, numbers: pl.Series, body: bytes) -> pl.DataFrame:
        """``number`` and the cells that are needed, by position, stripped."""
        if numbers.is_empty():
            names = [f"cell_{at}" for at in self._wanted]
            return pl.DataFrame(schema={"number": pl.Int64} | dict.fromkeys(names, pl.String))
        cells = split_lines(body, self._delimiter, self._wanted, quoted=True)
        if cells.height != numbers.len():
            raise AssertionError(f"{numbers.len()} lines fell into {cells.height} rows")
        return cells.insert_column(0, numbers.alias("number"))

    def _is_special(self, frame: pl.DataFrame) -> pl.Series:
        """Lines that may be a total, a header again, or nothing at all."""
        first = frame["cell_0"]
        names = [*self._footers, *self._folded, ""]
        sizes = first.str.len_bytes()
        # Most first cells are not even as long as one of these; beyond ASCII, length says nothing.
        may_be = sizes.is_in(sorted({len(name) for name in names})) | (
            sizes != first.str.len_chars()
        )
        if not may_be.any():
            return may_be
        return first.str.to_lowercase().is_in(names)

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
                    refused.append(reject(source, NOT_USAGE, what, told))
                frame = frame.filter(~is_other)
        columns = [pl.col("number").alias("row_number")]
        for name, places in self._positions.items():
            cell = pl.col(f"cell_{places[-1]}")
            for at in reversed(places[:-1]):
                cell = pl.when(pl.col(f"cell_{at}") != "").then(f"cell_{at}").otherwise(cell)
            if (default := self.template.defaults.get(name)) is not None:
                cell = pl.when(cell != "").then(cell).otherwise(pl.lit(default))
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
        waiting = deque(others.iter_rows())
        while waiting:
            number, text = waiting.popleft()
            was_ordinary = self._in_summary is None and not self._may_be_summary
            taken = self._look_at(number, text, number in block.too_long)
            if isinstance(taken, Rejection):
                rejections.append(taken)
            elif taken is not None:
                kept.append((number, taken))
            if was_ordinary and (self._in_summary is not None or self._may_be_summary):
                # What follows may be a summary, however regular it looks.
                waiting = deque(lines.filter(pl.col("number") > number).iter_rows())
                frame = frame.filter(pl.col("number") < number)
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
            most = len(self._header) + self.template.extra_cells
            cells = cells_of(text, self._delimiter, len(self._header), most)
        except csv.Error as error:
            return reject(row, "record:csv", text[:100], f"line {number}: {error}")
        if self._is_no_data(cells):
            return None
        return self._data(row, cells)

    def _is_no_data(self, cells: list[str]) -> bool:
        """Whether a line is blank, a total, a header again, or of a summary; totals are kept."""
        if not any(cell.strip() for cell in cells) or self._read_footer(cells):
            return True
        if self._is_header(cells):
            return True
        if self._in_summary is not None:
            self._read_summary(self._in_summary, cells)
            return True
        if self._may_be_summary and not any(
            at < len(cells) and cells[at].strip() for at in self._identifying
        ):
            self._read_summary(self._folded, cells)
            return True
        return False

    def _data(self, row: SourceRow, cells: list[str]) -> list[str] | Rejection:
        number = row.row_number
        width = len(self._header)
        named = SourceRow(self._sha256, number, dict(zip(self._header, cells, strict=False)))
        surplus = cells[width:]
        # What is wanting at the end does no harm where nothing is read there.
        is_short = len(cells) <= max(self._wanted)
        is_long = len(surplus) > self.template.extra_cells and any(map(str.strip, surplus))
        if is_short or is_long:
            told = f"line {number} has {len(cells)} cells, the header has {width}"
            return reject(named, "record:cells", self._delimiter.join(cells), told)
        return cells

    def _is_header(self, cells: list[str]) -> bool:
        """Whether a line is a header again; then what follows may be a summary."""
        named = [fold(cell) for cell in cells if cell.strip()]
        if len(named) < 2 or not set(named) <= set(self._folded):
            return False
        if self.template.summary_after_repeated_header:
            if set(named) == set(filter(None, self._folded)):
                self._may_be_summary = True
            else:
                self._in_summary = [fold(cell) for cell in cells]
        return True

    def _read_summary(self, header: Sequence[str], cells: list[str]) -> None:
        """Add up a summary's rows; its own total, a row without a name, is left out."""
        if not cells[0].strip() or fold(cells[0]).startswith("total"):
            return
        by_name = dict(zip(header, cells, strict=False))
        for figure in ("units", "amount"):
            columns = map(fold, self.template.columns.get(figure, []))
            text = next((by_name[column] for column in columns if column in by_name), "")
            if text.strip():
                self._state(figure, text, of_summary=True)

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

    def _state(self, figure: str, text: str, *, of_summary: bool = False) -> None:
        plain = plain_number(text, self.template.decimal)
        try:
            self.totals.state(figure, plain or text, of_summary=of_summary)
        except AmountError:
            # A total that is none ("#N/A") is told, and hurts nothing else.
            self._broken_totals.append(f"the file's total {figure} is {text.strip()!r}")

    # How cells are read

    def _make_readings(self, first: pl.DataFrame) -> dict[str, ColumnReading]:
        decimal: Decimals = self.template.decimal
        # Where a file's own numbers can only be read otherwise than its template says, they count.
        numbers = [n for n in ("amount", "units", "returns") if n in first.columns]
        mark = decimal_mark(text for name in numbers for text in first[name].unique())
        if decimal == "either" or mark != "either":
            decimal = mark
        formats = tuple(dict.fromkeys([*self.template.date_format, *ISO_DATES]))
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

    def _check_columns(self) -> None:
        """Every line needs some fields; a header without them is none of this template's."""
        if self.template.records != "report_lines":
            return
        given = {*self._positions, *self._products, *self._constants}
        if missing := [name for name in _NEEDED if name not in given]:
            columns = [" or ".join(self.template.columns.get(n, [n])) for n in missing]
            raise UnreadableFileError(
                "file:column_missing",
                f"this looks like {self.template.told}, but no column is called "
                f"{', nor '.join(columns)}",
            )

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
        above: list[str] = []
        for line in islice(self._text.lines(), HEADER_LINES_MAX):
            for delimiter in _DELIMITERS:
                cells = header_cells(line.text, delimiter)
                template = recognise(cells, templates)
                if template is not None:
                    self._preamble = _preamble(above, delimiter)
                    return template, delimiter, cells
            above.append(line.text)
        raise _unrecognised([_widest(text) for text in above], templates)


def _widest(text: str) -> list[str]:
    """The line's cells by the delimiter that gives most of them."""
    return max((header_cells(text, delimiter) for delimiter in _DELIMITERS), key=len)


def _product(first: str, second: str, decimal: Decimals) -> str:
    """The exact product of two numbers; the second as written where one is none."""
    try:
        factors = [parse_amount(read_amount(text, decimal)) for text in (first, second)]
    except AmountError:
        return second
    with localcontext(prec=80):
        return f"{factors[0] * factors[1]:f}"


_USE_TYPES = frozenset(get_args(UseType))


def _both(first: Callable[[str], Any], then: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: then(first(text))


def _preamble(above: Sequence[str], delimiter: str) -> dict[str, str]:
    """Folded name → value: of lines that hold both, and of a line of names above one of values."""
    told: dict[str, str] = {}
    for split in (lambda text: header_cells(text, delimiter), _widest):
        lines = [split(text) for text in above]
        for names, values in pairwise(lines):
            if len(names) > 2 and len(values) > 2:
                for name, value in zip(names, values, strict=False):
                    if name and value:
                        told.setdefault(fold(name), value)
        for cells in lines:
            if len(cells) >= 2 and cells[0]:
                told.setdefault(fold(cells[0].rstrip(":")), cells[1])
    return told


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
