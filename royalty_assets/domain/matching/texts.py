"""Texts in normal form as arrays: their bytes, letters, words and trigrams, and a search in them.

Normal form is ``normalise``'s: letters a to z, digits, single spaces. What is here bounds a
similarity or hashes a text without looking at it again, a few nanoseconds a text; the similarity
itself is rapidfuzz's and its caller's. ``SimilarTexts`` loses no text that is similar enough.
"""

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_SYMBOLS = 38
_EDGE = 37
_GRAMS = _SYMBOLS**3
_SYMBOL_OF = np.full(256, 36, dtype=np.uint8)
_SYMBOL_OF[ord("a") : ord("z") + 1] = np.arange(26)
_SYMBOL_OF[ord("0") : ord("9") + 1] = np.arange(26, 36)
_SPACE = 36
_TEXTS_PER_STEP = 1 << 17
_PAIRS_PER_STEP = 1 << 20
_TEXT_LENGTH_MAX = 4_000
"""Far above what a normal form comes to; what is longer is compared by its beginning."""


@dataclass(frozen=True, slots=True)
class TextBytes:
    """Texts one after the other.

    Attributes:
        symbols: 0 to 25 letters, 26 to 35 digits, 36 a space.
        owners: which text each symbol belongs to.
        lengths: of each text.
    """

    symbols: NDArray[np.uint8]
    owners: Integers
    lengths: Integers

    @classmethod
    def of(cls, texts: pl.Series) -> Self:
        """The texts of a column without nulls."""
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        joined = "".join(texts.to_list()).encode("ascii", "replace")
        symbols = _SYMBOL_OF[np.frombuffer(joined, dtype=np.uint8)]
        return cls(symbols, np.repeat(np.arange(len(lengths)), lengths), lengths)


def expand(starts: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """For each range, its number repeated and the positions in it."""
    rows = np.repeat(np.arange(len(counts)), counts)
    shift = starts - (np.cumsum(counts) - counts)
    return rows, np.arange(len(rows)) + shift[rows]


def letters_of(texts: pl.Series) -> Hashes:
    """Which symbols each text has, and which twice, as the 64 bits of a number.

    Two texts that differ in n bits differ by at least n insertions and deletions, in whatever
    order their words stand.
    """
    steps = [_letters(texts[at : at + _TEXTS_PER_STEP]) for at in _steps(len(texts))]
    return np.concatenate(steps) if steps else np.empty(0, np.uint64)


def _steps(number: int) -> range:
    return range(0, number, _TEXTS_PER_STEP)


def _letters(texts: pl.Series) -> Hashes:
    text = TextBytes.of(texts)
    ordered = np.sort(text.owners * 64 + text.symbols)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    second = np.zeros(len(ordered), dtype=bool)
    second[1:] = ~fresh[1:] & fresh[:-1]
    symbols = ordered & 63
    # Letters and the space have two bits each, digits one: 37 and then 27.
    second &= (symbols < 26) | (symbols == _SPACE)
    bits = np.where(second, np.where(symbols == _SPACE, 63, symbols + 37), symbols)
    values = np.where(fresh | second, np.uint64(1) << bits.astype(np.uint64), np.uint64(0))
    letters = np.zeros(len(texts), np.uint64)
    filled = np.flatnonzero(text.lengths)
    if len(filled):
        starts = (np.cumsum(text.lengths) - text.lengths)[filled]
        letters[filled] = np.bitwise_or.reduceat(values, starts)
    return letters


def may_be_similar(
    lengths: Integers, letters: Hashes, other_lengths: Integers, other_letters: Hashes, score: float
) -> NDArray[np.bool_]:
    """False only where no order of words makes the two texts score this much."""
    apart = np.maximum(
        np.bitwise_count(letters ^ other_letters), np.abs(lengths - other_lengths)
    )
    return apart * 100.0 <= (100.0 - score + 1e-6) * (lengths + other_lengths)


_POWERS = np.empty(_TEXT_LENGTH_MAX, np.uint64)
_POWERS[0] = 1
_POWERS[1:] = 0x9E3779B97F4A7C15
_POWERS = np.cumprod(_POWERS, dtype=np.uint64)


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def word_hashes(texts: pl.Series, letters_min: int, words_max: int) -> tuple[Integers, Hashes]:
    """(text, hash) of the first words of every text; short words are left out."""
    text = TextBytes.of(texts)
    is_space = text.symbols == _SPACE
    first = np.ones(len(text.symbols), dtype=bool)
    first[1:] = is_space[:-1] | (text.owners[1:] != text.owners[:-1])
    first &= ~is_space
    starts = np.flatnonzero(first)
    if not len(starts):
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    word_of = np.cumsum(first) - 1
    place = np.minimum(np.arange(len(first)) - starts[word_of], _TEXT_LENGTH_MAX - 1)
    values = (text.symbols + np.uint64(1)) * _POWERS[place]
    values[is_space] = 0
    hashes = _mixed(np.add.reduceat(values, starts))
    letters = np.add.reduceat((~is_space).astype(np.int64), starts)
    owners = text.owners[starts]
    number = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = (letters >= letters_min) & (number < words_max)
    return owners[kept], hashes[kept]


def text_hashes(texts: pl.Series) -> Hashes:
    """A hash of each text's words, in whatever order they stand."""
    hashes = np.zeros(len(texts), np.uint64)
    for at in _steps(len(texts)):
        owners, words = word_hashes(texts[at : at + _TEXTS_PER_STEP], 1, _TEXT_LENGTH_MAX)
        if len(owners):
            starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
            hashes[owners[starts] + at] = np.add.reduceat(_mixed(words), starts)
    return hashes


def _grams(texts: pl.Series) -> tuple[Integers, Integers]:
    """(text, trigram), distinct and in order; a text of n letters has n of them, an edge counts."""
    text = TextBytes.of(texts.replace("", " "))
    padded = np.full(len(text.symbols) + 2 * len(texts), _EDGE, dtype=np.int64)
    padded[np.arange(len(text.symbols)) + 2 * text.owners + 1] = text.symbols
    at = np.arange(len(text.symbols)) + 2 * text.owners
    grams = (padded[at] * _SYMBOLS + padded[at + 1]) * _SYMBOLS + padded[at + 2]
    codes = np.unique(text.owners * _GRAMS + grams)
    return codes // _GRAMS, codes % _GRAMS


@cache
def _grams_that_tell(length: int, score: float) -> int:
    """How many different trigrams of a text every similar text must share one of.

    A letter too many breaks up to three of the text's trigrams, one too few up to two; a similar
    text is apart by a bounded number of both. One more than can be broken will tell.
    """
    broken = 0
    for other in range(length * 4 + 1):
        apart = int((100.0 - score + 1e-6) * (length + other) / 100)
        surplus = (apart + length - other) // 2
        lack = surplus - (length - other)
        if surplus >= 0 and lack >= 0:
            broken = max(broken, 3 * min(surplus, length) + 2 * lack)
    return broken + 1


@dataclass(frozen=True, slots=True)
class SimilarTexts:
    """A search for texts that are similar letter by letter (``rapidfuzz.fuzz.ratio``).

    Attributes:
        texts: distinct.
        lengths: of each.
        letters: ``letters_of`` each.
        gram_starts: where the texts with each trigram begin in ``gram_texts``.
        gram_texts: numbers of texts, by trigram and then by length.
    """

    texts: pl.Series
    lengths: NDArray[np.int32]
    letters: Hashes
    gram_starts: Integers
    gram_texts: NDArray[np.uint32]

    @classmethod
    def build(cls, texts: pl.Series) -> Self:
        """Index distinct texts."""
        lengths = texts.str.len_bytes().to_numpy().astype(np.int32)
        parts = [_grams(texts[at : at + _TEXTS_PER_STEP]) for at in _steps(len(texts))]
        at = np.concatenate(
            [part[0] + step for part, step in zip(parts, _steps(len(texts)), strict=True)]
            or [np.empty(0, np.int64)]
        )
        grams = np.concatenate([part[1] for part in parts] or [np.empty(0, np.int64)])
        order = np.argsort(grams * 8_192 + np.minimum(lengths[at], 8_191), kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(grams, minlength=_GRAMS))])
        return cls(texts, lengths, letters_of(texts), starts, at[order].astype(np.uint32))

    def find(self, asked: pl.Series, score: float) -> tuple[Integers, Integers]:
        """(asked, text): all pairs of a ratio of at least ``score``, in order."""
        if asked.is_empty() or self.texts.is_empty():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        lengths, letters = asked.str.len_bytes().to_numpy().astype(np.int64), letters_of(asked)
        owners, grams = self._telling_grams(asked, lengths, score)
        starts = self.gram_starts[grams]
        counts = self.gram_starts[grams + 1] - starts
        found: list[Integers] = []
        for part in in_steps(counts):
            rows, at = expand(starts[part], counts[part])
            texts, rows = self.gram_texts[at], owners[part][rows]
            may_be = may_be_similar(
                lengths[rows], letters[rows], self.lengths[texts], self.letters[texts], score
            )
            found.append(rows[may_be] * len(self.texts) + texts[may_be])
        pairs = np.unique(np.concatenate(found))
        rows, texts = pairs // len(self.texts), pairs % len(self.texts)
        ratios = process.cpdist(
            asked.gather(rows).to_list(),
            self.texts.gather(texts).to_list(),
            scorer=fuzz.ratio,
            dtype=np.float64,
        )
        return rows[ratios >= score], texts[ratios >= score]

    def _telling_grams(
        self, asked: pl.Series, lengths: Integers, score: float
    ) -> tuple[Integers, Integers]:
        """(asked, trigram): the rarest of each text, as many as are needed."""
        owners, grams = _grams(asked)
        frequency = self.gram_starts[grams + 1] - self.gram_starts[grams]
        order = np.lexsort((grams, frequency, owners))
        owners, grams = owners[order], grams[order]
        number = np.arange(len(owners)) - np.searchsorted(owners, owners)
        needed = np.array([_grams_that_tell(length, score) for length in lengths.tolist()])
        kept = number < needed[owners]
        return owners[kept], grams[kept]


def in_steps(counts: Integers) -> list[slice]:
    """Slices of rows that come to a bounded number of pairs each; a row is never cut."""
    ends = np.cumsum(counts)
    slices, start, done = [], 0, 0
    while start < len(counts):
        stop = max(int(np.searchsorted(ends, done + _PAIRS_PER_STEP, side="right")), start + 1)
        slices.append(slice(start, stop))
        start, done = stop, int(ends[stop - 1])
    return slices
