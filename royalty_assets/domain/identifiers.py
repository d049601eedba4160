"""Identifiers of the field: what a valid one looks like, and its one normal form.

Only the ISRC is here so far. Validity is of form; whether a recording exists is the catalog's
to say. Nothing is repaired by guesswork: an O for a 0 stays an invalid ISRC.
"""

import re

# IFPI ISRC Bulletin 2015/01: prefix code of 5, year of 2, designation of 5; no check digit.
_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")
_ISRC_PADDING = re.compile(r"^ISRC[:\s-]*|[\s-]+", re.IGNORECASE)


def normalise_isrc(text: str) -> str | None:
    """The twelve characters of an ISRC, or None where ``text`` holds no well-formed one.

    Case, hyphens, spaces and a leading "ISRC" do not matter. An ISRC is never cut to length.
    """
    candidate = _ISRC_PADDING.sub("", text).upper()
    return candidate if _ISRC.fullmatch(candidate) else None
