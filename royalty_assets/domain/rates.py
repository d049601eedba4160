"""Exchange rates: dated, with their source, and applied the same way everywhere.

What is earned in a period is converted at the newest rate that is dated within it; a period
without a rate is not converted by another's. A converted amount is the product cut to 18
decimals; both amounts are kept, and what the cut leaves is less than 10⁻¹⁸ a line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from royalty_assets.domain.money import AmountError, parse_amount
from royalty_assets.domain.remittances import Day
from royalty_assets.domain.usage import Currency, Identifier

RATE_DECIMALS = 12
RATE_WHOLE = 10**RATE_DECIMALS
_RATE_MAX = Decimal(10) ** 9


def _rate(value: Any) -> Decimal:
    try:
        rate = parse_amount(str(value))
    except AmountError as error:
        raise PydanticCustomError("rate", "{reason}", {"reason": str(error)}) from None
    if not 0 < rate < _RATE_MAX or rate * RATE_WHOLE % 1:
        raise PydanticCustomError(
            "rate", f"A rate is above 0, below 10⁹, of at most {RATE_DECIMALS} decimals"
        )
    return rate


class Rate(BaseModel):
    """What one unit of a currency is in another, on a day, and who says so."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    date: Day
    currency: Currency
    into: Currency
    rate: Annotated[Decimal, BeforeValidator(_rate)]
    source: Identifier

    @property
    def parts(self) -> int:
        """The rate in units of 10⁻¹²."""
        return int(self.rate * RATE_WHOLE)


def convert(atoms: int, rate: Rate) -> int:
    """An amount in the other currency, in atoms: the product, cut towards zero."""
    magnitude: int = abs(atoms) * rate.parts // RATE_WHOLE
    return magnitude if atoms >= 0 else -magnitude


@dataclass(frozen=True, slots=True)
class RateProblem:
    """A row of a rate table that cannot be used."""

    source: str
    row_number: int
    rule: str
    value: str
    reason: str


class NoRateError(Exception):
    """A conversion that no rate is known for; the message says which one to add."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Every known rate, by (from, into) in order of date."""

    by_pair: Mapping[tuple[str, str], tuple[Rate, ...]] = field(default_factory=dict)

    def within(self, currency: str, into: str, first: date, last: date) -> Rate:
        """The newest rate dated from ``first`` to ``last``.

        Raises:
            NoRateError: if there is none.
        """
        known = self.by_pair.get((currency, into), ())
        dated = [rate for rate in known if first <= rate.date <= last]
        if dated:
            return dated[-1]
        other_way = " (one for the other way round is not turned over)"
        raise NoRateError(
            f"no rate from {currency} into {into} is dated from {first} to {last}; add a row "
            f"date,currency,into,rate,source to a CSV file in rates/"
            + (other_way if (into, currency) in self.by_pair else "")
        )


def standing_rates(snapshots: Iterable[Rates], first: date, last: date) -> Rates:
    """The rates of one period: of each pair, those of the first snapshot that has one within it.

    What a closed period was converted at stays, also for what is corrected of it later; a pair
    that was of no use then is converted at what was known when it first was.
    """
    by_pair: dict[tuple[str, str], tuple[Rate, ...]] = {}
    for snapshot in snapshots:
        for pair, rates in snapshot.by_pair.items():
            within = tuple(rate for rate in rates if first <= rate.date <= last)
            if within:
                by_pair.setdefault(pair, within)
    return Rates(by_pair)


def build_rates(
    rows: Iterable[tuple[str, int, Mapping[str, Any]]],
) -> tuple[Rates, list[RateProblem]]:
    """Rates from (source, row number, fields), and the rows that cannot be used.

    Of two rows of one day and pair that differ, neither counts: it cannot be told which is true.
    """
    problems: list[RateProblem] = []
    known: dict[tuple[str, str, date], tuple[str, int, Rate]] = {}
    conflicting: set[tuple[str, str, date]] = set()
    for source, number, fields in rows:
        try:
            rate = Rate.model_validate(dict(fields))
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            place = ".".join(map(str, found["loc"])) or "rate"
            value = "" if isinstance(found["input"], Mapping) else str(found["input"])[:200]
            rule = f"rates.{place}:{found['type']}"
            problems.append(RateProblem(source, number, rule, value, found["msg"]))
            continue
        key = (rate.currency, rate.into, rate.date)
        earlier = known.setdefault(key, (source, number, rate))
        if earlier[2].rate != rate.rate:
            conflicting.add(key)
            reason = (
                f"{earlier[0]}:{earlier[1]} says {earlier[2].rate:f}; neither counts until one "
                "is taken out"
            )
            value = f"{rate.currency} {rate.into} {rate.date}: {rate.rate:f}"
            problems.append(RateProblem(source, number, "rates:conflicting", value, reason))
    by_pair: dict[tuple[str, str], list[Rate]] = {}
    for key in sorted(known.keys() - conflicting):
        by_pair.setdefault(key[:2], []).append(known[key][2])
    return Rates({pair: tuple(rates) for pair, rates in by_pair.items()}), problems
