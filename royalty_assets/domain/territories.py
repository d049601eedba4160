"""Territories: ISO 3166-1 alpha-2 codes, and sets of them as contracts write them.

A right or a deal covers a set over a universe of territories: ``Worldwide``, ``DE|AT|CH`` or
``Worldwide -NO``. ``XK`` (Kosovo) is not in ISO 3166 but is in real reports and in DDEX's list.
"""

import re
from dataclasses import dataclass
from functools import cache

import pycountry

WORLDWIDE = "Worldwide"
_NOT_ISO = frozenset({"XK"})
_SEPARATORS = re.compile(r"[|,;\s]+")


@cache
def territory_codes() -> frozenset[str]:
    """Every territory that usage can happen in."""
    return frozenset(country.alpha_2 for country in pycountry.countries) | _NOT_ISO


@dataclass(frozen=True, slots=True)
class TerritorySet:
    """Included territories minus excluded ones.

    Attributes:
        included: codes, or None for the whole universe.
        excluded: codes taken out again.
    """

    included: frozenset[str] | None
    excluded: frozenset[str] = frozenset()

    def __contains__(self, territory: object) -> bool:
        in_universe = territory in (territory_codes() if self.included is None else self.included)
        return in_universe and territory not in self.excluded

    @classmethod
    def parse(cls, text: str) -> "TerritorySet":
        """Read ``Worldwide``, ``DE|AT|CH``, ``Worldwide -NO -SE``.

        Raises:
            ValueError: naming the code that is no territory, or a set that covers nothing.
        """
        included: set[str] = set()
        excluded: set[str] = set()
        everywhere = False
        for word in filter(None, _SEPARATORS.split(text.strip())):
            if word.casefold() == WORLDWIDE.casefold():
                everywhere = True
                continue
            code = word.removeprefix("-").upper()
            if code not in territory_codes():
                raise ValueError(f"{word!r} is not a territory")
            (excluded if word.startswith("-") else included).add(code)
        if not everywhere and not included:
            raise ValueError(f"{text!r} covers no territory; write Worldwide or list codes")
        return cls(None if everywhere else frozenset(included), frozenset(excluded))
