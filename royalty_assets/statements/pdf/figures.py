"""What a PDF and a page show of a statement's figures, and how amounts are written for the eye.

Sums by service, territory and recording are of exact amounts, in atoms; only what is printed is
rounded, half to even.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cache
from typing import Any

import polars as pl
from babel import Locale
from babel.dates import format_date

from royalty_assets.domain.money import (
    AMOUNT_DECIMALS,
    ATOMS_PER_UNIT,
    format_money,
    minor_unit_decimals,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Movement, Statement, movement_atoms

MINUS = "−"  # noqa: RUF001
LINE_DECIMALS = 4
"""So many more decimals than its currency has a line is shown with."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one service, territory or recording comes to.

    Attributes:
        name: its value in the column; several in the order of the columns.
        units: of its lines.
        atoms: of its lines, in the statement's currency.
    """

    name: tuple[str, ...]
    units: int
    atoms: int


def slices(statement: Statement, *columns: str) -> list[Slice]:
    """The lines by these columns, what came to most first."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for name, units, atoms in zip(
        statement.lines.select(columns).iter_rows(),
        statement.lines["units"],
        series_to_atoms(statement.lines["payee_amount"]),
        strict=True,
    ):
        entry = sums.setdefault(name, [0, 0])
        entry[0] += units
        entry[1] += atoms
    found = [Slice(name, units, atoms) for name, (units, atoms) in sums.items()]
    return sorted(found, key=lambda part: (-part.atoms, part.name))


def largest(parts: Sequence[Slice], most: int, others: str) -> list[Slice]:
    """At most so many, the rest of them added up under a name such as ``31 others``."""
    if len(parts) <= most:
        return list(parts)
    rest = parts[most - 1 :]
    together = Slice(
        (f"{len(rest)} {others}",), sum(p.units for p in rest), sum(p.atoms for p in rest)
    )
    return [*parts[: most - 1], together]


def largest_lines(lines: pl.DataFrame, most: int) -> pl.DataFrame:
    """Those with the largest amounts, whatever their sign, in the order of their numbers."""
    size = pl.col("payee_amount").abs()
    by_size = lines.sort(size, "line_number", descending=[True, False])
    return by_size[:most].sort("line_number")


def paid_atoms(statement: Statement) -> int:
    """What is paid: the movement with its sign turned."""
    return -movement_atoms(statement, Movement.PAID)


def rounded(atoms: int, decimals: int) -> str:
    """An amount with so many decimals, thousands separated, half to even."""
    unit = 10 ** (AMOUNT_DECIMALS - decimals)
    whole, rest = divmod(abs(atoms), unit)
    if rest * 2 > unit or (rest * 2 == unit and whole % 2):
        whole += 1
    number, fraction = divmod(whole, 10**decimals)
    text = f"{number:,}" + (f".{fraction:0{decimals}d}" if decimals else "")
    return f"{MINUS}{text}" if atoms < 0 and whole else text


def sum_text(atoms: int, currency: str) -> str:
    """A sum, with the currency's own decimals."""
    return rounded(atoms, minor_unit_decimals(currency))


def line_text(atoms: int, currency: str) -> str:
    """An amount of a line, which may be far less than a cent."""
    return rounded(atoms, minor_unit_decimals(currency) + LINE_DECIMALS)


def small_sum_text(atoms: int, currency: str) -> str:
    """A sum; one of less than a cent with the decimals of a line, so that it is not nothing."""
    minor_unit = 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))
    return line_text(atoms, currency) if 0 < abs(atoms) < minor_unit else sum_text(atoms, currency)


def exact_text(atoms: int, currency: str) -> str:
    """An amount to its last decimal, and its currency."""
    return f"{format_money(atoms, currency).replace('-', MINUS)} {currency}"


def count_text(units: int) -> str:
    """A count, thousands separated."""
    return f"{units:,}".replace("-", MINUS)


def period_name(period: str) -> str:
    """``March 2025``; as it is written where it is no month."""
    try:
        month = date.fromisoformat(f"{period}-01")
    except ValueError:
        return period
    return str(format_date(month, "LLLL y", locale="en"))


def period_short(period: str) -> str:
    """``Mar 25``."""
    try:
        month = date.fromisoformat(f"{period}-01")
    except ValueError:
        return period
    return str(format_date(month, "LLL yy", locale="en"))


@cache
def territory_name(code: str) -> str:
    """The territory's English name, or what it was called on the line."""
    return str(Locale.parse("en").territories.get(code, code))


MOVEMENT_NAMES = {
    Movement.BROUGHT_FORWARD: "Brought forward",
    Movement.EARNINGS: "Earnings",
    Movement.ADJUSTMENT: "Adjustment",
    Movement.RESERVE_HELD: "Reserve held",
    Movement.RESERVE_RELEASED: "Reserve released",
    Movement.RECOUPED: "Recouped",
    Movement.ROUNDING: "Rounding",
    Movement.WITHHELD: "Withheld",
    Movement.PAID: "Paid",
    Movement.CARRIED_FORWARD: "Carried forward",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One movement on the way to what is paid, in atoms."""

    name: str
    reference: str
    explanation: str
    atoms: int


def walk(statement: Statement, most: int) -> list[Step]:
    """Every movement but payment, in order; where there are more than ``most``, by kind.

    They sum to what is paid, since all movements sum to zero.
    """
    atoms = series_to_atoms(statement.movements["amount"])
    steps = [
        (Movement(kind), Step(MOVEMENT_NAMES[Movement(kind)], reference, explanation, amount))
        for (kind, reference, explanation), amount in zip(
            statement.movements.select("movement", "reference", "explanation").iter_rows(),
            atoms,
            strict=True,
        )
        if kind != Movement.PAID
    ]
    if len(steps) <= most:
        return [step for _, step in steps]
    together = []
    for kind in Movement:
        of_kind = [step for movement, step in steps if movement == kind]
        if len(of_kind) == 1:
            together += of_kind
        elif of_kind:
            amount = sum(step.atoms for step in of_kind)
            together.append(Step(of_kind[0].name, f"{len(of_kind)} entries", "", amount))
    return together


@dataclass(frozen=True, slots=True)
class LineStep:
    """One step from what a service reported to what the payee has of it.

    Attributes:
        words: what is done to the figure before; of the first step, what it is.
        source: the terms and their contract, or the rate's source and date.
        atoms: the figure after it, in ``currency``.
    """

    words: str
    source: str
    atoms: int
    currency: str


def with_atoms(lines: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Lines of a statement with ``receipts_atoms``, ``amount_atoms`` and ``payee_atoms``."""
    atoms = zip(
        *(series_to_atoms(lines[name]) for name in ("receipts", "amount", "payee_amount")),
        strict=True,
    )
    for line, (receipts, amount, payee_amount) in zip(
        lines.iter_rows(named=True), atoms, strict=True
    ):
        yield line | {
            "receipts_atoms": receipts, "amount_atoms": amount, "payee_atoms": payee_amount,
        }  # fmt: skip


def _fraction(numerator: int, denominator: int) -> str:
    """A share in its lowest terms, as people write it."""
    share = Fraction(numerator, denominator)
    return f"{share.numerator}/{share.denominator}"


def line_steps(line: Mapping[str, Any], currency: str) -> Iterator[LineStep]:
    """How a line was computed, in words.

    Args:
        line: as ``with_atoms`` gives it.
        currency: that of its statement.
    """
    own = line["currency"]
    yield LineStep("The service's receipts for it", "", line["receipts_atoms"], own)
    numerator, denominator = line["share_numerator"], line["share_denominator"]
    told = f"an amount per unit, times {count_text(line['units'])} units"
    if denominator:
        told = f"times {_fraction(numerator, denominator)}"
    terms = f"{line['terms']}, {line['contract_id']}".strip(", ")
    yield LineStep(told, terms, line["amount_atoms"], own)
    if line["rate"]:
        product = line["amount_atoms"] * to_atoms(parse_amount(line["rate"]))
        cut = ", cut to 18 decimals" if product % ATOMS_PER_UNIT else ""
        told = f"times {line['rate']} {currency} for 1 {own}{cut}"
        source = ", ".join(filter(None, (line["rate_source"], line["rate_date"])))
        yield LineStep(told, source, line["payee_atoms"], currency)
