"""Dividing columns of money: ``money.split_exactly``, row by row, is what must come out.

The amounts are as large as a ledger can hold (10³⁷ atoms), the wholes as large as a contract's
fractions can make them (10¹⁶: a percentage of a net of 6 decimals each).
"""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.money import split_exactly
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.splits import ATOMS, converted, divide, to_amount_column, to_atom_column

LARGEST = 10**37
amounts = st.one_of(
    st.sampled_from([0, 1, -1, LARGEST, -LARGEST, LARGEST - 1, 3 * 10**9, -(2**63), 2**63]),
    st.integers(-LARGEST, LARGEST),
    st.integers(-100, 100),
)
wholes = st.one_of(
    st.sampled_from([1, 2, 3, 10**8, 2_999_999_999, 3_000_000_000, 3_000_000_001, 10**16]),
    st.integers(1, 10**16),
)


@st.composite
def terms(draw, parties: int) -> tuple[int, list[int]]:
    """A whole, and weights from 0 to it that sum to it."""
    whole = draw(wholes)
    cuts = draw(
        st.lists(
            st.one_of(st.integers(0, whole), st.sampled_from([0, whole, whole // 2])),
            min_size=parties - 1,
            max_size=parties - 1,
        )
    )
    edges = [0, *sorted(cuts), whole]
    weights = [upper - lower for lower, upper in pairwise(edges)]
    return whole, draw(st.permutations(weights))


@st.composite
def divisions(draw) -> tuple[int, list[tuple[int, int, list[int]]]]:
    """A number of parties, and rows of amount, whole and weights."""
    parties = draw(st.integers(1, 12))
    rows = draw(st.lists(st.tuples(amounts, terms(parties)), min_size=1, max_size=8))
    return parties, [(amount, whole, weights) for amount, (whole, weights) in rows]


def divided(parties: int, rows: list[tuple[int, int, list[int]]]) -> list[list[int]]:
    """What ``divide`` makes of the rows, all at once."""
    frame = pl.DataFrame(
        [
            pl.Series("amount", [row[0] for row in rows], ATOMS),
            pl.Series("whole", [row[1] for row in rows], pl.Int64),
            *(
                pl.Series(f"weight_{i}", [row[2][i] for row in rows], pl.Int64)
                for i in range(parties)
            ),
        ]
    )
    into = [f"part_{i}" for i in range(parties)]
    parts = divide(frame, "amount", [f"weight_{i}" for i in range(parties)], "whole", into)
    assert parts.columns == [*frame.columns, *into]
    return [list(row) for row in parts.select(into).rows()]


@given(divisions())
def test_a_column_is_divided_as_each_of_its_rows_would_be(division):
    parties, rows = division
    expected = [
        split_exactly(amount, [(f"{i:02d}", weight) for i, weight in enumerate(weights)])
        for amount, _, weights in rows
    ]
    parts = divided(parties, rows)
    assert parts == expected
    assert [sum(row) for row in parts] == [amount for amount, _, _ in rows]


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (101, [1, 1, 1], [34, 34, 33]),
        (1, [25, 50, 25], [0, 1, 0]),
        (3, [25, 50, 25], [1, 1, 1]),
        (5, [0, 7, 0], [0, 5, 0]),
        (0, [1, 2, 3], [0, 0, 0]),
    ],
)
def test_what_is_left_over_goes_to_the_largest_remainder_then_the_first(amount, weights, parts):
    assert divided(3, [(amount, sum(weights), weights)]) == [parts]


@given(st.lists(amounts, max_size=20), st.integers(0, 5))
def test_atoms_and_amounts_are_the_same_bits(atoms, skipped):
    column = pl.Series("amount", atoms, ATOMS)[skipped:]
    amount = to_amount_column(column)
    assert series_to_atoms(amount) == atoms[skipped:]
    assert to_atom_column(amount).to_list() == atoms[skipped:]


def test_an_amount_of_more_than_38_digits_is_refused():
    with pytest.raises(pl.exceptions.InvalidOperationError, match="conversion"):
        to_amount_column(pl.Series("amount", [10**38], ATOMS))


@given(
    st.lists(st.integers(-(10**28), 10**28), min_size=1),
    st.one_of(st.integers(1, 10**21), st.sampled_from([1, 10**12, 10**21])),
)
def test_a_column_is_converted_as_the_product_cut_towards_zero(atoms, rate):
    column = pl.DataFrame([pl.Series("amount", atoms, ATOMS)]).select(
        converted(pl.col("amount"), pl.lit(rate, dtype=ATOMS), 10**12)
    )
    expected = [(abs(a) * rate // 10**12) * (1 if a >= 0 else -1) for a in atoms]
    assert column["amount"].to_list() == expected
