"""Labelled examples for matching: lists of records with their clusters, and pairs with a label.

The layouts are those of the public benchmarks for entity resolution: a CSV file with a ``cluster``
column, and lines ``left TAB right TAB label`` whose sides are ``COL name VAL value COL ...``. What
the fields mean is in ``domain.matching``; here they only get the names that are known there.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from royalty_assets.domain.matching.clusters import CLUSTER_FIELDS
from royalty_assets.domain.matching.pairs import PAIR_FIELDS, SongPair

_CELL_BYTES_MAX = 1 << 30
"""A cell of megabytes is a hostile title, not an unreadable file; its beginning is compared."""
_COLUMN = re.compile(r"(?:^|\s)COL (\S+) VAL(?=\s|$)")
_PAIR_NAMES = {
    "title": "title song_name song name track",
    "artist": "artist artist_name",
    "album": "album album_name",
    "price": "price",
    "copyright": "copyright label",
    "duration": "duration time length",
    "released": "released release_date date year",
}
_FIELD_OF = {name: field for field, names in _PAIR_NAMES.items() for name in names.split()}


class LinkageFileError(Exception):
    """A file of examples that cannot be used: which, where, why and what to do."""


@dataclass(frozen=True, slots=True)
class ClusteredRecords:
    """A list of records and their clusters.

    Attributes:
        fields: those of ``CLUSTER_FIELDS`` that the file has.
        records: fields by name.
        clusters: each record's, in the same order.
    """

    fields: tuple[str, ...]
    records: list[dict[str, str]]
    clusters: list[str]


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Pairs and their labels.

    Attributes:
        fields: those of ``PAIR_FIELDS`` that the file has.
        pairs: two sides each, fields by name.
        labels: whether they are the same, in the same order.
    """

    fields: tuple[str, ...]
    pairs: list[SongPair]
    labels: list[bool]


def read_clusters(path: Path) -> ClusteredRecords:
    """Read a CSV file with a header of ``cluster``, ``title`` and others; unknown ones are left.

    Raises:
        LinkageFileError: if it cannot be read, has no such columns or no rows, or a row has
            another number of cells than the header, or no cluster.
    """
    with _cells_of_any_size():
        rows = _csv_rows(path)
        _, header = next(rows, (0, []))
        names = [name.strip().lower() for name in header]
        if not names:
            raise LinkageFileError(f"{path} is empty; a header of at least cluster,title is needed")
        for name in ("cluster", "title"):
            if name not in names:
                raise LinkageFileError(
                    f"{path}: no column {name!r} among {', '.join(names)[:200]}; clusters files "
                    "are CSV with a header of at least cluster,title (for pairs: --kind pairs)"
                )
        if twice := {name for name in names if name and names.count(name) > 1}:
            raise LinkageFileError(f"{path}: column {min(twice)!r} is there twice; keep one")
        records, clusters = [], []
        for line, row in rows:
            if len(row) != len(names):
                raise LinkageFileError(
                    f"{path}, line {line}: {len(row)} cells where the header has {len(names)}; "
                    "put quotation marks around cells that contain a comma"
                )
            cells = dict(zip(names, row, strict=True))
            if not (cluster := cells["cluster"].strip()):
                raise LinkageFileError(
                    f"{path}, line {line}: the cluster is empty; a recording that has no other "
                    "record needs a cluster of its own"
                )
            clusters.append(cluster)
            records.append({name: cells[name] for name in CLUSTER_FIELDS if name in cells})
    if not records:
        raise LinkageFileError(f"{path} has a header and no rows; there is nothing to compare")
    return ClusteredRecords(tuple(n for n in CLUSTER_FIELDS if n in names), records, clusters)


def read_pairs(path: Path) -> LabelledPairs:
    """Read lines ``left TAB right TAB label``; columns with unknown names are left.

    Raises:
        LinkageFileError: if it cannot be read, has no pairs, or a line is not of that form.
    """
    pairs: list[SongPair] = []
    labels = []
    known: set[str] = set()
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != 3:
            raise LinkageFileError(
                f"{path}, line {number}: {len(cells)} parts between tabs where left, right and "
                "label are needed (for CSV: --kind clusters)"
            )
        label = cells[2].strip()
        if label not in {"0", "1"}:
            raise LinkageFileError(
                f"{path}, line {number}: the label is {label[:40]!r}; write 1 for the same "
                "recording, 0 for another"
            )
        left, right = (_side(path, number, cell) for cell in cells[:2])
        known |= left.keys() | right.keys()
        pairs.append((left, right))
        labels.append(label == "1")
    if not pairs:
        raise LinkageFileError(f"{path} is empty; lines of left, right and label are needed")
    if not known:
        raise LinkageFileError(
            f"{path}: no column has a name that is known; {', '.join(sorted(_FIELD_OF))} are"
        )
    return LabelledPairs(tuple(name for name in PAIR_FIELDS if name in known), pairs, labels)


def _side(path: Path, number: int, text: str) -> dict[str, str]:
    before, *parts = _COLUMN.split(text)
    if before.strip() or not parts:
        raise LinkageFileError(
            f"{path}, line {number}: a side does not begin with 'COL name VAL value': "
            f"{text.strip()[:60]!r}"
        )
    named = zip(parts[::2], parts[1::2], strict=True)
    return {
        _FIELD_OF[name.lower()]: value.strip() for name, value in named if name.lower() in _FIELD_OF
    }


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that they begin on; blank lines are nothing."""
    reader = csv.reader(StringIO(_text(path), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LinkageFileError(
                f"{path}, line {line}: {error}; quotation marks inside a quoted cell are "
                'written twice ("")'
            ) from None
        if row:
            yield line, row


def _text(path: Path) -> str:
    """A file's text; a line that is no UTF-8 is read as Windows-1252, as everywhere here."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise LinkageFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "".join(map(_line_text, body.splitlines(keepends=True))).removeprefix("\ufeff")


def _line_text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """The csv module's limit is the process's; it is put back."""
    before = csv.field_size_limit(_CELL_BYTES_MAX)
    try:
        yield
    finally:
        csv.field_size_limit(before)
