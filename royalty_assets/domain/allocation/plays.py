"""What listeners played, and what of it a model needs: frames that can be made part by part.

Plays become *terms*: sums of ``factor · units / divisor`` per claim. Terms of different listeners
add up, so a month of plays never has to be in memory, if each listener's are in one part.
"""

from collections.abc import Iterable

import polars as pl

PLAYS_SCHEMA: dict[str, pl.DataType] = {
    "pool": pl.String(),
    "listener": pl.String(),
    "claim": pl.String(),
    "artist": pl.String(),
    "units": pl.Int64(),
    "active_units": pl.Int64(),
    "fee": pl.Int64(),
}
"""How often a listener played what a claim stands for. ``active_units`` are those of the units
that the listener looked for; ``fee`` is what the listener paid, in any unit, the same in all rows
of a listener in a pool (1, where it is not known: each brings an equal part)."""

TERM_SCHEMA: dict[str, pl.DataType] = {
    "pool": pl.String(),
    "claim": pl.String(),
    "artist": pl.String(),
    "factor": pl.Int64(),
    "divisor": pl.Int64(),
    "units": pl.Int64(),
    "active_units": pl.Int64(),
    "listeners": pl.Int64(),
}
"""A term of a claim's weight. Rows without pool and claim are of an artist in all pools, with the
artist's ``listeners``."""

_KEY = ["pool", "claim", "artist", "factor", "divisor"]
_VALUES = ["units", "active_units", "listeners"]
_FOLDED_ROWS_MAX = 1_000_000


def listener_rows(plays: pl.DataFrame) -> pl.DataFrame:
    """Plays summed to one row per listener and claim, with ``listened``, the listener's plays.

    Raises:
        ValueError: if a listener has two fees in one pool.
    """
    key = ["pool", "listener", "claim", "artist"]
    rows = (
        plays.group_by(key)
        .agg(
            pl.col("units", "active_units").sum(),
            pl.col("fee").min(),
            pl.col("fee").max().alias("fee_max"),
        )
        .filter(pl.col("units") > 0)
        .with_columns(pl.col("units").sum().over("pool", "listener").alias("listened"))
    )
    fee_of_listener = pl.col("fee_max").max().over("pool", "listener")
    wrong = rows.filter(pl.col("fee") != fee_of_listener)
    if wrong.height:
        listener, pool = wrong.select(pl.col("listener").min(), pl.col("pool").min()).row(0)
        raise ValueError(f"listener {listener!r} has two fees in pool {pool!r}; one is paid")
    return rows.drop("fee_max")


def fold_terms(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Terms of several parts summed, in canonical order."""
    pending = [pl.DataFrame(schema=TERM_SCHEMA)]
    pending_rows = 0
    for frame in frames:
        pending.append(frame.select(TERM_SCHEMA.keys()))
        pending_rows += frame.height
        if pending_rows > _FOLDED_ROWS_MAX:
            pending = [_summed(pending)]
            pending_rows = 0
    return _summed(pending).sort(_KEY, nulls_last=True)


def _summed(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).group_by(_KEY).agg(pl.col(_VALUES).sum())
