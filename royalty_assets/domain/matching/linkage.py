"""Learning to link records from examples, and applying it: lists of records, and given pairs.

Everything is learnt on the training examples alone, the threshold too, by cross-validation in
which no recording is on both sides. What is compared, and how, is in ``clusters`` and ``pairs``.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from royalty_assets.domain.matching.clusters import (
    CandidatePairs,
    LinkageRecord,
    average_link,
    compare_records,
    linkage_record,
)
from royalty_assets.domain.matching.logistic import (
    Booleans,
    Floats,
    Integers,
    LogisticModel,
    Quality,
    fit_logistic,
    probability,
)
from royalty_assets.domain.matching.pairs import SongPair, compare_pair

_CLUSTER_FOLDS = 3
_CLUSTER_RIDGE = 1.0
_BIASES = np.arange(-2.0, 3.01, 0.5)
"""Log-odds to try as the point where opinion turns."""
_PAIR_FOLDS = 10
_PAIR_SHUFFLES = 5
_PAIR_RIDGE = 3.0

Record = Mapping[str, str]


class NothingToLearnError(ValueError):
    """The training examples do not show both what belongs together and what does not."""


@dataclass(frozen=True, slots=True)
class ClusterModel:
    """What was learnt from a list of records with their clusters.

    Attributes:
        weights: log-odds of a pair from its features.
        bias: log-odds above which clusters are joined.
        size_max: distinct records of the largest cluster seen; none found is larger.
    """

    weights: LogisticModel
    bias: float
    size_max: int

    @property
    def threshold(self) -> float:
        """The bias as a probability."""
        return float(probability(np.array([self.bias]))[0])


def learn_clusters(records: Sequence[Record], clusters: Sequence[Hashable]) -> ClusterModel:
    """Learn from records whose clusters are known.

    Args:
        records: fields by name, see ``clusters.CLUSTER_FIELDS``.
        clusters: each record's, in the same order; only which are equal matters.

    Raises:
        NothingToLearnError: if no two records that differ share a cluster, or all candidates do.
    """
    normal = [linkage_record(record) for record in records]
    distinct = sorted(set(normal))
    position = {record: at for at, record in enumerate(distinct)}
    places = [position[record] for record in normal]
    sizes: list[dict[Hashable, int]] = [defaultdict(int) for _ in distinct]
    holds: defaultdict[Hashable, set[int]] = defaultdict(set)
    for place, cluster in zip(places, clusters, strict=True):
        sizes[place][cluster] += 1
        holds[cluster].add(place)
    pairs, features = compare_records(distinct)
    truth = _shares(pairs, sizes)
    if not truth.any() or truth.all():
        raise NothingToLearnError(
            "no two different records of one cluster, and of two clusters, resemble each other"
        )
    size_max = max(map(len, holds.values()))
    folds = _folds(len(distinct), list(holds.values()))
    held_out = _cluster_cross_validation(pairs, features, truth, folds)
    qualities = []
    for bias in _BIASES:
        found = average_link(len(distinct), pairs, held_out - bias, size_max)
        of_records = _of_records(found, places, distinct)
        qualities.append(Quality.of_clusters(clusters, of_records).f1)
    # Its neighbours have a say, so that no single lucky point is chosen.
    smooth = np.convolve(np.pad(qualities, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    bias = float(_BIASES[int(np.argmax(np.round(smooth, 9)))])
    return ClusterModel(_fit_clusters(features, truth), bias, size_max)


def find_clusters(model: ClusterModel, records: Sequence[Record]) -> tuple[list[int], int]:
    """Apply what was learnt to records whose clusters are not known.

    Returns:
        Each record's cluster, in the order given, and how many pairs were compared. Cluster
        numbers do not depend on the order of the records; a record without any words is a cluster
        of its own, numbered below 0 by its place.
    """
    normal = [linkage_record(record) for record in records]
    distinct = sorted(set(normal))
    position = {record: at for at, record in enumerate(distinct)}
    pairs, features = compare_records(distinct)
    logits = model.weights.logits(features) - model.bias
    found = average_link(len(distinct), pairs, logits, model.size_max)
    places = [position[record] for record in normal]
    return _of_records(found, places, distinct), len(pairs)


def _of_records(
    found: Sequence[int], places: Sequence[int], distinct: Sequence[LinkageRecord]
) -> list[int]:
    """Each record's cluster from that of what it says; what says nothing is not the same."""
    return [
        found[place] if distinct[place].segments else -1 - at for at, place in enumerate(places)
    ]


def _fit_clusters(features: Floats, truth: Floats) -> LogisticModel:
    return fit_logistic(features, truth, ridge=_CLUSTER_RIDGE, is_curved=True)


def _shares(pairs: CandidatePairs, sizes: Sequence[Mapping[Hashable, int]]) -> Floats:
    """Of each pair of distinct records, the share of record pairs that share a cluster."""
    shares = []
    for i, j in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        both = sum(size * sizes[j].get(cluster, 0) for cluster, size in sizes[i].items())
        shares.append(both / (sum(sizes[i].values()) * sum(sizes[j].values())))
    return np.array(shares, dtype=np.float64)


def _cluster_cross_validation(
    pairs: CandidatePairs, features: Floats, truth: Floats, folds: Integers
) -> Floats:
    """Log-odds of each pair from models that saw neither of its records; means where two did."""
    left, right = folds[pairs.left], folds[pairs.right]
    total, times = np.zeros(len(pairs)), np.zeros(len(pairs))
    for fold in range(_CLUSTER_FOLDS):
        out = (left == fold) | (right == fold)
        if out.any() and not out.all():
            total[out] += _fit_clusters(features[~out], truth[~out]).logits(features[out])
            times[out] += 1
    return np.asarray(total / np.maximum(times, 1), dtype=np.float64)


def _folds(count: int, together: Sequence[set[int]]) -> Integers:
    """A fold for each of ``count`` examples, the same for those that belong together."""
    return _components(count, together) % _CLUSTER_FOLDS


def _components(count: int, together: Sequence[set[int]]) -> Integers:
    """Connected components, numbered by their first example, shape (count,)."""
    root = list(range(count))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    for group in together:
        first, *others = sorted(group)
        for other in others:
            a, b = sorted((find(first), find(other)))
            root[b] = a
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(find(at), len(numbers)) for at in range(count)])


# Given pairs


@dataclass(frozen=True, slots=True)
class PairModel:
    """What was learnt from pairs that are known to be the same recording, or not.

    Attributes:
        weights: log-odds of a pair from its features.
        threshold: probability from which a pair is accepted.
    """

    weights: LogisticModel
    threshold: float


def learn_pairs(pairs: Sequence[SongPair], truth: Sequence[bool]) -> PairModel:
    """Learn from labelled pairs.

    Args:
        pairs: two sides each.
        truth: whether they are the same recording, in the same order.

    Raises:
        NothingToLearnError: if not both answers are among the examples.
    """
    if len(set(truth)) < 2:
        raise NothingToLearnError("pairs labelled 1 and pairs labelled 0 are needed, some of both")
    examples = sorted(zip(pairs, truth, strict=True), key=lambda each: (_content(each[0]), each[1]))
    features = _pair_features([pair for pair, _ in examples])
    labels = np.array([label for _, label in examples], dtype=np.bool_)
    groups = _song_groups([pair for pair, _ in examples])
    held_out = np.mean(
        [_pair_cross_validation(features, labels, groups, seed) for seed in range(_PAIR_SHUFFLES)],
        axis=0,
    )
    return PairModel(_fit_pairs(features, labels), best_threshold(labels, held_out))


def accept_pairs(model: PairModel, pairs: Sequence[SongPair]) -> Booleans:
    """Whether each pair is taken for the same recording, shape (pairs,)."""
    if not pairs:
        return np.zeros(0, dtype=np.bool_)
    found = model.weights.probabilities(_pair_features(pairs)) >= model.threshold
    return np.asarray(found, dtype=np.bool_)


def best_threshold(truth: Booleans, probabilities: Floats) -> float:
    """The middle of the widest gap between probabilities that gives the best F1."""
    edges = np.concatenate([[0.0], np.unique(probabilities), [1.0]])
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    f1 = np.array([Quality.of_decisions(truth, probabilities >= middle).f1 for middle in middles])
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middles[best[np.argmax(widths[best])]])


def _fit_pairs(features: Floats, truth: Booleans) -> LogisticModel:
    return fit_logistic(features, truth.astype(np.float64), ridge=_PAIR_RIDGE)


def _pair_features(pairs: Sequence[SongPair]) -> Floats:
    return np.array([compare_pair(left, right) for left, right in pairs], dtype=np.float64)


def _pair_cross_validation(
    features: Floats, truth: Booleans, groups: Integers, seed: int
) -> Floats:
    """Probability of each pair from a model that saw no pair of its group."""
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    folds = order[groups] % _PAIR_FOLDS
    held_out = np.zeros(len(truth))
    for fold in np.unique(folds):
        out = folds == fold
        if not out.all():
            model = _fit_pairs(features[~out], truth[~out])
            held_out[out] = model.probabilities(features[out])
    return held_out


def _content(pair: SongPair) -> tuple[list[tuple[str, str]], ...]:
    return tuple(sorted(side.items()) for side in pair)


def _song_groups(pairs: Sequence[SongPair]) -> Integers:
    """Pairs that have a left or a right song in common are one group, shape (pairs,)."""
    sharing: defaultdict[tuple[int, str, str], set[int]] = defaultdict(set)
    for at, pair in enumerate(pairs):
        for side, song in enumerate(pair):
            name = song.get("title", "").lower(), song.get("artist", "").lower()
            sharing[side, *name].add(at)
    return _components(len(pairs), list(sharing.values()))
