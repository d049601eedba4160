"""Values as people and systems write them: dates, numbers, words. From text to plain value.

What cannot be read for sure stays the text that it was, for the record's model to refuse by name.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Literal

import polars as pl

from royalty_assets.domain.money import AmountError, parse_amount

Decimals = Literal[".", ",", "either"]

_SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007 '\u2019"))
_SYMBOLS = "£$€¥₹₩"
_NUMBER = {
    ".": re.compile(
        r"[+-]?(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?"
    ),
    ",": re.compile(
        r"[+-]?(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)?(?:,[0-9]*)?(?:[eE][+-]?[0-9]{1,4})?"
    ),
}
# With three digits behind its one separator a number says nothing of which decimal mark it has.
_EXPONENT = r"(?:[eE][+-]?[0-9]{1,4})?"
_ONLY_DOT = re.compile(
    rf"[+-]?(?:[0-9]*(?:,[0-9]{{3}})*\.(?:[0-9]{{0,2}}|[0-9]{{4,}})|0?\.[0-9]+){_EXPONENT}"
)
_ONLY_COMMA = re.compile(
    rf"[+-]?(?:[0-9]*(?:\.[0-9]{{3}})*,(?:[0-9]{{0,2}}|[0-9]{{4,}})|0?,[0-9]+){_EXPONENT}"
)
_WHOLE = re.compile(rf"[+-]?[0-9]+{_EXPONENT}")
_COMMA_COLUMN = r"^[+-]?(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)(?:,[0-9]+)?$"
_FIXED_WIDTHS = {"%Y%m%d": 8, "%Y%m": 6}
_SEPTEMBER = re.compile(r"\bsept\b", re.IGNORECASE)
_RANGE = re.compile(r"\s+(?:-|\u2013|to)\s+|\s*--\s*")


@lru_cache(maxsize=1 << 14)
def read_date(text: str, formats: tuple[str, ...]) -> date | str:
    """The day; of a span of time (``2024-01-01 - 2024-01-31``) the first one."""
    written = " ".join(text.split())
    written = _SEPTEMBER.sub("sep", written)
    for candidate in (written, _RANGE.split(written)[0]):
        for date_format in formats:
            # strptime would read 202311 as the first of January by %Y%m%d.
            if len(candidate) != _FIXED_WIDTHS.get(date_format, len(candidate)):
                continue
            try:
                return datetime.strptime(candidate, date_format).date()  # noqa: DTZ007 - a day
            except ValueError:
                continue
    return text


def plain_number(text: str, decimal: Decimals) -> str | None:
    """The number as ``-1234.5``, exponents kept; None where it is none, or could be two.

    Spaces of all kinds and apostrophes between digits, one currency sign, and parentheses for
    minus are understood.
    """
    digits = text.translate(_SPACES).replace("\u2212", "-")
    if digits.startswith("(") and digits.endswith(")"):
        digits = f"-{digits[1:-1]}"
    sign = digits[:1] if digits[:1] in {"+", "-"} else ""
    digits = sign + digits[len(sign) :].strip(_SYMBOLS)
    if decimal == "either":
        if _ONLY_COMMA.fullmatch(digits) and not _ONLY_DOT.fullmatch(digits):
            decimal = ","
        elif _ONLY_DOT.fullmatch(digits) or _WHOLE.fullmatch(digits):
            decimal = "."
        else:
            return None
    if not _NUMBER[decimal].fullmatch(digits) or not any(map(str.isdecimal, digits)):
        return None
    if decimal == ",":
        return digits.replace(".", "").replace(",", ".")
    return digits.replace(",", "")


def decimal_mark(texts: Iterable[str]) -> Decimals:
    """Which decimal mark a file's numbers have, if they say so; else ``either``."""
    dots = commas = 0
    for text in texts:
        digits = text.translate(_SPACES).lstrip("+-").strip(_SYMBOLS)
        dots += _ONLY_DOT.fullmatch(digits) is not None
        commas += _ONLY_COMMA.fullmatch(digits) is not None
    if dots and not commas:
        return "."
    return "," if commas and not dots else "either"


def read_amount(text: str, decimal: Decimals) -> str:
    """The amount as plain text, exact; as written where it is none."""
    return plain_number(text, decimal) or text


def read_whole_number(text: str, decimal: Decimals) -> int | str:
    """The integer; a fraction of nothing (``12.0``) is none."""
    plain = plain_number(text, decimal)
    try:
        number = parse_amount(plain if plain is not None else text)
    except AmountError:
        return text
    return int(number) if number == int(number) else text


def plain_column(decimal: Decimals) -> Callable[[pl.Expr], pl.Expr] | None:
    """How a column of numbers becomes plain; None where each has to be looked at by itself."""
    if decimal == ".":
        return lambda texts: texts
    if decimal == ",":
        return lambda texts: pl.when(texts.str.contains(_COMMA_COLUMN)).then(
            texts.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        )
    return None


def word_reader(words: Mapping[str, str], known: Sequence[str] = ()) -> Callable[[str], Any]:
    """The sender's words as ours; a word of ours stands for itself, in any case.

    Args:
        words: theirs → ours; ``*`` for any other.
        known: our words.
    """
    table = {word.casefold(): word for word in known}
    table |= {" ".join(theirs.split()).casefold(): ours for theirs, ours in words.items()}
    other = table.pop("*", None)

    def read(text: str) -> str:
        return table.get(" ".join(text.split()).casefold(), text if other is None else other)

    return read


def read_tier(text: str) -> str:
    """A product's name as a tier: ``Premium Family`` is ``premium_family``."""
    name = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:32].rstrip("_")
    return name if name[:1].isalpha() else f"tier_{name}"[:32].rstrip("_")


_STORES = {
    "wimp": "TIDAL",
    "tidal music as": "TIDAL",
    "tidal": "TIDAL",
    "itunes": "iTunes",
    "itunes store": "iTunes",
    "apple itunes": "iTunes",
    "apple music": "Apple Music",
    "apple inc.": "Apple Music",
    "spotify": "Spotify",
    "spotify ab": "Spotify",
    "deezer": "Deezer",
    "deezer sa": "Deezer",
    "youtube": "YouTube",
    "youtube music": "YouTube Music",
    "youtube red": "YouTube Premium",
    "youtube premium": "YouTube Premium",
    "google play": "Google Play",
    "google play music": "Google Play",
    "googleplay": "Google Play",
    "amazon cloud": "Amazon Music",
    "amazon music": "Amazon Music",
    "amazon prime": "Amazon Prime Music",
    "amazon unlimited": "Amazon Music Unlimited",
    "amazon music unlimited": "Amazon Music Unlimited",
    "soundcloud": "SoundCloud",
    "sound cloud": "SoundCloud",
    "pandora": "Pandora",
    "napster": "Napster",
    "rhapsody": "Napster",
    "qobuz": "Qobuz",
    "tiktok": "TikTok",
    "tik tok": "TikTok",
    "facebook": "Meta",
    "meta": "Meta",
}


def read_store(text: str) -> str:
    """One spelling of a store's name where several are known; else as written."""
    return _STORES.get(" ".join(text.split()).casefold(), text)
