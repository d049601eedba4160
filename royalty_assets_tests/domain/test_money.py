"""Money: exact parsing, division by largest remainder, one rounding point.

The oracle for division is the definition, in fractions: floors, then one unit each to the largest
fractional parts, ties by key.
"""

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.money import (
    AmountError,
    format_atoms,
    format_money,
    from_atoms,
    parse_amount,
    round_to_minor_units,
    split_exactly,
    to_atoms,
)
from royalty_assets.domain.money_columns import atoms_to_series, series_to_atoms

ATOMS = st.integers(-(10**37), 10**37)


def split_by_definition(total: int, weights: list[tuple[str, int]]) -> list[int]:
    """Slow and obvious: exact fractions, floors, and what is left to the largest remainders."""
    whole = sum(weight for _, weight in weights)
    exact = [Fraction(abs(total) * weight, whole) for _, weight in weights]
    parts = [int(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda i: (-(exact[i] - parts[i]), weights[i][0]))
    for i in order[: abs(total) - sum(parts)]:
        parts[i] += 1
    return [part if total >= 0 else -part for part in parts]


@pytest.mark.parametrize(
    ("text", "atoms"),
    [
        ("1", 10**18),
        ("0.000000000000000001", 1),
        ("1E-08", 10**10),
        ("0E-18", 0),
        (".021330", 21330 * 10**12),
        ("-12.5", -125 * 10**17),
        ("0.4312000000000000000000000000", 4312 * 10**14),
    ],
)
def test_an_amount_is_read_as_written(text, atoms):
    assert to_atoms(parse_amount(text)) == atoms


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "1_000", "1,5", "١", "0x10", "1e999999", "1E-19", "9" * 21, "--1", "1 2"],
)
def test_what_is_no_exact_amount_is_refused(text):
    with pytest.raises(AmountError):
        parse_amount(text)


@given(ATOMS)
def test_atoms_survive_every_representation(atoms):
    assert to_atoms(from_atoms(atoms)) == atoms
    assert to_atoms(parse_amount(format_atoms(atoms))) == atoms


@given(st.lists(ATOMS))
def test_columns_hold_amounts_exactly(amounts):
    series = atoms_to_series("amount", amounts)
    assert series_to_atoms(series) == amounts
    assert series.to_list() == [from_atoms(amount) for amount in amounts]
    assert series_to_atoms(pl.concat([series, series])) == amounts * 2


@given(
    st.integers(-(10**30), 10**30),
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), min_size=1).filter(
        lambda weights: any(weights.values())
    ),
    st.randoms(use_true_random=False),
)
def test_division_is_largest_remainder_whatever_the_order(total, weights, random):
    items = list(weights.items())
    parts = split_exactly(total, items)
    assert sum(parts) == total
    assert parts == split_by_definition(total, items)
    shuffled = items.copy()
    random.shuffle(shuffled)
    by_key = dict(zip([k for k, _ in shuffled], split_exactly(total, shuffled), strict=True))
    assert by_key == dict(zip([k for k, _ in items], parts, strict=True))


def test_a_tie_goes_to_the_smaller_key():
    assert split_exactly(1, [("b", 1), ("a", 1), ("c", 1)]) == [0, 1, 0]


@pytest.mark.parametrize("weights", [[], [("a", 0)], [("a", -1), ("b", 2)], [("a", 1), ("a", 1)]])
def test_division_between_nobody_is_refused(weights):
    with pytest.raises(ValueError, match="weights|keys"):
        split_exactly(10, weights)


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 10**24)),
    st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_rounding_pays_whole_minor_units_and_keeps_the_rest(amounts, currency):
    minor_unit = {"EUR": 10**16, "JPY": 10**18, "KWD": 10**15}[currency]
    rounding = round_to_minor_units(amounts, currency)
    assert sum(rounding.paid.values()) + rounding.residue == sum(amounts.values())
    assert 0 <= rounding.residue < minor_unit
    for key, paid in rounding.paid.items():
        assert paid % minor_unit == 0
        assert abs(paid - amounts[key]) < minor_unit


def test_money_for_people_has_the_currencys_decimals():
    assert format_money(1234 * 10**18, "JPY") == "1,234"
    assert format_money(-(1234 * 10**18 + 10**17), "EUR") == "-1,234.10"
    assert format_money(10**15, "KWD") == "0.001"


def test_no_digit_passes_through_float():
    amount = Decimal("12345678901234567.890123456789012345")
    assert series_to_atoms(atoms_to_series("a", [to_atoms(amount)])) == [to_atoms(amount)]
