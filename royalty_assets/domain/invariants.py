"""The invariants of the design as named functions: each returns what breaks it, or nothing.

They are asset checks in the UI, the last line of the demo, and properties in the tests. They
compare figures that were derived independently of each other; deriving them is the caller's.
"""

from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms


@dataclass(frozen=True, slots=True)
class RowCount:
    """What became of the rows that went into a stage."""

    received: int
    accepted: int
    rejected: int
    duplicates: int


def rows_are_accounted_for(rows: RowCount) -> list[str]:
    """Invariant 1: rows in = accepted + rejected + duplicates."""
    accounted = rows.accepted + rows.rejected + rows.duplicates
    if rows.received == accounted:
        return []
    return [
        f"{rows.received} rows came in, but {rows.accepted} accepted + {rows.rejected} rejected + "
        f"{rows.duplicates} duplicates = {accounted}"
    ]


def units_are_accounted_for(received: int, matched: int, in_suspense: int) -> list[str]:
    """Invariant 1: units in = matched + in suspense."""
    if received == matched + in_suspense:
        return []
    return [
        f"{received} units came in, but {matched} matched + {in_suspense} in suspense = "
        f"{matched + in_suspense}"
    ]


def ids_are_counted_once(event_ids: pl.Series) -> list[str]:
    """Invariant 2: no event id stands twice in a window."""
    repeated = event_ids.filter(event_ids.is_duplicated()).unique().sort()
    if repeated.is_empty():
        return []
    return [f"{repeated.len()} event ids are counted twice, {repeated[0]!r} among them"]


def rejections_are_recorded(rejected: int, recorded: int, unexplained: int) -> list[str]:
    """Invariant 3: each rejected row has a dead letter that names row, rule and reason."""
    broken = []
    if rejected != recorded:
        broken.append(f"{rejected} rows were rejected, but {recorded} dead letters exist")
    if unexplained:
        broken.append(f"{unexplained} dead letters lack a row, a rule or a reason")
    return broken


def ledger_balances(ledger: pl.DataFrame) -> list[str]:
    """Double entry: per feed and currency the ledger's amounts sum to zero."""
    sums = ledger.group_by("feed", "currency").agg(pl.col("amount").sum()).sort("feed", "currency")
    return [
        f"feed {feed}: the {currency} lines sum to {format_atoms(atoms)}, not 0"
        for (feed, currency), atoms in zip(
            sums.select("feed", "currency").rows(), series_to_atoms(sums["amount"]), strict=True
        )
        if atoms
    ]


def journal_balances(journal: pl.DataFrame) -> list[str]:
    """Double entry: the sides of each act (``journal.JOURNAL_SCHEMA``) sum to zero by currency."""
    sums: dict[tuple[str, str], int] = {}
    for act, currency, atoms in zip(
        journal["act"], journal["currency"], series_to_atoms(journal["amount"]), strict=True
    ):
        sums[act, currency] = sums.get((act, currency), 0) + atoms
    return [
        f"{act}: the {currency} sides sum to {format_atoms(atoms)}, not 0"
        for (act, currency), atoms in sorted(sums.items())
        if atoms
    ]


def money_is_accounted_for(balance: pl.DataFrame) -> list[str]:
    """Invariant 1: money in = paid + withheld + held + in suspense + carried forward + residue.

    And what contracts deduct, reserve and recoup, and what is exchanged into another currency.

    Args:
        balance: ``payouts.BALANCE_SCHEMA``.
    """
    came = ["received", "brought_forward"]
    atoms = {name: series_to_atoms(balance[name]) for name in balance.columns if name != "currency"}
    broken = []
    for row, currency in enumerate(balance["currency"]):
        came_in = sum(atoms[name][row] for name in came)
        accounted = sum(of_row[row] for name, of_row in atoms.items() if name not in came)
        if came_in != accounted:
            broken.append(
                f"{currency}: {format_atoms(came_in)} came in, but "
                f"{format_atoms(accounted)} is accounted for"
            )
    return broken
