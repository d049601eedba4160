"""Which records of one list name the same recording, learnt from a list where that is known.

Three steps: *candidate pairs* (each record and its nearest by rare trigrams of all its text),
*features* of each pair, and *average linkage* over the pairs' log-odds. A record's fields are
taken for one bag of parts, because senders put artists into titles and titles into albums.

Records that say the same are one record here: nothing could tell them apart. What comes out
depends on the set of distinct records, never on their order, number or names.
"""

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process

from royalty_assets.domain.matching.logistic import Floats, Integers
from royalty_assets.domain.matching.normalise import plain_text
from royalty_assets.domain.matching.similarity import (
    SAYS_NOTHING,
    abbreviation_similarity,
    code_similarity,
    plain_words,
    rarity,
    segment_coverage,
    trigrams,
)

CLUSTER_FIELDS = ("number", "title", "artist", "album", "year", "language")
"""What is looked at of a record; a field that is absent is missing."""

NEIGHBOURS_MAX = 15
_TRIGRAM_RECORDS_MAX = 200
"""A trigram in more records than this brings up nothing that a rarer one would not."""
_SIMILARITY_MIN = 0.12
_WEIGHT_SCALE = 1 << 20
"""Weights are summed as whole numbers of this fraction: sums are exact, in whatever order."""
NOT_COMPARED_LOGIT = -3.0
"""Log-odds of a pair that is no candidate: unlikely, and not beyond what others can say."""
LOGIT_MAX = 8.0
"""No single pair may outvote all others of its clusters."""

_NUMBER_IN_TITLE = re.compile(r"(\d{3})\s?[-.]\s?(.*)|(0\d\d)[\s_](.*)", re.DOTALL)
_YEAR_IN_ALBUM = re.compile(r"\(([^()]{0,9})\)\s*$")
_PARTS = re.compile(r"\s-\s|[()]")
_NO_DIGITS = re.compile(r"[^0-9]+")
_NO_LETTERS = re.compile(r"[^a-z]+")


@dataclass(frozen=True, slots=True, order=True)
class LinkageRecord:
    """A record in normal form; its order is the order in which everything is done.

    Attributes:
        segments: distinct parts of title, artist and album, as ASCII words.
        number: track number without leading zeros, or empty.
        year: its last two digits, or empty.
        language: letters only, or empty.
    """

    segments: tuple[str, ...]
    number: str
    year: str
    language: str

    @property
    def text(self) -> str:
        """All its words."""
        return " ".join(self.segments)


def linkage_record(fields: Mapping[str, str]) -> LinkageRecord:
    """Take a record apart: ``008-time's cold grasp`` is track 8, ``the album (2013)`` has a year.

    Args:
        fields: any of ``CLUSTER_FIELDS``; others are not looked at, whatever their length is.
    """
    number, title, artist, album, year, language = (
        plain_text(fields.get(name, "")).strip() for name in CLUSTER_FIELDS
    )
    prefix = ""
    if numbered := _NUMBER_IN_TITLE.match(title):
        prefix = numbered[1] or numbered[3]
        title = numbered[2] if numbered[1] else numbered[4]
    if (dated := _YEAR_IN_ALBUM.search(album)) and (
        not plain_words(dated[1]) or len(_NO_DIGITS.sub("", dated[1])) >= 3
    ):
        year = year if plain_words(year) else dated[1]
        album = album[: dated.start()]
    parts = [plain_words(part) for field in (title, artist, album) for part in _PARTS.split(field)]
    digits = _NO_DIGITS.sub("", year)
    letters = _NO_LETTERS.sub("", language)
    return LinkageRecord(
        segments=tuple(dict.fromkeys(part for part in parts if part)),
        number=(_NO_DIGITS.sub("", number) or prefix).lstrip("0")[:9],
        year=digits[-2:] if len(digits) > 1 else "",
        language="" if letters in SAYS_NOTHING else letters[:20],
    )


@dataclass(frozen=True, slots=True)
class CandidatePairs:
    """Pairs of records that are worth comparing.

    Attributes:
        left: position of the one record, shape (n,), smaller than ``right``.
        right: position of the other, shape (n,). Pairs are in ascending order.
    """

    left: Integers
    right: Integers

    def __len__(self) -> int:
        return len(self.left)


class _Trigrams:
    """The records' trigrams, weighted by the square of their rarity, and each record's norm."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.of = [trigrams(text) for text in texts]
        self.occurrences = Counter(gram for grams in self.of for gram in grams)
        self.weights = {
            gram: round(rarity(occurs, len(texts)) ** 2 * _WEIGHT_SCALE)
            for gram, occurs in self.occurrences.items()
        }
        self.norms = [
            math.sqrt(sum(self.weights[gram] for gram in grams) / _WEIGHT_SCALE) or 1.0
            for grams in self.of
        ]

    def shared(self, left: int, right: int) -> float:
        """Weight of the trigrams that two records have in common."""
        common = self.of[left] & self.of[right]
        return sum(map(self.weights.__getitem__, common)) / _WEIGHT_SCALE


def _candidates(grams: _Trigrams) -> CandidatePairs:
    """Each record's ``NEIGHBOURS_MAX`` nearest by the rare trigrams that they share."""
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for record, own in enumerate(grams.of):
        for gram in own:
            if 2 <= grams.occurrences[gram] <= _TRIGRAM_RECORDS_MAX:
                holders[gram].append(record)
    postings = {
        gram: (np.array(records), float(grams.weights[gram])) for gram, records in holders.items()
    }
    norms = np.array(grams.norms)
    found: set[tuple[int, int]] = set()
    for record, own in enumerate(grams.of):
        rare = [postings[gram] for gram in own if gram in postings]
        if not rare:
            continue
        shared = np.zeros(len(norms))
        for records, weight in rare:
            shared[records] += weight
        shared[record] = 0
        # Between cosine and containment, so that a short record still finds its long twin.
        scale = np.minimum(norms[record], norms) * np.sqrt(norms[record] * norms)
        similarity = shared / (scale * _WEIGHT_SCALE)
        others = np.flatnonzero(similarity > _SIMILARITY_MIN)
        nearest = np.lexsort((others, -similarity[others]))[:NEIGHBOURS_MAX]
        for other in others[nearest].tolist():
            found.add((min(record, other), max(record, other)))
    pairs = np.array(sorted(found), dtype=np.int64).reshape(len(found), 2)
    return CandidatePairs(pairs[:, 0], pairs[:, 1])


def compare_records(records: Sequence[LinkageRecord]) -> tuple[CandidatePairs, Floats]:
    """The candidate pairs of distinct, sorted records, and their features.

    Returns:
        The pairs, and an array of shape (pairs, 14), NaN where a side says nothing: trigram cosine
        and containment; two token ratios; least and greatest coverage of parts; number, year and
        language; length and weight of the shorter; likeness by trigrams and parts, and how far that
        is behind the best candidate of either side.
    """
    texts = [record.text for record in records]
    grams = _Trigrams(texts)
    pairs = _candidates(grams)
    lefts, rights = pairs.left.tolist(), pairs.right.tolist()
    token_sets, token_sorts = (
        process.cpdist(
            [texts[i] for i in lefts], [texts[j] for j in rights], scorer=scorer, dtype=np.float64
        )
        / 100
        for scorer in (fuzz.token_set_ratio, fuzz.token_sort_ratio)
    )
    rows = []
    for at, (i, j) in enumerate(zip(lefts, rights, strict=True)):
        one, other = records[i], records[j]
        shared = grams.shared(i, j)
        smaller = min(grams.norms[i], grams.norms[j])
        parts = (
            segment_coverage(one.segments, other.segments, texts[j]),
            segment_coverage(other.segments, one.segments, texts[i]),
        )
        rows.append(
            (
                shared / (grams.norms[i] * grams.norms[j]),
                shared / smaller**2,
                token_sets[at],
                token_sorts[at],
                min(parts),
                max(parts),
                code_similarity(one.number, other.number),
                code_similarity(one.year, other.year),
                abbreviation_similarity(one.language, other.language),
                min(len(texts[i]), len(texts[j])),
                smaller,
            )
        )
    features = np.array(rows, dtype=np.float64).reshape(len(rows), 11)
    return pairs, _with_competition(len(records), pairs, features)


def _with_competition(count: int, pairs: CandidatePairs, features: Floats) -> Floats:
    """Three more columns: a sum of likenesses, and its lag behind each side's best, sorted."""
    likeness = features[:, 0] + np.nan_to_num(features[:, 4])
    best = np.zeros(count)
    np.maximum.at(best, pairs.left, likeness)
    np.maximum.at(best, pairs.right, likeness)
    lags = np.sort(likeness[:, None] - np.stack([best[pairs.left], best[pairs.right]], 1), axis=1)
    return np.hstack([features, likeness[:, None], lags])


def average_link(count: int, pairs: CandidatePairs, logits: Floats, size_max: int) -> list[int]:
    """Join clusters, the most alike first, while the mean log-odds between them are above 0.

    Pairs that are no candidates count with ``NOT_COMPARED_LOGIT``. Ties go to the records that
    come first.

    Args:
        count: of records.
        pairs: of their positions, below ``count``.
        logits: log-odds of each pair, shape (pairs,); 0 is where opinion turns.
        size_max: records that a cluster may have.

    Returns:
        Each record's cluster: the position of its first record.
    """
    lifts: list[dict[int, float]] = [{} for _ in range(count)]
    heap: list[tuple[float, int, int, int, int]] = []
    bounded = np.clip(logits, -LOGIT_MAX, LOGIT_MAX).tolist()
    for i, j, logit in zip(pairs.left.tolist(), pairs.right.tolist(), bounded, strict=True):
        lifts[i][j] = lifts[j][i] = logit - NOT_COMPARED_LOGIT
        if logit > 0:
            heap.append((-logit, i, j, 0, 0))
    heapq.heapify(heap)
    members = [[record] for record in range(count)]
    version = [0] * count
    while heap:
        _, i, j, version_i, version_j = heapq.heappop(heap)
        is_current = version[i] == version_i and version[j] == version_j
        if not is_current or len(members[i]) + len(members[j]) > size_max:
            continue
        members[i] += members[j]
        members[j] = []
        version[i] += 1
        version[j] = -1
        _move_lifts(lifts, j, i)
        for k, lift in lifts[i].items():
            mean = lift / (len(members[i]) * len(members[k])) + NOT_COMPARED_LOGIT
            if mean > 0:
                a, b = min(i, k), max(i, k)
                heapq.heappush(heap, (-mean, a, b, version[a], version[b]))
    found = [0] * count
    for cluster in members:
        for record in cluster:
            found[record] = min(cluster)
    return found


def _move_lifts(lifts: list[dict[int, float]], source: int, target: int) -> None:
    """Add what ``source`` has in common with others to ``target``, on both sides."""
    del lifts[target][source]
    for other, lift in lifts[source].items():
        if other != target:
            del lifts[other][source]
            total = lifts[target].get(other, 0.0) + lift
            lifts[target][other] = lifts[other][target] = total
    lifts[source] = {}
