"""The letters: Roboto, which comes with this package, and what is done about letters that it lacks.

Roboto (Apache License 2.0, ``fonts/LICENSE.txt``) has Latin with all its accents, Greek and
Cyrillic. What is written in another script is transliterated, in brackets: ``大阪`` is ``[DaBan]``.
A reader who knows the name recognises it, which a row of boxes does not allow; and right-to-left
scripts need shaping that no small library does well. The CSV has every name as it was written.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from typing import cast

from anyascii import anyascii
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR = "Roboto-Regular"
MEDIUM = "Roboto-Medium"
_ELLIPSIS = "…"
_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn")


@cache
def load_typeface() -> frozenset[str]:
    """Make the fonts known to the library, once; the characters that both have."""
    letters: set[str] = set()
    for name in (REGULAR, MEDIUM):
        content = files(__package__).joinpath("fonts", f"{name}.ttf").read_bytes()
        font = TTFont(name, BytesIO(content))
        pdfmetrics.registerFont(font)
        known = {chr(code) for code in cast("dict[int, int]", font.face.charToGlyph)}
        letters = known if not letters else letters & known
    return frozenset(letters)


@lru_cache(maxsize=1 << 14)
def legible(text: str) -> str:
    """The text in letters that can be printed, on one line.

    White space becomes single spaces; control and direction characters are left out. Characters of
    scripts that the typeface lacks are transliterated, each run of them in brackets.
    """
    letters = load_typeface()
    composed = unicodedata.normalize("NFC", text)
    words = " ".join(composed.split())
    plain = "".join(c for c in words if unicodedata.category(c) not in _CONTROL)
    if letters.issuperset(plain):
        return plain
    unknown = re.escape("".join(sorted(set(plain) - letters)))
    # Words of the same foreign script stay together in one pair of brackets.
    return re.sub(f"[{unknown}]+(?: +[{unknown}]+)*", _transliterated, plain)


def _transliterated(match: re.Match[str]) -> str:
    letters = load_typeface()
    written = "".join(c for c in anyascii(match[0]) if c in letters).strip()
    return f"[{written or '?'}]"


@lru_cache(maxsize=1 << 15)
def width_of(text: str, font: str, size: float) -> float:
    """How wide the text is, in points."""
    load_typeface()
    return float(pdfmetrics.stringWidth(text, font, size))


def fitting_size(text: str, font: str, size: float, width: float) -> float:
    """The size, or the smaller one at which the text is no wider than ``width``."""
    wide = width_of(text, font, size)
    return size if wide <= width else size * width / wide


def wrapped(text: str, font: str, size: float, width: float, lines_max: int) -> list[str]:
    """The text in lines of at most this width; what does not fit ends in an ellipsis.

    Args:
        text: of any length, in legible letters.
        font: ``REGULAR`` or ``MEDIUM``.
        size: in points.
        width: in points; at least as wide as a letter.
        lines_max: as many lines at most, one at least.
    """
    lines: list[str] = []
    line = ""
    for word in _pieces(text, font, size, width):
        longer = f"{line} {word}" if line else word
        if width_of(longer, font, size) <= width:
            line = longer
            continue
        if len(lines) + 1 == lines_max:
            return [*lines, _cut(longer, font, size, width)]
        lines.append(line)
        line = word
    return [*lines, line] if line or not lines else lines


def _pieces(text: str, font: str, size: float, width: float) -> Iterator[str]:
    """The words, those that are wider than a line cut into parts."""
    for word in text.split(" "):
        rest = word
        while width_of(rest, font, size) > width and len(rest) > 1:
            fitting = _fitting(rest, font, size, width)
            yield rest[:fitting]
            rest = rest[fitting:]
        yield rest


def _cut(text: str, font: str, size: float, width: float) -> str:
    room = width - width_of(_ELLIPSIS, font, size)
    return text[: _fitting(text, font, size, room)].rstrip() + _ELLIPSIS


def _fitting(text: str, font: str, size: float, width: float) -> int:
    """How many characters fit, one at least."""
    low, high = 1, max(len(text), 1)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle], font, size) <= width:
            low = middle
        else:
            high = middle - 1
    return low
