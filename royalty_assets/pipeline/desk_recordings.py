"""Recordings that people add at the desk: a catalog file of its own, behind all others.

It is provisional: where another file of the catalog has the same ISRC, that one counts.
"""

import csv
import fcntl
import io
import os
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from royalty_assets.domain.adjudication import AdjudicationError, State, standings
from royalty_assets.domain.catalog import Recording
from royalty_assets.pipeline.catalog import (
    DESK_RECORDINGS,
    catalog_in_force,
    load_catalog,
    take_catalog,
)
from royalty_assets.pipeline.context import PipelineContext

_COLUMNS = ("recording_id", "isrc", "title", "artist", "upc", "release_title")


def add_recording(context: PipelineContext, fields: Mapping[str, str]) -> str:
    """Add a recording to the catalog, and take the catalog in.

    Args:
        context: the project.
        fields: ``isrc``, ``title``, ``artist`` and, where known, ``upc`` and ``release_title``.

    Returns:
        Its id.

    Raises:
        AdjudicationError: if the catalog would not take it, or its file cannot be written.
    """
    for name, text in fields.items():
        if any(unicodedata.category(c) in {"Cc", "Cs"} for c in text):
            raise AdjudicationError(f"{name} has line breaks or other signs that cannot be shown")
    try:
        recording = Recording.model_validate({name: text for name, text in fields.items() if text})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
        raise AdjudicationError(f"the catalog cannot take this recording: {told}") from None
    path = context.home / context.project.catalog.folder / DESK_RECORDINGS
    with _writing(path):
        _add(context, path, recording)
    return recording.isrc


def _add(context: PipelineContext, path: Path, recording: Recording) -> None:
    if recording.isrc in _known(context):
        raise AdjudicationError(f"{recording.isrc} is in the catalog already")
    before = path.read_bytes() if path.exists() else None
    rows = [] if before is None else _rows(before)
    _write(path, [*rows, recording.model_dump() | {"recording_id": recording.isrc}])
    take_catalog(context)
    if recording.isrc not in _known(context):
        # It is better not there at all than there and not understood.
        path.unlink() if before is None else path.write_bytes(before)
        take_catalog(context)
        raise AdjudicationError(f"the catalog did not take {recording.isrc}; look at {path.name}")


def remove_unused(context: PipelineContext) -> None:
    """Take recordings of the desk's out again that no decision in force is about any more.

    What another file of the catalog says of them stays.
    """
    path = context.home / context.project.catalog.folder / DESK_RECORDINGS
    if not path.exists():
        return
    decided = standings(context.registry.adjudications(), context.now().date()).values()
    used = {one.rule.recording_id for one in decided if one.rule is not None}
    used |= {
        one.decision.recording_id
        for one in decided
        if one.decision is not None and one.state is State.PROPOSED
    }
    with _writing(path):
        rows = _rows(path.read_bytes())
        kept = [row for row in rows if row["isrc"] in used or row["recording_id"] in used]
        if len(kept) < len(rows):
            _write(path, kept) if kept else path.unlink()
            take_catalog(context)


def _known(context: PipelineContext) -> frozenset[str]:
    _, batch = catalog_in_force(context)
    recordings = load_catalog(context, batch).recordings
    return frozenset(recordings["recording_id"]) | frozenset(recordings["isrc"])


def _rows(content: bytes) -> list[dict[str, str]]:
    """The rows of the file, however a spreadsheet has saved it since."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = [{name: (row.get(name) or "") for name in _COLUMNS} for row in reader]
    return [row for row in rows if any(row.values())]


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    """The file anew, whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Path(name).chmod(0o644)
    Path(name).replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """One writer at a time, of this and of other processes.

    Raises:
        AdjudicationError: if the file cannot be read or written.
    """
    try:
        with (path.parent / ".desk.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except (OSError, UnicodeError, csv.Error) as error:
        raise AdjudicationError(f"{path} cannot be changed: {error}") from None
