"""Statements of a project: whole, numbered the same each time, written as every kind of file."""

import polars as pl
import pytest

from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.statements import state, stated, statement_tables, statements
from royalty_assets.statement_files import write_statement
from royalty_assets_tests.monthly_reports import (
    FEBRUARY,
    JANUARY,
    agree,
    project,
    report,
    row,
    run,
    run_and_close,
    statement,
    told,
)

FORMS = ("pdf", "csv", "parquet", "dsr")


def test_numbers_of_lines_do_not_depend_on_the_order_of_what_came(tmp_path):
    rows = [row("2025-01-03", "1.00", territory=place) for place in ("SE", "DE", "FR", "AT")]
    one, other = project(tmp_path / "one"), project(tmp_path / "other")
    report(one, "jan.csv", *rows)
    report(other, "a.csv", *reversed(rows[:2]))
    report(other, "b.csv", *reversed(rows[2:]))
    for context in (one, other):
        run(context, JANUARY)
    assert told(statement(one, JANUARY, "ada").lines, "line_number", "territory") == [
        (1, "AT"), (2, "DE"), (3, "FR"), (4, "SE"),
    ]  # fmt: skip
    assert statement_tables(one, JANUARY).lines.equals(statement_tables(other, JANUARY).lines)
    assert not state(one, JANUARY).changed


def test_every_statement_of_open_and_corrected_months_is_written_in_every_form(tmp_path):
    context = project(tmp_path)
    agree(
        context,
        """
payees: [{payee: dee, currency: USD}]
contracts:
  - contract: deal
    recordings: [R2]
    participants: [{payee: dee, percent: 50}, {payee: eve, per_unit: 0.01, currency: EUR}]
    remainder_to: label
""",
        "2025-01-31,EUR,USD,1.1,ECB\n2025-02-28,EUR,USD,1.2,ECB\n",
    )
    report(context, "jan.csv", row("2025-01-03", "7.77"), row("2025-01-04", "5.55", "R2"))
    report(context, "feb.csv", row("2025-02-03", "3.33", "R2"))
    run_and_close(context, JANUARY)
    report(context, "late.csv", row("2025-01-05", "2.22", "R2"))
    run(context, JANUARY, FEBRUARY)
    eve = statement(context, FEBRUARY, "eve")
    assert told(eve.lines, "corrects", "units", "terms", "amount") == [
        ("", 10, "0.01 EUR a unit", "0.1"),
        ("2025-01", -10, "0.01 EUR a unit", "-0.1"),
        ("2025-01", 20, "0.01 EUR a unit", "0.2"),
    ]
    for month in (JANUARY, FEBRUARY):
        for one in statements(context, month):
            paths = list(write_statement(one, tmp_path / month.key, FORMS, "North Label"))
            assert {path.suffix for path in paths} == {".pdf", ".csv", ".parquet", ".tsv"}
            assert all(path.stat().st_size for path in paths)
            (lines,) = [path for path in paths if path.name.endswith("-lines.parquet")]
            assert pl.read_parquet(lines).height == one.lines.height


def test_payees_whose_ids_look_alike_as_folders_are_not_written_over(tmp_path):
    context = project(tmp_path)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,a/b,60\nR1,a b,30\nR1,a_b,10\n"
    )
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    paths = [
        path
        for one in statements(context, JANUARY)
        for path in write_statement(one, tmp_path / "out", ["csv"])
    ]
    assert len(set(paths)) == len(paths)
    assert tmp_path / "out/a_b" in {path.parent for path in paths}


def test_a_month_without_payouts_has_no_statements(tmp_path):
    context = project(tmp_path)
    with pytest.raises(StageBlockedError, match="payouts is not committed"):
        stated(context, JANUARY)
    with pytest.raises(StageBlockedError, match="there are no statements for 2025-01-01"):
        statement_tables(context, JANUARY)
