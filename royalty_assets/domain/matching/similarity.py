"""How alike two texts are, for records in which any field may be damaged, swapped or missing.

Measures of texts and words only, each from 0 to 1, NaN where one side says nothing. What a record
is and which of them are compared is in ``clusters`` and ``pairs``.
"""

import math
import re
from collections.abc import Sequence

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from royalty_assets.domain.matching.normalise import plain_text

MISSING = math.nan
SAYS_NOTHING = frozenset({"", "null", "na", "n a", "none", "nan", "unk", "unknown", "untitled"})
"""What senders write where they have no value."""
_WORD = re.compile(r"[a-z0-9]+")
_APOSTROPHES = re.compile(r"['`]")


def plain_words(text: str) -> str:
    """ASCII words of letters and digits with single spaces; empty if it says nothing.

    Apostrophes join (``don't`` is one word); everything else that is no letter parts.
    """
    words = " ".join(_WORD.findall(_APOSTROPHES.sub("", plain_text(text))))
    return "" if words in SAYS_NOTHING else words


def trigrams(text: str) -> frozenset[str]:
    """Runs of three characters of a text between two spaces; none of an empty one."""
    padded = f" {text} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2)) if text else frozenset()


def rarity(occurs: int, of: int) -> float:
    """What something weighs that ``occurs`` in so many ``of`` all records: the rarer, the more."""
    return math.log(1 + of / occurs)


def segment_coverage(segments: Sequence[str], others: Sequence[str], other_text: str) -> float:
    """How well each part of a record is found among another's parts, or in its whole text.

    Weighted by length; NaN if either has no parts.
    """
    length = sum(map(len, segments))
    if not length or not others:
        return MISSING
    found = 0.0
    for segment in segments:
        best = 100.0
        if segment not in others:
            nearest = process.extractOne(
                segment, (*others, other_text), scorer=fuzz.ratio, processor=None
            )
            best = nearest[1]
        found += len(segment) * best
    return found / length / 100


def code_similarity(left: str, right: str) -> float:
    """Short codes, as track numbers and years: 1 equal, 0.5 one slip apart, 0 different."""
    if not left or not right:
        return MISSING
    if left == right:
        return 1.0
    # Between codes of one digit each everything is one slip apart.
    if len(left) + len(right) > 2 and (
        left == right[::-1] or Levenshtein.distance(left, right, score_cutoff=1) == 1
    ):
        return 0.5
    return 0.0


def abbreviation_similarity(left: str, right: str) -> float:
    """Words that may be cut short, as ``eng`` for ``english``: whole or by three letters."""
    if not left or not right:
        return MISSING
    return max(fuzz.ratio(left, right), fuzz.ratio(left[:3], right[:3])) / 100


def overlap(left: frozenset[str], right: frozenset[str]) -> float:
    """Share of the smaller set that is in the other; 0 if either is empty."""
    smaller = min(len(left), len(right))
    return len(left & right) / smaller if smaller else 0.0
