"""Exchange rates: which one counts, and what is wrong with one."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.rates import NoRateError, Rates, build_rates, convert

FIRST, LAST = date(2025, 3, 1), date(2025, 3, 31)


def row(day="2025-03-31", rate="1.08", **fields):
    row = {"date": day, "currency": "EUR", "into": "USD", "rate": rate, "source": "ECB"}
    return {**row, **fields}


def build(*rows):
    return build_rates([("ecb.csv", number, fields) for number, fields in enumerate(rows, start=2)])


def within_march(rates: Rates) -> str:
    return str(rates.within("EUR", "USD", FIRST, LAST).rate)


def test_the_newest_rate_of_the_period_counts_whatever_the_order_of_rows():
    days = {"2025-02-28": "1", "2025-03-01": "2", "2025-03-30": "3", "2025-04-01": "4"}
    rows = [row(day, rate) for day, rate in days.items()]
    for order in (rows, rows[::-1]):
        rates, problems = build(*order)
        assert problems == []
        assert within_march(rates) == "3"


def test_a_period_without_a_rate_has_none():
    rates, _ = build(row("2025-02-28"), row("2025-04-01"))
    with pytest.raises(NoRateError, match="no rate from EUR into USD is dated from 2025-03-01"):
        within_march(rates)


def test_two_rates_that_differ_do_not_count_and_two_that_agree_do():
    rates, (problem,) = build(row(), row(rate="1.080", source="Bundesbank"), row(rate="1.09"))
    assert (problem.source, problem.row_number, problem.rule) == (
        "ecb.csv",
        4,
        "rates:conflicting",
    )
    assert "ecb.csv:2 says 1.08" in problem.reason
    with pytest.raises(NoRateError):
        within_march(rates)
    rates, problems = build(row(), row(rate="1.080"))
    assert problems == []
    assert within_march(rates) == "1.08"


@pytest.mark.parametrize(
    ("fields", "place", "value"),
    [
        ({"rate": "0"}, "rate", "0"),
        ({"rate": "-1"}, "rate", "-1"),
        ({"rate": "1,08"}, "rate", "1,08"),
        ({"rate": "nan"}, "rate", "nan"),
        ({"rate": "0.0000000000001"}, "rate", "0.0000000000001"),
        ({"rate": "1000000000"}, "rate", "1000000000"),
        ({"date": "31.03.2025"}, "date", "31.03.2025"),
        ({"currency": "EURO"}, "currency", "EURO"),
        ({"into": "XXX"}, "into", "XXX"),
        ({"source": ""}, "source", ""),
    ],
)
def test_a_row_that_is_no_rate_is_told(fields, place, value):
    rates, (problem,) = build(row(**fields))
    assert problem.row_number == 2
    assert problem.rule.startswith(f"rates.{place}:")
    assert problem.value == value
    assert rates.by_pair == {}


def test_a_missing_column_is_told():
    fields = row()
    del fields["source"]
    _, (problem,) = build(fields)
    assert (problem.rule, problem.value) == ("rates.source:missing", "")


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**21 - 1))
def test_a_conversion_is_cut_towards_zero(atoms, parts):
    text = f"{parts // 10**12}.{parts % 10**12:012d}"
    rates, problems = build(row(rate=text))
    assert problems == []
    made = convert(atoms, rates.within("EUR", "USD", FIRST, LAST))
    assert made == convert(-atoms, rates.within("EUR", "USD", FIRST, LAST)) * -1
    assert abs(made) * 10**12 <= abs(atoms) * parts < (abs(made) + 1) * 10**12
