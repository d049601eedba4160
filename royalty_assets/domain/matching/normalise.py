"""Titles and artist credits brought to a form in which equal things look equal.

A title falls into a core, a version that tells one recording from another (a remix, a live
take), and an edition that does not (a remaster, a radio edit). Featured artists are set aside.
Nothing here decides whether two names mean the same recording; that is ``cascade``.
"""

import html
import re
from dataclasses import dataclass

import polars as pl
from anyascii import anyascii

TITLE_LENGTH_MAX = 300
"""Characters compared; what follows in a longer title is not looked at."""

_VERSION_WORDS = frozenset(
    "live remix mix instrumental karaoke acoustic sped slowed reverb nightcore demo cover acapella "
    "cappella unplugged orchestral rework bootleg reprise session sessions dub vip extended "
    "instrumentals remixed mashup medley rehearsal outtake piano stripped".split()
)
_EDITION_WORDS = frozenset(
    "remaster remastered remastering edit version edition single album original radio deluxe bonus "
    "track explicit clean mono stereo main anniversary master digital official audio video "
    "recording the lyric lyrics music".split()
)
_EDITION_STARTS = ("from ", "from the ", "music from ", "theme from ")
_FEATURING = re.compile(r"^(feat|ft|featuring|with)\b\.?\s*")
_FEATURING_INLINE = re.compile(r"\s(?:feat|ft|featuring)\b\.?\s.*$")
_SEGMENT = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\s[-~]\s([^-~(\[]+)|[(\[]([^()\[\]]*)$")
# What is left of a letter that went through a wrong encoding twice: it stands for one unknown
# letter, and comparing it as three would count the damage as a difference.
_ENCODING_DAMAGE = re.compile(r"(?:\N{REPLACEMENT CHARACTER}|ï¿½|ï¿$|ï$|ï¿(?=\s))+")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_YEAR = re.compile(r"(?:19|20)\d\d|\d+(?:st|nd|rd|th)")
_CREDIT_SEPARATORS = re.compile(
    r"\s*(?:[,;/&+|]|\bfeat\b\.?|\bft\b\.?|\bfeaturing\b|\bwith\b|\band\b|\bx\b|\bvs\b\.?)\s*"
)

# Titles of nothing but words and plain punctuation, which are decided by column: most of them.
_SIMPLE = r"^[0-9A-Za-z ,.!?'\"/:*#%+_-]*$"
_NOT_SIMPLE = r"(?i) - |\b(?:feat|ft|featuring)\b|remix|instrumental|karaoke"


@dataclass(frozen=True, slots=True)
class NormalTitle:
    """A title's parts; each is lower-case ASCII words with single spaces.

    Attributes:
        core: what the song is called.
        version: words that tell this recording from others of the song, sorted.
        edition: words that name another issue of the same recording, sorted.
        numbers: the digits in the core; "Part 1" is not "Part 2".
        guest: ``with``, ``feat`` or empty. Services write "with" for a recording that was made
            again with a guest, and "feat." mostly for one that always had it.
    """

    core: str
    version: str
    edition: str
    numbers: str
    guest: str


def _words(text: str) -> str:
    return _NOT_WORD.sub(" ", text.replace("'", "")).strip()


def _plain(text: str) -> str:
    undamaged = _ENCODING_DAMAGE.sub("", html.unescape(text[:TITLE_LENGTH_MAX]))
    return anyascii(undamaged).lower()


def plain_text(text: str) -> str:
    """Lower-case ASCII of the first ``TITLE_LENGTH_MAX`` characters, punctuation and all."""
    return _plain(text)[:TITLE_LENGTH_MAX]


def _begun(words: list[str]) -> str | None:
    """What a bracket that is cut off began to say, if it may have been a version or a guest.

    Which version cannot be known: what stands there is a version of its own, and agrees with none.
    """
    if len(words) == 1 and "featuring".startswith(words[0]):
        return "feat"
    known = _VERSION_WORDS.intersection(words) or _EDITION_WORDS.intersection(words)
    if not known and any(word.startswith(words[-1]) for word in _VERSION_WORDS):
        return " ".join(words)
    return None


def normalise_title(title: str) -> NormalTitle:
    """Take a title apart. A title that is nothing but a bracket keeps it as its core."""
    plain = _plain(title).replace("&", " and ")
    version: list[str] = []
    edition: list[str] = []
    guests: list[str] = []

    def classify(segment: re.Match[str]) -> str:
        text = next(group for group in segment.groups() if group is not None)
        if featuring := _FEATURING.match(text.strip()):
            guests.append("with" if featuring[1] == "with" else "feat")
            return " "
        words = _words(text).split()
        if not words or segment.start() == 0:
            return f" {text} "
        if segment[4] is not None and (begun := _begun(words)) is not None:
            (guests if begun == "feat" else version).extend([begun])
            return " "
        if _VERSION_WORDS.intersection(words):
            version.extend(w for w in words if w not in _EDITION_WORDS and not _YEAR.fullmatch(w))
            return " "
        if _EDITION_WORDS.intersection(words) - {"the"} or text.strip().startswith(_EDITION_STARTS):
            edition.extend(words)
            return " "
        return f" {text} "

    core = _SEGMENT.sub(classify, plain)
    core = _words(_FEATURING_INLINE.sub("", core))
    tail = core.rsplit(" ", 1)
    if len(tail) == 2 and tail[1] in {"remix", "instrumental", "karaoke"}:
        core = tail[0]
        version.append(tail[1])
    core = core or _words(plain)
    numbers = " ".join(word for word in core.split() if word.isdigit())
    return NormalTitle(
        core,
        " ".join(sorted(version)),
        " ".join(sorted(edition)),
        numbers,
        "with" if "with" in guests else "".join(guests[:1]),
    )


def normalise_credits(artist: str) -> list[str]:
    """The credited artists, first one first."""
    credited = [_words(credit) for credit in _CREDIT_SEPARATORS.split(_plain(artist))]
    return [credit for credit in credited if credit]


_TITLES_PER_STEP = 1 << 15
_TITLE_PARTS = dict.fromkeys(("core", "version", "edition", "numbers", "guest"), pl.String())
_ARTIST_PARTS = dict.fromkeys(("first_credit", "credits"), pl.String())


def normalise_titles(titles: pl.Series) -> pl.DataFrame:
    """``normalise_title`` of each, as columns; a title that is there often is looked at once."""
    distinct = titles.unique(maintain_order=True).alias("title").to_frame()
    title = pl.col("title")
    is_simple = (
        (title.str.len_bytes() <= TITLE_LENGTH_MAX)
        & title.str.contains(_SIMPLE)
        & ~title.str.contains(_NOT_SIMPLE)
    )
    simple = distinct.filter(is_simple)
    core = (
        title.str.to_lowercase()
        .str.replace_all("'", "", literal=True)
        .str.replace_all("[^a-z0-9]+", " ")
        .str.strip_chars(" ")
    )
    by_column = simple.select("title", core.alias("core")).with_columns(
        pl.lit("").alias("version"),
        pl.lit("").alias("edition"),
        pl.col("core").str.extract_all(r"\b[0-9]+\b").list.join(" ").alias("numbers"),
        pl.lit("").alias("guest"),
    )
    one_by_one = [
        some.hstack(_title_parts(some["title"]))
        for some in distinct.filter(~is_simple).iter_slices(_TITLES_PER_STEP)
    ]
    return _for_each(titles, pl.concat([by_column, *one_by_one]))


def _title_parts(titles: pl.Series) -> pl.DataFrame:
    parts = [normalise_title(title) for title in titles]
    return pl.DataFrame(
        [[getattr(part, name) for part in parts] for name in _TITLE_PARTS], _TITLE_PARTS
    )


def normalise_artists(artists: pl.Series) -> pl.DataFrame:
    """``normalise_credits`` of each, as columns: the first one, and all of them with ``|``."""
    distinct = artists.unique(maintain_order=True).alias("artist").to_frame()
    credited = [normalise_credits(text) for text in distinct["artist"]]
    columns = [
        [names[0] if names else "" for names in credited],
        ["|".join(names) for names in credited],
    ]
    return _for_each(artists, distinct.hstack(pl.DataFrame(columns, _ARTIST_PARTS)))


def _for_each(texts: pl.Series, parts: pl.DataFrame) -> pl.DataFrame:
    """The parts of each text, in the order of the texts; ``parts`` begins with its text."""
    key = parts.columns[0]
    return (
        texts.alias(key).to_frame().join(parts, on=key, how="left", maintain_order="left").drop(key)
    )
