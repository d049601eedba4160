"""The ledger of an accounting period: what each feed owes, and to which recording it is due.

Lines are double-entry: per feed and currency the amounts sum to zero. A *receivable* (positive)
is money that a feed's report or pool brings; it is matched by *recording payables* and by
*suspense* (negative) for usage that no recording could be found for. Who holds the recordings
is not asked here (``payouts``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from royalty_assets.domain.allocation import pro_rata
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS

NO_CURRENCY = "XXX"
"""ISO 4217's code for no currency: usage that no money has come for."""


class Account(StrEnum):
    """Where an amount stands."""

    RECEIVABLE = "receivable"
    RECORDING_PAYABLE = "recording_payable"
    SUSPENSE = "suspense"


LEDGER_SCHEMA: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "account": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "currency": pl.String(),
    "recording_id": pl.String(),
    "reason": pl.String(),
    "units": pl.Int64(),
    "amount": AMOUNT_DTYPE,
}
"""``recording_id`` is set on recording payables, ``reason`` on suspense, both empty elsewhere.
``units`` are the plays or sales that the line stands for. Sorted by all columns but the last two,
which that makes unique."""

MATCHED_USAGE_COLUMNS = [
    "feed",
    "territory",
    "tier",
    "use_type",
    "currency",
    "recording_id",
    "reason",
    "units",
    "amount",
]
"""What the ledger reads of matched usage; ``amount`` and ``currency`` null: shares a pool."""

_KEY = [name for name in LEDGER_SCHEMA if name not in {"units", "amount"}]
_POOL_KEY = ["territory", "tier"]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines under construction, as columns."""

    rows: list[tuple[str, ...]]
    units: list[int]
    atoms: list[int]

    def add(self, key: tuple[str, ...], units: int, atoms: int) -> None:
        self.rows.append(key)
        self.units.append(units)
        self.atoms.append(atoms)


def build_ledger(usage: Iterable[pl.DataFrame], pools: pl.DataFrame) -> pl.DataFrame:
    """Post a period's matched usage and pools.

    Args:
        usage: frames of ``MATCHED_USAGE_COLUMNS``, any cut, any order.
        pools: ``feed`` and ``usage.POOL_SCHEMA`` columns.

    Returns:
        ``LEDGER_SCHEMA``; the same for the same usage and money, however it was cut or ordered.
    """
    claims = _sum_claims(usage)
    lines = _Lines([], [], [])
    _post_priced(claims.filter(pl.col("currency") != ""), lines)
    _post_pools(claims.filter(pl.col("currency") == ""), pools, lines)
    key = pl.DataFrame(lines.rows, schema=dict.fromkeys(_KEY, pl.String), orient="row")
    return (
        key.with_columns(
            pl.Series("units", lines.units, pl.Int64), atoms_to_series("amount", lines.atoms)
        )
        .group_by(_KEY)
        .agg(pl.col("units").sum(), pl.col("amount").sum())
        .select(LEDGER_SCHEMA.keys())
        .sort(_KEY)
    )


def _sum_claims(usage: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Usage summed to what the ledger tells apart; folded frame by frame to stay small."""
    key = [name for name in MATCHED_USAGE_COLUMNS if name not in {"units", "amount"}]
    total = pl.DataFrame(
        schema={name: LEDGER_SCHEMA[name] for name in MATCHED_USAGE_COLUMNS},
    )
    pending: list[pl.DataFrame] = [total]
    pending_rows = 0
    for frame in usage:
        part = frame.select(MATCHED_USAGE_COLUMNS).with_columns(
            pl.col("currency", "recording_id", "reason").fill_null(""),
            pl.col("amount").fill_null(0),
        )
        pending.append(part)
        pending_rows += part.height
        if pending_rows > 1_000_000:
            pending = [_fold(pending, key)]
            pending_rows = 0
    return _fold(pending, key).sort(key)


def _fold(frames: list[pl.DataFrame], key: list[str]) -> pl.DataFrame:
    return pl.concat(frames).group_by(key).agg(pl.col("units").sum(), pl.col("amount").sum())


def _claim_account(recording_id: str) -> Account:
    return Account.RECORDING_PAYABLE if recording_id else Account.SUSPENSE


def _post_priced(claims: pl.DataFrame, lines: _Lines) -> None:
    for claim, atoms in zip(
        claims.iter_rows(named=True), series_to_atoms(claims["amount"]), strict=True
    ):
        where = (claim["territory"], claim["tier"], claim["use_type"], claim["currency"])
        lines.add((claim["feed"], Account.RECEIVABLE, *where, "", ""), claim["units"], atoms)
        account = _claim_account(claim["recording_id"])
        what = (claim["recording_id"], claim["reason"])
        lines.add((claim["feed"], account, *where, *what), claim["units"], -atoms)


def _post_pools(claims: pl.DataFrame, pools: pl.DataFrame, lines: _Lines) -> None:
    """Let each claim share the narrowest pool that covers it, and post pools without claims."""
    due = pools.filter(
        ~pl.col("is_agreed") | pl.col("feed").is_in(claims["feed"].unique().to_list())
    )
    amounts = due.group_by("feed", *_POOL_KEY, "currency").agg(pl.col("amount").sum())
    money: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
    for (feed, territory, tier, currency), atoms in sorted(
        zip(
            amounts.select("feed", *_POOL_KEY, "currency").rows(),
            series_to_atoms(amounts["amount"]),
            strict=True,
        )
    ):
        money.setdefault((feed, territory, tier), []).append((currency, atoms))

    sharing: dict[tuple[str, str, str], list[tuple[tuple[str, ...], int]]] = {}
    for claim in claims.iter_rows(named=True):
        feed, territory, tier, units = (claim[n] for n in ("feed", "territory", "tier", "units"))
        covering = (
            (feed, territory, tier),
            (feed, territory, ALL_TIERS),
            (feed, WORLDWIDE, tier),
            (feed, WORLDWIDE, ALL_TIERS),
        )
        pool = next((key for key in covering if key in money), None)
        what = (territory, tier, claim["use_type"], claim["recording_id"], claim["reason"])
        if pool is None:
            key = (feed, Account.SUSPENSE, *what[:3], NO_CURRENCY, "", "no_money_reported")
            lines.add(key, units, 0)
        else:
            sharing.setdefault(pool, []).append((what, units))

    for pool, currencies in money.items():
        claims_of_pool = sharing.get(pool, [])
        for number, (currency, atoms) in enumerate(currencies):
            # Units are told once, with the first currency, or a pool in two would double them.
            _share(pool, currency, atoms, claims_of_pool, lines, tell_units=number == 0)


def _share(
    pool: tuple[str, str, str],
    currency: str,
    atoms: int,
    claims: list[tuple[tuple[str, ...], int]],
    lines: _Lines,
    *,
    tell_units: bool,
) -> None:
    feed, territory, tier = pool
    used = sum(units for _, units in claims) if tell_units else 0
    lines.add((feed, Account.RECEIVABLE, territory, tier, "", currency, "", ""), used, atoms)
    if not any(units > 0 for _, units in claims):
        reason = "pool_without_usage"
        lines.add((feed, Account.SUSPENSE, territory, tier, "", currency, "", reason), 0, -atoms)
        parts = dict.fromkeys(("\t".join(what) for what, _ in claims), 0)
    else:
        parts = pro_rata(atoms, {"\t".join(what): units for what, units in claims})
    for what, units in claims:
        where, (recording_id, reason) = what[:3], what[3:]
        account = _claim_account(recording_id)
        key = (feed, account, *where, currency, recording_id, reason)
        lines.add(key, units if tell_units else 0, -parts["\t".join(what)])
