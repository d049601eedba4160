"""What is written as CSV and Parquet reads back as the statement's own figures."""

import csv
import io
from dataclasses import replace

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from royalty_assets.domain.money import parse_amount, to_atoms
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, series_to_atoms
from royalty_assets.statements.tables import csv_files, parquet_files, statement_tables
from royalty_assets_tests.statements.samples import (
    RECORDINGS,
    SampleLine,
    sample_lines,
    sample_statement,
    statement_of,
)

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "=cmd|' /C calc'!A0", "＝1")


def read_csv(content):
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_every_table_is_a_file_with_the_same_columns_in_both_forms():
    statement = sample_statement()
    tables = statement_tables(statement)
    assert set(tables) == {"lines", "movements", "recoupment", "reserves"}
    assert set(csv_files(statement)) == {f"{name}.csv" for name in tables}
    assert set(parquet_files(statement)) == {f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        assert table.columns[:2] == ["statement_id", "payee_currency"]
        assert read_csv(csv_files(statement)[f"{name}.csv"])[0] == table.columns


def test_csv_has_every_amount_to_the_last_decimal():
    statement = sample_statement(200)
    for name, table in statement_tables(statement).items():
        header, *rows = read_csv(csv_files(statement)[f"{name}.csv"])
        assert len(rows) == table.height
        for at, column in enumerate(header):
            written = [row[at] for row in rows]
            if table[column].dtype == AMOUNT_DTYPE:
                assert [to_atoms(parse_amount(text)) for text in written] == series_to_atoms(
                    table[column]
                )
            else:
                assert written == [str(value) for value in table[column]]


def test_negative_amounts_stay_numbers():
    statement = sample_statement(200)
    header, *rows = read_csv(csv_files(statement)["lines.csv"])
    negative = [row for row in rows if row[header.index("corrects")]]
    assert negative
    for row in negative:
        assert row[header.index("payee_amount")].startswith("-")
        assert row[header.index("units")].startswith("-")


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_in_any_text_is_written_as_text(formula):
    statement = sample_statement()
    tables = {
        name: table.with_columns(pl.lit(formula).alias(column) for column in columns)
        for name, table, columns in (
            (
                "lines",
                statement.lines,
                ("title", "artist", "terms", "isrc", "feed", "recording_id"),
            ),
            ("movements", statement.movements, ("reference", "explanation")),
            ("recoupment", statement.recoupment, ("account",)),
            ("reserves", statement.reserves, ("contract_id",)),
        )
    }
    files = csv_files(replace(statement, payee_id=formula, **tables))
    for content in files.values():
        for row in read_csv(content)[1:]:
            for cell in row:
                assert formula not in {cell, cell.strip()}
                assert cell.lstrip("-").replace(".", "").isdigit() or not cell.startswith(FORMULAS)


@given(st.text(max_size=30), st.text(max_size=30), st.integers(-(10**28), 10**28))
def test_any_name_and_amount_reads_back(title, artist, receipts):
    recording = ("R-1", "", title, artist)
    statement = statement_of([SampleLine("sonora", "DE", "EUR", recording, 3, receipts)])
    header, row = read_csv(csv_files(statement)["lines.csv"])
    told = dict(zip(header, row, strict=True))
    for name, text in (("title", title), ("artist", artist)):
        assert told[name] in {text, f"'{text}"}
    assert to_atoms(parse_amount(told["receipts"])) == receipts
    lines = pl.read_parquet(io.BytesIO(parquet_files(statement)["lines.parquet"]))
    assert_frame_equal(lines, statement_tables(statement)["lines"])


def test_parquet_is_read_by_others_as_decimals_and_strings():
    statement = sample_statement()
    files = parquet_files(statement)
    for name, table in statement_tables(statement).items():
        content = io.BytesIO(files[f"{name}.parquet"])
        assert_frame_equal(pl.read_parquet(content), table)
        read = pq.read_table(content)
        assert read.num_rows == table.height
        for column in table.columns:
            if table[column].dtype == AMOUNT_DTYPE:
                assert str(read.schema.field(column).type) == "decimal128(38, 18)"
                assert sum(read[column].to_pylist()) == sum(table[column].to_list())


def test_the_same_statement_is_the_same_bytes():
    one = statement_of(sample_lines(60))
    other = statement_of(list(reversed(sample_lines(60))))
    assert csv_files(one) == csv_files(one)
    assert parquet_files(one) == parquet_files(one)
    assert one.lines.height == other.lines.height
    with_other_name = replace(one, payee_name="Someone Else", payee_id="P-8")
    assert csv_files(one) != csv_files(with_other_name)


def test_a_statement_of_nothing_has_headers():
    statement = statement_of([])
    for content in csv_files(statement).values():
        assert read_csv(content)[0][0] == "statement_id"
    assert pl.read_parquet(io.BytesIO(parquet_files(statement)["lines.parquet"])).is_empty()


def test_quotes_delimiters_and_line_ends_in_titles_stay_in_their_cell():
    title = 'Say "hi", now;\r\nthen go'
    recording = (*RECORDINGS[0][:2], title, "A, B")
    statement = statement_of([SampleLine("sonora", "DE", "EUR", recording, 3, 10**18)])
    header, row = read_csv(csv_files(statement)["lines.csv"])
    assert row[header.index("title")] == title
