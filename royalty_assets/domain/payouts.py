"""From recording payables to what each rights holder is paid in a period.

Each recording's money is split by its shares, exactly; then, and only here, amounts are rounded
to what a bank can pay: once per (currency, period), by largest remainder over the payees. What
is too little to pay out is the residue, a line of its own.
"""

from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.catalog import SHARE_SCHEMA
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.money import round_to_minor_units, split_exactly
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms

PAYOUT_LINE_SCHEMA: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "currency": pl.String(),
    "recording_id": pl.String(),
    "rights_holder_id": pl.String(),
    "share_parts": pl.Int64(),
    "units": pl.Int64(),
    "amount": AMOUNT_DTYPE,
}
"""One rights holder's exact part of one recording's money from one feed."""

PAYOUT_SCHEMA: dict[str, pl.DataType] = {
    "rights_holder_id": pl.String(),
    "rights_holder_name": pl.String(),
    "currency": pl.String(),
    "amount_exact": AMOUNT_DTYPE,
    "amount_paid": AMOUNT_DTYPE,
    "amount_carried_forward": AMOUNT_DTYPE,
}
"""``amount_exact`` before rounding; a negative balance is not paid but carried forward."""

BALANCE_SCHEMA: dict[str, pl.DataType] = {
    "currency": pl.String(),
    "received": AMOUNT_DTYPE,
    "paid": AMOUNT_DTYPE,
    "held": AMOUNT_DTYPE,
    "in_suspense": AMOUNT_DTYPE,
    "carried_forward": AMOUNT_DTYPE,
    "residue": AMOUNT_DTYPE,
}
"""Where every atom of a period's money went: ``received`` equals the sum of the others."""


@dataclass(frozen=True, slots=True)
class Payouts:
    """A period's payouts: ``PAYOUT_LINE_SCHEMA``, ``PAYOUT_SCHEMA`` and ``BALANCE_SCHEMA``."""

    lines: pl.DataFrame
    payouts: pl.DataFrame
    balance: pl.DataFrame


def build_payouts(ledger: pl.DataFrame, shares: pl.DataFrame) -> Payouts:
    """Split, round and balance one period.

    Args:
        ledger: ``ledger.LEDGER_SCHEMA``.
        shares: ``catalog.SHARE_SCHEMA``; a recording without shares has its money held.
    """
    payable = (
        ledger.filter(pl.col("account") == Account.RECORDING_PAYABLE)
        .group_by("feed", "currency", "recording_id")
        .agg(pl.col("units").sum(), (-pl.col("amount").sum()).alias("amount"))
        .sort("feed", "currency", "recording_id")
    )
    has_shares = payable.join(shares, on="recording_id", how="semi")
    lines = _split(has_shares, shares)
    names = shares.select("rights_holder_id", "rights_holder_name").unique(
        "rights_holder_id", keep="first", maintain_order=True
    )
    payouts, residue = _round(lines, names)
    balance = _balance(
        ledger, payouts, residue, payable.join(shares, on="recording_id", how="anti")
    )
    return Payouts(lines, payouts, balance)


def _split(payable: pl.DataFrame, shares: pl.DataFrame) -> pl.DataFrame:
    splits: dict[str, list[tuple[str, int]]] = {}
    for recording_id, holder, _, parts in shares.select(SHARE_SCHEMA.keys()).iter_rows():
        splits.setdefault(recording_id, []).append((holder, parts))
    rows: list[tuple[str, str, str, str, int, int]] = []
    amounts: list[int] = []
    for (feed, currency, recording_id, units), atoms in zip(
        payable.select("feed", "currency", "recording_id", "units").iter_rows(),
        series_to_atoms(payable["amount"]),
        strict=True,
    ):
        split = splits[recording_id]
        for (holder, parts), amount in zip(split, split_exactly(atoms, split), strict=True):
            rows.append((feed, currency, recording_id, holder, parts, units))
            amounts.append(amount)
    schema = {name: dtype for name, dtype in PAYOUT_LINE_SCHEMA.items() if name != "amount"}
    return (
        pl.DataFrame(rows, schema=schema, orient="row")
        .with_columns(atoms_to_series("amount", amounts))
        .sort("rights_holder_id", "currency", "feed", "recording_id")
    )


def _round(lines: pl.DataFrame, names: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    owed = (
        lines.filter(pl.col("currency") != NO_CURRENCY)
        .group_by("rights_holder_id", "currency")
        .agg(pl.col("amount").sum().alias("amount_exact"))
        .join(names, on="rights_holder_id", how="left")
        .sort("rights_holder_id", "currency")
    )
    exact = series_to_atoms(owed["amount_exact"])
    keys = owed.select("rights_holder_id", "currency").rows()
    by_currency: dict[str, dict[str, int]] = {}
    for (holder, currency), atoms in zip(keys, exact, strict=True):
        by_currency.setdefault(currency, {})[holder] = atoms
    paid: dict[tuple[str, str], int] = {}
    residue: dict[str, int] = {}
    for currency, balances in by_currency.items():
        positive = {holder: atoms for holder, atoms in balances.items() if atoms >= 0}
        rounding = round_to_minor_units(positive, currency)
        residue[currency] = rounding.residue
        paid |= {(holder, currency): atoms for holder, atoms in rounding.paid.items()}
    payouts = owed.with_columns(
        atoms_to_series("amount_paid", [paid.get(key, 0) for key in keys]),
        atoms_to_series("amount_carried_forward", [min(atoms, 0) for atoms in exact]),
    ).select(PAYOUT_SCHEMA.keys())
    return payouts, residue


def _balance(
    ledger: pl.DataFrame, payouts: pl.DataFrame, residue: dict[str, int], held: pl.DataFrame
) -> pl.DataFrame:
    money = ledger.filter(pl.col("currency") != NO_CURRENCY)
    received = _atoms_by_currency(money.filter(pl.col("account") == Account.RECEIVABLE), "amount")
    suspense = _atoms_by_currency(money.filter(pl.col("account") == Account.SUSPENSE), "amount")
    columns = {
        "received": received,
        "paid": _atoms_by_currency(payouts, "amount_paid"),
        "held": _atoms_by_currency(held.filter(pl.col("currency") != NO_CURRENCY), "amount"),
        "in_suspense": {currency: -atoms for currency, atoms in suspense.items()},
        "carried_forward": _atoms_by_currency(payouts, "amount_carried_forward"),
        "residue": residue,
    }
    currencies = sorted(set().union(*columns.values()))
    return pl.DataFrame(
        [
            pl.Series("currency", currencies, pl.String),
            *(
                atoms_to_series(name, [atoms.get(currency, 0) for currency in currencies])
                for name, atoms in columns.items()
            ),
        ]
    )


def _atoms_by_currency(frame: pl.DataFrame, column: str) -> dict[str, int]:
    # Summed as Python integers, which have no end: the frames' own sums are 128 bits wide, and
    # what checks them must not overflow where they do.
    sums: dict[str, int] = {}
    atoms = series_to_atoms(frame[column])
    for currency, amount in zip(frame["currency"].to_list(), atoms, strict=True):
        sums[currency] = sums.get(currency, 0) + amount
    return sums
