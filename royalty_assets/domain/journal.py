"""The second half of the ledger: what becomes of what is due on recordings, double entry.

Each act takes an amount from one account and gives it to another, so that the lines of every act,
and so of every currency, sum to zero. What belongs here is the book; what is entered is decided in
``payouts``.
"""

from enum import StrEnum

import polars as pl

from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series


class Book(StrEnum):
    """Where an amount stands."""

    RECORDING_PAYABLE = "recording_payable"
    HELD = "held"
    DEDUCTION = "deduction"
    PAYEE_PAYABLE = "payee_payable"
    EXCHANGE = "exchange"
    RESERVE = "reserve"
    RECOUPMENT = "recoupment"
    BROUGHT_FORWARD = "brought_forward"
    CARRIED_FORWARD = "carried_forward"
    RESIDUE = "residue"
    WITHHOLDING = "withholding"
    PAID = "paid"


JOURNAL_SCHEMA: dict[str, pl.DataType] = {
    "act": pl.String(),
    "account": pl.String(),
    "payee_id": pl.String(),
    "reference": pl.String(),
    "currency": pl.String(),
    "corrects": pl.String(),
    "amount": AMOUNT_DTYPE,
}
"""One side of an act: positive where an account is relieved of an amount that it owed, negative
where it comes to owe it. Sorted by all columns but the last, which that makes unique."""


class Journal:
    """The acts of one period."""

    def __init__(self) -> None:
        self._sides: dict[tuple[str, str, str, str, str, str], int] = {}

    def transfer(
        self,
        act: str,
        source: Book,
        target: Book,
        currency: str,
        atoms: int,
        *,
        payee_id: str = "",
        reference: str = "",
        corrects: str = "",
    ) -> None:
        """Take atoms from what the source owes, and let the target owe them."""
        if not atoms:
            return
        for account, side in ((source, atoms), (target, -atoms)):
            key = (act, str(account), payee_id, reference, currency, corrects)
            self._sides[key] = self._sides.get(key, 0) + side

    def to_frame(self) -> pl.DataFrame:
        """``JOURNAL_SCHEMA``."""
        keys = sorted(key for key, atoms in self._sides.items() if atoms)
        names = list(JOURNAL_SCHEMA)[:-1]
        return pl.DataFrame(
            [
                *(
                    pl.Series(name, [key[i] for key in keys], pl.String)
                    for i, name in enumerate(names)
                ),
                atoms_to_series("amount", [self._sides[key] for key in keys]),
            ]
        )
