"""Dividing an amount by weights that are fractions: exactly, and rounded once.

``money.split_exactly`` does the same for weights that are whole numbers.
"""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import lcm

SplitWeight = Mapping[int, int]
"""A fraction as terms: divisor → numerator; its value is the sum of numerator / divisor.

Listeners of equally many plays share a divisor, so that a recording of a million listeners has
some hundred terms, and no sum ever has to be brought to lowest terms."""

_REMAINDER_BITS = 128


def value_of(weight: SplitWeight) -> tuple[int, int]:
    """A weight as numerator and denominator, not in lowest terms."""
    common = lcm(*weight)
    return sum(numerator * (common // divisor) for divisor, numerator in weight.items()), common


def split_by_fractions(total: int, weights: Mapping[str, SplitWeight]) -> dict[str, int]:
    """Divide ``total`` in proportion to exact weights, by largest remainder.

    Each part is within one unit of its exact share, and the parts sum to ``total``. A unit that
    is left over goes to the largest remainder; between equal remainders to the smaller key.
    Negative totals are divided by magnitude.

    Args:
        total: what to divide, in indivisible units (atoms, cents).
        weights: key → weight; divisors positive, weights not negative and not all zero.

    Returns:
        Key → part.

    Raises:
        ValueError: if there is nothing to divide between, or a weight is negative.
    """
    by_divisor: dict[int, int] = {}
    for weight in weights.values():
        for divisor, numerator in weight.items():
            by_divisor[divisor] = by_divisor.get(divisor, 0) + numerator
    whole = Fraction(*value_of(by_divisor))
    if whole <= 0:
        raise ValueError("weights must be non-negative, and not all of them zero")

    def part_of(key: str) -> tuple[int, int, int]:
        numerator, denominator = value_of(weights[key])
        if numerator < 0:
            raise ValueError(f"the weight of {key!r} is negative")
        divisor = denominator * whole.numerator
        return *divmod(abs(total) * numerator * whole.denominator, divisor), divisor

    parts: dict[str, int] = {}
    leading: dict[str, int] = {}
    for key in weights:
        parts[key], remainder, divisor = part_of(key)
        leading[key] = (remainder << _REMAINDER_BITS) // divisor
    # Remainders that differ in their leading bits are in order by them; only others are compared
    # in full, since they have thousands of digits.
    alike = Counter(leading.values())

    def largest_first(key: str) -> tuple[int, Fraction, str]:
        if alike[leading[key]] == 1 or not leading[key]:
            rest = Fraction(0)
        else:
            rest = Fraction(*part_of(key)[1:])
        return -leading[key], -rest, key

    left_over = abs(total) - sum(parts.values())
    for key in sorted(parts, key=largest_first)[:left_over] if left_over else ():
        parts[key] += 1
    return parts if total >= 0 else {key: -part for key, part in parts.items()}
