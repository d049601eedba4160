"""Dates and numbers as people write them."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.sources.templates import ISO_DATES
from royalty_assets.sources.written import (
    decimal_mark,
    plain_number,
    read_date,
    read_store,
    read_tier,
    read_whole_number,
    word_reader,
)


@pytest.mark.parametrize(
    ("text", "decimal", "plain"),
    [
        ("1234.5", ".", "1234.5"),
        ("1,234.5", ".", "1234.5"),
        ("1,2", ".", None),
        ("1,2345", ".", None),
        (".021330", ".", ".021330"),
        ("1E-08", ".", "1E-08"),
        ("0E-18", ".", "0E-18"),
        ("-0,05", ",", "-0.05"),
        ("1.234,56", ",", "1234.56"),
        ("1.2", ",", None),
        ("1\u00a0234,56", ",", "1234.56"),
        ("1\u202f234,56", "either", "1234.56"),
        ("12’345.60", ".", "12345.60"),
        ("$1.23", ".", "1.23"),
        ("-€1,23", ",", "-1.23"),
        ("(1.23)", ".", "-1.23"),
        ("1,234", "either", None),
        ("0,123", "either", "0.123"),
        ("1,23", "either", "1.23"),
        ("1.23", "either", "1.23"),
        ("1.234,5", "either", "1234.5"),
        ("1,234.5", "either", "1234.5"),
        ("1234", "either", "1234"),
        ("", ".", None),
        (".", ".", None),
        ("-", ".", None),
        ("٣", ".", None),
        ("1-2", ".", None),
        ("#N/A", ".", None),
    ],
)
def test_numbers_as_written(text, decimal, plain):
    assert plain_number(text, decimal) == plain


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9))
def test_a_number_keeps_its_value_in_either_notation(number):
    text = f"{number:,f}"
    assert Decimal(plain_number(text, ".")) == number
    continental = text.translate({ord(","): ".", ord("."): ","})
    assert Decimal(plain_number(continental, ",")) == number


@pytest.mark.parametrize(
    ("texts", "mark"),
    [
        (["1,23", "4"], ","),
        (["1.23", "1,234"], "."),
        (["1,234", "7"], "either"),
        (["1,23", "1.23"], "either"),
        ([], "either"),
    ],
)
def test_a_files_own_numbers_say_which_mark_it_has(texts, mark):
    assert decimal_mark(texts) == mark


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("12.0", 12), ("1,200", 1200), ("1e3", 1000), ("12.5", "12.5"), ("x", "x")],
)
def test_units_are_whole(text, number):
    assert read_whole_number(text, ".") == number


@pytest.mark.parametrize(
    ("text", "formats", "day"),
    [
        ("2025-03-01", ISO_DATES, date(2025, 3, 1)),
        ("2025-03", ISO_DATES, date(2025, 3, 1)),
        ("202311", ISO_DATES, date(2023, 11, 1)),
        ("20231101", ISO_DATES, date(2023, 11, 1)),
        ("2026/05/01", ISO_DATES, date(2026, 5, 1)),
        ("2025-03-01 - 2025-03-31", ISO_DATES, date(2025, 3, 1)),
        ("2025-03-01--2025-03-31", ISO_DATES, date(2025, 3, 1)),
        ("JUN-26", ("%b-%y",), date(2026, 6, 1)),
        ("January 2025", ("%B %Y",), date(2025, 1, 1)),
        ("1/2/20 4:49am", ("%m/%d/%y %I:%M%p",), date(2020, 1, 2)),
        ("10/15/2023 12:00:00 AM", ("%m/%d/%Y %I:%M:%S %p",), date(2023, 10, 15)),
        ("31/12/2021", ("%d/%m/%Y",), date(2021, 12, 31)),
        ("2025-02-30", ISO_DATES, "2025-02-30"),
        ("20231", ISO_DATES, "20231"),
        ("soon", ISO_DATES, "soon"),
    ],
)
def test_dates_as_written(text, formats, day):
    assert read_date(text, tuple(formats)) == day


def test_words_stores_and_tiers():
    read = word_reader({"Song": "Stream", "*": "Unknown"}, ["Stream", "Download"])
    assert [read(word) for word in ("song", "STREAM", "download", "?")] == [
        "Stream",
        "Stream",
        "Download",
        "Unknown",
    ]
    assert [read_store(text) for text in ("WiMP", "tidal", "Some Shop")] == [
        "TIDAL",
        "TIDAL",
        "Some Shop",
    ]
    assert [read_tier(text) for text in ("Premium Family", "4K!", "é", "x" * 40)] == [
        "premium_family",
        "tier_4k",
        "tier",
        "x" * 32,
    ]
