"""What payees are due, against an oracle in fractions that shares no code, and worked by hand."""

from collections import defaultdict
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.domain import invariants, payouts
from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.journal import Book
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import PayoutBuilder, Payouts, build_payouts
from royalty_assets.domain.terms import Period
from royalty_assets_tests.domain.payout_oracle import (
    MINOR_UNITS,
    Balances,
    Expected,
    Oracle,
    month_after,
)
from royalty_assets_tests.domain.payout_worlds import FIRST_MONTH, World, ledger_of, worlds


def period_of(month: str) -> Period:
    return Period(date.fromisoformat(f"{month}-01"))


def build_months(world: World) -> list[tuple[str, Payouts]]:
    """Each month's payouts; the accounts of one are the opening of the next."""
    contracts, rates, shares = world.contracts(), world.rate_table(), world.shares()
    opening = Accounts()
    built = []
    for number, lines in enumerate(world.months):
        month = month_after(FIRST_MONTH, number)
        made = build_payouts(
            ledger_of(lines), shares, contracts=contracts, rates=rates, period=period_of(month),
            opening=opening,
        )  # fmt: skip
        opening = Accounts.from_frame(made.accounts)
        built.append((month, made))
    return built


def expected_months(world: World) -> list[Expected]:
    oracle = Oracle(world.content, world.splits, world.rates)
    before = Balances()
    expected = []
    for number, lines in enumerate(world.months):
        expected.append(oracle.month(month_after(FIRST_MONTH, number), lines, before))
        before = expected[-1].after
    return expected


def figures_of(frame: pl.DataFrame, key: list[str]) -> dict[tuple[str, ...], dict[str, int]]:
    """Key columns → the other amounts, in atoms."""
    amounts = [n for n, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal)]
    atoms = zip(*(series_to_atoms(frame[name]) for name in amounts), strict=True)
    keys = frame.select(key).rows()
    assert len(set(keys)) == len(keys)
    return {of: dict(zip(amounts, row, strict=True)) for of, row in zip(keys, atoms, strict=True)}


def without_nothing(figures):
    """Those with an amount that is not 0."""
    return {key: of for key, of in figures.items() if any(of.values())}


def summed(frame: pl.DataFrame, key: list[str]) -> dict[tuple[str, ...], int]:
    sums: dict[tuple[str, ...], int] = defaultdict(int)
    for of, atoms in zip(frame.select(key).rows(), series_to_atoms(frame["amount"]), strict=True):
        sums[of] += atoms
    return sums


def same_whatever_the_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(pl.all())


@settings(max_examples=60)
@given(worlds())
def test_every_figure_of_every_payee_is_the_oracles(world):
    """Invariants 1 and 5: to the atom, month after month."""
    for (_, made), expected in zip(build_months(world), expected_months(world), strict=True):
        of_payees = figures_of(made.payouts, ["rights_holder_id", "currency"])
        assert without_nothing(of_payees) == without_nothing(expected.payouts)
        balance = figures_of(made.balance, ["currency"])
        for (currency,), figures in balance.items():
            assert {name: atoms for name, atoms in figures.items() if atoms} == {
                name: atoms for name, atoms in expected.balance[currency].items() if atoms
            }
        held = {}
        for of, units, atoms in zip(
            made.held.select("currency", "recording_id", "reason").rows(),
            made.held["units"], series_to_atoms(made.held["amount"]), strict=True,
        ):  # fmt: skip
            known = held.get(of, (0, 0))
            held[of] = (known[0] + units, known[1] + atoms)
        nonzero = {of: amounts for of, amounts in expected.held.items() if any(amounts)}
        assert {of: amounts for of, amounts in held.items() if any(amounts)} == nonzero
        key = ["contract_id", "rights_holder_id", "role", "currency", "corrects", "step"]
        counts = {tuple(row[:-1]): row[-1] for row in made.lines.group_by(key).len().rows()}
        sums = summed(made.lines, key)
        assert {of: (counts[of], sums[of]) for of in counts} == expected.lines

        after = Accounts.from_frame(made.accounts)
        assert after.carried_forward == expected.after.carried
        assert sorted(
            (t.payee_id, t.contract_id, t.currency, t.held_in, t.due_in, t.atoms)
            for t in after.reserves
        ) == sorted(tranche for tranche in expected.after.reserves if tranche[-1])
        assert {account: atoms for (_, account, _), atoms in after.recouped.items()} == {
            account: atoms for account, atoms in expected.after.recouped.items() if atoms
        }
        assert after.reached == {c: n for c, n in expected.after.reached.items() if n}


@settings(max_examples=25)
@given(worlds())
def test_every_atom_is_somewhere_and_nobody_is_paid_twice(world):
    """Invariant 1, of the figures among themselves, within a month and from month to month."""
    carried: dict[tuple[str, ...], int] = {}
    reserve: dict[tuple[str, ...], int] = {}
    for (month, made), lines in zip(build_months(world), world.months, strict=True):
        assert invariants.money_is_accounted_for(made.balance) == []
        assert invariants.journal_balances(made.journal) == []
        # What each line brings is what its parties get.
        received: dict[str, int] = defaultdict(int)
        for line in lines:
            received[line.currency] += line.receipts
        split = summed(made.lines, ["currency"])
        for (currency,), atoms in summed(made.held, ["currency"]).items():
            split[(currency,)] += atoms
        assert {c: a for (c,), a in split.items() if a} == {c: a for c, a in received.items() if a}
        # Nothing stays with a payee unexplained, neither in the movements nor in the journal.
        assert not any(summed(made.movements, ["payee_id", "currency"]).values())
        payable = made.journal.filter(pl.col("account") == Book.PAYEE_PAYABLE)
        assert not any(summed(payable, ["payee_id", "currency"]).values())
        of_payees = figures_of(made.payouts, ["rights_holder_id", "currency"])
        for (_, currency), figures in of_payees.items():
            assert figures["amount_paid"] % MINOR_UNITS[currency] == 0
            assert figures["amount_withheld"] % MINOR_UNITS[currency] == 0
            assert figures["amount_paid"] >= 0
            assert figures["amount_withheld"] >= 0
            assert not (figures["amount_paid"] and figures["amount_carried_forward"])
        for (currency,), figures in figures_of(made.balance, ["currency"]).items():
            assert 0 <= figures["residue"] < MINOR_UNITS[currency]
        # What was carried forward is what is brought forward, and reserves are what was held.
        brought = {key: f["brought_forward"] for key, f in without_nothing(of_payees).items()}
        assert {key: atoms for key, atoms in brought.items() if atoms} == carried
        carried = {
            key: figures["amount_carried_forward"]
            for key, figures in of_payees.items()
            if figures["amount_carried_forward"]
        }
        accounts = made.accounts.rename({"payee_id": "rights_holder_id"})
        key = ["rights_holder_id", "currency"]
        assert carried == summed(accounts.filter(pl.col("kind") == "carried_forward"), key)
        still = summed(accounts.filter(pl.col("kind") == "reserve"), key)
        for of in {*still, *reserve, *of_payees}:
            held = of_payees.get(of, {}).get("reserved", 0)
            assert still.get(of, 0) == reserve.get(of, 0) + held
        reserve = still
        due = accounts.filter((pl.col("kind") == "reserve") & (pl.col("due_in") <= month))
        assert due.is_empty()


@settings(max_examples=12)
@given(worlds(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_cut_of_the_ledger_changes_nothing(world, size, random):
    """Invariant 2: slices of any size, and any cut of what is streamed in."""
    with pytest.MonkeyPatch.context() as patch:
        whole = build_months(world)
        patch.setattr(payouts, "ROWS_AT_ONCE", size)
        sliced = build_months(world)
    contracts, rates, shares = world.contracts(), world.rate_table(), world.shares()
    opening = Accounts()
    for number, lines in enumerate(world.months):
        ledger = ledger_of(lines)
        builder = PayoutBuilder(
            shares, contracts, rates, period_of(month_after(FIRST_MONTH, number)), opening
        )
        streamed = []
        start = 0
        while start < ledger.height:
            length = random.randint(1, 4)
            streamed += builder.lines(ledger.slice(start, length))
            start += length
        made = builder.finish(ledger, pl.concat([whole[number][1].lines.clear(), *streamed]))
        opening = Accounts.from_frame(made.accounts)
        for other in (sliced[number][1], made):
            for name in (
                "payouts", "balance", "movements", "journal", "accounts", "held", "conversions",
            ):  # fmt: skip
                assert getattr(other, name).equals(getattr(whole[number][1], name)), name
            lines_of = same_whatever_the_order(other.lines)
            assert lines_of.equals(same_whatever_the_order(whole[number][1].lines))
