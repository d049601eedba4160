"""What a contract file may not say: each is told with the entry, the rule and the value."""

import pytest

from royalty_assets.domain.contracts import build_contracts


def contract(**terms):
    whole = {"payee": "ann", "percent": 100}
    return {"contract": "c", "recordings": ["R1"], "participants": [whole], **terms}


def ann(percent=10, **terms):
    return {"payee": "ann", "percent": percent, **terms}


def problems_of(**content):
    return build_contracts([("terms.yaml", content)])[1]


def test_a_contract_that_pays_all_loads():
    contracts, problems = build_contracts([("terms.yaml", {"contracts": [contract()]})])
    assert problems == []
    assert list(contracts.contracts) == ["c"]
    assert contracts.refused == {}


TWO = [ann(60), {"payee": "bob", "percent": 41}]
PER_UNIT = {"payee": "ann", "per_unit": 1, "currency": "EUR"}


@pytest.mark.parametrize(
    ("terms", "rule", "reason"),
    [
        ({"participants": TWO}, "entry", "it would pay 101 % of receipts"),
        ({"participants": [ann(99)]}, "entry", "it pays 99 % of receipts; say with remainder_to"),
        (
            {"participants": [ann(90, of="gross_receipts")],
             "deductions": [{"name": "fee", "percent": 11}]},
            "entry", "it would pay 101 % of receipts",
        ),
        (
            {"deductions": [{"name": "a", "percent": 60}, {"name": "b", "percent": 60}]},
            "entry", "the deductions sum to 120 % of receipts",
        ),
        (
            {"participants": [ann(50), {"payee": "bob", "percent": 50}],
             "escalations": [{"above_units": 5, "percents": {"ann": 51}}]},
            "entry", "it would pay 101 % of receipts above boundary 1",
        ),
        (
            {"participants": [ann(10), ann(20, of="gross_receipts")], "remainder_to": "bob"},
            "entry", "a payee takes part twice",
        ),
        ({"participants": [PER_UNIT]}, "entry", "amounts per unit need a remainder_to"),
        ({"participants": [{"payee": "ann"}]}, "participants.0", "either percent or per_unit"),
        ({"participants": []}, "participants", "give at least one"),
        ({"recordings": []}, "entry", "give one of recordings, groups and every_recording"),
        ({"every_recording": True}, "entry", "give one of recordings, groups and"),
        ({"valid_from": "2025-01-15"}, "valid_from", "write 2025-01-01 or the month after"),
        ({"valid_to": "2025-02-27"}, "valid_to", "2025-02-27: terms end with a month"),
        (
            {"valid_from": "2025-03-01", "valid_to": "2025-02-28"},
            "entry", "valid_to is before valid_from",
        ),
        ({"territories": "DE|ZZ"}, "territories", "'ZZ' is not a territory"),
        ({"use_types": ["Strm"]}, "use_types.0", "Input should be"),
        (
            {"reserve": {"percent": 10, "release": [{"after_months": 3, "percent": 90}]}},
            "reserve", "the releases sum to 90 %, not 100 %",
        ),
        (
            {"reserve": {"percent": 10, "release": [{"after_months": 3, "percent": 50}] * 2}},
            "reserve", "two releases are after as many months",
        ),
        (
            {"escalations": [{"above_units": n, "percents": {"ann": 9}} for n in (5, 4)]},
            "entry", "escalations must be in order of their boundaries",
        ),
        (
            {"escalations": [{"above_units": 5, "percents": {"bo": 9}}]},
            "entry", "no percentage to escalate: bo",
        ),
        ({"recording": "R1"}, "recording", "Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_a_contract_that_makes_no_sense_does_not_load(terms, rule, reason):
    contracts, problems = build_contracts([("terms.yaml", {"contracts": [contract(**terms)]})])
    (problem,) = problems
    assert (problem.source, problem.entry) == ("terms.yaml", "c")
    assert problem.rule == f"contracts:{rule}"
    assert reason in problem.reason
    assert contracts.contracts == {}
    named = terms.get("recordings", ["R1"])
    assert contracts.refused == dict.fromkeys(named, "c")


@pytest.mark.parametrize("percent", ["nan", "1e999", "-1", "100.1", "0.0000001", True, "ten", ""])
def test_what_is_no_percentage_is_told_once(percent):
    (problem,) = problems_of(contracts=[contract(participants=[ann(percent)])])
    assert problem.rule == "contracts:participants.0.percent"
    assert problem.value == str(percent)


def test_a_percentage_may_have_its_sign():
    assert problems_of(contracts=[contract(participants=[ann("100 %")])]) == []


@pytest.mark.parametrize(
    ("taxes", "reason"),
    [
        ([("60", "a", None, None), ("60", "b", None, None)], "more than 100 % is withheld"),
        ([("10", "a", None, None), ("10", "a", "2025-03-01", None)], "a is withheld twice"),
        ([("10", "a", "2025-03-01", "2025-02-28")], "valid_to is before valid_from"),
    ],
)
def test_more_tax_than_there_is_money_is_refused(taxes, reason):
    names = ("percent", "reason", "valid_from", "valid_to")
    entry = {"payee": "ann", "withholding": [dict(zip(names, t, strict=True)) for t in taxes]}
    (problem,) = problems_of(payees=[entry])
    assert problem.entry == "ann"
    assert reason in problem.reason


def test_a_tax_may_change_from_a_month_to_the_next():
    taxes = [
        {"percent": 60, "reason": "tax", "valid_to": "2025-02-28"},
        {"percent": 70, "reason": "tax", "valid_from": "2025-03-01"},
    ]
    assert problems_of(payees=[{"payee": "ann", "withholding": taxes}]) == []


def test_what_a_contract_refers_to_must_be_there():
    account = {"account": "bobs", "payee": "bob", "currency": "EUR"}
    contracts, problems = build_contracts(
        [
            ("accounts.yaml", {"accounts": [account], "groups": {"known": ["R2"]}}),
            (
                "terms.yaml",
                {
                    "contracts": [
                        contract(contract="1", recordings=[], groups=["known", "lost"]),
                        contract(contract="2", participants=[ann(100, account="gone")]),
                        contract(
                            contract="3",
                            recordings=[],
                            groups=["known"],
                            participants=[ann(100, account="bobs")],
                        ),
                    ]
                },
            ),
        ]
    )
    assert [(p.entry, p.rule, p.value, p.recordings) for p in problems] == [
        ("1", "contracts:groups:unknown", "lost", None),
        ("2", "contracts:account:unknown", "gone", ("R1",)),
        ("3", "contracts:account:of_another", "bobs", ("R2",)),
    ]
    assert contracts.contracts == {}
    assert contracts.refused == {"R1": "2", "R2": "3"}


def test_an_account_in_another_currency_than_its_payee_is_paid_in_is_told():
    (problem,) = problems_of(
        payees=[{"payee": "ann", "currency": "USD"}],
        accounts=[{"account": "album", "payee": "ann", "currency": "EUR"}],
    )
    assert (problem.entry, problem.rule, problem.value) == ("album", "accounts:currency", "EUR")


def test_an_entry_that_is_there_twice_counts_once_and_is_told():
    twice = [contract(), contract(recordings=["R2"])]
    contracts, (problem,) = build_contracts([("terms.yaml", {"contracts": twice})])
    assert (problem.entry, problem.rule) == ("c", "contracts:repeated")
    assert contracts.contracts["c"].recordings == ("R1",)
    assert contracts.refused == {"R2": "c"}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"contract": []}, "file:unknown_part"),
        ({"contracts": {"c": 1}}, "contracts:type"),
        ({"contracts": ["c"]}, "contracts:entry"),
        ({"contracts": [None]}, "contracts:entry"),
        ({"groups": ["g"]}, "groups:type"),
        ({"groups": {"g": "R1"}}, "groups:list"),
    ],
)
def test_a_file_of_another_shape_is_told(content, rule):
    (problem,) = problems_of(**content)
    assert problem.rule == rule
    assert problem.recordings is None


def test_empty_parts_are_nothing():
    assert problems_of(contracts=None, payees=[], groups=None) == []
