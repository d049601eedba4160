"""Dividing columns of money exactly, a million rows at a time.

The same rule as ``money.split_exactly``, which is its oracle: each part is within one atom of its
exact share, the parts of a row sum to the row, and what is left over goes to the largest
remainders, between equal ones to the party of the smaller key. What belongs here: exact
arithmetic on columns of atoms. What does not: who the parties are (``terms``).

Amounts are 128-bit integers of atoms. A product of amount and weight would not fit, so an amount
``q·w + r`` is divided as ``q`` wholes and a rest ``r < w``, whose products do.
"""

import polars as pl
import pyarrow as pa

from royalty_assets.domain.money import split_exactly
from royalty_assets.domain.money_columns import AMOUNT_DTYPE

ATOMS = pl.Int128()
"""The physical type of ``AMOUNT_DTYPE``."""
PARTIES_AT_ONCE_MAX = 8
"""Rows of more parties are divided one by one: comparing all pairs would cost more."""
_FITS_64_BITS = 3_000_000_000


def to_atom_column(series: pl.Series) -> pl.Series:
    """An amount column as integers of atoms."""
    return series.cast(AMOUNT_DTYPE).to_physical()


def to_amount_column(series: pl.Series) -> pl.Series:
    """Integers of atoms as an amount column.

    Raises:
        polars.exceptions.InvalidOperationError: for more than 38 digits.
    """
    whole = series.cast(pl.Decimal(38, 0)).rechunk().to_arrow()
    array = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    # The same 128 bits, read with the point moved: no digit is touched.
    moved = pa.Array.from_buffers(
        pa.decimal128(38, AMOUNT_DTYPE.scale), len(array), array.buffers(), offset=array.offset
    )
    return pl.Series(series.name, moved, AMOUNT_DTYPE)


def divide(
    rows: pl.DataFrame, amount: str, weights: list[str], whole: str, into: list[str]
) -> pl.DataFrame:
    """Divide an amount of each row by the row's weights.

    Args:
        rows: with the columns named.
        amount: Int128 atoms, of either sign.
        weights: Int64 columns from 0 to the whole, in the order of the parties' tie keys; they
            sum to the whole in every row.
        whole: Int64 above 0.
        into: names for the parts, Int128 atoms.
    """
    if len(weights) > PARTIES_AT_ONCE_MAX:
        return _one_by_one(rows, amount, weights, into)
    largest = rows[whole].max()
    width = pl.Int64 if isinstance(largest, int) and largest < _FITS_64_BITS else pl.Int128
    magnitude = pl.col(amount).abs()
    divisor = pl.col(whole)
    parts = rows.lazy().with_columns(
        (magnitude // divisor.cast(ATOMS)).alias("_quotient"),
        (magnitude % divisor.cast(ATOMS)).cast(width).alias("_rest"),
    )
    count = range(len(weights))
    products = [pl.col("_rest") * pl.col(weights[i]).cast(width) for i in count]
    parts = parts.with_columns(
        *(
            (
                pl.col("_quotient") * pl.col(weights[i]).cast(ATOMS)
                + (products[i] // divisor.cast(width)).cast(ATOMS)
            ).alias(f"_part_{i}")
            for i in count
        ),
        *((products[i] % divisor.cast(width)).alias(f"_over_{i}") for i in count),
    )
    left_over = pl.sum_horizontal(f"_over_{i}" for i in count) // divisor.cast(width)
    parts = parts.with_columns(left_over.alias("_left_over"))
    sign = pl.col(amount).sign()
    return parts.with_columns(
        (sign * (pl.col(f"_part_{i}") + _gets_one(i, len(weights)).cast(ATOMS))).alias(into[i])
        for i in count
    ).collect().drop(
        "_quotient", "_rest", "_left_over",
        *(f"_part_{i}" for i in count), *(f"_over_{i}" for i in count),
    )  # fmt: skip


def _gets_one(party: int, parties: int) -> pl.Expr:
    """Whether a party's remainder is among the largest, as many as atoms are left over."""
    mine = pl.col(f"_over_{party}")
    before = [
        (pl.col(f"_over_{other}") >= mine if other < party else pl.col(f"_over_{other}") > mine)
        for other in range(parties)
        if other != party
    ]
    rank = pl.sum_horizontal(before) if before else pl.lit(0)
    return rank < pl.col("_left_over")


def _one_by_one(
    rows: pl.DataFrame, amount: str, weights: list[str], into: list[str]
) -> pl.DataFrame:
    keys = [f"{number:06d}" for number in range(len(weights))]
    parts = [
        split_exactly(atoms, list(zip(keys, row, strict=True)))
        for atoms, row in zip(rows[amount].to_list(), rows.select(weights).rows(), strict=True)
    ]
    columns = list(zip(*parts, strict=True)) or [()] * len(into)
    return rows.with_columns(
        pl.Series(name, column, ATOMS) for name, column in zip(into, columns, strict=True)
    )


def converted(atoms: pl.Expr, rate: pl.Expr, whole: int) -> pl.Expr:
    """``atoms · rate / whole`` cut to whole atoms, towards zero; the same as ``rates.convert``.

    Args:
        atoms: Int128.
        rate: Int128 from 0 to 10²².
        whole: below 10¹⁵, so that a rest times a rate fits.
    """
    divisor = pl.lit(whole, dtype=ATOMS)
    magnitude = atoms.abs()
    exact = (magnitude // divisor) * rate + (magnitude % divisor) * rate // divisor
    return atoms.sign() * exact
