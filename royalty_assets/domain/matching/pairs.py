"""Whether two records are the same recording, where somebody proposes the pair.

Unlike the records of ``clusters`` these have tidy fields: a title with its version in brackets, a
length, a day of release, a price, a copyright line. What speaks for a match counts only as far as
the titles agree, since songs of one album have all the rest in common.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from rapidfuzz import fuzz

from royalty_assets.domain.matching.normalise import TITLE_LENGTH_MAX, plain_text
from royalty_assets.domain.matching.similarity import overlap

PAIR_FIELDS = ("title", "artist", "album", "price", "copyright", "duration", "released")
"""What is looked at of a side; a field that is absent is missing."""

SongPair = tuple[Mapping[str, str], Mapping[str, str]]

_WORD = re.compile(r"[a-z0-9]+")
_SPACED_APOSTROPHE = re.compile(r"\s*'\s*")
_DOLLAR_LETTER = re.compile(r"\$\s+(?=[a-z])")
_INITIALS = re.compile(r"(?<=[a-z0-9])\.(?=[a-z0-9])")
_BRACKETS = str.maketrans("[]{}", "()()")
_INNER_BRACKET = re.compile(r"\(([^()]*)\)")
_FEATURING_IN_BRACKETS = re.compile(r"\b(?:feat(?:uring)?|ft|with)\b\s*\.?\s*")
_FEATURING = re.compile(r"\b(?:feat|featuring|ft)\b\s*\.?")
_NEUTRAL = frozenset(
    "explicit clean edited amended censored version versions album main original deluxe edition "
    "bonus track tracks video digital booklet exclusive amazon itunes ep single lp the a an and of "
    "in from at by for to with disc cd expanded special remastered remaster fan pt part vol".split()
)
"""Words in brackets that say nothing about which recording it is."""
_VERSION = frozenset(
    "remix mix rmx live acoustic karaoke instrumental demo edit radio extended dub reprise "
    "interlude intro outro skit cover unplugged session sessions mixshow club spanish continuous "
    "bootleg rework vip medley commentary tribute cappella acapella voicemail".split()
)
_NEVER_THE_SAME = frozenset("karaoke tribute instrumental cover commentary".split())
_SOUND_ALIKES = frozenset({"karaoke", "tribute"})
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8"}
_ALBUM_TAILS = frozenset({"ep", "single", "lp"})
_COPYRIGHT_STOP = frozenset(
    "aa aan records inc llc ltd the of all rights reserved under license to and for".split()
)
_MONTHS = {
    m: n + 1 for n, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split())
}
_DAY_FIRST = re.compile(r"\b(\d{1,2})-([a-z]{3})-(\d{2}|\d{4})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(r"\b([a-z]{3})[a-z]*\.? (\d{1,2}) ?, ?(\d{4})\b", re.IGNORECASE)
_ISO_DAY = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_DURATION = re.compile(r"(?<![\d:])(?:(\d{1,3}):)?(\d{1,3}):(\d{2})(?![\d:])")
_PRICE = re.compile(r"\d+\.\d\d\b")
_CENTURY_TURNS = 30


@dataclass(frozen=True, slots=True)
class SongTitle:
    """A title's parts.

    Attributes:
        words: what the song is called; roman numerals as digits.
        versions: words that tell this recording from others of the song.
        guests: words of featured artists' names.
    """

    words: tuple[str, ...]
    versions: frozenset[str]
    guests: frozenset[str]


def song_title(title: str) -> SongTitle:
    """Take a title apart, brackets from the inside out."""
    core = _tidy(title).translate(_BRACKETS)
    versions: set[str] = set()
    guests: set[str] = set()
    while bracket := _INNER_BRACKET.search(core):
        for part in bracket[1].split(";"):
            own, *featured = _FEATURING_IN_BRACKETS.split(part, maxsplit=1)
            guests.update(*map(_words_of, featured))
            versions |= _words_of(own)
        core = f"{core[: bracket.start()]} {core[bracket.end() :]}"
    if featuring := _FEATURING.search(core):
        guests |= _words_of(core[featuring.end() :])
        core = core[: featuring.start()]
    words = _WORD.findall(core)
    while len(words) > 1 and words[-1] in _ALBUM_TAILS:
        words.pop()
    versions |= _VERSION.intersection(words[1:])
    named = [_ROMAN.get(word, word) for word in words if word not in {"and", "the"}] or words
    return SongTitle(
        tuple(named), frozenset(versions - _NEUTRAL), frozenset(guests - _NEUTRAL - _VERSION)
    )


def _tidy(text: str) -> str:
    """Plain text, tokenised English put together: ``I 'm`` is ``im``, ``$ ign`` is ``sign``."""
    joined = _SPACED_APOSTROPHE.sub("", plain_text(text).replace("`", "'"))
    joined = _DOLLAR_LETTER.sub("s", joined).replace("$", "s").replace("&", " and ")
    return _INITIALS.sub("", joined)


def _words_of(text: str) -> set[str]:
    return set(_WORD.findall(text))


def duration_seconds(text: str) -> int | None:
    """``3:34`` or ``1:02:03`` in seconds, None if there is none."""
    found = _DURATION.search(text[:TITLE_LENGTH_MAX])
    if found is None:
        return None
    return int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])


def release_day(text: str) -> date | None:
    """``18-May-15``, ``May 18 , 2015`` or ``2015-05-18``; None if it is no such day."""
    text = text[:TITLE_LENGTH_MAX]
    try:
        if day := _DAY_FIRST.search(text):
            year = int(day[3])
            if year < 100:
                year += 2000 if year < _CENTURY_TURNS else 1900
            return date(year, _MONTHS[day[2].lower()], int(day[1]))
        if day := _MONTH_FIRST.search(text):
            return date(int(day[3]), _MONTHS[day[1].lower()], int(day[2]))
        if day := _ISO_DAY.search(text):
            return date(int(day[1]), int(day[2]), int(day[3]))
    except (KeyError, ValueError):
        pass
    return None


def compare_pair(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[float, ...]:
    """The 18 features of a pair; what is not known has a value of its own, between yes and no.

    Args:
        left: fields by name, see ``PAIR_FIELDS``; others are not looked at.
        right: the same of the other side.

    Returns:
        Titles: likeness, equal, far apart, numbers differ, versions differ, guests differ, guests
        agree. Lengths: within 1, 4 and 15 seconds, more than 30 apart, not known. Likeness of
        artists and albums; released within a week, more than a year apart; price equal;
        likeness of copyright lines.
    """
    one, other = song_title(left.get("title", "")), song_title(right.get("title", ""))
    likeness, *of_titles = _compare_titles(one, other)
    gate = max(0.0, (likeness - 0.5) * 2)
    albums = [_words_of(_tidy(side.get("album", ""))) for side in (left, right)]
    differs = _version_difference(one, other, *albums)
    have_guests = bool(one.guests and other.guests)
    share_guests = bool(one.guests & other.guests)
    within_week, year_apart = _compare_releases(left, right)
    prices = [_PRICE.search(side.get("price", "")[:TITLE_LENGTH_MAX]) for side in (left, right)]
    same_price = 0.8
    if prices[0] and prices[1]:
        same_price = float(prices[0][0] == prices[1][0])
    return (
        likeness,
        *of_titles,
        gate * differs,
        float(have_guests and not share_guests),
        gate * share_guests,
        *_compare_durations(left, right, gate),
        _compare_artists(left, right),
        _compare_albums(left, right),
        within_week,
        year_apart,
        same_price,
        gate * _compare_copyrights(left, right),
    )


def _compare_titles(one: SongTitle, other: SongTitle) -> tuple[float, float, float, float]:
    """Likeness, and whether they are equal, far apart, and differ in their numbers."""
    left, right = " ".join(one.words), " ".join(other.words)
    likeness = (fuzz.ratio(left, right) + fuzz.token_sort_ratio(left, right)) / 200
    numbers = [{word for word in title.words if word.isdigit()} for title in (one, other)]
    return (
        likeness,
        float(left == right),
        float(likeness < 0.6),
        float(numbers[0] != numbers[1]),
    )


def _version_difference(
    one: SongTitle, other: SongTitle, album: set[str], other_album: set[str]
) -> float:
    """Share of version words that only one side has; 2 if they tell of another performance.

    Words that the other side has in its title or album are no difference.
    """
    here = one.versions - other.versions - other_album - set(other.words)
    there = other.versions - one.versions - album - set(one.words)
    only_one = here | there
    if only_one & _NEVER_THE_SAME:
        return 2.0
    if album and other_album and _SOUND_ALIKES & (album ^ other_album):
        return 2.0
    return len(only_one) / max(len(one.versions | other.versions), 1)


def _compare_durations(
    left: Mapping[str, str], right: Mapping[str, str], gate: float
) -> tuple[float, float, float, float, float]:
    one = duration_seconds(left.get("duration", ""))
    other = duration_seconds(right.get("duration", ""))
    if one is None or other is None:
        return gate * 0.5, gate * 0.5, gate * 0.6, 0.3, 1.0
    apart = abs(one - other)
    return gate * (apart <= 1), gate * (apart <= 4), gate * (apart <= 15), float(apart > 30), 0.0


def _compare_artists(left: Mapping[str, str], right: Mapping[str, str]) -> float:
    one, other = (_words_of(_tidy(side.get("artist", ""))) - _NEUTRAL for side in (left, right))
    if not one or not other:
        return 1.0  # not known, and in nearly every pair that is proposed they agree
    alike = fuzz.ratio(" ".join(sorted(one)), " ".join(sorted(other))) / 100
    return max(overlap(frozenset(one), frozenset(other)), alike)


def _compare_albums(left: Mapping[str, str], right: Mapping[str, str]) -> float:
    one, other = (" ".join(song_title(side.get("album", "")).words) for side in (left, right))
    if not one or not other:
        return 0.8
    return max(fuzz.ratio(one, other), 0.9 * fuzz.token_set_ratio(one, other)) / 100


def _compare_releases(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[float, float]:
    """Whether within a week, and whether more than a year apart."""
    texts = [side.get("released", "") for side in (left, right)]
    one, other = map(release_day, texts)
    if one and other:
        apart = abs((one - other).days)
        return float(apart <= 7), float(apart > 366)
    years = [_YEAR.search(text[:TITLE_LENGTH_MAX]) for text in texts]
    if years[0] and years[1]:
        years_apart = abs(int(years[0][0]) - int(years[1][0]))
        return 0.5 * (years_apart == 0), float(years_apart > 1)
    return 0.5, 0.0


def _compare_copyrights(left: Mapping[str, str], right: Mapping[str, str]) -> float:
    """Share of owners' words in common; half of it if the years differ."""
    texts = [_tidy(side.get("copyright", "")) for side in (left, right)]
    years = [set(_YEAR.findall(text)) for text in texts]
    one, other = (
        frozenset(w for w in _words_of(text) - _COPYRIGHT_STOP if len(w) > 1 and not w.isdigit())
        for text in texts
    )
    if not one or not other:
        return 0.3
    return overlap(one, other) * (1.0 if years[0] & years[1] else 0.5)
