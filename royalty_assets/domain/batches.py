"""Batches and commits: what a stage did to one window, or one partition, and the hash of it.

A *batch* is the unit of commit: immutable lake objects over one event-time window. Its manifest
is canonical JSON whose SHA-256 names everything that it holds. A *commit* closes a partition of
a stage: which batches it consists of, what became of every row, and whether its gate is green.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Stage(StrEnum):
    """The stages of the pipeline; also the last part of each asset's key and its folder.

    ``POOL_REPORT``, the raw bytes that a pool is read from, is a part of the pool asset.
    """

    CATALOG = "catalog"
    CONTRACTS = "contracts"
    RAW = "raw"
    VALIDATED = "validated"
    MATCHED = "matched"
    POOL_REPORT = "pool_report"
    POOL = "pool"
    LEDGER = "ledger"
    PAYOUTS = "payouts"
    STATEMENTS = "statements"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True, order=True)
class LakeObject:
    """An immutable object of the lake.

    Attributes:
        path: relative to the lake's root, ``/`` between parts.
        sha256: of the object's bytes.
        size_bytes: length.
        rows: rows in it (payload chunks for raw objects).
    """

    path: str
    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One committed window of one stage of one feed."""

    feed: str
    stage: Stage
    partition_key: str
    window_start: datetime
    window_label: str
    revision: int
    input_sha256: str
    objects: tuple[LakeObject, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def batch_id(self) -> str:
        """The sequence id, which follows from feed, stage, window and revision alone."""
        return f"{self.feed}/{self.stage}/{self.window_label}.{self.revision}"

    @property
    def manifest(self) -> str:
        """Canonical JSON of all that the batch claims."""
        return json.dumps(
            {
                "batch_id": self.batch_id,
                "partition_key": self.partition_key,
                "window_start": self.window_start.isoformat(),
                "input_sha256": self.input_sha256,
                "objects": [[o.path, o.sha256, o.size_bytes, o.rows] for o in self.objects],
                "counts": dict(sorted(self.counts.items())),
            },
            sort_keys=True,
            separators=(",", ":"),
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the manifest: the hash that decisions on this batch carry."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def content_sha256(self) -> str:
        """A digest of the objects' hashes, whatever they are called and came from."""
        return combined_sha256(o.sha256 for o in self.objects)


@dataclass(frozen=True, slots=True)
class Commit:
    """The present state of one partition of one stage.

    Attributes:
        revision: 0 for the first; higher when its input has changed since.
        input_sha256: digest of all that it was derived from.
        batch_ids: the batches that it consists of, in window order.
        counts: what became of rows and units (see each stage).
        checks: check name → what breaks it; the gate is green when nothing breaks any.
        warnings: check name → what breaks it, where configuration lets that pass.
    """

    feed: str
    stage: Stage
    partition_key: str
    revision: int
    input_sha256: str
    batch_ids: tuple[str, ...]
    counts: Mapping[str, int]
    checks: Mapping[str, list[str]]
    warnings: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def is_green(self) -> bool:
        """Whether what comes after may use this partition."""
        return not any(self.checks.values())


def combined_sha256(parts: Iterable[str]) -> str:
    """SHA-256 over texts in the order given, unambiguous at their borders."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()
