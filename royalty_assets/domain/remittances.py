"""Remittances: the cash that came for a report, held against what the report says.

Three figures tell of one payment: the sum of a report's lines, the control total that its sender
states, and what arrived at the bank. They are compared exactly; a difference is told, and where
the feed says so it blocks the payout.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, StringConstraints
from pydantic_core import PydanticCustomError

from royalty_assets.domain.money import (
    AMOUNT_DECIMALS,
    ATOMS_PER_UNIT,
    format_money,
    minor_unit_decimals,
    to_atoms,
)
from royalty_assets.domain.usage import Amount, Currency, Identifier, Text


def _as_day(value: Any) -> Any:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise PydanticCustomError("date", "Input should be a date") from None


Day = Annotated[date, BeforeValidator(_as_day)]


class Remittance(BaseModel):
    """One payment: for which feed and period, how much, when, and the bank's reference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: Annotated[StrictStr, StringConstraints(strip_whitespace=True, min_length=1)]
    period: Annotated[Day, Field(description="any day of the accounting month")]
    amount: Amount
    currency: Currency
    received_on: Day
    reference: Identifier
    report: Text = ""


@dataclass(frozen=True, slots=True)
class PaymentFigures:
    """What is known of the money of one feed, month and currency, in atoms.

    Attributes:
        lines: what the report lines and pools come to.
        stated: the reports' control totals, if every report states one.
        cash: what has been received, if anything.
    """

    lines: int
    stated: int | None
    cash: int | None


_HALF_A_CENT = ATOMS_PER_UNIT // 200


def three_way(
    figures: Mapping[tuple[str, str], PaymentFigures], tolerance: Mapping[str, int]
) -> list[str]:
    """Where lines, control total and cash of a (feed, currency) differ, in words.

    Args:
        figures: by (feed, currency).
        tolerance: by feed, in atoms: bank charges that are let pass.
    """
    told = []
    for (feed, currency), known in sorted(figures.items()):
        allowed = tolerance.get(feed, 0)
        # A control total in cents may have been rounded to them.
        if known.stated is not None and abs(known.stated - known.lines) > allowed + _HALF_A_CENT:
            told.append(
                f"{feed}: the lines come to {format_money(known.lines, currency)} {currency}, the "
                f"report states {format_money(known.stated, currency)}"
            )
        # What is less than a bank can pay is no difference.
        payable = 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))
        if known.cash is None:
            if abs(known.lines) * 2 > payable:
                told.append(
                    f"{feed}: {format_money(known.lines, currency)} {currency} are reported, and "
                    "no remittance is recorded"
                )
        elif abs(known.cash - known.lines) > allowed + payable // 2:
            told.append(
                f"{feed}: {format_money(known.cash, currency)} {currency} were received for "
                f"{format_money(known.lines, currency)} reported: a difference of "
                f"{format_money(known.cash - known.lines, currency)}"
            )
    return told


def cash_received(remittances: Iterable[Remittance], month: date) -> dict[tuple[str, str], int]:
    """(feed, currency) → atoms received for an accounting month.

    The same payment told again, as by a bank's running export, is received once.
    """
    received: dict[tuple[str, str], int] = {}
    for each in dict.fromkeys(remittances):
        if (each.period.year, each.period.month) == (month.year, month.month):
            key = (each.feed, each.currency)
            received[key] = received.get(key, 0) + to_atoms(each.amount)
    return received
