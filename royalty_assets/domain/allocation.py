"""How a pool becomes money per recording. Pro rata, so far the only model.

A pool is shared by the usage that it covers: matched usage and usage in suspense alike, since
money of an unmatched play belongs to somebody who is not yet known, and to nobody else.
"""

from collections.abc import Mapping

from royalty_assets.domain.money import split_exactly


def pro_rata(pool: int, units_by_claim: Mapping[str, int]) -> dict[str, int]:
    """R_x = pool · s_x / S (`industry_formats` §4.1), exactly, in the pool's own integer unit.

    Args:
        pool: what is shared, in atoms (or any other indivisible unit).
        units_by_claim: plays per recording or suspense claim; claims of no or negative units
            get nothing.

    Returns:
        The part of each claim; the parts sum to ``pool``.

    Raises:
        ValueError: if no claim has units.
    """
    weights = [(claim, max(units, 0)) for claim, units in units_by_claim.items()]
    parts = split_exactly(pool, weights)
    return {claim: part for (claim, _), part in zip(weights, parts, strict=True)}
