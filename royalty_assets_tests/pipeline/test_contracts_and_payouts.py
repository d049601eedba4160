"""Contracts from their files to what is paid, month after month."""

import pytest

from royalty_assets.domain.payouts import HELD_SCHEMA
from royalty_assets.domain.statements import statement_differences
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.contracts import CONTRACTS_FEED, take_contracts
from royalty_assets.pipeline.month import blocked_because, month_frames
from royalty_assets.pipeline.payouts import paid_out, pay_out, payout_frame
from royalty_assets.pipeline.statements import statements
from royalty_assets_tests.monthly_reports import (
    APRIL,
    FEBRUARY,
    JANUARY,
    MARCH,
    agree,
    movements,
    project,
    report,
    row,
    run,
    statement,
    told,
)

MONTHS = {JANUARY: "2025-01-05", FEBRUARY: "2025-02-05", MARCH: "2025-03-05"}


def earning(home, *amounts, recording="R1"):
    """A project that one recording brings these amounts, month by month."""
    context = project(home)
    for day, amount in zip(MONTHS.values(), amounts, strict=False):
        report(context, f"{day}.csv", row(day, amount, recording))
    return context


def walks(context, payee, *months):
    """What a payee is told in each month; every statement holds."""
    for month in months:
        for one in statements(context, month):
            assert statement_differences(one) == []
    return [movements(statement(context, month, payee)) for month in months]


def test_an_advance_is_recouped_over_three_months(tmp_path):
    """10 % are kept; Dee has 50 % of 90.00, 45.00 a month, and 100.00 to recoup."""
    context = earning(tmp_path, "100.00", "100.00", "100.00")
    agree(
        context,
        """
accounts:
  - {account: first, payee: dee, currency: EUR, charges: [{amount: 100, on: 2025-01-02}]}
contracts:
  - contract: deal
    recordings: [R1]
    deductions: [{name: distribution, percent: 10}]
    participants: [{payee: dee, percent: 50, account: first}]
    remainder_to: label
""",
    )
    run(context, *MONTHS)
    assert walks(context, "dee", *MONTHS) == [
        [("earnings", "45"), ("recouped", "-45")],
        [("earnings", "45"), ("recouped", "-45")],
        [("earnings", "45"), ("recouped", "-10"), ("paid", "-35")],
    ]
    history = statement(context, MARCH, "dee").recoupment
    assert told(history, "period", "opening", "charged", "recouped", "closing") == [
        ("2025-01", "0", "100", "45", "55"),
        ("2025-02", "55", "0", "45", "10"),
        ("2025-03", "10", "0", "10", "0"),
    ]
    (balance,) = told(month_frames(context, MARCH)[2], "received", "paid", "deducted", "recouped")
    assert balance == ("100", "80", "10", "10")


def test_a_reserve_is_released_two_months_later(tmp_path):
    """20 % of Dee's 50.00 is held in January, and due in March with 40.00 of its own."""
    context = earning(tmp_path, "100.00", "0.00", "100.00")
    agree(
        context,
        """
contracts:
  - contract: deal
    recordings: [R1]
    participants: [{payee: dee, percent: 50}]
    remainder_to: label
    reserve: {percent: 20, release: [{after_months: 2, percent: 100}]}
""",
    )
    run(context, *MONTHS)
    january, _, march = walks(context, "dee", *MONTHS)
    assert january == [("earnings", "50"), ("reserve_held", "-10"), ("paid", "-40")]
    assert march == [
        ("earnings", "50"), ("reserve_held", "-10"), ("reserve_released", "10"), ("paid", "-50"),
    ]  # fmt: skip
    assert told(
        statement(context, FEBRUARY, "dee").reserves, "held_in", "release_in", "amount"
    ) == [("2025-01", "2025-03", "10")]


def test_too_little_is_carried_forward_and_tax_withheld_of_what_is_paid(tmp_path):
    """12.00 a month is below 20.00; February's 24.00 are paid, of which 25 % are withheld."""
    context = earning(tmp_path, "20.00", "20.00")
    agree(
        context,
        """
payees:
  - payee: ada
    minimum_payment: 20
    withholding: [{percent: 25, reason: tax}]
""",
    )
    run(context, JANUARY, FEBRUARY)
    assert walks(context, "ada", JANUARY, FEBRUARY) == [
        [("earnings", "12"), ("carried_forward", "-12")],
        [("brought_forward", "12"), ("earnings", "12"), ("withheld", "-6"), ("paid", "-18")],
    ]


USD = "payees: [{payee: cy, currency: USD}]\n"


def test_a_payee_is_paid_in_another_currency_by_a_dated_rate(tmp_path):
    """10.00 EUR at 1.1 are 11.00 USD; both amounts, the rate, its day and source are told."""
    context = earning(tmp_path, "10.00", recording="R2")
    agree(context, USD, "2025-01-15,EUR,USD,1.2,ECB\n2025-01-31,EUR,USD,1.1,ECB\n")
    run(context, JANUARY)
    assert walks(context, "cy", JANUARY) == [[("earnings", "11"), ("paid", "-11")]]
    lines = statement(context, JANUARY, "cy", "USD").lines
    columns = ("amount", "currency", "rate", "rate_date", "rate_source", "payee_amount")
    assert told(lines, *columns) == [("10", "EUR", "1.1", "2025-01-31", "ECB", "11")]


def test_a_rate_that_is_wanting_blocks_the_payouts_and_says_what_to_add(tmp_path):
    context = earning(tmp_path, "10.00", recording="R2")
    agree(context, USD, "2024-12-31,EUR,USD,1.1,ECB\n")
    with pytest.raises(StageBlockedError, match="no rate from EUR into USD is dated from") as error:
        run(context, JANUARY)
    assert "add a row date,currency,into,rate,source to a CSV file in rates/" in str(error.value)
    agree(context, USD, "2025-01-31,EUR,USD,1.1,ECB\n")
    run(context, JANUARY)
    assert blocked_because(context, JANUARY) == ""


def test_a_contract_that_does_not_load_holds_the_money_of_its_recordings(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "5.00", "R2"))
    agree(
        context,
        """
contracts:
  - contract: greedy
    recordings: [R2]
    participants: [{payee: dee, percent: 101}]
""",
    )
    run(context, JANUARY)
    held = payout_frame(context, JANUARY, "held", HELD_SCHEMA)
    assert told(held, "recording_id", "reason", "amount") == [("R2", "contract_refused", "5")]
    (balance,) = told(month_frames(context, JANUARY)[2], "received", "paid", "held")
    assert balance == ("15", "10", "5")
    (warning,) = take_contracts(context).commit.warnings["every_contract_loads"]
    assert "greedy" in warning
    assert "the money of 1 recordings is held" in warning


def test_a_file_that_cannot_be_read_blocks_the_payouts_and_nothing_else(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    agree(context, "contracts: [{contract: x\n")
    assert not take_contracts(context).commit.is_green
    with pytest.raises(StageBlockedError, match=r"the contracts are red.*mend the file"):
        pay_out(context, JANUARY)
    assert "the contracts are red" in blocked_because(context, JANUARY)
    assert month_frames(context, JANUARY)[0].height == 2
    assert [letter["source"] for letter in context.registry.dead_letters(CONTRACTS_FEED)] == [
        "contracts/deals.yaml"
    ]
    agree(context, "contracts: []\n")
    run(context, JANUARY)
    assert blocked_because(context, JANUARY) == ""


CARRIED = "payees: [{{payee: ada, minimum_payment: {minimum}}}]\n"


def test_what_changes_in_january_makes_february_stale_until_both_are_run(tmp_path):
    """6.00 is carried forward from January once the minimum is 7.00; February pays 12.00."""
    context = earning(tmp_path, "10.00", "10.00")
    agree(context, CARRIED.format(minimum=1))
    run(context, JANUARY, FEBRUARY)
    agree(context, CARRIED.format(minimum=7))
    take_contracts(context)
    assert paid_out(context, FEBRUARY) is None
    assert "the payouts are not of the ledger in force" in blocked_because(context, FEBRUARY)
    run(context, JANUARY, FEBRUARY)
    assert blocked_because(context, FEBRUARY) == ""
    assert walks(context, "ada", FEBRUARY) == [
        [("brought_forward", "6"), ("earnings", "6"), ("paid", "-12")]
    ]


def test_months_that_are_run_out_of_order_come_out_as_in_order(tmp_path):
    context = earning(tmp_path / "in", "10.00", "10.00", "10.00")
    other = earning(tmp_path / "out", "10.00", "10.00", "10.00")
    for each in (context, other):
        agree(each, CARRIED.format(minimum=13))
    run(context, *MONTHS)
    run(other, MARCH, JANUARY)
    assert paid_out(other, MARCH) is None
    run(other, MARCH, FEBRUARY)
    assert paid_out(other, MARCH) is None
    run(other, MARCH, APRIL)
    assert walks(other, "ada", *MONTHS) == walks(context, "ada", *MONTHS)
