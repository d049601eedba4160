"""What is found in a set of contracts is what dividing by it then meets, to the atom.

Method: the linter never divides; ``terms.Terms``, which pays, is asked about the same usage, and
about every place of a small world one by one.
"""

from collections import Counter
from dataclasses import replace
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.catalog import SHARE_SCHEMA, SHARE_WHOLE
from royalty_assets.domain.contract_coverage import Coverage
from royalty_assets.domain.contract_lint import USAGE_SCHEMA, Severity, Subject, lint_contracts
from royalty_assets.domain.contracts import build_contracts
from royalty_assets.domain.rates import Rates, build_rates
from royalty_assets.domain.terms import RECEIPT_COLUMNS, Held, Period, Terms

MARCH = Period.parse("2025-03")
MONTHS = ["2024-12", "2025-01", "2025-02", "2025-03", "2025-04"]
TERRITORIES = ["DE", "AT", "US", "Worldwide"]
USES = ["Stream", "Download", "UserMakeAvailableUserProvided"]
RECORDINGS = ["R1", "R2", "R3", "R4"]


def shares_of(*recordings, holder="P"):
    rows = [(recording, holder, holder, SHARE_WHOLE) for recording in recordings]
    return pl.DataFrame(rows, schema=SHARE_SCHEMA, orient="row")


def usage_of(*rows):
    """(month, corrects, recording, territory, use, currency, atoms) rows."""
    return pl.DataFrame(list(rows), schema=USAGE_SCHEMA, orient="row")


def lint(content=None, *, usage=(), shares=(), rates=(), broken=None, recordings=None, month=MARCH):
    contracts, problems = build_contracts([("deals.yaml", content or {})])
    known_rates, rate_problems = build_rates(rates)
    return lint_contracts(
        Subject(
            contracts=contracts,
            problems=problems,
            rates=known_rates,
            rate_problems=rate_problems,
            shares=shares_of(*shares),
            broken_shares=broken or {},
            recordings=recordings,
            usage=usage_of(*usage),
            month=month,
        )
    )


def contract(name="A", **terms):
    if not terms.keys() & {"recordings", "groups", "every_recording"}:
        terms["recordings"] = ["R1"]
    terms.setdefault("participants", [{"payee": "P", "percent": 100}])
    return {"contract": name, **terms}


def rules(findings):
    return [finding.rule for finding in findings]


@st.composite
def contract_sets(draw):
    some = st.lists(st.sampled_from(RECORDINGS), min_size=1, max_size=3)
    made = []
    for number in range(draw(st.integers(0, 5))):
        covered = draw(st.sampled_from(["recordings", "groups", "every_recording"]))
        names = {
            "recordings": some,
            "groups": st.lists(st.sampled_from(["G", "H"]), min_size=1, max_size=2),
            "every_recording": st.just(True),
        }
        terms = {covered: draw(names[covered])}
        terms["territories"] = draw(
            st.sampled_from(["Worldwide", "DE", "DE AT", "Worldwide -DE", "Worldwide -US -AT"])
        )
        terms["use_types"] = draw(st.lists(st.sampled_from(USES[:2]), max_size=2, unique=True))
        terms["valid_from"] = draw(st.sampled_from([None, "2025-01-01", "2025-03-01"]))
        terms["valid_to"] = draw(st.sampled_from([None, "2025-03-31", "2025-04-30"]))
        made.append(contract(f"C{number}", **terms))
    if draw(st.booleans()):
        over = [{"payee": "P", "percent": 101}]
        made.append(contract("over", recordings=draw(some), participants=over))
    return {"groups": {"G": draw(some), "H": draw(some)}, "contracts": made}


usages = st.lists(
    st.tuples(
        st.sampled_from(MONTHS),
        st.sampled_from(["", "", "2025-01", "2024-12"]),
        st.sampled_from([*RECORDINGS, "R5"]),
        st.sampled_from(TERRITORIES),
        st.sampled_from(USES),
        st.sampled_from(["EUR", "USD"]),
        st.integers(-(10**20), 10**20),
    ),
    max_size=20,
)


def held_by_terms(contracts, shares, rows):
    """(reason, currency) → atoms that dividing holds."""
    held = Counter()
    for month in sorted({row[0] for row in rows}):
        terms = Terms(contracts, shares, Rates(), Period.parse(month))
        lines = pl.DataFrame(
            [
                ("feed", territory, "all", use, currency, recording, corrects, 1, atoms)
                for of, corrects, recording, territory, use, currency, atoms in rows
                if of == month
            ],
            schema={
                **dict.fromkeys(RECEIPT_COLUMNS[:7], pl.String()),
                "units": pl.Int64(),
                "receipts": pl.Int128(),
            },
            orient="row",
        )
        for reason, currency, atoms in (
            terms.divide(lines).held.select("reason", "currency", "receipts").iter_rows()
        ):
            held[reason, currency] += atoms
    return {key: atoms for key, atoms in held.items() if atoms}


@given(contract_sets(), usages, st.lists(st.sampled_from(RECORDINGS), unique=True))
def test_the_money_of_findings_is_the_money_that_dividing_holds(content, rows, shared):
    contracts, _ = build_contracts([("deals.yaml", content)])
    findings = lint(content, usage=rows, shares=shared)
    told = Counter()
    reasons = {
        "does_not_load": Held.CONTRACT_REFUSED,
        "overlap": Held.CONTRACTS_OVERLAP,
        "not_covered": Held.NOT_COVERED,
        "no_terms": Held.NO_SHARES,
    }
    for finding in findings:
        for currency, atoms in finding.money.items():
            if finding.rule in reasons:
                assert finding.severity == Severity.ERROR
                told[str(reasons[finding.rule]), currency] += atoms
    expected = held_by_terms(contracts, shares_of(*shared), rows)
    assert {key: atoms for key, atoms in told.items() if atoms} == expected


@given(contract_sets(), usages)
def test_where_nothing_is_found_nothing_is_held(content, rows):
    contracts, _ = build_contracts([("deals.yaml", content)])
    found = set(rules(lint(content)))
    of_march = [("2025-03", "", *row[2:]) for row in rows]
    held = {
        reason for reason, _ in held_by_terms(contracts, shares_of(*RECORDINGS, "R5"), of_march)
    }
    if "overlap" not in found:
        assert Held.CONTRACTS_OVERLAP not in held
    if "not_covered" not in found:
        assert Held.NOT_COVERED not in held


@given(contract_sets(), st.sampled_from([*RECORDINGS, "R5"]))
def test_areas_are_where_dividing_holds_money_and_nowhere_else(content, recording):
    contracts, _ = build_contracts([("deals.yaml", content)])
    coverage = Coverage(contracts)
    profile = coverage.profile(recording)
    places = list(product(TERRITORIES, USES))
    for month in MONTHS:
        on = Period.parse(month).last
        # Each place has a currency of its own, to be known by.
        rows = [
            (month, "", recording, territory, use, f"{number}", 1)
            for number, (territory, use) in enumerate(places)
        ]
        known = replace(contracts, refused={})
        held = held_by_terms(known, shares_of(recording), rows)
        expected = {}
        for number, (territory, use) in enumerate(places):
            there = [area for area in coverage.areas(profile) if area.has(territory, use, on)]
            assert len(there) <= 1
            if there and len(there[0].contracts) > 1:
                expected[str(Held.CONTRACTS_OVERLAP), f"{number}"] = 1
            elif there and profile.naming:
                expected[str(Held.NOT_COVERED), f"{number}"] = 1
        assert held == expected


def test_an_overlap_says_which_contracts_where_and_when():
    (finding,) = lint(
        {
            "contracts": [
                contract("A", recordings=["R1", "R2"], valid_to="2025-06-30"),
                contract("B", recordings=["R2"], territories="DE AT US", use_types=["Stream"],
                         valid_from="2025-05-01"),
            ]
        },
        usage=[("2025-05", "", "R2", "DE", "Stream", "EUR", 7), ("2025-05", "", "R1", "DE",
               "Stream", "EUR", 100)],
    )  # fmt: skip
    assert (finding.severity, finding.rule, finding.money) == ("error", "overlap", {"EUR": 7})
    assert finding.told.startswith(
        "A and B both cover 1 recording in AT, DE, US, Stream, from 2025-05 to 2025-06;"
    )


def test_a_gap_without_money_is_a_note_and_with_money_an_error():
    only_there = {"contracts": [contract(territories="Worldwide -US")]}
    assert [(f.severity, f.rule, f.money) for f in lint(only_there)] == [
        ("note", "not_covered", {})
    ]
    (finding,) = lint(only_there, usage=[("2025-03", "", "R1", "US", "Stream", "USD", 5)])
    assert (finding.severity, finding.money) == ("error", {"USD": 5})
    assert "not covered in US and for the whole world, all uses, at all times" in finding.told


def test_a_gap_between_contracts_is_told_before_money_comes_and_before_the_first_is_not():
    content = {
        "contracts": [
            contract("A", valid_from="2024-01-01", valid_to="2025-06-30"),
            contract("B", valid_from="2025-08-01"),
        ]
    }
    (finding,) = lint(content)
    assert "not covered in Worldwide, all uses, in 2025-07;" in finding.told


def test_what_does_not_load_names_the_money_that_waits():
    usage = [("2025-03", "", "R1", "DE", "Stream", "EUR", 3),
             ("2025-03", "", "R9", "DE", "Stream", "EUR", 4)]  # fmt: skip
    over = [{"payee": "P", "percent": 101}]
    (one, *_) = lint({"contracts": [contract(participants=over)]}, usage=usage, shares=["R9"])
    assert (one.severity, one.rule, one.money) == ("error", "does_not_load", {"EUR": 3})
    assert "the money of 1 recording is held" in one.told
    (every, *_) = lint({"payees": [{"payee": ""}]}, usage=usage, shares=["R1", "R9"])
    assert (every.rule, every.money) == ("does_not_load", {"EUR": 7})
    assert "nothing is paid" in every.told


def test_recordings_that_nothing_divides():
    findings = lint(
        usage=[("2025-03", "", "R1", "DE", "Stream", "EUR", 3),
               ("2025-03", "", "R2", "DE", "Stream", "EUR", 4)],
        recordings=["R1", "R2", "R3", "R4"],
        shares=["R4"],
        broken={"R2": "the shares sum to 99 %, not 100 %"},
    )  # fmt: skip
    assert [(f.severity, f.rule, f.subject, f.money) for f in findings] == [
        ("error", "shares_not_whole", "R2", {"EUR": 4}),
        ("error", "no_terms", "R1", {"EUR": 3}),
        ("warning", "no_terms", "1 recording", {}),
    ]


def test_names_that_lead_nowhere():
    findings = lint(
        {
            "payees": [{"payee": "P"}, {"payee": "Typo"}],
            "accounts": [{"account": "acc", "payee": "P", "currency": "EUR"}],
            "groups": {"G": ["R1"]},
            "contracts": [
                contract("A", recordings=["R1", "R7"],
                         participants=[{"payee": "Q", "percent": 50}], remainder_to="P"),
            ],
        },
        usage=[("2025-03", "", "R1", "DE", "Stream", "EUR", 3),
               ("2025-03", "", "R2", "DE", "Stream", "EUR", 9)],
        shares=["R2"],
        recordings=["R1", "R2"],
    )  # fmt: skip
    assert [(f.severity, f.rule, f.subject, f.money) for f in findings] == [
        ("warning", "idle_account", "acc", {"EUR": 12}),
        ("warning", "unlisted_payee", "Q", {"EUR": 3}),
        ("warning", "unknown_recording", "A", {}),
        ("note", "idle_group", "G", {"EUR": 3}),
        ("note", "idle_payee", "Typo", {}),
    ]


def test_boundaries_in_a_currency_that_never_comes():
    escalation = {"above_amount": "1000", "currency": "USD", "percents": {"P": 100}}
    content = {"contracts": [contract(escalations=[escalation])]}
    euro = ("2025-03", "", "R1", "DE", "Stream", "EUR", 3)
    assert rules(lint(content, usage=[euro])) == ["escalation_never_reached"]
    assert rules(lint(content, usage=[euro, (*euro[:5], "USD", 1)])) == []
    assert rules(lint(content)) == []


RATE = {"date": "2025-03-31", "currency": "USD", "into": "EUR", "rate": "0.9", "source": "ECB"}


@pytest.mark.parametrize(
    ("corrects", "rates", "missing"),
    [
        ("", [], ["USD into EUR, 2025-03"]),
        ("", [RATE], []),
        ("", [RATE | {"date": "2025-02-28"}], ["USD into EUR, 2025-03"]),
        ("2025-01", [RATE], ["USD into EUR, 2025-01"]),
    ],
)
def test_rates_that_a_month_needs_are_those_that_payouts_ask_for(corrects, rates, missing):
    content = {
        "payees": [{"payee": "P", "currency": "EUR"}, {"payee": "H", "currency": "EUR"}],
        "contracts": [contract()],
    }
    usage = [("2025-03", corrects, "R1", "DE", "Stream", "USD", 5),
             ("2025-03", corrects, "R1", "DE", "Stream", "EUR", 5)]  # fmt: skip
    known = [("rates.csv", number, row) for number, row in enumerate(rates)]
    findings = lint(content, usage=usage, rates=known, shares=[])
    assert [f.subject for f in findings if f.rule == "no_rate"] == missing
    assert all(f.money == {"USD": 5} for f in findings if f.rule == "no_rate")


def test_a_rate_is_missing_for_shares_and_for_amounts_per_unit():
    content = {
        "payees": [{"payee": "P", "currency": "EUR"}],
        "contracts": [contract(participants=[{"payee": "W", "per_unit": "0.001",
                                              "currency": "GBP"}], remainder_to="L")],
    }  # fmt: skip
    usage = [("2025-03", "", "R1", "DE", "Stream", "USD", 5),
             ("2025-03", "", "R2", "DE", "Stream", "USD", 6)]  # fmt: skip
    found = {f.subject: f.money for f in lint(content, usage=usage, shares=["R2"])
             if f.rule == "no_rate"}  # fmt: skip
    assert found == {"GBP into USD, 2025-03": {"USD": 5}, "USD into EUR, 2025-03": {"USD": 6}}


@pytest.mark.parametrize(
    ("taxes", "found"),
    [
        ([("60", "a", None), ("40", "b", None)], 0),
        ([("60", "a", None), ("41", "b", None)], 1),
        ([("60", "a", "2025-03-31"), ("60", "b", "2025-03-31")], 1),
        ([("10", "a", None), ("10", "a", None)], 1),
    ],
)
def test_what_is_withheld_is_at_most_everything_and_each_reason_once(taxes, found):
    withholding = [
        {"percent": percent, "reason": reason, "valid_to": to} for percent, reason, to in taxes
    ]
    content = {
        "payees": [{"payee": "P", "withholding": withholding}],
        "contracts": [contract()],
    }
    assert rules(lint(content)) == ["does_not_load"] * found


def test_rates_of_withholding_that_follow_each_other_are_fine():
    withholding = [
        {"percent": 60, "reason": "tax", "valid_to": "2025-03-31"},
        {"percent": 70, "reason": "tax", "valid_from": "2025-04-01"},
    ]
    content = {"payees": [{"payee": "P", "withholding": withholding}], "contracts": [contract()]}
    assert rules(lint(content)) == []


@pytest.mark.parametrize(
    ("valid_to", "told"),
    [("2025-02-28", False), ("2025-03-31", True), ("2025-04-30", True), ("2025-06-30", False)],
)
def test_a_contract_that_ends_soon_is_told_unless_another_follows(valid_to, told):
    usage = [("2025-01", "", "R1", "DE", "Stream", "EUR", 3)]
    ending = contract("A", valid_to=valid_to)
    findings = [f for f in lint({"contracts": [ending]}, usage=usage) if f.rule == "ends_soon"]
    assert [f.money for f in findings] == ([{"EUR": 3}] if told else [])
    following = contract("B", every_recording=True)
    both = lint({"contracts": [ending, following]}, usage=usage)
    assert "ends_soon" not in rules(both)


def test_findings_come_errors_first_and_then_by_money():
    usage = [("2025-03", "", f"R{n}", "DE", "Stream", "EUR", n) for n in range(1, 5)]
    content = {"payees": [{"payee": "X"}]}
    findings = lint(content, usage=usage)
    assert [f.money.get("EUR", 0) for f in findings] == [4, 3, 2, 1, 0]
    assert [f.severity for f in findings] == ["error"] * 4 + ["note"]


def test_nothing_is_found_where_there_is_nothing():
    assert lint() == []
    assert lint({"contracts": [contract()]}, shares=["R2"], recordings=["R1", "R2"]) == []
