"""Stores to work in that are thrown away: what is made again is put beside what is committed.

Nothing that is written here reaches the project's own stores.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from royalty_assets.domain.batches import Commit, LakeObject, Stage
from royalty_assets.storage import tables
from royalty_assets.storage.lake import HalfWritten, Lake, ListedObject, LocalLake
from royalty_assets.storage.registry import Registry, open_registry

_ROWS_AT_ONCE = 2_000


class ScratchLake:
    """A lake that reads what another has, and keeps what is new to itself."""

    def __init__(self, beneath: Lake, folder: Path) -> None:
        self._beneath = beneath
        self._own = LocalLake(folder)
        self._made: set[str] = set()

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """See ``Lake``."""
        stored = self._own.put(folder, label, rows, write)
        self._made.add(stored.path)
        return stored

    def local_path(self, stored: LakeObject) -> Path:
        """See ``Lake``."""
        lake = self._own if stored.path in self._made else self._beneath
        return lake.local_path(stored)

    def sha256(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        lake = self._own if stored.path in self._made else self._beneath
        return lake.sha256(stored)

    def uri(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        return (self._own if stored.path in self._made else self._beneath).uri(stored)

    def paths(self) -> Iterator[str]:
        """See ``Lake``."""
        return self._own.paths()

    def listing(self) -> Iterator[ListedObject]:
        """See ``Lake``."""
        return self._own.listing()

    def half_written(self) -> Iterator[HalfWritten]:
        """See ``Lake``."""
        return self._own.half_written()

    def remove(self, path: str, put_before: datetime) -> bool:
        """See ``Lake``."""
        return self._own.remove(path, put_before)


def scratch_registry(source: Registry, path: Path, without: Stage | None = None) -> Registry:
    """A registry of what another has committed, but for one stage.

    Args:
        source: it is only read.
        path: of the new registry's file.
        without: the stage whose batches and commits are left out, with all that belongs to them;
            all are there without it.
    """
    registry = open_registry(f"sqlite:///{path}")
    batches, commits = tables.batches, tables.commits
    left_out = "" if without is None else str(without)
    other = sa.select(batches.c.batch_id).where(batches.c.stage != left_out)
    wanted: list[tuple[sa.Table, sa.ColumnElement[bool]]] = [
        (batches, batches.c.stage != left_out),
        (commits, commits.c.stage != left_out),
        (tables.batch_subjects, tables.batch_subjects.c.batch_id.in_(other)),
        (tables.adjudications, sa.true()),
    ]
    if without is not Stage.VALIDATED:
        wanted.append((tables.reports, sa.true()))
    with source.as_stored() as reading, registry.writing() as writing:
        for table, condition in wanted:
            _copy(reading, writing, sa.select(table).where(condition), table)
    return registry


def forget(scratch: Registry, commit: Commit) -> None:
    """Take a partition's batches and commits of one stage out of a scratch registry."""
    with scratch.writing() as connection:
        for table in (tables.batches, tables.commits):
            connection.execute(
                sa.delete(table)
                .where(table.c.feed == commit.feed)
                .where(table.c.stage == str(commit.stage))
                .where(table.c.partition_key == commit.partition_key)
            )


def _copy(
    reading: sa.Connection, writing: sa.Connection, query: sa.Select[Any], table: sa.Table
) -> None:
    rows = reading.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)).mappings()
    for some in rows.partitions():
        writing.execute(sa.insert(table), [dict(row) for row in some])
