"""What is written as a DSR is read back by the reader of other people's DSRs."""

import io
from collections import Counter
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.statements import Movement, movement_atoms
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA
from royalty_assets.sources.dsr.reader import DsrFile
from royalty_assets.sources.dsr.records import record_layouts
from royalty_assets.sources.text_lines import TextLines
from royalty_assets.statements.dsr import (
    FOOT_CELLS,
    HEAD_CELLS,
    SALE_CELLS,
    SUMMARY_CELLS,
    Party,
    dsr_file_name,
    write_dsr,
)
from royalty_assets_tests.statements.samples import (
    SampleLine,
    sample_lines,
    sample_statement,
    statement_of,
)

LABEL = Party("PADPIDA2014120301Y", "Quiet Harbour Records")
PAYEE = Party("PADPIDA2011072101T", "Lindqvist Musik GbR")


def read_back(statement):
    body = write_dsr(statement, LABEL, PAYEE)
    report = DsrFile("sha", TextLines(io.BytesIO(body)), dsr_file_name(statement, LABEL, PAYEE))
    blocks = list(report.blocks())
    assert [r for block in blocks for r in block.rejections] == []
    assert {check: told for check, told in report.findings.items() if told} == {}
    lines = pl.concat([pl.DataFrame(schema=USAGE_LINE_SCHEMA), *(block.lines for block in blocks)])
    return report, lines


@pytest.mark.parametrize(
    ("record", "cells"),
    [("SRHE", HEAD_CELLS), ("SY10", SUMMARY_CELLS), ("SR08", SALE_CELLS), ("SRFO", FOOT_CELLS)],
)
def test_the_records_have_the_cells_of_the_schema(record, cells):
    assert list(cells) == list(record_layouts()[record].cells)


@pytest.mark.parametrize("count", [1, 2, 48, 500])
def test_units_money_isrc_and_territory_are_read_back(count):
    statement = sample_statement(count)
    report, lines = read_back(statement)
    assert report.kind == "dsr_financial_reporting"
    told = Counter(
        lines.select("isrc", "territory", "units", "amount", "title", "artist").iter_rows()
    )
    expected = Counter(
        statement.lines.select(
            "isrc", "territory", "units", "payee_amount", "title", "artist"
        ).iter_rows()
    )
    assert told == expected
    assert set(lines["currency"]) == {statement.currency}
    owed = movement_atoms(statement, Movement.EARNINGS, Movement.ADJUSTMENT)
    assert int(lines["amount"].sum() * 10**18) == owed
    assert set(lines["use_type"]) == set(statement.lines["use_type"])


def test_each_line_is_a_transaction_of_its_own():
    statement = sample_statement()
    _, lines = read_back(statement)
    assert set(lines["transaction_id"]) == {
        f"2025-03/P-0007/EUR/{number}" for number in statement.lines["line_number"]
    }


def test_a_correction_is_dated_in_the_period_that_it_corrects():
    statement = sample_statement()
    report, lines = read_back(statement)
    corrected = statement.lines.filter(pl.col("corrects") != "")
    assert corrected.height
    days = Counter(day.date() for day in lines["used_at"])
    assert days[date(2025, 3, 1)] == statement.lines.height - corrected.height
    assert sum(days.values()) == statement.lines.height
    assert report.day == date.fromisoformat(f"{corrected['corrects'].min()}-01")


def test_the_message_is_the_statement():
    statement = sample_statement()
    report, _ = read_back(statement)
    assert report.message.message_id == statement.statement_id
    assert report.message.sender == LABEL.party_id
    assert report.message.created_at == "2025-04-01T00:00:00+00:00"
    assert write_dsr(statement, LABEL, PAYEE) == write_dsr(statement, LABEL, PAYEE)


def test_a_statement_without_lines_is_a_report_of_no_sales():
    report, lines = read_back(statement_of([]))
    assert lines.is_empty()
    assert report.totals.lines == 0


def test_what_would_break_a_line_in_a_name_does_not():
    recording = ("R-1", "DEA122400017", "a\tb\nc\u2028d|e\\f", "#\x00\r\nX")
    line = SampleLine("sonora", "DE", "EUR", recording, 3, 10**18)
    _, lines = read_back(statement_of([line]))
    assert lines["title"].to_list() == ["a b c d|e\\f"]
    assert lines["artist"].to_list() == ["# X"]


def test_shares_and_unit_prices_are_told():
    third = SampleLine("sonora", "DE", "EUR", ("R-1", "", "T", "A"), 3, 10**18, (1, 3))
    price = SampleLine("sonora", "DE", "EUR", ("R-2", "", "T", "A"), 4, 0, (0, 0), 25 * 10**15)
    body = write_dsr(statement_of([third, price]), LABEL, PAYEE).decode()
    sales = [
        dict(zip(SALE_CELLS, text.split("\t")[1:], strict=True))
        for text in body.splitlines()
        if text.startswith("SR08")
    ]
    shares = [sale["RightSharePercentage"] for sale in sales]
    assert shares == ["33.333333333333333333", "100"]
    assert sales[1]["CalculatedUnitPriceInCurrencyOfTransaction"] == "0.025"
    assert sales[0]["AllocatedRevenueInCurrencyOfTransaction"] == "1"


def test_a_party_without_an_id_is_refused():
    with pytest.raises(ValueError, match="the recipient has no DDEX party id"):
        write_dsr(sample_statement(), LABEL, Party(" ", "x"))


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.tuples(names, names, st.integers(-(10**9), 10**9), st.integers(-(10**28), 10**28)),
        max_size=6,
    )
)
def test_any_names_and_amounts_are_read_back_with_their_sums(rows):
    lines = [
        SampleLine("sonora", "DE", "EUR", (f"R-{at}", "", title, artist), units, receipts)
        for at, (title, artist, units, receipts) in enumerate(rows)
    ]
    statement = statement_of(lines, reserves=False)
    _, read = read_back(statement)
    assert int(read["units"].sum()) == statement.lines["units"].sum()
    assert sum(read["amount"], Decimal()) == sum(statement.lines["payee_amount"], Decimal())


def test_many_lines_are_read_back_whole():
    statement = statement_of(sample_lines(5_000))
    _, lines = read_back(statement)
    assert lines.height == 5_000
