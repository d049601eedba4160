"""The canonical text of a ledger and its payouts, and the one hash over it.

Equal money means equal hash: the text holds who owes and who is paid what for which usage, in
one order and one spelling of numbers. It holds nothing of how the figures came about: no batch,
no file, no time, no machine.
"""

import hashlib
from collections.abc import Iterator

import polars as pl

from royalty_assets.domain.ledger import LEDGER_SCHEMA
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, series_to_atoms
from royalty_assets.domain.payouts import BALANCE_SCHEMA, PAYOUT_SCHEMA


def canonical_lines(period: str, table: str, frame: pl.DataFrame) -> Iterator[str]:
    """Tab-separated text, one line a row, sorted, each ending in a line feed."""
    rendered = frame.with_columns(
        pl.Series(name, map(format_atoms, series_to_atoms(frame[name])), pl.String)
        for name, dtype in frame.schema.items()
        if dtype == AMOUNT_DTYPE
    )
    # Tabs and line feeds inside names would let two ledgers share one text.
    escaped = (
        pl.col(name)
        .cast(pl.String)
        .str.replace_all("\\", "\\\\", literal=True)
        .str.replace_all("\t", "\\t", literal=True)
        .str.replace_all("\n", "\\n", literal=True)
        for name in rendered.columns
    )
    rows = rendered.select(escaped).rows()
    yield from sorted("\t".join((period, table, *row)) + "\n" for row in rows)


def ledger_sha256(
    periods: dict[str, tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]],
) -> str:
    """SHA-256 over the (ledger, payouts, balance) of each period, periods in order."""
    digest = hashlib.sha256()
    for period in sorted(periods):
        ledger, payouts, balance = periods[period]
        for table, frame in (
            ("ledger", _money_lines(ledger)),
            ("payouts", payouts.select(PAYOUT_SCHEMA.keys())),
            ("balance", balance.select(BALANCE_SCHEMA.keys())),
        ):
            for line in canonical_lines(period, table, frame):
                digest.update(line.encode())
    return digest.hexdigest()


def _money_lines(ledger: pl.DataFrame) -> pl.DataFrame:
    """The ledger without why usage is in suspense: better words for it are no other money."""
    key = [name for name in LEDGER_SCHEMA if name not in {"reason", "units", "amount"}]
    return ledger.group_by(key).agg(pl.col("units").sum(), pl.col("amount").sum())
