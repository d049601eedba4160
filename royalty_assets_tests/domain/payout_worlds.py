"""Hypothesis strategies: contracts, shares, rates and the ledgers of consecutive months."""

import random
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, permutations
from typing import Any

import polars as pl
from hypothesis import strategies as st

from royalty_assets.domain.catalog import SHARE_SCHEMA, SHARE_WHOLE
from royalty_assets.domain.contracts import Contracts, build_contracts
from royalty_assets.domain.ledger import LEDGER_SCHEMA
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.rates import Rates, build_rates
from royalty_assets_tests.domain.payout_oracle import Line, month_after

CURRENCIES = ["EUR", "JPY", "KWD"]
RECORDINGS = ["R1", "R2", "R3", "R4", "R5"]
PAYEES = ["ann", "bob", "cy", "dee"]
FIRST_MONTH = "2025-11"
EARLIER = ["2025-09", "2025-10"]
ALL_MONTHS = [*EARLIER, *(month_after(FIRST_MONTH, n) for n in range(4))]
LAST_DAYS = ["2025-11-30", "2025-12-31", "2026-01-31"]


@dataclass(frozen=True)
class World:
    """Everything that payouts follow from."""

    content: dict[str, Any]
    splits: dict[str, dict[str, Fraction]]
    rates: list[tuple[str, str, str, str]]
    months: list[list[Line]]

    def contracts(self) -> Contracts:
        contracts, problems = build_contracts([("contracts.yaml", self.content)])
        assert problems == []
        return contracts

    def shares(self) -> pl.DataFrame:
        rows = [
            (recording, holder, holder, int(share * SHARE_WHOLE))
            for recording, split in self.splits.items()
            for holder, share in split.items()
        ]
        return pl.DataFrame(rows, schema=SHARE_SCHEMA, orient="row")

    def rate_table(self) -> Rates:
        return rate_table(self.rates)


def rate_table(rows: list[tuple[str, str, str, str]]) -> Rates:
    names = ("date", "currency", "into", "rate")
    fields = [dict(zip(names, row, strict=True)) | {"source": "ECB"} for row in rows]
    rates, problems = build_rates([("rates.csv", n, row) for n, row in enumerate(fields, start=2)])
    assert problems == []
    return rates


def ledger_of(lines: list[Line]) -> pl.DataFrame:
    """Each line as a recording payable, in their order, and the receivables that bring the money.

    ``LEDGER_SCHEMA``.
    """
    receivables: dict[str, int] = {}
    for line in lines:
        receivables[line.currency] = receivables.get(line.currency, 0) + line.receipts
    texts = [
        ("f", "recording_payable", line.territory, "all", line.use_type, line.currency,
         line.recording, "", line.corrects, "usage")
        for line in lines
    ] + [
        ("f", "receivable", "Worldwide", "all", "", currency, "", "", "", "usage")
        for currency in receivables
    ]  # fmt: skip
    names = list(LEDGER_SCHEMA)[:-2]
    columns = [pl.Series(n, [row[i] for row in texts], pl.String) for i, n in enumerate(names)]
    units = [line.units for line in lines] + [0] * len(receivables)
    amounts = [-line.receipts for line in lines] + list(receivables.values())
    return pl.DataFrame(
        [*columns, pl.Series("units", units, pl.Int64), atoms_to_series("amount", amounts)]
    ).select(LEDGER_SCHEMA.keys())


def _percent(millionths: int) -> str:
    return f"{Decimal(millionths) / 10**6:f}"


def _portions(draw: Any, count: int, whole: int) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, whole), min_size=count - 1, max_size=count - 1)))
    edges = [0, *cuts, whole]
    return [upper - lower for lower, upper in pairwise(edges)]


@st.composite
def _splits(draw: Any) -> dict[str, dict[str, Fraction]]:
    splits = {}
    for recording in RECORDINGS[:4]:
        holders = draw(st.lists(st.sampled_from(PAYEES), min_size=1, max_size=4, unique=True))
        whole = SHARE_WHOLE - len(holders)
        parts = [part + 1 for part in _portions(draw, len(holders), whole)]
        splits[recording] = {
            holder: Fraction(part, SHARE_WHOLE)
            for holder, part in zip(sorted(holders), parts, strict=True)
        }
    return splits


def _scope(draw: Any) -> dict[str, Any]:
    """Which lines a contract covers."""
    scope: dict[str, Any] = {}
    by = draw(st.sampled_from(["recordings", "groups", "every_recording"]))
    if by == "recordings":
        named = st.lists(st.sampled_from(RECORDINGS), min_size=1, max_size=3, unique=True)
        scope["recordings"] = draw(named)
    elif by == "groups":
        scope["groups"] = draw(st.sampled_from([["g1"], ["g2"], ["g1", "g2"]]))
    else:
        scope["every_recording"] = True
    places = ["Worldwide"] * 3 + ["DE", "Worldwide -US", "DE US"]
    scope["territories"] = draw(st.sampled_from(places))
    if draw(st.integers(0, 3)) == 0:
        scope["use_types"] = [draw(st.sampled_from(["Stream", "Download"]))]
    if draw(st.integers(0, 3)) == 0:
        scope["valid_from"] = draw(st.sampled_from(ALL_MONTHS)) + "-01"
    elif draw(st.integers(0, 3)) == 0:
        scope["valid_to"] = draw(st.sampled_from(LAST_DAYS))
    return scope


def _escalations(draw: Any, portions: dict[str, int]) -> list[dict[str, Any]]:
    """One or two, by units or by amount; they leave at least half of what there is."""
    raised = _portions(draw, len(portions) + 1, 50 * 10**6)
    first, lowest = next(iter(portions.items()))
    steps = [
        {payee: _percent(part) for payee, part in zip(portions, raised, strict=False)},
        {first: _percent(draw(st.integers(0, lowest)))},
    ]
    if draw(st.booleans()):
        bounds = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=2)))
        return [
            {"above_units": bound, "percents": step}
            for bound, step in zip(bounds, steps, strict=False)
        ]
    currency = draw(st.sampled_from(CURRENCIES))
    amounts = sorted(draw(st.sets(st.integers(1, 3 * 10**19), min_size=1, max_size=2)))
    return [
        {
            "above_amount": f"{Decimal(atoms).scaleb(-18):f}",
            "currency": currency,
            "percents": step,
        }
        for atoms, step in zip(amounts, steps, strict=False)
    ]


def _participants(portions: dict[str, int], *, of_gross: bool) -> list[dict[str, Any]]:
    participants = [
        {"payee": payee, "percent": _percent(part), "of": "net_receipts"}
        for payee, part in portions.items()
    ]
    if of_gross:
        participants[0]["of"] = "gross_receipts"
    return participants


def _amount_per_unit(draw: Any) -> dict[str, Any]:
    return {
        "payee": draw(st.sampled_from(PAYEES)),
        "per_unit": draw(st.sampled_from(["0.001", "1", "0.000000000000000007"])),
        "currency": draw(st.sampled_from(CURRENCIES)),
    }


def _credit_accounts(
    draw: Any, participants: list[dict[str, Any]], accounts: dict[str, str]
) -> None:
    for payee in sorted({participant["payee"] for participant in participants}):
        mine = [account for account, of in accounts.items() if of == payee]
        if mine and draw(st.booleans()):
            credited = draw(st.sampled_from(mine))
            for participant in participants:
                if participant["payee"] == payee:
                    participant["account"] = credited


@st.composite
def _contract(draw: Any, name: str, accounts: dict[str, str]) -> dict[str, Any]:
    contract: dict[str, Any] = {"contract": name, **_scope(draw)}
    deductions = draw(st.sampled_from([[], [], ["10"], ["12.5", "0.000001"], ["33.333333"]]))
    contract["deductions"] = [
        {"name": f"fee {n}", "percent": percent} for n, percent in enumerate(deductions)
    ]
    who = draw(st.lists(st.sampled_from(PAYEES), min_size=1, max_size=3, unique=True))
    escalates = draw(st.integers(0, 2)) == 0
    of_gross = draw(st.integers(0, 3)) == 0
    # What is of gross receipts, or escalated, has to find room beside what is deducted.
    whole = 25 * 10**6 if of_gross or escalates else 10**8
    takes_all = whole == 10**8 and draw(st.booleans())
    parts = _portions(draw, len(who) + (not takes_all), whole)
    portions = dict(zip(who, parts, strict=False))
    participants = _participants(portions, of_gross=of_gross)
    if not takes_all:
        contract["remainder_to"] = draw(st.sampled_from([*PAYEES, "label"]))
        if draw(st.integers(0, 2)) == 0:
            participants.append(_amount_per_unit(draw))
    _credit_accounts(draw, participants, accounts)
    contract["participants"] = participants
    if escalates:
        contract["escalations"] = _escalations(draw, portions)
    if draw(st.integers(0, 2)) == 0:
        releases = draw(st.sampled_from([[(1, "100")], [(1, "33.333333"), (2, "66.666667")]]))
        contract["reserve"] = {
            "percent": draw(st.sampled_from(["10", "33.333333", "100"])),
            "release": [{"after_months": m, "percent": p} for m, p in releases],
        }
    return contract


@st.composite
def _payees(draw: Any) -> list[dict[str, Any]]:
    payees = []
    for payee in draw(st.lists(st.sampled_from([*PAYEES, "label"]), unique=True)):
        entry: dict[str, Any] = {"payee": payee}
        if draw(st.booleans()):
            entry["currency"] = draw(st.sampled_from(CURRENCIES))
        if draw(st.booleans()):
            entry["minimum_payment"] = draw(st.sampled_from(["0.01", "5", "25"]))
        taxes = draw(st.sampled_from([[], ["15"], ["15", "5.5"], ["33.333333", "66.666667"]]))
        entry["withholding"] = [
            {"percent": percent, "reason": f"tax {n}"} for n, percent in enumerate(taxes)
        ]
        if taxes and draw(st.booleans()):
            entry["withholding"][0]["valid_from"] = "2025-12-01"
            entry["withholding"][0]["valid_to"] = "2025-12-31"
        payees.append(entry)
    return payees


@st.composite
def _accounts(draw: Any, payees: list[dict[str, Any]]) -> list[dict[str, Any]]:
    currency_of = {payee["payee"]: payee.get("currency") for payee in payees}
    accounts = []
    for number in range(draw(st.integers(0, 4))):
        payee = draw(st.sampled_from(PAYEES[:2]))
        charges = draw(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "kind": st.sampled_from(["advance", "cost"]),
                        "amount": st.sampled_from(["0.01", "3", "10.000000000000000001", "40"]),
                        "on": st.sampled_from(["2025-01-15", "2025-11-30", "2025-12-01"]),
                        "percent": st.sampled_from(["100", "50", "33.333333"]),
                    }
                ),
                max_size=2,
            )
        )
        accounts.append(
            {
                "account": f"acc {number}",
                "payee": payee,
                "currency": currency_of.get(payee) or draw(st.sampled_from(CURRENCIES)),
                "charges": charges,
                "group": draw(st.sampled_from(["", "both", "both"])),
                "order": draw(st.integers(0, 2)),
            }
        )
    return accounts


_amounts = st.one_of(
    st.integers(-(10**19), 3 * 10**19),
    st.integers(0, 5 * 10**19),
    st.sampled_from([0, 1, -1, 10**16, 12 * 10**18, 10**30 + 1]),
)
_lines = st.builds(
    Line,
    recording=st.sampled_from(RECORDINGS),
    territory=st.sampled_from(["DE", "US", "FR", "Worldwide"]),
    use_type=st.sampled_from(["Stream", "Stream", "Download"]),
    currency=st.sampled_from(CURRENCIES),
    units=st.integers(-20, 60),
    receipts=_amounts,
    corrects=st.sampled_from(["", "", "", *EARLIER]),
)


def _rates(chance: random.Random) -> list[tuple[str, str, str, str]]:
    """For every pair of each month one rate, or two of which the later one counts."""
    figures = ["1.0837", "162.35", "0.006159", "0.000000000001", "3.249871234567"]
    rates = []
    for month in ALL_MONTHS:
        for currency, into in permutations(CURRENCIES, 2):
            rates.append((f"{month}-01", currency, into, chance.choice(figures)))
            if chance.random() < 0.5:
                rates.append((f"{month}-28", currency, into, chance.choice(figures)))
    chance.shuffle(rates)
    return rates


@st.composite
def worlds(draw: Any) -> World:
    """One to four months in which everything may happen that a contract can say."""
    payees = draw(_payees())
    accounts = draw(_accounts(payees))
    of = {account["account"]: account["payee"] for account in accounts}
    contracts = [draw(_contract(f"c{n}", of)) for n in range(draw(st.integers(0, 4)))]
    content = {
        "payees": payees,
        "accounts": accounts,
        "groups": {"g1": ["R2", "R3"], "g2": ["R3", "R4"]},
        "contracts": contracts,
    }
    rates = _rates(random.Random(draw(st.integers(0, 99))))
    months = draw(st.lists(st.lists(_lines, max_size=8), min_size=1, max_size=4))
    return World(content, draw(_splits()), rates, months)
