"""What a payee is told about one accounting period: lines, movements, balances.

A statement is of one payee, period and currency. Its *lines* say what was earned with which
recording where; its *movements* lead from what was brought forward to what is paid, and sum to
zero, so that nothing stands between two figures unexplained. What belongs here is the shape of a
statement and what must hold of it; how it is written down (CSV, PDF, DSR) is in
``royalty_assets.statements``.
"""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from royalty_assets.domain.money_columns import AMOUNT_DTYPE


class Movement(StrEnum):
    """Why a payee's balance changes, in the order in which it does."""

    BROUGHT_FORWARD = "brought_forward"
    EARNINGS = "earnings"
    ADJUSTMENT = "adjustment"
    RESERVE_HELD = "reserve_held"
    RESERVE_RELEASED = "reserve_released"
    RECOUPED = "recouped"
    ROUNDING = "rounding"
    WITHHELD = "withheld"
    PAID = "paid"
    CARRIED_FORWARD = "carried_forward"


STATEMENT_LINE_SCHEMA: dict[str, pl.DataType] = {
    "line_number": pl.Int64(),
    "feed": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "recording_id": pl.String(),
    "isrc": pl.String(),
    "title": pl.String(),
    "artist": pl.String(),
    "contract_id": pl.String(),
    "terms": pl.String(),
    "units": pl.Int64(),
    "currency": pl.String(),
    "receipts": AMOUNT_DTYPE,
    "share_numerator": pl.Int64(),
    "share_denominator": pl.Int64(),
    "amount": AMOUNT_DTYPE,
    "rate": pl.String(),
    "rate_date": pl.String(),
    "rate_source": pl.String(),
    "payee_amount": AMOUNT_DTYPE,
    "corrects": pl.String(),
}
"""One line: ``receipts`` of a recording in ``currency``, the payee's exact ``amount`` of them
(``receipts · share_numerator / share_denominator`` to within one atom, or an amount per unit, in
which case ``share_denominator`` is 0), and the same in the statement's currency.

``terms`` are words, such as ``50 % of net receipts``. ``contract_id`` is empty where the catalog's
plain shares apply. ``rate``, ``rate_date`` (ISO) and ``rate_source`` are empty where nothing is
converted; else ``payee_amount`` is ``amount · rate`` cut to 18 decimals. ``corrects`` is the
period (``2025-03``) that an adjusting line corrects, empty on others. Numbered from 1 in the order
of the sort: feed, currency, territory, tier, use type, recording, contract, terms, corrects.
"""

STATEMENT_MOVEMENT_SCHEMA: dict[str, pl.DataType] = {
    "movement": pl.String(),
    "reference": pl.String(),
    "explanation": pl.String(),
    "amount": AMOUNT_DTYPE,
}
"""In the order of ``Movement``; positive adds to what is due to the payee. The amounts sum to zero:
what is paid, withheld or carried forward is negative. ``reference`` names the contract, recoupment
account, tax or corrected period; ``explanation`` says in words how the figure came about."""

RECOUPMENT_HISTORY_SCHEMA: dict[str, pl.DataType] = {
    "account": pl.String(),
    "period": pl.String(),
    "opening": AMOUNT_DTYPE,
    "charged": AMOUNT_DTYPE,
    "recouped": AMOUNT_DTYPE,
    "closing": AMOUNT_DTYPE,
}
"""What was to be recouped from the payee: ``closing = opening + charged - recouped``, by account
and period, oldest first; ``charged`` are advances and costs of the period."""

RESERVE_SCHEMA: dict[str, pl.DataType] = {
    "contract_id": pl.String(),
    "held_in": pl.String(),
    "release_in": pl.String(),
    "amount": AMOUNT_DTYPE,
}
"""Reserves that are still held at the period's end, and the periods that they were held in and are
to be released in."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one payee is told about one period, in one currency.

    Attributes:
        payee_id: the rights holder's id.
        payee_name: as the catalog or the contracts spell it.
        period: the accounting month, ``2025-03``.
        currency: that it is paid in (ISO 4217).
        lines: ``STATEMENT_LINE_SCHEMA``.
        movements: ``STATEMENT_MOVEMENT_SCHEMA``.
        recoupment: ``RECOUPMENT_HISTORY_SCHEMA``, up to this period.
        reserves: ``RESERVE_SCHEMA``.
    """

    payee_id: str
    payee_name: str
    period: str
    currency: str
    lines: pl.DataFrame
    movements: pl.DataFrame
    recoupment: pl.DataFrame
    reserves: pl.DataFrame

    @property
    def statement_id(self) -> str:
        """Period, payee and currency: what a receipt and a question refer to."""
        return f"{self.period}/{self.payee_id}/{self.currency}"
