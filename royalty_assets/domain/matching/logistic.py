"""A small logistic regression, and how good a decision made with it is.

What belongs here: fitting by iteratively reweighted least squares, precision, recall and F1. What
the numbers mean that go in is for ``clusters`` and ``pairs`` to know.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_Z_MAX = 6.0
"""A feature farther from its mean than so many standard deviations is taken to be that far."""
_LOGIT_MAX = 30.0
_STEP_MAX = 5.0
_STEPS_MAX = 30
_BLOCK_ROWS = 128
_STEP_DONE = 1e-8
_INTERCEPT_RIDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Quality:
    """How a decision compares with the truth.

    Attributes:
        precision: share of what was accepted that is true; 0 if nothing was.
        recall: share of what is true that was accepted; 0 if nothing is.
        f1: their harmonic mean; 0 if both are 0.
    """

    precision: float
    recall: float
    f1: float

    @classmethod
    def of_counts(cls, both: int, accepted: int, true: int) -> "Quality":
        """From how many are accepted and true, accepted, and true."""
        return cls(both / max(accepted, 1), both / max(true, 1), 2 * both / max(accepted + true, 1))

    @classmethod
    def of_decisions(cls, truth: Booleans, accepted: Booleans) -> "Quality":
        """From one decision each, both of shape (n,)."""
        both = int(np.count_nonzero(truth & accepted))
        return cls.of_counts(both, int(np.count_nonzero(accepted)), int(np.count_nonzero(truth)))

    @classmethod
    def of_clusters(cls, truth: Sequence[Hashable], found: Sequence[Hashable]) -> "Quality":
        """Pairwise, over all pairs of records: does a pair share a cluster, and should it.

        Args:
            truth: each record's true cluster.
            found: each record's cluster as found, in the same order.
        """
        joint = _pairs_within(Counter(zip(truth, found, strict=True)))
        return cls.of_counts(joint, _pairs_within(Counter(found)), _pairs_within(Counter(truth)))


def _pairs_within(sizes: Counter[Hashable]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes.values())


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """Weights over standardised features. A feature that is NaN is missing: it counts as nothing.

    Attributes:
        means: of each feature in training, shape (features,).
        deviations: standard deviations, the same shape.
        may_miss: features with a column of their own that says "missing", the same shape.
        is_curved: whether each feature also counts by its square, so that the middle of its range
            may speak differently from both ends.
        weights: one per column of ``encode``.
    """

    means: Floats
    deviations: Floats
    may_miss: Booleans
    is_curved: bool
    weights: Floats

    def logits(self, features: Floats) -> Floats:
        """Log-odds of each row of (n, features), shape (n,)."""
        encoded = _encode(features, self.means, self.deviations, self.may_miss, self.is_curved)
        return np.asarray((encoded * self.weights).sum(axis=1), dtype=np.float64)

    def probabilities(self, features: Floats) -> Floats:
        """Of each row of (n, features), shape (n,), between 0 and 1."""
        return probability(self.logits(features))


def probability(logits: Floats) -> Floats:
    """The logistic function, safe for any size of logit."""
    bounded = np.clip(logits, -_LOGIT_MAX, _LOGIT_MAX)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)), dtype=np.float64)


def fit_logistic(
    features: Floats, truth: Floats, *, ridge: float, is_curved: bool = False
) -> LogisticModel:
    """Fit by iteratively reweighted least squares with an L2 penalty.

    The penalty keeps weights finite where the classes can be parted without error, and where a
    feature is constant or missing throughout. The intercept is as good as free of it.

    Args:
        features: shape (n, features), NaN where missing.
        truth: shape (n,), 0 to 1; a fraction is a share of equal rows that are true.
        ridge: of the penalty, in units of squared standardised weight; above 0.
        is_curved: see ``LogisticModel``.

    Raises:
        ValueError: if there is no row.
    """
    if not len(features):
        raise ValueError("nothing to learn from: no rows")
    present = ~np.isnan(features)
    counts = np.maximum(present.sum(axis=0), 1)
    means = np.nansum(features, axis=0) / counts
    deviations = np.sqrt(np.nansum((features - means) ** 2, axis=0) / counts) + 1e-9
    may_miss = np.asarray(~present.all(axis=0), dtype=np.bool_)
    encoded = _blocks(_encode(features, means, deviations, may_miss, is_curved))
    wanted = _blocks(truth[:, None])
    columns = encoded.shape[2]
    transposed = encoded.transpose(0, 2, 1)
    penalty = ridge * np.eye(columns)
    penalty[0, 0] = _INTERCEPT_RIDGE
    weights = np.zeros(columns)
    for _ in range(_STEPS_MAX):
        expected = probability(encoded @ weights[:, None])
        spread = expected * (1 - expected) + 1e-6
        curvature = (transposed @ (encoded * spread)).sum(axis=0) + penalty
        slope = (transposed @ (wanted - expected)).sum(axis=0)[:, 0] - penalty @ weights
        step = np.linalg.solve(curvature, slope)
        largest = float(np.abs(step).max())
        weights = weights + step * min(1.0, _STEP_MAX / max(largest, _STEP_DONE))
        if largest < _STEP_DONE:
            break
    return LogisticModel(means, deviations, may_miss, is_curved, weights)


def _blocks(rows: Floats) -> Floats:
    """(n, columns) as (blocks, ``_BLOCK_ROWS``, columns), filled up with rows of zeros.

    Products of blocks are too small for linear algebra libraries to share out among threads, which
    would cost more than it saves, and give other last digits with another number of them.
    """
    blocks = -(-len(rows) // _BLOCK_ROWS)
    filled = np.zeros((blocks * _BLOCK_ROWS, rows.shape[1]))
    filled[: len(rows)] = rows
    return filled.reshape(blocks, _BLOCK_ROWS, rows.shape[1])


def _encode(
    features: Floats, means: Floats, deviations: Floats, may_miss: Booleans, is_curved: bool
) -> Floats:
    """[1, z, and z² - 1 if curved, is missing], shape (n, columns)."""
    missing = np.isnan(features)
    standard = np.clip((features - means) / deviations, -_Z_MAX, _Z_MAX)
    columns = [np.ones((len(features), 1)), np.where(missing, 0.0, standard)]
    if is_curved:
        columns.append(np.where(missing, 0.0, standard * standard - 1.0))
    columns.append(missing[:, may_miss].astype(np.float64))
    return np.hstack(columns)
