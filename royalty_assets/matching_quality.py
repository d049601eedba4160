"""``royalty-assets bench-matching``: learn to match from one file, say how well it does on another.

What is learnt is in ``domain.matching.linkage``, how files are read in ``sources.linkage_files``.
Labels of the test file are looked at only to count what was right.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from royalty_assets.domain.matching.clusters import CLUSTER_FIELDS
from royalty_assets.domain.matching.linkage import (
    NothingToLearnError,
    accept_pairs,
    find_clusters,
    learn_clusters,
    learn_pairs,
)
from royalty_assets.domain.matching.logistic import Quality
from royalty_assets.domain.matching.pairs import PAIR_FIELDS, SongPair
from royalty_assets.sources.linkage_files import LinkageFileError, read_clusters, read_pairs

Kind = Literal["clusters", "pairs"]
FIELDS: dict[Kind, tuple[str, ...]] = {"clusters": CLUSTER_FIELDS, "pairs": PAIR_FIELDS}


@dataclass(frozen=True, slots=True)
class MatchingQuality:
    """What came of a test.

    Attributes:
        kind: of the files.
        fields: what was looked at.
        precision: share of the found pairs that are true.
        recall: share of the true pairs that were found.
        f1: their harmonic mean.
        threshold: probability that was chosen on the training file.
        pairs_compared: of the test file.
        cpu_seconds: user and system of this process, from the first byte read; imports left out.
    """

    kind: Kind
    fields: tuple[str, ...]
    precision: float
    recall: float
    f1: float
    threshold: float
    pairs_compared: int
    cpu_seconds: float

    def as_json(self) -> dict[str, object]:
        """For programs: figures are rounded to six digits."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def measure_matching(
    kind: Kind, train: Path, test: Path, fields: Sequence[str] | None = None
) -> MatchingQuality:
    """Learn from ``train``, test on ``test``.

    Args:
        kind: ``clusters``, for lists of records, or ``pairs``.
        train: file of examples to learn from, the threshold too.
        test: file of the same layout.
        fields: what to look at, of ``FIELDS[kind]``; by default all that both files have.

    Raises:
        LinkageFileError: if a file cannot be used, or has not all of ``fields``.
    """
    start = time.process_time()
    measure = _measure_clusters if kind == "clusters" else _measure_pairs
    try:
        used, quality, threshold, compared = measure(train, test, fields)
    except NothingToLearnError as error:
        raise LinkageFileError(f"nothing can be learnt from {train}: {error}") from None
    return MatchingQuality(
        kind=kind,
        fields=used,
        precision=quality.precision,
        recall=quality.recall,
        f1=quality.f1,
        threshold=threshold,
        pairs_compared=compared,
        cpu_seconds=time.process_time() - start,
    )


_Measured = tuple[tuple[str, ...], Quality, float, int]


def _measure_clusters(train: Path, test: Path, fields: Sequence[str] | None) -> _Measured:
    examples, questions = read_clusters(train), read_clusters(test)
    used = _fields_used({train: examples.fields, test: questions.fields}, fields)
    model = learn_clusters([_only(each, used) for each in examples.records], examples.clusters)
    found, compared = find_clusters(model, [_only(each, used) for each in questions.records])
    quality = Quality.of_clusters(questions.clusters, found)
    return used, quality, model.threshold, compared


def _measure_pairs(train: Path, test: Path, fields: Sequence[str] | None) -> _Measured:
    examples, questions = read_pairs(train), read_pairs(test)
    used = _fields_used({train: examples.fields, test: questions.fields}, fields)
    model = learn_pairs([_only_of_both(pair, used) for pair in examples.pairs], examples.labels)
    accepted = accept_pairs(model, [_only_of_both(pair, used) for pair in questions.pairs])
    quality = Quality.of_decisions(np.array(questions.labels, dtype=np.bool_), accepted)
    return used, quality, model.threshold, len(questions.pairs)


def _fields_used(
    had: Mapping[Path, tuple[str, ...]], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    for path, fields in had.items():
        if lacking := [name for name in wanted or () if name not in fields]:
            raise LinkageFileError(
                f"{path} has no field {lacking[0]!r}, only {', '.join(fields)}; leave it out of "
                "--fields"
            )
    common = [name for name in next(iter(had.values())) if all(name in f for f in had.values())]
    if not common:
        raise LinkageFileError(f"{' and '.join(map(str, had))} have no field in common")
    return tuple(name for name in common if wanted is None or name in wanted)


def _only(record: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in record.items() if name in fields}


def _only_of_both(pair: SongPair, fields: Sequence[str]) -> SongPair:
    return _only(pair[0], fields), _only(pair[1], fields)


def show_quality(console: Console, quality: MatchingQuality) -> None:
    """A small table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", justify="right")
    table.add_column(overflow="fold")
    table.add_row("kind", quality.kind)
    table.add_row("fields", escape(", ".join(quality.fields)))
    for name in ("precision", "recall", "f1"):
        table.add_row("F1" if name == "f1" else name, f"{getattr(quality, name):.4f}")
    table.add_row("threshold", f"{quality.threshold:.4f}, chosen on the training file")
    table.add_row("pairs compared", f"{quality.pairs_compared:,}")
    table.add_row("CPU seconds", f"{quality.cpu_seconds:.2f}")
    console.print(table)
