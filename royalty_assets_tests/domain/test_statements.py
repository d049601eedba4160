"""A statement whose figures do not lead to each other is told, figure by figure."""

from dataclasses import replace

import polars as pl
import pytest

from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms
from royalty_assets.domain.statements import Movement, movement_atoms, statement_differences
from royalty_assets_tests.statements.samples import sample_lines, sample_statement, statement_of


def with_one_more_atom(table, column, row=0, atoms_more=1):
    atoms = series_to_atoms(table[column])
    atoms[row] += atoms_more
    return table.with_columns(atoms_to_series(column, atoms))


@pytest.mark.parametrize("lines", [0, 1, 2, 13, 200])
def test_what_was_computed_from_the_lines_is_whole(lines):
    assert statement_differences(statement_of(sample_lines(lines))) == []
    assert statement_differences(sample_statement(lines)) == []


def test_one_atom_in_a_movement_is_found():
    statement = sample_statement()
    at = statement.movements["movement"].to_list().index("paid")
    changed = replace(statement, movements=with_one_more_atom(statement.movements, "amount", at))
    assert statement_differences(changed) == [
        "the movements sum to 0.000000000000000001 EUR, not to zero"
    ]


def test_an_atom_that_changes_sides_between_movements_is_found():
    statement = sample_statement()
    atoms = series_to_atoms(statement.movements["amount"])
    names = statement.movements["movement"].to_list()
    atoms[names.index("earnings")] += 1
    atoms[names.index("paid")] -= 1
    moved = statement.movements.with_columns(atoms_to_series("amount", atoms))
    told = statement_differences(replace(statement, movements=moved))
    assert len(told) == 1
    assert told[0].startswith("the lines come to")


def test_one_atom_in_an_unconverted_line_is_found_by_line_and_by_sum():
    statement = sample_statement()
    at = statement.lines["rate"].to_list().index("")
    changed = replace(statement, lines=with_one_more_atom(statement.lines, "payee_amount", at))
    told = statement_differences(changed)
    assert len(told) == 2
    assert told[1].startswith(f"line {at + 1}: ")
    assert told[1].endswith("without a rate")


def test_a_line_that_is_more_than_an_atom_off_its_share_is_found():
    statement = sample_statement()
    at = next(row for row, parts in enumerate(statement.lines["share_denominator"]) if parts)
    lines = with_one_more_atom(statement.lines, "receipts", at, atoms_more=4)
    told = statement_differences(replace(statement, lines=lines))
    assert len(told) == 1
    assert told[0].startswith(f"line {at + 1}: ")
    within = with_one_more_atom(statement.lines, "receipts", at)
    assert statement_differences(replace(statement, lines=within)) == []


def test_a_changed_rate_is_found():
    statement = sample_statement()
    lines = statement.lines.with_columns(
        rate=pl.when(pl.col("rate") == "").then(pl.lit("")).otherwise(pl.lit("0.95"))
    )
    told = statement_differences(replace(statement, lines=lines))
    assert len(told) == statement.lines.filter(pl.col("rate") != "").height
    assert all(" at 0.95" in difference for difference in told)


def test_a_foreign_line_without_rate_and_a_rate_that_is_none_are_found():
    statement = sample_statement()
    foreign = statement.lines.filter(pl.col("rate") != "").height
    for rate, words in (("", "there is no rate from"), ("nearly one", "not an amount")):
        lines = statement.lines.with_columns(
            rate=pl.when(pl.col("rate") == "").then(pl.lit("")).otherwise(pl.lit(rate))
        )
        told = statement_differences(replace(statement, lines=lines))
        assert sum(words in difference for difference in told) == foreign


def test_lines_that_are_numbered_otherwise_are_found():
    statement = sample_statement()
    told = statement_differences(replace(statement, lines=statement.lines[1:]))
    assert told[0] == f"the lines are not numbered 1 to {statement.lines.height - 1}"


def test_accounts_that_do_not_follow_from_month_to_month_are_found():
    statement = sample_statement()
    for column in ("opening", "charged", "recouped", "closing"):
        for row in range(statement.recoupment.height):
            changed = with_one_more_atom(statement.recoupment, column, row)
            told = statement_differences(replace(statement, recoupment=changed))
            assert any(difference.startswith("account album-2, ") for difference in told)


def test_a_month_that_opens_otherwise_than_the_last_one_closed_is_found():
    statement = sample_statement()
    history = statement.recoupment
    last = history.height - 1
    moved = with_one_more_atom(with_one_more_atom(history, "opening", last), "closing", last)
    told = statement_differences(replace(statement, recoupment=moved))
    assert told == [
        "account album-2, 2025-03: opens with 3500.000000000000000001, the period before closed "
        "with 3500"
    ]


def test_what_movements_recoup_and_the_account_does_not_is_found():
    statement = sample_statement()
    told = statement_differences(replace(statement, recoupment=statement.recoupment.clear()))
    assert len(told) == 1
    assert told[0].startswith("the movements recoup")


def test_unknown_movements_and_another_order_are_found():
    statement = sample_statement()
    backwards = replace(statement, movements=statement.movements.reverse())
    assert statement_differences(backwards)[0].startswith("the movements are not in their order")
    renamed = statement.movements.with_columns(movement=pl.lit("gift"))
    told = statement_differences(replace(statement, movements=renamed))
    assert told[0].startswith("there is no movement gift; known are brought_forward, ")


def test_other_columns_are_told_and_nothing_else():
    statement = sample_statement()
    told = statement_differences(replace(statement, reserves=statement.movements))
    assert len(told) == 1
    assert told[0].startswith("reserves has the columns")


def test_movements_are_added_by_kind():
    statement = sample_statement()
    movements = statement.movements
    for movement in Movement:
        amounts = movements.filter(pl.col("movement") == movement)["amount"]
        expected = sum(amounts, start=0) * 10**18
        assert movement_atoms(statement, movement) == int(expected)
    assert movement_atoms(statement, *Movement) == 0
    assert movements["amount"].dtype == AMOUNT_DTYPE
