"""Texts in normal form as arrays: their bytes, letters and words, and a search for similar ones.

Normal form is ``normalise``'s: letters a to z, digits, single spaces. What is here bounds a
similarity or hashes a text without looking at it again, a few nanoseconds a text; the similarity
itself is rapidfuzz's.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_SYMBOL_OF = np.full(256, 36, dtype=np.uint8)
_SYMBOL_OF[ord("a") : ord("z") + 1] = np.arange(26)
_SYMBOL_OF[ord("0") : ord("9") + 1] = np.arange(26, 36)
_SPACE = 36
_TEXTS_PER_STEP = 1 << 16
_PAIRS_PER_STEP = 1 << 20
_TEXT_LENGTH_MAX = 1 << 14
"""None is longer: ``normalise`` looks at 300 characters, of which each becomes at most 42."""


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
    """How often each text has each symbol, up to four times (a digit two), as 128 bits in two.

    Two texts that differ in n bits differ by at least n insertions and deletions, in whatever
    order their words stand.
    """
    steps = [_letters(texts[at : at + _TEXTS_PER_STEP]) for at in _steps(len(texts))]
    return np.concatenate(steps) if steps else np.empty((0, 2), np.uint64)


def _steps(number: int) -> range:
    return range(0, number, _TEXTS_PER_STEP)


def _letters(texts: pl.Series) -> Hashes:
    text = TextBytes.of(texts)
    ordered = np.sort(text.owners * 64 + text.symbols)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    firsts = np.flatnonzero(fresh)
    times = np.arange(len(ordered)) - np.repeat(firsts, np.diff(firsts, append=len(ordered)))
    symbols = ordered & 63
    is_digit = (symbols >= 26) & (symbols != _SPACE)
    symbols[symbols == _SPACE] = 26
    bits = np.where(is_digit, 27 * 4 + symbols - 26 + 10 * times, symbols + 27 * times)
    counted = times < np.where(is_digit, 2, 4)
    values = np.left_shift(np.uint64(1), (bits & 63).astype(np.uint64))
    letters = np.zeros((len(texts), 2), np.uint64)
    filled = np.flatnonzero(text.lengths)
    if len(filled):
        starts = (np.cumsum(text.lengths) - text.lengths)[filled]
        for half in (0, 1):
            here = np.where(counted & (bits >> 6 == half), values, np.uint64(0))
            letters[filled, half] = np.bitwise_or.reduceat(here, starts)
    return letters


def may_be_similar(
    lengths: Integers, letters: Hashes, other_lengths: Integers, other_letters: Hashes, score: float
) -> NDArray[np.bool_]:
    """False only where no order of words makes the two texts score this much."""
    counts = np.bitwise_count(letters ^ other_letters)
    apart = np.maximum(counts[:, 0] + counts[:, 1], np.abs(lengths - other_lengths))
    possible: NDArray[np.bool_] = apart * 100.0 <= (100.0 - score + 1e-6) * (
        lengths + other_lengths
    )
    return possible


_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)


def _powers(of: int) -> Hashes:
    powers = np.full(_TEXT_LENGTH_MAX + 1, of, np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


_POWERS, _INVERSES = _powers(_BASE), _powers(_BASE_INVERSE)


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def word_hashes(texts: pl.Series, letters_min: int, words_max: int) -> tuple[Integers, Hashes]:
    """(text, hash) of the first words of every text; short words are left out."""
    owners, hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for at in _steps(len(texts)):
        some = _word_hashes(texts[at : at + _TEXTS_PER_STEP], letters_min, words_max)
        owners.append(some[0] + at)
        hashes.append(some[1])
    return np.concatenate(owners), np.concatenate(hashes)


def _word_hashes(texts: pl.Series, letters_min: int, words_max: int) -> tuple[Integers, Hashes]:
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
    owners, words = word_hashes(texts, 1, _TEXT_LENGTH_MAX)
    if len(owners):
        starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
        hashes[owners[starts]] = np.add.reduceat(_mixed(words), starts)
    return hashes


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Stretches of texts, each with a hash of its symbols.

    Attributes:
        owners: the text.
        sides: which part of it (or of a text that is compared with it) a piece may be.
        starts: the first symbol.
        stops: after the last one.
    """

    owners: Integers
    sides: Integers
    starts: Integers
    stops: Integers

    def hashes(self, sums: Hashes, offsets: Integers) -> Hashes:
        """Of each piece as it is."""
        first = offsets[self.owners]
        whole = sums[first + self.stops] - sums[first + self.starts]
        return _salted(whole * _INVERSES[self.starts], self.sides)

    def hashes_without_one(self, sums: Hashes, offsets: Integers) -> tuple[Integers, Hashes]:
        """(piece, hash) for each piece with one symbol left out, whichever."""
        piece, left_out = expand(self.starts, self.stops - self.starts)
        first, start = offsets[self.owners[piece]], self.starts[piece]
        before = (sums[first + left_out] - sums[first + start]) * _INVERSES[start]
        after = sums[first + self.stops[piece]] - sums[first + left_out + 1]
        return piece, _salted(before + after * _INVERSES[start + 1], self.sides[piece])


_WHOLE, _LEFT, _RIGHT = 1, 2, 3
_SHORTENED = np.uint64(0xD6E8FEB86659FD93)
_WHOLE_LENGTH_MAX = 7
_LENGTH_APART_MAX = 3


def _salted(hashes: Hashes, sides: Integers) -> Hashes:
    return _mixed(hashes + sides.astype(np.uint64) * np.uint64(0xA0761D6478BD642F))


def _sums(texts: pl.Series) -> tuple[Hashes, Integers]:
    """For each text the running sums that its pieces' hashes come from, and where they begin."""
    text = TextBytes.of(texts)
    offsets = np.cumsum(text.lengths) - text.lengths
    place = np.arange(len(text.symbols)) - offsets[text.owners]
    sums = np.zeros(len(text.symbols) + 1, np.uint64)
    np.cumsum((text.symbols + np.uint64(1)) * _POWERS[place], out=sums[1:])
    return sums, offsets


def _halves(lengths: Integers) -> _Pieces:
    """What a text is found by: itself if it is short, or either half of it."""
    short = np.flatnonzero(lengths <= _WHOLE_LENGTH_MAX)
    long = np.flatnonzero(lengths > _WHOLE_LENGTH_MAX)
    middle, zero = lengths[long] // 2, np.zeros
    return _Pieces(
        np.concatenate([short, long, long]),
        np.repeat([_WHOLE, _LEFT, _RIGHT], [len(short), len(long), len(long)]),
        np.concatenate([zero(len(short), np.int64), zero(len(long), np.int64), middle]),
        np.concatenate([lengths[short], middle, lengths[long]]),
    )


def _possible_halves(lengths: Integers) -> _Pieces:
    """What in a text may be a half of another, of a length up to three apart, but for a letter."""
    short = np.flatnonzero(lengths <= _WHOLE_LENGTH_MAX + 1)
    long = np.flatnonzero(lengths + _LENGTH_APART_MAX > _WHOLE_LENGTH_MAX)
    own = lengths[long]
    least = np.maximum(own - _LENGTH_APART_MAX, _WHOLE_LENGTH_MAX + 1)
    most = own + _LENGTH_APART_MAX
    sides = []
    for fewest, largest in ((least // 2, most // 2), ((least + 1) // 2, (most + 1) // 2)):
        stops = np.minimum(largest + 1, own)
        starts = np.minimum(fewest - 1, stops)
        row, size = expand(starts, stops - starts + 1)
        sides.append((long[row], size))
    (left, left_size), (right, right_size) = sides
    return _Pieces(
        np.concatenate([short, left, right]),
        np.repeat([_WHOLE, _LEFT, _RIGHT], [len(short), len(left), len(right)]),
        np.concatenate([np.zeros(len(short) + len(left), np.int64), lengths[right] - right_size]),
        np.concatenate([lengths[short], left_size, lengths[right]]),
    )


@dataclass(frozen=True, slots=True)
class SimilarTexts:
    """A search for texts that are similar letter by letter (``rapidfuzz.fuzz.ratio``).

    A text is known by its halves, each as it is and with one letter left out. So it is found for
    any other that is apart by up to three letters inserted or deleted (a replaced one is both):
    one of the halves has at most one of them. It is also found where one half is as it was. A
    text of up to seven letters is known by itself, likewise, and found by up to one letter.

    Attributes:
        texts: distinct.
        lengths: of each.
        letters: ``letters_of`` each.
        hashes: of what they are known by, ascending.
        hash_starts: where the texts known by each begin in ``hash_texts``, and the last one ends.
        hash_texts: numbers of texts.
    """

    texts: pl.Series
    lengths: Integers
    letters: Hashes
    hashes: Hashes
    hash_starts: NDArray[np.uint32]
    hash_texts: NDArray[np.uint32]

    @classmethod
    def build(cls, texts: pl.Series) -> Self:
        """Index distinct texts."""
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        sums, offsets = _sums(texts)
        pieces = _halves(lengths)
        shortened, without_one = pieces.hashes_without_one(sums, offsets)
        hashes = np.concatenate([pieces.hashes(sums, offsets), without_one ^ _SHORTENED])
        owners = np.concatenate([pieces.owners, pieces.owners[shortened]]).astype(np.uint32)
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        fresh = np.ones(len(hashes), dtype=bool)
        fresh[1:] = hashes[1:] != hashes[:-1]
        starts = np.append(np.flatnonzero(fresh), len(hashes)).astype(np.uint32)
        return cls(texts, lengths, letters_of(texts), hashes[fresh], starts, owners)

    def find(self, asked: pl.Series, score: float) -> tuple[Integers, Integers]:
        """(asked, text): pairs of a ratio of at least ``score``, in order."""
        if asked.is_empty() or self.texts.is_empty():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        lengths, letters = asked.str.len_bytes().to_numpy().astype(np.int64), letters_of(asked)
        owners, at = self._known(asked, lengths)
        starts = self.hash_starts[at].astype(np.int64)
        counts = self.hash_starts[at + 1] - starts
        found = [np.empty(0, np.int64)]
        for part in in_steps(counts):
            rows, positions = expand(starts[part], counts[part])
            texts, rows = self.hash_texts[positions].astype(np.int64), owners[part][rows]
            may_be = may_be_similar(
                lengths[rows], letters[rows], self.lengths[texts], self.letters[texts], score
            )
            found.append(rows[may_be] * len(self.texts) + texts[may_be])
        pairs = distinct(np.concatenate(found))
        rows, texts = pairs // len(self.texts), pairs % len(self.texts)
        ratios = process.cpdist(
            asked.gather(rows).to_list(),
            self.texts.gather(texts).to_list(),
            scorer=fuzz.ratio,
            dtype=np.float64,
        )
        return rows[ratios >= score], texts[ratios >= score]

    def _known(self, asked: pl.Series, lengths: Integers) -> tuple[Integers, Integers]:
        """(asked, position in ``hashes``) for all that a text may be known by."""
        sums, offsets = _sums(asked)
        pieces = _possible_halves(lengths)
        whole = pieces.hashes(sums, offsets)
        shortened, without_one = pieces.hashes_without_one(sums, offsets)
        owners = np.concatenate([pieces.owners, pieces.owners, pieces.owners[shortened]])
        hashes = np.concatenate([whole, whole ^ _SHORTENED, without_one])
        order = np.argsort(hashes)
        owners, hashes = owners[order], hashes[order]
        at = np.searchsorted(self.hashes, hashes)
        there = at < len(self.hashes)
        there[there] = self.hashes[at[there]] == hashes[there]
        return owners[there], at[there]


def distinct(numbers: Integers) -> Integers:
    """In order; faster here than ``np.unique``."""
    numbers = np.sort(numbers)
    fresh = np.ones(len(numbers), dtype=bool)
    fresh[1:] = numbers[1:] != numbers[:-1]
    return numbers[fresh]


def in_steps(counts: Integers) -> list[slice]:
    """Slices of rows that come to a bounded number of pairs each; a row is never cut."""
    ends = np.cumsum(counts)
    slices, start, done = [], 0, 0
    while start < len(counts):
        stop = max(int(np.searchsorted(ends, done + _PAIRS_PER_STEP, side="right")), start + 1)
        slices.append(slice(start, stop))
        start, done = stop, int(ends[stop - 1])
    return slices
