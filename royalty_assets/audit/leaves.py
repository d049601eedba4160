"""What a leaf of the log says, and the canonical text of rows that it answers for.

A leaf says that something of a kind and with a name had this content when it was logged. Its
content is either rows of the registry, by table, or whatever else has a SHA-256: a closed period,
a statement. Which rows belong to which leaf is for the store to know.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from royalty_assets.audit.merkle import leaf_hash

_HEADING = "royalty_assets leaf v1"
_MANIFEST_HEADING = "royalty_assets batch v1"
_LINE = re.compile(r"([a-z_]+) ([1-9][0-9]*) ([0-9a-f]{64})")


class LeafKind(StrEnum):
    """Kinds of leaves that answer for rows of the registry; there may be others."""

    BATCH = "batch"
    COMMIT = "commit"
    DELIVERIES = "deliveries"
    ADJUDICATION = "adjudication"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of the log.

    Attributes:
        index: its place, from 0.
        kind: see ``LeafKind``; others are free to be added.
        subject: what of that kind it is about, without line feeds.
        content_sha256: of the content, in lower-case hexadecimal.
        signature: of a batch's manifest, as in a note (``name base64``); else empty.
    """

    index: int
    kind: str
    subject: str
    content_sha256: str
    signature: str = ""

    @property
    def entry(self) -> bytes:
        """The text that is hashed into the tree."""
        parts = (self.kind, self.subject, self.content_sha256, self.signature)
        lines = (_HEADING, str(self.index), *parts)
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")

    @property
    def hash(self) -> bytes:
        """Its hash in the tree."""
        return leaf_hash(self.entry)


@dataclass(frozen=True, slots=True)
class RowsDigest:
    """How many rows of a table, and the SHA-256 over them, in whatever order they are read."""

    rows: int
    sha256: str


def rows_digest(rows: Iterable[str]) -> RowsDigest:
    """The digest of rows in their canonical text; databases sort texts each in their own way."""
    hashes = sorted(hashlib.sha256(row.encode()).digest() for row in rows)
    return RowsDigest(len(hashes), hashlib.sha256(b"".join(hashes)).hexdigest())


def canonical_row(row: Mapping[str, object]) -> str:
    """A row's text: JSON in ASCII with sorted names.

    What is null is left out, so that a column that is added later changes no text.
    """
    present = {name: value for name, value in row.items() if value is not None}
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def content_of_rows(parts: Mapping[str, RowsDigest]) -> str:
    """A leaf's content that is rows: a line a table, ``name rows sha256``."""
    return "".join(
        f"{table} {part.rows} {part.sha256}\n" for table, part in sorted(parts.items()) if part.rows
    )


def rows_of_content(content: str) -> dict[str, RowsDigest] | None:
    """Table → digest, from a content of rows; None if it is none."""
    parts: dict[str, RowsDigest] = {}
    for line in content.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        parts[found[1]] = RowsDigest(int(found[2]), found[3])
    return parts if parts and content_of_rows(parts) == content else None


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8; bytes that are none pass through."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def manifest_text(batch_id: str, manifest_sha256: str) -> str:
    """What is signed of a batch's manifest."""
    return f"{_MANIFEST_HEADING}\n{batch_id}\n{manifest_sha256}\n"
