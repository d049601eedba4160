"""The screen never disagrees with the models (invariant 8), whatever the text."""

from functools import partial

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from royalty_assets.domain.identifiers import normalise_gtin, normalise_isrc
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.notes import count_notes, with_notes
from royalty_assets.domain.screening import ColumnReading, input_name, screen
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA, RecordKind, ReportLine
from royalty_assets.domain.validation import SourceRow, usage_lines, validate_rows
from royalty_assets.sources.templates import ISO_DATES
from royalty_assets.sources.written import (
    plain_column,
    read_amount,
    read_date,
    read_whole_number,
    word_reader,
)

INPUTS = [input_name(name, field) for name, field in ReportLine.model_fields.items()]


def readings(decimal: str) -> dict[str, ColumnReading]:
    dates = ColumnReading(partial(read_date, formats=ISO_DATES))
    counts = ColumnReading(partial(read_whole_number, decimal=decimal), plain_column(decimal))
    return {
        "used_on": dates,
        "reported_on": dates,
        "units": counts,
        "returns": counts,
        "amount": ColumnReading(partial(read_amount, decimal=decimal), plain_column(decimal)),
        "use_type": ColumnReading(word_reader({"Song": "Stream"})),
    }


nasty = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs", "Cc"]), max_size=6
)
numbers = st.one_of(
    st.integers(-(10**14), 10**14).map(str),
    st.decimals(allow_nan=True, allow_infinity=True, places=4).map(str),
    st.sampled_from(
        "1E-08 0E-18 .021330 -.5 5. +3 1,200 1.200 1.234,56 1e400 0.1234567890123456789 -0 --1 "
        "1_0 NaN ٣ 999999999999999999999999999999 1000000000000 (3)".split()
    ),
    nasty,
)
FIELDS = {
    "used_on": st.sampled_from(["2025-03-01", "2025-03", "20250301", "202503", "2025-02-30", "x"])
    | nasty,
    "reported_on": st.sampled_from(["", "2025-04-01"]) | nasty,
    "territory": st.sampled_from(["DE", "de", "XK", "Germany", "Worldwide", "QQ", "276", ""])
    | nasty,
    "isrc": st.sampled_from(["USUM70600055", "us-um7-06-00055", "USUM7060005", "ABC", ""]) | nasty,
    "title": st.sampled_from(["", "T", "x" * 1000, "x" * 1001, "é" * 1000, "a\x00b"]) | nasty,
    "units": numbers,
    "returns": st.just("") | numbers,
    "amount": st.just("") | numbers,
    "currency": st.sampled_from(["", "EUR", "eur", "XXX", "QQQ"]),
    "tier": st.sampled_from(["", "all", "premium", "Premium", "x" * 33]),
    "use_type": st.sampled_from(["", "Stream", "Song", "stream", "Nonsense"]),
    "upc": st.sampled_from(["", "0724384960650", "8.6E+11", "x" * 1001]),
}


def stripped(text: str) -> str:
    """As the readers hand cells over."""
    return pl.Series([text]).str.strip_chars()[0]


def by_the_models(rows: list[dict[str, str]], read) -> tuple[dict[int, dict], set[int]]:
    """The slow, obvious way: one row after the other."""
    accepted: dict[int, dict] = {}
    rejected: set[int] = set()
    for number, row in enumerate(rows):
        fields = {
            name: read[name].convert(text) if name in read else text
            for name, text in row.items()
            if text
        }
        result = validate_rows(RecordKind.REPORT_LINES, [SourceRow("sha", number, fields)])
        if result.accepted:
            accepted[number] = usage_lines(result).row(0, named=True)
        else:
            rejected.add(number)
    return accepted, rejected


VALID = {
    "used_on": "2025-03-01",
    "reported_on": "",
    "territory": "DE",
    "isrc": "USUM70600055",
    "title": "T",
    "units": "12",
    "returns": "",
    "amount": "0.5",
    "currency": "EUR",
    "tier": "all",
    "use_type": "Stream",
    "upc": "",
}


@st.composite
def nearly_valid(draw) -> dict[str, str]:
    """A row that is right but for a few of its fields."""
    changed = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3))
    return VALID | {name: draw(FIELDS[name]) for name in changed}


@given(
    st.lists(st.fixed_dictionaries(FIELDS) | nearly_valid(), min_size=1, max_size=8),
    st.sampled_from([".", ",", "either"]),
)
@example([VALID | {"isrc": "", "title": ""}, VALID], ".")
@example([VALID | {"amount": ""}, VALID | {"currency": ""}, VALID], ".")
@example([{"used_on": "2025-03-01", "territory": "DE", "title": "T", "units": "1.234"}], ",")
@example([{"used_on": "2025-03-01", "territory": "DE", "title": "T", "units": "12.0"}], ".")
@example([VALID | {"units": "+5"}, VALID | {"units": "0" * 40 + "7"}, VALID], ".")
@example([VALID | {"units": str(10**12)}, VALID | {"units": str(10**12 + 1)}, VALID], ".")
@example([VALID, VALID | {"isrc": "DEUM70600055"}], ".")
@example([VALID, VALID | {"isrc": "us-um7-06-00055"}], ".")
def test_the_screen_and_the_models_never_disagree(rows, decimal):
    rows = [{name: stripped(text) for name, text in row.items()} for row in rows]
    read = readings(decimal)
    accepted, rejected = by_the_models(rows, read)
    cells = pl.DataFrame(
        {"row_number": range(len(rows))} | {n: [row[n] for row in rows] for n in rows[0]},
        schema={"row_number": pl.Int64} | dict.fromkeys(rows[0], pl.String),
    )
    screened = screen(cells, read)
    cleared = {row["row_number"]: row for row in screened.lines.to_dicts()}
    assert not cleared.keys() & rejected
    for number, line in cleared.items():
        expected = accepted[number]
        assert {name: expected[name] for name in ReportLine.model_fields} == {
            name: line[name] for name in ReportLine.model_fields
        }
    suspects = {number for number, _ in screened.suspects}
    assert cleared.keys() | suspects == set(range(len(rows)))
    if "isrc" in screened.plain:
        assert all(normalise_isrc(row["isrc"]) == row["isrc"] for row in rows)


def test_ordinary_rows_are_all_cleared():
    row = {
        "used_on": "2025-03-01",
        "territory": "DE",
        "isrc": "us-um7-06-00055",
        "title": "T",
        "units": "12",
        "amount": "0.4312",
        "currency": "EUR",
    }
    cells = pl.DataFrame({"row_number": [1, 2]} | {n: [text, text] for n, text in row.items()})
    screened = screen(cells, readings("."))
    assert screened.suspects == []
    assert screened.lines["isrc"].to_list() == ["USUM70600055"] * 2
    assert [format_atoms(a) for a in series_to_atoms(screened.lines["amount"])] == ["0.4312"] * 2


def test_a_field_that_every_row_needs_and_none_has_leaves_all_to_the_model():
    cells = pl.DataFrame({"row_number": [1], "title": ["T"]})
    screened = screen(cells, {})
    assert screened.lines.is_empty()
    assert screened.suspects == [(1, {"title": "T"})]


def canonical(**columns) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    blank = dict.fromkeys(("isrc", "isrc_as_sent", "upc", "grid", "iswc", "notes"), [""] * height)
    given_columns = blank | columns
    return pl.DataFrame(given_columns, schema={n: USAGE_LINE_SCHEMA[n] for n in given_columns})


@given(st.lists(st.text("0123456789", max_size=15) | nasty, min_size=1, max_size=20))
@example(["036000291452", "36000291452", "0", "", "00000000000000", "8.6E+11", "7 24384 96065 0"])
def test_a_column_of_barcodes_becomes_what_each_of_them_does(texts):
    found = with_notes(canonical(upc=texts))
    assert found["upc"].to_list() == [normalise_gtin(text) or "" for text in texts]
    assert found["upc_as_sent"].to_list() == texts


@pytest.mark.parametrize(
    ("columns", "notes"),
    [
        ({"isrc": ["USUM70600055"], "isrc_as_sent": ["USUM70600055"]}, ""),
        ({"isrc": ["USUM70600055"], "isrc_as_sent": ["us-um7-06-00055"]}, "isrc:normalised"),
        ({"isrc": ["USUM7"], "isrc_as_sent": ["USUM7"]}, "isrc:malformed"),
        ({"isrc": ["XXUM70600055"], "isrc_as_sent": ["XXUM70600055"]}, "isrc:prefix_unknown"),
        ({"upc": ["36000291452"]}, "upc:zeros_restored"),
        ({"upc": ["8.6E+11"]}, "upc:malformed"),
        ({"iswc": ["T-034.524.680-1"]}, ""),
        ({"iswc": ["T1234567890"]}, "iswc:malformed"),
        ({"grid": ["A1-2425G-ABC1234002-M"]}, ""),
        ({"grid": ["nonsense"]}, "grid:malformed"),
        ({"upc": ["36000291452"], "notes": ["text:not_utf8"]}, "text:not_utf8 upc:zeros_restored"),
    ],
)
def test_what_was_understood_is_noted(columns, notes):
    found = with_notes(canonical(**columns))
    assert found["notes"].to_list() == [notes]
    assert count_notes(found["notes"]) == dict.fromkeys(sorted(notes.split()), 1)


@pytest.mark.parametrize(
    ("amount", "is_accepted"),
    [
        ("1000000000000", True),
        ("1000000000001", False),
        ("99999999999999999999", False),
        ("9" * 30, False),
        ("123456789012.123456789012345678", True),
        ("1.1234567890123456789", False),
    ],
)
def test_the_bound_of_an_amount_is_the_models_in_the_screen_too(amount, is_accepted):
    row = {"used_on": "2025-03-01", "territory": "DE", "title": "T", "units": "1"}
    row |= {"amount": amount, "currency": "EUR"}
    cells = pl.DataFrame({"row_number": [1]} | {name: [text] for name, text in row.items()})
    screened = screen(cells, readings("."))
    cleared = screened.lines.height == 1
    accepted, _ = by_the_models([row], readings("."))
    assert bool(accepted) is is_accepted
    assert not cleared or is_accepted
