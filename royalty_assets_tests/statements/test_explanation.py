"""The page that walks through the sample statement has the sample's figures."""

import re
from pathlib import Path

import polars as pl

from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import statement_differences
from royalty_assets.statements.pdf.figures import (
    MOVEMENT_NAMES,
    largest_lines,
    small_sum_text,
    sum_text,
)
from royalty_assets_tests.statements.samples import sample_statement

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "statements.md"


def test_the_walk_is_the_samples():
    statement = sample_statement()
    assert statement_differences(statement) == []
    rows = re.findall(
        r"^\| \**(\w[^|*]*?)\** \| \**(−?[\d,.]+)\** \|", PAGE.read_text(), re.MULTILINE
    )
    told = [(name.partition(",")[0], figure) for name, figure in rows]
    expected = []
    for kind, atoms in zip(
        statement.movements["movement"], series_to_atoms(statement.movements["amount"]), strict=True
    ):
        sign = -1 if kind == "paid" else 1
        expected.append((MOVEMENT_NAMES[kind], small_sum_text(sign * atoms, "EUR")))
    assert told == expected


def test_the_worked_lines_are_the_samples():
    page = PAGE.read_text()
    lines = sample_statement().lines
    (line,) = largest_lines(lines.filter(pl.col("rate") != ""), 1).to_dicts()
    assert f"Line {line['line_number']} is the largest that was converted" in page
    assert f"*{line['feed']}* paid this for {line['units']:,} plays of {line['title']}" in page
    assert f"{line['share_numerator']}/{line['share_denominator']}" in page
    for name, currency in (("receipts", "USD"), ("amount", "USD"), ("payee_amount", "EUR")):
        assert f"| {line[name]} {currency} |" in page
    assert f"at {line['rate']} euros" in page
    (by_unit,) = lines.filter(pl.col("share_denominator") == 0).to_dicts()
    paid = format_atoms(int(by_unit["payee_amount"] * 10**18))
    assert f"Line {by_unit['line_number']} has other terms" in page
    assert f"{by_unit['units']:,} downloads at 0.004 GBP" in page
    assert f"{paid} EUR at {by_unit['rate']}" in page


def test_earnings_advance_and_reserves_are_the_samples():
    page = PAGE.read_text()
    statement = sample_statement()
    of_period = statement.lines.filter(pl.col("corrects") == "").height
    assert f"the sum of {of_period} lines" in page
    march = statement.recoupment.tail(1)
    for column in ("opening", "recouped", "closing"):
        (atoms,) = series_to_atoms(march[column])
        assert sum_text(atoms, "EUR") in page
    held = series_to_atoms(statement.reserves["amount"])
    for atoms in (*held, sum(held)):
        assert sum_text(atoms, "EUR") in page
