"""Statement lines from payout lines: words, conversions, order, and what is taken back."""

from datetime import date
from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.contracts import NO_CONTRACTS, Contracts, build_contracts
from royalty_assets.domain.money_columns import atoms_to_series
from royalty_assets.domain.payouts import CONVERSION_SCHEMA, PAYOUT_LINE_SCHEMA
from royalty_assets.domain.statement_lines import PAYEE_LINE_SCHEMA, payee_lines
from royalty_assets.domain.terms import Role

RECORDINGS = pl.DataFrame(
    [("R1", "USUM70600055", "Flowers", "Ada")],
    schema=["recording_id", "isrc", "title", "artist"],
    orient="row",
)
LINE = {
    "feed": "sonora", "territory": "DE", "tier": "premium", "use_type": "Stream",
    "currency": "EUR", "recording_id": "R1", "corrects": "", "units": 10, "contract_id": "",
    "step": 0, "rights_holder_id": "ada", "role": str(Role.HOLDER), "share_numerator": 60_000_000,
    "share_denominator": 100_000_000, "receipts": 10, "amount": 6,
}  # fmt: skip


def payout_lines(*changes: dict) -> pl.DataFrame:
    """Payout lines like ``LINE``; amounts in atoms."""
    rows = [LINE | change for change in changes]
    return pl.DataFrame(
        [
            atoms_to_series(name, [row[name] for row in rows])
            if isinstance(dtype, pl.Decimal)
            else pl.Series(name, [row[name] for row in rows], dtype)
            for name, dtype in PAYOUT_LINE_SCHEMA.items()
        ]
    )


def contracts(**content) -> Contracts:
    found, problems = build_contracts([("deals.yaml", content)])
    assert not problems
    return found


def conversions(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=CONVERSION_SCHEMA, orient="row")


def lines(*changes, terms=NO_CONTRACTS, rates=()):
    return payee_lines(payout_lines(*changes), RECORDINGS, terms, conversions(*rates), "2025-02")


def test_a_line_has_names_words_and_its_number():
    (line,) = lines({}).to_dicts()
    assert list(line) == list(PAYEE_LINE_SCHEMA)
    assert (line["payee_id"], line["payee_currency"], line["line_number"]) == ("ada", "EUR", 1)
    assert (line["title"], line["terms"]) == ("Flowers", "60 % of receipts")
    assert (line["rate"], line["rate_date"], line["rate_source"]) == ("", "", "")


def test_a_recording_that_the_catalog_lacks_is_told_by_its_id():
    (line,) = lines({"recording_id": "R9"}).to_dicts()
    assert (line["recording_id"], line["isrc"], line["title"]) == ("R9", "", "")


def test_a_reversal_and_what_is_booked_instead_are_two_lines():
    """3 and 4 atoms of a third each: taken back -1, booked 2; their sum, 1 of 1, is no third."""
    third = {"share_numerator": 1, "share_denominator": 3, "corrects": "2025-01"}
    found = lines(
        third | {"units": 4, "receipts": 4, "amount": 2},
        third | {"units": -3, "receipts": -3, "amount": -1},
    )
    assert found["units"].to_list() == [-3, 4]
    assert found["line_number"].to_list() == [1, 2]


def test_each_line_is_converted_by_the_rate_of_its_own_period():
    """6 atoms at 1.25 are 7.5, cut to 7; the corrected month has 1.5, and 6 become 9."""
    terms = contracts(payees=[{"payee": "ada", "currency": "USD"}])
    rates = [
        ("EUR", "USD", "2025-02", "1.25", date(2025, 2, 28), "ECB"),
        ("EUR", "USD", "2025-01", "1.5", date(2025, 1, 31), "ECB"),
    ]
    found = lines({}, {"corrects": "2025-01"}, {"currency": "USD"}, terms=terms, rates=rates)
    told = found.select("currency", "corrects", "rate", "rate_date", "rate_source").rows()
    assert told == [
        ("EUR", "", "1.25", "2025-02-28", "ECB"),
        ("EUR", "2025-01", "1.5", "2025-01-31", "ECB"),
        ("USD", "", "", "", ""),
    ]
    atoms = [int(amount * 10**18) for amount in found["payee_amount"]]
    assert atoms == [7, 9, 6]
    assert set(found["payee_currency"]) == {"USD"}


DEAL = {
    "contract": "C1",
    "recordings": ["R1"],
    "deductions": [{"name": "distribution", "percent": "20"}],
    "participants": [
        {"payee": "ada", "percent": "50"},
        {"payee": "bo", "per_unit": "0.001", "currency": "EUR"},
    ],
    "escalations": [{"above_units": "1000", "percents": {"ada": "60"}}],
    "remainder_to": "cy",
}
OF_DEAL = {"contract_id": "C1", "role": str(Role.PARTICIPANT)}


def words(*changes, terms):
    return [row["terms"] for row in lines(*changes, terms=terms).sort("line_number").to_dicts()]


def test_terms_in_words():
    terms = contracts(contracts=[DEAL])
    forty = OF_DEAL | {"share_numerator": 2, "share_denominator": 5}
    assert words(forty, terms=terms) == ["50 % of net receipts (after 20 % distribution)"]
    above = OF_DEAL | {"step": 1, "share_numerator": 12, "share_denominator": 25}
    (told,) = words(above, terms=terms)
    assert told == "60 % of net receipts (after 20 % distribution), above 1,000 units"
    per_unit = OF_DEAL | {
        "rights_holder_id": "bo", "share_numerator": 0, "share_denominator": 0,
    }  # fmt: skip
    assert words(per_unit, terms=terms) == ["0.001 EUR a unit"]
    rest = per_unit | {"rights_holder_id": "cy", "role": str(Role.REMAINDER)}
    assert words(rest, terms=terms) == ["what the participants do not get"]


def test_what_a_contract_deducts_is_nobodys_line():
    deducted = OF_DEAL | {"role": str(Role.DEDUCTION), "rights_holder_id": "distribution"}
    assert lines(deducted, terms=contracts(contracts=[DEAL])).is_empty()


def test_lines_by_terms_that_are_no_longer_agreed_say_what_they_were():
    """The contract gave 30 % once; its step 2 is gone, and so is a payee."""
    terms = contracts(contracts=[DEAL])
    before = OF_DEAL | {"share_numerator": 3, "share_denominator": 10, "corrects": "2025-01"}
    assert words(before, terms=terms) == ["30 % of receipts, as was agreed before"]
    assert words(before | {"step": 2}, terms=terms) == ["30 % of receipts, as was agreed before"]
    gone = before | {"rights_holder_id": "zoe"}
    assert words(gone, terms=terms) == ["30 % of receipts, as was agreed before"]
    per_unit = gone | {"share_numerator": 0, "share_denominator": 0}
    assert words(per_unit, terms=terms) == ["an amount per unit, as was agreed before"]
    assert words(before | {"contract_id": "C0"}, terms=NO_CONTRACTS) == [
        "30 % of receipts, as was agreed before"
    ]


@given(st.permutations(range(6)), st.lists(st.integers(-5, 5), min_size=6, max_size=6))
def test_numbers_follow_from_the_lines_and_not_from_their_order(order, units):
    """And each line of what was divided is one line of a statement: none is lost or added up."""
    rows = [
        {"territory": "DE" if i % 2 else "AT", "units": n, "receipts": n, "amount": n}
        for i, n in enumerate(units)
    ]
    straight = lines(*rows)
    assert lines(*[rows[i] for i in order]).equals(straight)
    assert straight.height == 6
    assert straight["amount"].sum() == Decimal(sum(units)) / 10**18
