"""Exact money: scaled integers, and the one way in which an amount may be divided.

Amounts travel as *atoms*, integers of 10⁻¹⁸ of a currency unit, the finest amount that a
canonical usage line can hold (DSR Part 9 asks for 15 decimals; statements with 17 exist).
What belongs here: parsing, formatting, dividing and rounding amounts. What does not: who is
paid and why (``allocation``, ``payouts``).

Invariant kept: nothing is gained or lost. Every division returns parts whose sum is the whole.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import pycountry

AMOUNT_DECIMALS = 18
ATOMS_PER_UNIT = 10**AMOUNT_DECIMALS
_DIGITS_MAX = 4000  # more than any amount has zeros behind its point; Python's int stops at 4,300

# Narrower than Decimal's own grammar, which takes NaN, underscores and digits of any script.
_PLAIN_AMOUNT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")

# ISO 4217 minor units that are not 2.
_MINOR_UNIT_DECIMALS = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


# Those that DDEX's CurrencyCode still lists.
_WITHDRAWN = frozenset(
    "ANG BGN BYR CUC CYP EEK HRK LTL LVL MRO MTL ROL SIT SKK SLL STD VEF ZWL".split()
)


class AmountError(ValueError):
    """An amount that cannot be held exactly, or is not an amount at all."""


@cache
def currency_codes() -> frozenset[str]:
    """The ISO 4217 codes in force, and withdrawn ones that reports of late sales still name."""
    known = frozenset(currency.alpha_3 for currency in pycountry.currencies) | _WITHDRAWN
    return known - {"XXX", "XTS"}  # no currency, and one for tests: nothing can be paid in them


def minor_unit_decimals(currency: str) -> int:
    """Decimals of the smallest payable amount: 2 for EUR, 0 for JPY, 3 for KWD (ISO 4217)."""
    return _MINOR_UNIT_DECIMALS.get(currency, 2)


def parse_amount(text: str) -> Decimal:
    """Read a plain decimal amount as written, tiny exponents (``1E-08``) included.

    Raises:
        AmountError: not a finite number, or finer or larger than 38 digits with 18 decimals hold.
    """
    if not _PLAIN_AMOUNT.fullmatch(text.strip()):
        raise AmountError(f"not an amount: {text[:60]!r}")
    amount = Decimal(text.strip())
    to_atoms(amount)
    return amount


def to_atoms(amount: Decimal) -> int:
    """The amount in atoms.

    Raises:
        AmountError: if the amount is not finite or would have to be rounded.
    """
    sign, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int):
        raise AmountError(f"not a finite amount: {amount}")
    if not any(digits):
        return 0
    shift = exponent + AMOUNT_DECIMALS
    # The bound comes before the power: 1E+999999999 is nine characters in a hostile file.
    if len(digits) + shift > 38:
        raise AmountError(f"more than 20 digits before the point: {str(amount)[:60]}")
    if len(digits) > _DIGITS_MAX:
        raise AmountError(f"more than {AMOUNT_DECIMALS} decimals: {str(amount)[:60]}")
    coefficient = int("".join(map(str, digits)))
    if shift >= 0:
        magnitude = coefficient * 10**shift
    else:
        if -shift > len(digits):
            raise AmountError(f"more than {AMOUNT_DECIMALS} decimals: {amount}")
        magnitude, lost = divmod(coefficient, 10**-shift)
        if lost:
            raise AmountError(f"more than {AMOUNT_DECIMALS} decimals: {amount}")
    return int(-magnitude if sign else magnitude)


def from_atoms(atoms: int) -> Decimal:
    """The amount that ``atoms`` stand for, with 18 decimals (whatever the decimal context)."""
    digits = tuple(map(int, str(abs(atoms))))
    return Decimal((int(atoms < 0), digits, -AMOUNT_DECIMALS))


def format_atoms(atoms: int) -> str:
    """The canonical text of an amount: no exponent, no trailing zeros, ``0`` for nothing."""
    units, fraction = divmod(abs(atoms), ATOMS_PER_UNIT)
    text = f"{units}.{fraction:018d}".rstrip("0").rstrip(".")
    return f"-{text}" if atoms < 0 else text


def format_money(atoms: int, currency: str) -> str:
    """An amount for people: thousands separated, at least the currency's own decimals."""
    decimals = minor_unit_decimals(currency)
    units, _, fraction = format_atoms(abs(atoms)).partition(".")
    fraction = fraction.ljust(decimals, "0")
    text = f"{int(units):,}" + (f".{fraction}" if fraction else "")
    return f"-{text}" if atoms < 0 else text


def split_exactly(total: int, weights: Sequence[tuple[str, int]]) -> list[int]:
    """Divide ``total`` in proportion to the weights, by largest remainder.

    Each part is within one unit of its exact share, and the parts sum to ``total``. A unit that
    is left over goes to the largest remainder; between equal remainders to the smaller key, so
    that the order of ``weights`` never decides. Negative totals are divided by magnitude.

    Args:
        total: what to divide, in indivisible units (atoms, minor units, plays).
        weights: (tie key, weight) pairs; weights are non-negative and not all zero.

    Returns:
        The parts, in the order of ``weights``.

    Raises:
        ValueError: if there is nothing to divide between, a weight is negative or keys repeat.
    """
    whole = sum(weight for _, weight in weights)
    if whole <= 0 or any(weight < 0 for _, weight in weights):
        raise ValueError("weights must be non-negative, and not all of them zero")
    if len({key for key, _ in weights}) != len(weights):
        raise ValueError("tie keys must be unique")
    magnitude = abs(total)
    parts = []
    remainders = []
    for _, weight in weights:
        part, remainder = divmod(magnitude * weight, whole)
        parts.append(part)
        remainders.append(remainder)
    left_over = magnitude - sum(parts)
    by_claim = sorted(range(len(weights)), key=lambda i: (-remainders[i], weights[i][0]))
    for index in by_claim[:left_over]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


@dataclass(frozen=True, slots=True)
class Rounding:
    """What the one rounding point made of exact amounts.

    Attributes:
        paid: key → atoms, whole minor units of the currency.
        residue: atoms too few to make a minor unit, less than one minor unit in all.
    """

    paid: Mapping[str, int]
    residue: int


def round_to_minor_units(atoms_by_key: Mapping[str, int], currency: str) -> Rounding:
    """Round non-negative amounts of one currency to what a bank can pay, by largest remainder.

    As many whole minor units are paid as the amounts hold together; ties go to the smaller key.
    """
    minor_unit = 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))
    if any(atoms < 0 for atoms in atoms_by_key.values()):
        raise ValueError("only what is owed can be rounded; carry negative balances forward")
    payable, residue = divmod(sum(atoms_by_key.values()), minor_unit)
    floors = {key: divmod(atoms, minor_unit) for key, atoms in atoms_by_key.items()}
    left_over = payable - sum(whole for whole, _ in floors.values())
    by_claim = sorted(floors, key=lambda key: (-floors[key][1], key))
    rounded_up = set(by_claim[:left_over])
    paid = {key: (whole + (key in rounded_up)) * minor_unit for key, (whole, _) in floors.items()}
    return Rounding(paid, residue)
