"""Cells of delimited lines: one line at a time, and whether a whole block may be split at once."""

import csv
from collections.abc import Sequence

import numpy as np
import polars as pl

# The bytes that white space beyond ASCII begins with in UTF-8.
_WIDE_SPACES = (
    b"\xc2\x85",
    b"\xc2\xa0",
    b"\xe1\x9a\x80",
    b"\xe2\x80",
    b"\xe2\x81\x9f",
    b"\xe3\x80\x80",
)
# What is made of so many bytes is still at hand in the processor's cache when it is used.
_CACHED_BYTES = 1 << 18


def cells_of(text: str, delimiter: str, fewest: int = 0, most: int = 0) -> list[str]:
    """The cells of one line.

    Quotation marks are read as such where that gives a number of cells that fits; else the line
    is split at every delimiter, where that does. A line is a line: a quoted cell does not go on
    in the next, or one stray quotation mark would swallow rows until it meets another.

    Args:
        text: the line.
        delimiter: between cells.
        fewest: cells that there should be at least.
        most: cells that there should be at most.

    Raises:
        csv.Error: if its quotation marks do not pair, and splitting at each delimiter does not
            give as many cells as there should be either.
    """
    plain = text.rstrip("\r\n").split(delimiter)
    problem: csv.Error | None = None
    quoted: list[str] = []
    for skip_spaces in (False, True):
        try:
            reader = csv.reader(
                [text], delimiter=delimiter, strict=True, skipinitialspace=skip_spaces
            )
            cells = next(reader, [])
        except csv.Error as error:
            problem = problem or error
            continue
        if fewest <= len(cells) <= most:
            # No quotation mark joins cells of a tab-separated file that has them all apart.
            apart = delimiter == "\t" and len(cells) < len(plain) <= most
            return plain if apart else cells
        quoted = quoted or cells
    if fewest <= len(plain) <= most:
        return plain
    if problem is None:
        return quoted
    if delimiter == "\t":
        # Tab-separated files are mostly written without quoting.
        return plain
    raise problem


def header_cells(text: str, delimiter: str) -> list[str]:
    """The cells of a line that may be a header, however it is quoted."""
    try:
        cells = cells_of(text, delimiter)
    except csv.Error:
        cells = text[:1000].split(delimiter)
    return [cell.strip() for cell in cells]


def may_need_stripping(body: bytes, delimiter: str) -> bool:
    """Whether white space may stand at an edge of a cell; sure where it says no."""
    if any(space in body for space in (b"\x0b", b"\x0c")):
        return True
    if delimiter != "\t" and b"\t" in body:
        return True
    if not body.isascii() and any(space in body for space in _WIDE_SPACES):
        return True
    if body.startswith(b" ") or body.endswith(b" "):
        return True
    edges = [ord(delimiter), ord("\n"), *([ord('"')] if b'"' in body else [])]
    characters = np.frombuffer(body, np.uint8)
    for start in range(0, characters.size, _CACHED_BYTES):
        # One character of the part before, so that every two neighbours are in some part.
        part = characters[max(start - 1, 0) : start + _CACHED_BYTES]
        is_space = part == ord(" ")
        is_edge = part == edges[0]
        for edge in edges[1:]:
            is_edge |= part == edge
        if (is_space[1:] & is_edge[:-1]).any() or (is_edge[1:] & is_space[:-1]).any():
            return True
    return False


def borders_of(body: bytes, delimiter: str) -> pl.Series:
    """How many delimiters each line of a body has."""
    others = bytes(set(range(256)) - {ord(delimiter), ord("\n")})
    marks = np.frombuffer(body.translate(None, others) + b"\n", np.uint8)
    ends = np.flatnonzero(marks == ord("\n"))
    return pl.Series(np.diff(ends, prepend=-1) - 1, dtype=pl.UInt32)


def split_lines(
    body: bytes, delimiter: str, positions: Sequence[int], *, quoted: bool
) -> pl.DataFrame:
    """Lines that all have the same number of cells, split: ``cell_<position>``, stripped.

    Args:
        body: the lines, with line feeds between them.
        delimiter: between cells.
        positions: of the cells that are wanted.
        quoted: whether quotation marks are such.
    """
    cells = pl.read_csv(
        body,
        separator=delimiter,
        quote_char='"' if quoted and b'"' in body else None,
        has_header=False,
        infer_schema=False,
        empty_string_is_null=False,
        columns=list(positions),
    )
    cells.columns = [f"cell_{at}" for at in positions]
    if may_need_stripping(body, delimiter):
        cells = cells.with_columns(pl.all().str.strip_chars())
    return cells


def split_ragged(body: bytes, delimiter: str, width: int, positions: Sequence[int]) -> pl.DataFrame:
    """Unquoted lines of any numbers of cells, split: ``cell_<position>``, stripped.

    Empty where a line has no such cell.

    Args:
        body: the lines, none of them empty, with line feeds between them.
        delimiter: between cells.
        width: the most cells that a line has; those beyond are left out.
        positions: of the cells that are wanted, in order, all below ``width``.
    """
    # The first line tells the reader how many cells there are.
    widest = delimiter.join("x" * width).encode()
    cells = pl.read_csv(
        widest + b"\n" + body,
        separator=delimiter,
        quote_char=None,
        has_header=False,
        infer_schema=False,
        empty_string_is_null=False,
        truncate_ragged_lines=True,
        columns=list(positions),
    )[1:]
    cells.columns = [f"cell_{at}" for at in positions]
    if may_need_stripping(body, delimiter):
        cells = cells.with_columns(pl.all().str.strip_chars())
    return cells


def joined(texts: pl.Series) -> bytes:
    """The texts with line feeds between them."""
    return "".join(texts.str.join("\n").to_list()).encode()
