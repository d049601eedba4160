"""Columns of money: between Python integers of atoms and ``Decimal(38, 18)`` series, exactly.

What belongs here is representation only; arithmetic on single amounts is in ``money``.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import polars as pl
import pyarrow as pa

from royalty_assets.domain.money import AMOUNT_DECIMALS

AMOUNT_DTYPE = pl.Decimal(38, AMOUNT_DECIMALS)
_ARROW_AMOUNT = pa.decimal128(38, AMOUNT_DECIMALS)
_BYTES_PER_AMOUNT = 16


def atoms_to_series(name: str, atoms: Sequence[int]) -> pl.Series:
    """A ``Decimal(38, 18)`` series of these amounts.

    The 128-bit integers are laid out as Arrow stores a decimal, so no digit passes through text
    or float.

    Raises:
        OverflowError: for an amount beyond 128 bits.
    """
    buffer = b"".join(amount.to_bytes(_BYTES_PER_AMOUNT, "little", signed=True) for amount in atoms)
    array = pa.Array.from_buffers(_ARROW_AMOUNT, len(atoms), [None, pa.py_buffer(buffer)])
    return cast("pl.Series", pl.from_arrow(array)).alias(name)


def series_to_atoms(series: pl.Series) -> list[int]:
    """The amounts of a ``Decimal(38, 18)`` series without nulls, in atoms."""
    if series.dtype != AMOUNT_DTYPE or series.null_count():
        raise ValueError(f"expected amounts without gaps in {series.name!r}, got {series.dtype}")
    arrow = series.rechunk().to_arrow().cast(_ARROW_AMOUNT)
    chunks: Iterable[pa.Array] = arrow.chunks if isinstance(arrow, pa.ChunkedArray) else [arrow]
    atoms: list[int] = []
    for chunk in chunks:
        first = chunk.offset * _BYTES_PER_AMOUNT
        raw = memoryview(chunk.buffers()[1])[first : first + len(chunk) * _BYTES_PER_AMOUNT]
        atoms.extend(
            int.from_bytes(raw[i : i + _BYTES_PER_AMOUNT], "little", signed=True)
            for i in range(0, len(raw), _BYTES_PER_AMOUNT)
        )
    return atoms
