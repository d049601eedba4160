"""What contracts come to, worked by hand: every feature once, with the cents in the text."""

from decimal import Decimal
from fractions import Fraction

import pytest

from royalty_assets.domain import payouts
from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.contracts import build_contracts
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import Payouts, build_payouts
from royalty_assets.domain.rates import NoRateError
from royalty_assets.domain.terms import Period
from royalty_assets_tests.domain.payout_oracle import ATOM, Line
from royalty_assets_tests.domain.payout_worlds import World, ledger_of, rate_table

HALVES = {"R1": {"ann": Fraction(1, 2), "bob": Fraction(1, 2)}}


def line(amount, units=1, *, recording="R1", territory="DE", use_type="Stream", currency="EUR",
         corrects=""):  # fmt: skip
    return Line(recording, territory, use_type, currency, units,
                int(Decimal(str(amount)) * ATOM), corrects)  # fmt: skip


def contract(**terms):
    """One for R1, of which ann gets what is said and the label the rest."""
    return {"contract": "c", "recordings": ["R1"], "remainder_to": "label", **terms}


def ann(percent, **terms):
    return {"payee": "ann", "percent": percent, **terms}


def months(*lines, content=None, rates=(), splits=HALVES, first="2025-03") -> list[Payouts]:
    """Each argument is a month's lines; the accounts of one are the opening of the next."""
    world = World(content or {}, splits, list(rates), list(lines))
    contracts, shares = world.contracts(), world.shares()
    period, opening, built = Period.parse(first), Accounts(), []
    for of_month in lines:
        made = build_payouts(
            ledger_of(of_month), shares, contracts=contracts, rates=rate_table(list(rates)),
            period=period, opening=opening,
        )  # fmt: skip
        opening = Accounts.from_frame(made.accounts)
        period = period.plus(1)
        built.append(made)
    return built


def amounts(made: Payouts, column: str = "amount_paid") -> dict[str, str]:
    """Payee → an amount as people write it; with its currency where that is not EUR."""
    told = {}
    for payee, currency, atoms in zip(
        made.payouts["rights_holder_id"], made.payouts["currency"],
        series_to_atoms(made.payouts[column]), strict=True,
    ):  # fmt: skip
        text = f"{Decimal(atoms).scaleb(-18).normalize():f}"
        if atoms:
            told[payee if currency == "EUR" else f"{payee} {currency}"] = text
    return told


def walk(made: Payouts, payee: str) -> list[tuple[str, str]]:
    """A payee's movements."""
    return [
        (row["movement"], f"{row['amount'].normalize():f}")
        for row in made.movements.iter_rows(named=True)
        if row["payee_id"] == payee
    ]


def held(made: Payouts) -> list[tuple[str, str]]:
    return [
        (reason, f"{amount.normalize():f}")
        for reason, amount in made.held.select("reason", "amount").rows()
    ]


def test_net_receipts_are_what_deductions_leave():
    """100.00, of which 15 % is the distributor's: ann's 20 % of 85.00 is 17.00, not 20.00."""
    terms = contract(
        deductions=[{"name": "distribution", "percent": 15}], participants=[ann(20)]
    )  # fmt: skip
    (made,) = months([line(100)], content={"contracts": [terms]})
    assert amounts(made) == {"ann": "17", "label": "68"}
    assert made.balance["deducted"].to_list() == [15]


def test_gross_receipts_are_what_came_in():
    """20 % of 100.00, whatever is deducted."""
    terms = contract(
        deductions=[{"name": "distribution", "percent": 15}],
        participants=[ann(20, of="gross_receipts")],
    )
    (made,) = months([line(100)], content={"contracts": [terms]})
    assert amounts(made) == {"ann": "20", "label": "65"}


def test_an_amount_per_unit_is_due_whatever_comes_in_and_the_rest_bears_it():
    """1,000 units at 0.09 are 90.00; only 80.00 came in, so the label is 10.00 short."""
    terms = contract(participants=[{"payee": "ann", "per_unit": "0.09", "currency": "EUR"}])
    (made,) = months([line(80, 1000)], content={"contracts": [terms]})
    assert amounts(made) == {"ann": "90"}
    assert amounts(made, "amount_carried_forward") == {"label": "-10"}


def test_an_amount_per_unit_is_converted_at_the_rate_of_the_period_that_a_line_corrects():
    """10 units at 1.00 USD: 20.00 EUR at January's 2, taken back at January's 2, not March's 3."""
    terms = contract(participants=[{"payee": "ann", "per_unit": "1", "currency": "USD"}])
    rates = [("2025-01-31", "USD", "EUR", "2"), ("2025-03-31", "USD", "EUR", "3")]
    lines = [line(100, 10), line(-50, -10, corrects="2025-01")]
    (made,) = months(lines, content={"contracts": [terms]}, rates=rates)
    # March's 30.00 less January's 20.00.
    assert amounts(made) == {"ann": "10", "label": "40"}


def test_a_line_is_divided_at_the_boundary_of_an_escalation():
    """10 % of the first 100 units, 20 % above: of 150 units and 30.00, 20.00 are below.

    2.00 + 2.00 = 4.00. The next month begins above the boundary: 20 % of 10.00.
    Returns of 60 units go back over it: 10 of them below, 2.00 of the 12.00, 0.20 + 2.00 = 2.20.
    """
    terms = contract(
        participants=[ann(10)], escalations=[{"above_units": 100, "percents": {"ann": 20}}]
    )
    first, second, third = months(
        [line(30, 150)], [line(10, 0)], [line(-12, -60)], content={"contracts": [terms]}
    )
    assert amounts(first) == {"ann": "4", "label": "26"}
    steps = first.lines.filter(rights_holder_id="ann").select("step", "units").rows()
    assert sorted(steps) == [(0, 100), (1, 50)]
    assert amounts(second) == {"ann": "2", "label": "8"}
    assert amounts(third, "earned") == {"ann": "-2.2", "label": "-9.8"}


def test_a_boundary_of_receipts_counts_only_its_currency():
    """10 % up to 50.00 EUR, then 50 %: of 80.00 EUR 5.00 + 15.00; dollars pay the step reached."""
    terms = contract(
        participants=[ann(10)],
        escalations=[{"above_amount": 50, "currency": "EUR", "percents": {"ann": 50}}],
    )
    lines = [line(90, currency="USD"), line(80), line(90, currency="USD")]
    (made,) = months(lines, content={"contracts": [terms]})
    assert amounts(made) == {"ann": "20", "label": "60", "ann USD": "54", "label USD": "126"}


def test_a_reserve_is_held_and_released_in_parts():
    """25 % of ann's 40.00 is 10.00, of which 60 % comes back after a month and 40 % after two."""
    terms = contract(
        participants=[ann(40)],
        reserve={
            "percent": 25,
            "release": [
                {"after_months": 1, "percent": 60},
                {"after_months": 2, "percent": 40},
            ],
        },
    )
    march, april, may, june = months([line(100)], [], [], [], content={"contracts": [terms]})
    assert amounts(march) == {"ann": "30", "label": "60"}  # the label's rest is not held back
    assert amounts(april) == {"ann": "6"}
    assert amounts(may) == {"ann": "4"}
    assert amounts(june) == {}
    assert walk(april, "ann") == [("reserve_released", "6"), ("paid", "-6")]


def test_costs_of_100_shared_by_half_are_made_good_by_an_income_of_100():
    """`industry_formats` §4.1: costs 100 at 50 % leave -50; an income of 100 at 50 % brings 0."""
    content = {
        "accounts": [
            {
                "account": "album", "payee": "ann", "currency": "EUR",
                "charges": [{"kind": "cost", "amount": 100, "percent": 50, "on": "2025-03-10"}],
            }
        ],
        "contracts": [contract(participants=[ann(50, account="album")])],
    }  # fmt: skip
    march, april = months([line(100)], [line(100)], content=content)
    assert walk(march, "ann") == [("earnings", "50"), ("recouped", "-50")]
    assert amounts(march) == {"label": "50"}
    assert amounts(april) == {"ann": "50", "label": "50"}


def test_an_advance_is_recouped_over_months_and_not_before_it_was_paid():
    """15.00 advanced in April; ann earns 10.00 a month: 10.00, 0.00, 5.00 and 10.00 are paid."""
    content = {
        "accounts": [
            {
                "account": "album", "payee": "ann", "currency": "EUR",
                "charges": [{"amount": 15, "on": "2025-04-30"}],
            }
        ],
        "contracts": [contract(participants=[ann(10, account="album")])],
    }  # fmt: skip
    made = months(*[[line(100)]] * 4, content=content)
    assert [amounts(month).get("ann") for month in made] == ["10", None, "5", "10"]
    assert [amounts(month, "recouped").get("ann") for month in made] == [None, "10", "5", None]


def test_cross_collateralised_accounts_recoup_themselves_and_then_in_their_order():
    """20.00 of the single: 5.00 recoups itself, 8.00 the first, 7.00 of the second's 30.00.

    The tour is in no group, and gets nothing of it.
    """

    def account(name, amount, order, group="deal"):
        return {
            "account": name, "payee": "ann", "currency": "EUR", "group": group, "order": order,
            "charges": [{"amount": amount, "on": "2025-01-01"}],
        }  # fmt: skip

    content = {
        "accounts": [
            account("a second", 30, 2), account("first", 8, 1), account("single", 5, 3),
            account("tour", 50, 0, group=""),
        ],
        "contracts": [contract(participants=[ann(20, account="single")])],
    }  # fmt: skip
    (made,) = months([line(100)], content=content)
    recouped = made.accounts.filter(kind="recouped").select("reference", "amount").rows()
    assert recouped == [("a second", 7), ("first", 8), ("single", 5)]
    assert amounts(made) == {"label": "80"}


def test_less_than_the_minimum_is_carried_forward_until_it_is_enough():
    """Halves of 8.00: ann's 4.00 are below her 10.00; with 6.00 more they are just enough."""
    content = {"payees": [{"payee": "ann", "minimum_payment": 10}]}
    march, april = months([line(8)], [line(12)], content=content)
    assert amounts(march) == {"bob": "4"}
    assert amounts(march, "amount_carried_forward") == {"ann": "4"}
    assert amounts(april) == {"ann": "10", "bob": "6"}


def test_a_negative_balance_is_set_off_against_what_comes():
    """-5.00 each in March, 8.00 in April: 3.00 are paid."""
    march, april = months([line(-10)], [line(16)])
    assert amounts(march) == {}
    assert amounts(march, "amount_carried_forward") == {"ann": "-5", "bob": "-5"}
    assert amounts(april) == {"ann": "3", "bob": "3"}


def test_tax_is_withheld_of_what_is_paid_in_whole_cents():
    """15 % of 33.33 is 4.9995: 5.00 withheld, 28.33 paid. From May on, 0 %."""
    tax = {"percent": 15, "reason": "PT withholding", "valid_to": "2025-04-30"}
    content = {"payees": [{"payee": "ann", "withholding": [tax]}]}
    made = months(*[[line("66.66")]] * 3, content=content)
    assert [amounts(month)["ann"] for month in made] == ["28.33", "28.33", "33.33"]
    assert [amounts(month, "amount_withheld").get("ann") for month in made] == ["5", "5", None]


def test_a_payee_is_paid_in_its_currency_at_the_newest_rate_of_the_period():
    """100.00 EUR, half of it ann's: 50.00 at March's newest 1.08 are 54.00 USD."""
    rates = [
        ("2025-02-28", "EUR", "USD", "1.20"),
        ("2025-03-31", "EUR", "USD", "1.08"),
        ("2025-03-01", "EUR", "USD", "1.05"),
        ("2025-04-01", "EUR", "USD", "1.30"),
    ]
    content = {"payees": [{"payee": "ann", "currency": "USD"}]}
    (made,) = months([line(100)], content=content, rates=rates)
    assert amounts(made) == {"ann USD": "54", "bob": "50"}
    exchanged = dict(made.balance.select("currency", "exchanged").rows())
    assert exchanged == {"EUR": 50, "USD": -54}
    assert made.conversions.select("rate", "source").rows() == [("1.08", "ECB")]


def test_a_correction_is_converted_at_the_rate_of_what_it_corrects():
    """-10.00 EUR of January at 2 and 30.00 of March at 3, half of it ann's: 45.00 - 10.00."""
    rates = [("2025-01-31", "EUR", "USD", "2"), ("2025-03-31", "EUR", "USD", "3")]
    content = {"payees": [{"payee": "ann", "currency": "USD"}]}
    lines = [line(30), line(-10, corrects="2025-01")]
    (made,) = months(lines, content=content, rates=rates)
    assert amounts(made)["ann USD"] == "35"
    assert walk(made, "ann") == [("earnings", "45"), ("adjustment", "-10"), ("paid", "-35")]


def test_without_a_rate_nothing_is_paid_and_the_row_to_add_is_said():
    content = {"payees": [{"payee": "ann", "currency": "USD"}]}
    rates = [("2025-02-28", "EUR", "USD", "1.2"), ("2025-03-01", "USD", "EUR", "0.9")]
    with pytest.raises(NoRateError, match="EUR into USD is dated from 2025-03-01 to 2025-03-31"):
        months([line(100)], content=content, rates=rates)
    with pytest.raises(NoRateError, match="the other way round is not turned over"):
        months([line(100)], content=content, rates=rates)


def test_the_nearest_contract_applies_and_two_equally_near_hold_the_money():
    """Named before grouped before every recording; a contract for elsewhere holds it too."""
    content = {
        "groups": {"catalogue": ["R1", "R2"]},
        "contracts": [
            contract(contract="all", recordings=[], every_recording=True, participants=[ann(10)]),
            contract(contract="album", recordings=[], groups=["catalogue"], participants=[ann(20)]),
            contract(contract="hit", territories="Worldwide -US", participants=[ann(30)]),
            contract(contract="hit DE", territories="DE", participants=[ann(40)]),
        ],
    }
    lines = [
        line(1, territory="DE"),
        line(10, territory="FR"),
        line(100, territory="US"),
        line(1000, recording="R9"),
    ]
    (made,) = months(lines, content=content)
    assert held(made) == [("contracts_overlap", "1")]
    assert amounts(made) == {"ann": "123", "label": "987"}  # 3 + 20 + 100


def test_money_is_held_where_a_recordings_contract_does_not_reach():
    """Not divided by the catalog's shares: somebody agreed otherwise for this recording."""
    terms = contract(
        territories="DE", use_types=["Stream"], valid_to="2025-03-31", participants=[ann(50)]
    )
    march, april = months(
        [line(2), line(3, territory="FR"), line(4, use_type="Download"), line(5, recording="R9")],
        [line(6), line(8, corrects="2025-03")],
        content={"contracts": [terms]},
    )
    assert amounts(march) == {"ann": "1", "label": "1"}
    assert held(march) == [("not_covered_by_contract", "7"), ("no_shares", "5")]
    assert amounts(april) == {"ann": "4", "label": "4"}
    assert held(april) == [("not_covered_by_contract", "6")]


def test_money_of_a_contract_that_does_not_load_is_held():
    content = {"contracts": [{"contract": "c", "recordings": ["R1"], "participants": [ann(101)]}]}
    contracts, problems = build_contracts([("c.yaml", content)])
    assert [(p.entry, p.rule, p.value) for p in problems] == [
        ("c", "contracts:participants.0.percent", "101")
    ]
    shares = World({}, HALVES, [], []).shares()
    made = build_payouts(ledger_of([line(7)]), shares, contracts=contracts)
    assert held(made) == [("contract_refused", "7")]
    assert amounts(made) == {}


def test_a_cent_that_cannot_be_halved_goes_to_the_larger_part_then_the_smaller_name():
    """0.03 between two: 0.015 each, and ann is before bob."""
    (made,) = months([line("0.03")])
    assert amounts(made) == {"ann": "0.02", "bob": "0.01"}
    (made,) = months([line("0.009")])
    assert amounts(made) == {}
    assert made.balance["residue"].to_list() == [Decimal("0.009")]


def test_an_atom_that_cannot_be_halved_goes_to_the_smaller_name_whatever_the_order():
    """2 atoms by 75 % and 25 % are 1.5 and 0.5, by 50 % and 50 % of 1 atom a half each."""

    def atoms(made):
        parts = zip(made.lines["rights_holder_id"], series_to_atoms(made.lines["amount"]),
                    strict=True)  # fmt: skip
        return dict(sorted(parts))

    splits = {"R1": {"bob": Fraction(1, 4), "ann": Fraction(3, 4)}}
    (made,) = months([line("2e-18")], splits=splits)
    assert atoms(made) == {"ann": 2, "bob": 0}
    halves = [{"payee": "bob", "percent": 50}, ann(50)]
    (made,) = months(
        [line("1e-18")], content={"contracts": [contract(participants=halves, remainder_to=None)]}
    )
    assert atoms(made) == {"ann": 1, "bob": 0}


def test_money_without_units_pays_what_lies_above_a_boundary_that_is_just_reached():
    """100 units are all below; what comes then, without units, is at the higher percentage."""
    terms = contract(
        participants=[ann(10)], escalations=[{"above_units": 100, "percents": {"ann": 20}}]
    )
    (made,) = months([line(10, 100), line(100, 0)], content={"contracts": [terms]})
    assert amounts(made) == {"ann": "21", "label": "89"}


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_the_largest_amounts_are_summed_as_exactly_as_small_ones(rows_at_once, monkeypatch):
    """99,999,999,999,999,999,999.00 comes and goes; of the 8.00 beside it halves are left."""
    monkeypatch.setattr(payouts, "ROWS_AT_ONCE", rows_at_once)
    largest = 10**20 - 1
    (made,) = months([line(6), line(largest), line(1), line(-largest), line(1)])
    assert amounts(made) == {"ann": "4", "bob": "4"}


def test_a_line_from_one_boundary_over_the_next_is_divided_between_the_two_above():
    """10 % of 100 units; then, of 150 units and 30.00, 20.00 at 20 % and 10.00 at 50 %."""
    terms = contract(
        participants=[ann(10)],
        escalations=[
            {"above_units": 100, "percents": {"ann": 20}},
            {"above_units": 200, "percents": {"ann": 50}},
        ],
    )
    (made,) = months([line(10, 100), line(30, 150)], content={"contracts": [terms]})
    assert amounts(made) == {"ann": "10", "label": "30"}  # 1 + 4 + 5


def test_what_was_counted_is_kept_when_a_contract_no_longer_escalates():
    """An amount stays an amount: 50,000.00 is more atoms than a count of units can hold."""
    terms = contract(
        participants=[ann(10)],
        escalations=[{"above_amount": 5, "currency": "EUR", "percents": {"ann": 20}}],
    )
    (march,) = months([line(50_000)], content={"contracts": [terms]})
    opening = Accounts.from_frame(march.accounts)
    content = {"contracts": [contract(participants=[ann(10)])]}
    world = World(content, HALVES, [], [])
    april = build_payouts(
        ledger_of([]), world.shares(), contracts=world.contracts(), opening=opening,
        period=Period.parse("2025-04"),
    )  # fmt: skip
    assert Accounts.from_frame(april.accounts).amount_reached == {"c": 50_000 * ATOM}
