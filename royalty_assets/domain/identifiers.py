"""Identifiers of the field: what a valid one looks like, and its one normal form.

Validity is of form and check digit; whether a recording, release or work exists is the catalog's
to say. Nothing is repaired by guesswork: an O for a 0 stays an invalid ISRC. What can be
restored without a guess, the leading zeros that a spreadsheet drops from a barcode whose check
digit still holds, is restored.

Each ``normalise_…`` returns the normal form, or None where the text holds no valid identifier.
"""

import re
from functools import cache

from stdnum import ean, grid, isni, isrc
from stdnum.exceptions import ValidationError

# IFPI ISRC Bulletin 2015/01: prefix code of 5, year of 2, designation of 5; no check digit.
ISRC_PATTERN = r"^[A-Z]{2}[A-Z0-9]{3}[0-9]{7}$"
_ISRC = re.compile(ISRC_PATTERN)
_ISRC_PADDING = re.compile(r"^ISRC[:\s-]*|[\s\u2010-\u2015-]+|^['=\"]+|\"$", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s.\-]+")
# What a spreadsheet adds to a barcode without taking a digit from it.
_SPREADSHEET = re.compile(r"^['=\"]+|\"$|(?<=[0-9])\.0+$")
GTIN_DIGITS = 14
"""The normal form of UPC, EAN and GTIN: 14 digits, zeros in front (GS1 General Specifications)."""


def normalise_isrc(text: str) -> str | None:
    """The twelve characters of an ISRC.

    Case, hyphens, spaces and a leading "ISRC" do not matter. An ISRC is never cut to length.
    """
    candidate = _ISRC_PADDING.sub("", text).upper()
    return candidate if _ISRC.fullmatch(candidate) else None


@cache
def isrc_prefix_is_known(prefix: str) -> bool:
    """Whether the two letters that an ISRC begins with have been given to an ISRC agency.

    An unknown prefix is worth a warning and no more: agencies are given new ones every few years.
    """
    return isrc.is_valid(f"{prefix}AAA0000001")


def normalise_gtin(text: str) -> str | None:
    """A UPC, EAN or GTIN as 14 digits; leading zeros that were lost come back.

    None too for fewer than 6 digits, for all zeros, and for what a spreadsheet made of one
    (``8.6E+11``): its digits are gone.
    """
    digits = _SEPARATORS.sub("", _SPREADSHEET.sub("", text.strip()))
    if not digits.isascii() or not digits.isdecimal() or not 6 <= len(digits) <= GTIN_DIGITS:
        return None
    if not int(digits) or ean.calc_check_digit(digits[:-1].zfill(GTIN_DIGITS - 1)) != digits[-1]:
        return None
    return digits.zfill(GTIN_DIGITS)


def normalise_grid(text: str) -> str | None:
    """The 18 characters of a GRid (check character by ISO 7064 mod 37, 36)."""
    candidate = re.sub(r"^GRID[:\s]*", "", text.strip(), flags=re.IGNORECASE)
    return _checked(grid.validate, candidate)


def normalise_isni(text: str) -> str | None:
    """The 16 characters of an ISNI (check character by ISO 7064 mod 11-2)."""
    return _checked(isni.validate, re.sub(r"^ISNI[:\s]*", "", text.strip(), flags=re.IGNORECASE))


def _checked(validate: object, text: str) -> str | None:
    try:
        return str(validate(text)).upper()  # type: ignore[operator]
    except ValidationError:
        return None


def normalise_iswc(text: str) -> str | None:
    """``T`` and ten digits, the last a check digit (ISO 15707: weights 1 to 9, mod 10)."""
    candidate = re.sub(r"^ISWC[:\s]*", "", text.strip(), flags=re.IGNORECASE)
    candidate = _SEPARATORS.sub("", candidate).upper()
    if not re.fullmatch(r"T[0-9]{10}", candidate):
        return None
    weighted = 1 + sum(place * int(digit) for place, digit in enumerate(candidate[1:10], start=1))
    return candidate if (-weighted) % 10 == int(candidate[10]) else None


def normalise_ipi(text: str) -> str | None:
    """An IPI name number: 11 digits, the last two a checksum mod 101 (CISAC's IPI system)."""
    digits = re.sub(r"^IPI[:\s]*", "", text.strip(), flags=re.IGNORECASE)
    digits = _SEPARATORS.sub("", digits)
    if not digits.isascii() or not digits.isdecimal() or not 9 <= len(digits) <= 11:
        return None
    digits = digits.zfill(11)
    # Weights 10 down to 2 over the nine digits; the checksum makes the sum a multiple of 101.
    weighted = sum(
        weight * int(digit) for weight, digit in zip(range(10, 1, -1), digits, strict=False)
    )
    checksum = (101 - weighted % 101) % 100
    return digits if int(digits) and checksum == int(digits[9:]) else None
