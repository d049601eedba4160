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

from royalty_assets.domain.money import (
    ATOMS_PER_UNIT,
    AmountError,
    format_atoms,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, series_to_atoms


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
of the sort: feed, currency, territory, tier, use type, recording, contract, terms, corrects, and
then what it is of: share, units, receipts, amount.
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


def movement_atoms(statement: Statement, *movements: Movement) -> int:
    """What these movements come to, in atoms of the statement's currency."""
    wanted = statement.movements.filter(pl.col("movement").is_in([str(name) for name in movements]))
    return sum(series_to_atoms(wanted["amount"]))


def statement_differences(statement: Statement) -> list[str]:
    """What keeps a statement from being whole, in words; empty when each figure leads to the next.

    Held are: the tables' columns; movements that are known, in their order, and sum to zero; lines
    that are numbered from 1 and come to the earnings and adjustments; each line's amount, by its
    share and its rate; recoupment accounts that follow from period to period, and agree with what
    the movements say was recouped.
    """
    differences = _schema_differences(statement)
    if differences:
        return differences
    return [
        *_movement_differences(statement),
        *_line_differences(statement),
        *_recoupment_differences(statement),
    ]


def _schema_differences(statement: Statement) -> list[str]:
    return [
        f"{name} has the columns {dict(table.schema)}, not {schema}"
        for name, table, schema in (
            ("lines", statement.lines, STATEMENT_LINE_SCHEMA),
            ("movements", statement.movements, STATEMENT_MOVEMENT_SCHEMA),
            ("recoupment", statement.recoupment, RECOUPMENT_HISTORY_SCHEMA),
            ("reserves", statement.reserves, RESERVE_SCHEMA),
        )
        if dict(table.schema) != schema
    ]


def _movement_differences(statement: Statement) -> list[str]:
    names = statement.movements["movement"].to_list()
    order = [str(name) for name in Movement]
    if unknown := sorted(set(names) - set(order)):
        return [f"there is no movement {', '.join(unknown)}; known are {', '.join(order)}"]
    told = []
    if names != sorted(names, key=order.index):
        told.append(f"the movements are not in their order: {', '.join(names)}")
    if rest := sum(series_to_atoms(statement.movements["amount"])):
        told.append(f"the movements sum to {format_atoms(rest)} {statement.currency}, not to zero")
    return told


def _line_differences(statement: Statement) -> list[str]:
    lines = statement.lines
    told = []
    if lines["line_number"].to_list() != list(range(1, lines.height + 1)):
        told.append(f"the lines are not numbered 1 to {lines.height}")
    payee_atoms = series_to_atoms(lines["payee_amount"])
    owed = movement_atoms(statement, Movement.EARNINGS, Movement.ADJUSTMENT)
    if sum(payee_atoms) != owed:
        told.append(
            f"the lines come to {format_atoms(sum(payee_atoms))} {statement.currency}, earnings "
            f"and adjustments to {format_atoms(owed)}"
        )
    rows = zip(
        lines.select(
            "line_number", "share_numerator", "share_denominator", "currency", "rate"
        ).iter_rows(),
        series_to_atoms(lines["receipts"]),
        series_to_atoms(lines["amount"]),
        payee_atoms,
        strict=True,
    )
    for (number, numerator, denominator, currency, rate), receipts, amount, payee_amount in rows:
        # Either side of the exact share: by largest remainder one of two payees has the atom.
        if denominator and abs(amount * denominator - receipts * numerator) > abs(denominator):
            told.append(
                f"line {number}: {format_atoms(amount)} {currency} is not {numerator}/"
                f"{denominator} of {format_atoms(receipts)}"
            )
        told += _conversion_differences(
            number, amount, payee_amount, currency, rate, statement.currency
        )
    return told


def _conversion_differences(
    number: int, amount: int, payee_amount: int, currency: str, rate: str, payee_currency: str
) -> list[str]:
    if not rate:
        if currency != payee_currency:
            return [f"line {number}: there is no rate from {currency} to {payee_currency}"]
        if amount != payee_amount:
            return [
                f"line {number}: {format_atoms(amount)} {currency} became "
                f"{format_atoms(payee_amount)} without a rate"
            ]
        return []
    try:
        rate_atoms = to_atoms(parse_amount(rate))
    except AmountError as error:
        return [f"line {number}: the rate: {error}"]
    if abs(payee_amount * ATOMS_PER_UNIT - amount * rate_atoms) >= ATOMS_PER_UNIT:
        return [
            f"line {number}: {format_atoms(payee_amount)} {payee_currency} is not "
            f"{format_atoms(amount)} {currency} at {rate}"
        ]
    return []


def _recoupment_differences(statement: Statement) -> list[str]:
    told = []
    history = statement.recoupment
    columns = ("opening", "charged", "recouped", "closing")
    atoms = zip(*(series_to_atoms(history[name]) for name in columns), strict=True)
    last: dict[str, int] = {}
    recouped_now = 0
    for (account, period), (opening, charged, recouped, closing) in zip(
        history.select("account", "period").iter_rows(), atoms, strict=True
    ):
        if closing != opening + charged - recouped:
            told.append(
                f"account {account}, {period}: {format_atoms(opening)} opening + "
                f"{format_atoms(charged)} charged - {format_atoms(recouped)} recouped is not "
                f"{format_atoms(closing)} closing"
            )
        if opening != last.get(account, opening):
            told.append(
                f"account {account}, {period}: opens with {format_atoms(opening)}, the period "
                f"before closed with {format_atoms(last[account])}"
            )
        last[account] = closing
        recouped_now += recouped if period == statement.period else 0
    moved = -movement_atoms(statement, Movement.RECOUPED)
    if moved != recouped_now:
        told.append(
            f"the movements recoup {format_atoms(moved)} {statement.currency}, the accounts "
            f"{format_atoms(recouped_now)} in {statement.period}"
        )
    return told
