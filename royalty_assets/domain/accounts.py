"""What goes over from one accounting period to the next: balances, reserves, what was recouped.

An accounts table is a part of each period's payouts, and the next period starts from it. What
belongs here is its shape and its two-way reading; what changes it is in ``settlement``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms

ACCOUNT_SCHEMA: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "payee_id": pl.String(),
    "reference": pl.String(),
    "currency": pl.String(),
    "held_in": pl.String(),
    "due_in": pl.String(),
    "amount": AMOUNT_DTYPE,
    "units": pl.Int64(),
}
"""A balance at the end of a period. ``reference`` names the contract of a reserve or an
escalation, and the recoupment account of what was charged and recouped. ``held_in`` and
``due_in`` are periods of reserves. Sorted by all columns but the last two."""


class Kind(StrEnum):
    """What a balance is of."""

    CARRIED_FORWARD = "carried_forward"
    RESERVE = "reserve"
    CHARGED = "charged"
    RECOUPED = "recouped"
    ESCALATION_UNITS = "escalation_units"
    ESCALATION_AMOUNT = "escalation_amount"


@dataclass(frozen=True, slots=True, order=True)
class Tranche:
    """A part of a reserve that is released in one period, in atoms."""

    payee_id: str
    contract_id: str
    currency: str
    held_in: str
    due_in: str
    atoms: int


@dataclass(slots=True)
class Accounts:
    """Balances between two periods, in atoms.

    Attributes:
        carried_forward: (payee, currency) → what is due to the payee, negative if overpaid.
        reserves: still held.
        charged, recouped: (payee, recoupment account, currency) → since the beginning.
        units_reached, amount_reached: contract → what its escalations have counted so far.
    """

    carried_forward: dict[tuple[str, str], int] = field(default_factory=dict)
    reserves: list[Tranche] = field(default_factory=list)
    charged: dict[tuple[str, str, str], int] = field(default_factory=dict)
    recouped: dict[tuple[str, str, str], int] = field(default_factory=dict)
    units_reached: dict[str, int] = field(default_factory=dict)
    amount_reached: dict[str, int] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """``ACCOUNT_SCHEMA``; balances of nothing are left out."""
        rows: list[tuple[str, str, str, str, str, str, int, int]] = []
        for (payee, currency), atoms in self.carried_forward.items():
            rows.append((Kind.CARRIED_FORWARD, payee, "", currency, "", "", atoms, 0))
        for t in self.reserves:
            row = (Kind.RESERVE, t.payee_id, t.contract_id, t.currency, t.held_in, t.due_in)
            rows.append((*row, t.atoms, 0))
        for kind, balances in ((Kind.CHARGED, self.charged), (Kind.RECOUPED, self.recouped)):
            for (payee, account, currency), atoms in balances.items():
                rows.append((kind, payee, account, currency, "", "", atoms, 0))
        for contract, units in self.units_reached.items():
            rows.append((Kind.ESCALATION_UNITS, "", contract, "", "", "", 0, units))
        for contract, atoms in self.amount_reached.items():
            rows.append((Kind.ESCALATION_AMOUNT, "", contract, "", "", "", atoms, 0))
        rows = sorted((row for row in rows if row[6] or row[7]), key=lambda row: row[:6])
        texts = list(ACCOUNT_SCHEMA)[:6]
        return pl.DataFrame(
            [
                *(
                    pl.Series(name, [str(row[i]) for row in rows], pl.String)
                    for i, name in enumerate(texts)
                ),
                atoms_to_series("amount", [row[6] for row in rows]),
                pl.Series("units", [row[7] for row in rows], pl.Int64),
            ]
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "Accounts":
        """What ``to_frame`` wrote."""
        accounts = cls()
        texts = frame.select("kind", "payee_id", "reference", "currency", "held_in", "due_in")
        for (kind, payee, reference, currency, held_in, due_in), atoms, units in zip(
            texts.rows(), series_to_atoms(frame["amount"]), frame["units"].to_list(), strict=True
        ):
            match Kind(kind):
                case Kind.CARRIED_FORWARD:
                    accounts.carried_forward[payee, currency] = atoms
                case Kind.RESERVE:
                    accounts.reserves.append(
                        Tranche(payee, reference, currency, held_in, due_in, atoms)
                    )
                case Kind.CHARGED:
                    accounts.charged[payee, reference, currency] = atoms
                case Kind.RECOUPED:
                    accounts.recouped[payee, reference, currency] = atoms
                case Kind.ESCALATION_UNITS:
                    accounts.units_reached[reference] = units
                case Kind.ESCALATION_AMOUNT:
                    accounts.amount_reached[reference] = atoms
        return accounts

    @property
    def reached(self) -> dict[str, int]:
        """Contract → units or atoms that its escalations count from."""
        return self.units_reached | self.amount_reached

    def payees(self) -> Iterable[tuple[str, str]]:
        """(payee, currency) of everything that may still be paid."""
        return {*self.carried_forward, *((t.payee_id, t.currency) for t in self.reserves)}
