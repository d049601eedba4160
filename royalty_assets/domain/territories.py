"""Territories: codes, the many ways in which reports write them, and sets of them.

A right or a deal covers a set over a universe of territories: ``Worldwide``, ``DE|AT|CH`` or
``Worldwide -NO``. The universe is dated: the Netherlands Antilles were a territory until 2010.
``XK`` (Kosovo) is not in ISO 3166 but is in real reports and in DDEX's list.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache

import pycountry
from babel import Locale

WORLDWIDE = "Worldwide"
_NOT_ISO = frozenset({"XK"})
_SEPARATORS = re.compile(r"[|,;\s]+")

WITHDRAWN: dict[str, date] = {"AN": date(2010, 12, 15), "CS": date(2006, 9, 26)}
"""Codes that DDEX still lists and ISO 3166-3 has withdrawn, with the last day of their use."""

_PART_OF = {"ES-CE": "ES", "ES-CN": "ES", "ES-ML": "ES", "UK": "GB", "EL": "GR", "AC": "SH"}
"""Parts of a country that DDEX lists, and reserved codes that reports use for one."""

# CISAC TIS numbers are ISO 3166 numeric codes, with these exceptions (TIS 2136 is the world).
_TIS = {"2136": WORLDWIDE, "530": "AN", "891": "CS", "736": "SD", "230": "ET", "886": "YE"}

_PARENTHESIS = re.compile(r"\([^)]*\)")
_SHORTER = {"saint": "st", "sainte": "st"}

# What neither ISO 3166 nor CLDR calls a territory, and music services do.
_ALIASES = {
    "ROW": WORLDWIDE,
    "WW": WORLDWIDE,
    "World": WORLDWIDE,
    "Global": WORLDWIDE,
    "Rest of world": WORLDWIDE,
    "England": "GB",
    "Great Britain": "GB",
    "Scotland": "GB",
    "Wales": "GB",
    "Northern Ireland": "GB",
    "Holland": "NL",
    "Korea": "KR",
    "Republic of Korea": "KR",
    "Korea Republic of": "KR",
    "Russia": "RU",
    "Vietnam": "VN",
    "Viet Nam": "VN",
    "Ivory Coast": "CI",
    "Cape Verde": "CV",
    "Burma": "MM",
    "Macedonia": "MK",
    "Swaziland": "SZ",
    "Czech Republic": "CZ",
    "Turkey": "TR",
    "Kosovo": "XK",
    "Macau": "MO",
    "Hong Kong SAR": "HK",
    "Taiwan Province of China": "TW",
    "Chinese Taipei": "TW",
    "Palestine": "PS",
    "Palestinian Territories": "PS",
    "Syria": "SY",
    "Laos": "LA",
    "Moldova": "MD",
    "Bolivia": "BO",
    "Venezuela": "VE",
    "Tanzania": "TZ",
    "Iran": "IR",
    "Brunei": "BN",
    "Congo Kinshasa": "CD",
    "DR Congo": "CD",
    "Congo Brazzaville": "CG",
    "United States of America": "US",
    "USA": "US",
    "U S A": "US",
    "Reunion": "RE",
    "Trinidad & Tobago": "TT",
    "Bosnia": "BA",
    "Bosnia & Herzegovina": "BA",
    "Antigua & Barbuda": "AG",
    "Vatican": "VA",
    "Micronesia": "FM",
    "Netherlands Antilles": "AN",
    "Macedonia the former Yugoslav Republic of": "MK",
    "Großbritannien": "GB",
    "Объединенные Арабские Эмираты": "AE",
    "UAE": "AE",
    "US Virgin Islands": "VI",
    "Korea South": "KR",
    "Korea North": "KP",
    "Hong Kong China": "HK",
    "Macau China": "MO",
    "Taiwan China": "TW",
    "Congo Republic of": "CG",
    "Congo Democratic Republic of": "CD",
    "Holy See": "VA",
    "Republic of Kosovo": "XK",
    "Republic of Ireland": "IE",
    "East Timor": "TL",
    "Lao PDR": "LA",
    "Palestinian Territory": "PS",
    "Palestinian Territory Occupied": "PS",
    "FYROM": "MK",
    "Libyan Arab Jamahiriya": "LY",
    "США": "US",
    "Соединенные Штаты Америки": "US",
    "Российская Федерация": "RU",
    "Южная Корея": "KR",
    "Кыргызстан": "KG",
    "Белоруссия": "BY",
    "Молдавия": "MD",
    "ОАЭ": "AE",
    "États-Unis d'Amérique": "US",
    "Estados Unidos de América": "US",
    "Grande-Bretagne": "GB",
    "Guyane": "GF",
    "XKX": "XK",
    "KOS": "XK",
    "Serbia and Montenegro": "CS",
}

# The languages that statements with country names come in; English decides between two meanings.
_LANGUAGES = (
    "en de fr es it pt nl sv da nb fi is pl cs sk hu ro bg el tr ru uk kk uz az ka hy ar he fa hi "
    "bn th vi id ms ja ko zh zh_Hant et lv lt hr sr sl sq mk ca eu gl"
).split()


@cache
def territory_codes() -> frozenset[str]:
    """Every territory that usage can happen, or can have happened, in."""
    return frozenset(country.alpha_2 for country in pycountry.countries) | _NOT_ISO | set(WITHDRAWN)


def universe(on: date) -> frozenset[str]:
    """The territories that there were on a day."""
    return frozenset(code for code in territory_codes() if on <= WITHDRAWN.get(code, date.max))


@cache
def territory_of(text: str) -> str | None:
    """The code of a territory as somebody wrote it; None where it is no known name of one.

    Understood are ISO 3166 alpha-2, alpha-3 and numeric codes, CISAC TIS numbers, codes that DDEX
    lists beside them, names in the languages of ``_LANGUAGES``, and ``Worldwide``.
    """
    written = text.strip()
    upper = written.upper()
    if upper in territory_codes():
        return upper
    if upper in _PART_OF:
        return _PART_OF[upper]
    if upper.isdecimal() and upper.isascii():
        return _TIS.get(upper.lstrip("0")) or _numeric_codes().get(upper.zfill(3))
    if len(upper) == 3 and (country := pycountry.countries.get(alpha_3=upper)) is not None:
        return str(country.alpha_2)
    folded = _fold(_PARENTHESIS.sub(" ", written) or written)
    if (code := _names().get(folded)) is not None:
        return code
    # "U.K." and "U. S." are letters of a code.
    letters = folded.replace(" ", "").upper()
    return territory_of(letters) if letters != upper and len(letters) in {2, 3} else None


@cache
def _numeric_codes() -> dict[str, str]:
    return {country.numeric: country.alpha_2 for country in pycountry.countries}


@cache
def _names() -> dict[str, str]:
    """Folded name → code; a name that two territories have in different languages is nobody's."""
    names: dict[str, str] = {}
    for language in reversed(_LANGUAGES):
        for code, name in Locale.parse(language).territories.items():
            folded = _fold(name)
            if code == "001":
                names[folded] = WORLDWIDE
            elif code in territory_codes():
                known = names.get(folded, code)
                names[folded] = code if known == code or language == "en" else ""
    names |= {_fold(name): code for name, code in _iso_names()}
    names |= {_fold(name): code for name, code in _ALIASES.items()}
    names[_fold(WORLDWIDE)] = WORLDWIDE
    return {name: code for name, code in names.items() if name and code}


def _iso_names() -> Iterator[tuple[str, str]]:
    for country in pycountry.countries:
        for kind in ("name", "official_name", "common_name"):
            if (name := getattr(country, kind, None)) is not None:
                yield name, country.alpha_2
                # "Korea, Republic of" is also written the other way round.
                head, comma, tail = name.partition(", ")
                if comma:
                    yield f"{tail} {head}", country.alpha_2


def _fold(name: str) -> str:
    """A name without case, accents, punctuation, "and" and "the"; "Saint" is "St"."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(
        " " if not character.isalnum() else character
        for character in plain
        if not unicodedata.combining(character)
    )
    words = (_SHORTER.get(word, word) for word in letters.split())
    return " ".join(word for word in words if word not in {"and", "the"})


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
        if territory == WORLDWIDE:
            return self.included is None and not self.excluded
        in_universe = territory in (territory_codes() if self.included is None else self.included)
        return in_universe and territory not in self.excluded

    def members(self, on: date) -> frozenset[str]:
        """The territories of the set that there were on a day."""
        there = universe(on)
        return (there if self.included is None else self.included & there) - self.excluded

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
