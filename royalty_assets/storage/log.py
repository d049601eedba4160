"""The log in the registry: appending leaves, reading the rows that they answer for as stored.

Everything here works on a connection inside somebody's transaction, so that what is committed and
its leaf appear together. Rows are read as the database holds them, without the conversions that
would make two spellings one. What a leaf says is in ``audit.leaves``; keys are not known here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from royalty_assets.audit.leaves import (
    Leaf,
    LeafKind,
    RowsDigest,
    canonical_row,
    content_of_rows,
    rows_digest,
    text_sha256,
)
from royalty_assets.audit.merkle import next_subtree
from royalty_assets.storage import tables

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}")
_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class LoggedTable:
    """A table whose rows leaves answer for.

    Attributes:
        kind: of the leaves.
        key: the columns that say which leaf a row belongs to: ``leaf_index`` alone, or those
            from which the leaf's subject follows.
    """

    table: sa.Table
    kind: LeafKind
    key: tuple[str, ...]

    @property
    def by_index(self) -> bool:
        """Whether rows name their leaf by its index."""
        return self.key == ("leaf_index",)

    def leaf_of(self, key: Sequence[Any]) -> int | str | None:
        """The index, or the subject, of the leaf that answers for rows of this key."""
        if self.by_index:
            return key[0] if isinstance(key[0], int | None) else str(key[0])
        if self.table is tables.reports:
            return commit_subject(key[0], "validated", key[1], key[2])
        if self.kind is LeafKind.COMMIT:
            return commit_subject(*key)
        return str(key[0])


_COMMIT_KEY = ("feed", "stage", "partition_key", "revision")
LOGGED = {
    logged.table.name: logged
    for logged in (
        LoggedTable(tables.batches, LeafKind.BATCH, ("batch_id",)),
        LoggedTable(tables.decisions, LeafKind.BATCH, ("leaf_index",)),
        LoggedTable(tables.exceptions, LeafKind.BATCH, ("leaf_index",)),
        LoggedTable(tables.batch_subjects, LeafKind.BATCH, ("leaf_index",)),
        LoggedTable(tables.commits, LeafKind.COMMIT, _COMMIT_KEY),
        LoggedTable(tables.dead_letters, LeafKind.COMMIT, _COMMIT_KEY),
        LoggedTable(tables.reports, LeafKind.COMMIT, ("feed", "partition_key", "revision")),
        LoggedTable(tables.deliveries, LeafKind.DELIVERIES, ("leaf_index",)),
        LoggedTable(tables.adjudications, LeafKind.ADJUDICATION, ("number",)),
    )
}
"""Table name → how its rows belong to leaves."""


def commit_subject(feed: object, stage: object, partition_key: object, revision: object) -> str:
    """What a commit's leaf is about."""
    return f"{feed}/{stage}/{partition_key}.{revision}"


class LogTree:
    """The hashes of the log's tree (``audit.merkle.TreeStore``), read as they are asked for."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""
        return self._hash(tables.log_leaves.c.leaf_hash, index)

    def subtree(self, index: int) -> bytes:
        """The hash of the largest perfect subtree that ends with a leaf."""
        return self._hash(tables.log_leaves.c.subtree_hash, index)

    def _hash(self, column: sa.Column[str], index: int) -> bytes:
        query = sa.select(column).where(tables.log_leaves.c.leaf_index == index)
        return bytes.fromhex(self._connection.execute(query).scalar_one())


def next_index(connection: sa.Connection) -> int:
    """The index of the leaf to come; another writer may take it before this one commits."""
    newest = connection.scalar(sa.select(sa.func.max(tables.log_leaves.c.leaf_index)))
    return 0 if newest is None else newest + 1


def append_rows_leaf(
    connection: sa.Connection,
    kind: LeafKind,
    subject: str,
    rows: Mapping[str, tuple[Any, ...]],
    signature: str = "",
    index: int | None = None,
) -> Leaf:
    """Append the leaf that answers for rows which are in their tables already.

    Args:
        connection: in the transaction that put the rows there.
        kind: of leaf.
        subject: what it is about.
        rows: table name → key of the rows (see ``LoggedTable.key``).
        signature: of a batch's manifest.
        index: the leaf's, where the rows name it.
    """
    parts = {name: digest_of(connection, LOGGED[name], key) for name, key in rows.items()}
    content = content_of_rows(parts)
    return append_leaf(connection, kind, subject, text_sha256(content), content, signature, index)


def append_leaf(
    connection: sa.Connection,
    kind: str,
    subject: str,
    content_sha256: str,
    content: str = "",
    signature: str = "",
    index: int | None = None,
) -> Leaf:
    """Append a leaf.

    Raises:
        sqlalchemy.exc.IntegrityError: if another writer has appended at this index meanwhile.
    """
    if "\n" in kind + subject + signature:
        raise ValueError(f"a leaf's kind, subject and signature are of one line: {subject!r}")
    leaf = Leaf(
        next_index(connection) if index is None else index, kind, subject, content_sha256, signature
    )
    subtree = next_subtree(LogTree(connection), leaf.index, leaf.hash)
    row = {
        "leaf_index": leaf.index,
        "kind": kind,
        "subject": subject,
        "content": content,
        "content_sha256": content_sha256,
        "signature": signature,
        "leaf_hash": leaf.hash.hex(),
        "subtree_hash": subtree.hex(),
    }
    connection.execute(sa.insert(tables.log_leaves).values(row))
    return leaf


def digest_of(connection: sa.Connection, logged: LoggedTable, key: Sequence[Any]) -> RowsDigest:
    """The digest of the rows of one leaf in one table."""
    query = _stored(logged.table, connection.dialect.name).where(
        *(logged.table.c[name] == value for name, value in zip(logged.key, key, strict=True))
    )
    return rows_digest(canonical_row(row) for row in _rows(connection, logged.table, query))


def digests(connection: sa.Connection, name: str) -> dict[int | str | None, RowsDigest]:
    """Leaf (its index or subject) → the digest of its rows in a table, over the whole table."""
    logged = LOGGED[name]
    query = _stored(logged.table, connection.dialect.name).order_by(
        *(logged.table.c[n] for n in logged.key)
    )

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row.get(n) for n in logged.key)

    return {
        logged.leaf_of(values): rows_digest(map(canonical_row, rows))
        for values, rows in groupby(_rows(connection, logged.table, query), key)
    }


def stored_rows(connection: sa.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table as they are stored, by primary key."""
    query = _stored(table, connection.dialect.name).order_by(*table.primary_key.columns)
    return _rows(connection, table, query)


@contextmanager
def reading_what_is_stored(connection: sa.Connection) -> Iterator[None]:
    """Lets texts through that are no UTF-8, as SQLite may hold after a disk's error."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    before = driver.text_factory
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = before


@lru_cache(maxsize=64)
def _stored(table: sa.Table, database: str) -> sa.Select[Any]:
    """All columns, without what SQLAlchemy would make of their values."""
    is_sqlite = database == "sqlite"
    columns: list[sa.ColumnElement[Any]] = [
        sa.cast(column, sa.Text).label(column.name)
        if isinstance(column.type, sa.JSON) and not is_sqlite
        else sa.type_coerce(column, sa.types.NullType()).label(column.name)
        for column in table.columns
    ]
    return sa.select(*columns)


def _rows(
    connection: sa.Connection, table: sa.Table, query: sa.Select[Any]
) -> Iterator[dict[str, Any]]:
    instants = {c.name for c in table.columns if isinstance(c.type, sa.DateTime)}
    for row in connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)).mappings():
        yield {name: _plain(value, is_instant=name in instants) for name, value in row.items()}


def _plain(value: Any, *, is_instant: bool) -> Any:
    """The same on every database: instants in UTC, truth as 0 and 1."""
    match value:
        case bool():
            return int(value)
        case str() if is_instant:
            # SQLite keeps instants as texts, in one spelling; any other is no instant of ours.
            return f"{value[:10]}T{value[11:]}+00:00" if _INSTANT.fullmatch(value) else [value]
        case datetime():
            aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return aware.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case bytes():
            return {"bytes": value.hex()}
    return value


def log_what_is_there(connection: sa.Connection) -> None:
    """Log what a registry held before it had a log, in the order in which it was committed."""
    events = [
        *(
            (row["committed_at"], 0, (row["batch_id"],))
            for row in stored_rows(connection, tables.batches)
        ),
        *(
            (row["committed_at"], 1, tuple(row[name] for name in _COMMIT_KEY))
            for row in stored_rows(connection, tables.commits)
        ),
        *(
            (row["decided_at"], 2, (row["number"],))
            for row in stored_rows(connection, tables.adjudications)
        ),
    ]
    for _, order, key in sorted(events):
        if order == 0:
            _log_batch(connection, *key)
        elif order == 1:
            append_commit_leaf(connection, *key)
        else:
            rows = {tables.adjudications.name: key}
            append_rows_leaf(connection, LeafKind.ADJUDICATION, str(key[0]), rows)
    _log_deliveries(connection)


def append_commit_leaf(
    connection: sa.Connection, feed: str, stage: str, partition_key: str, revision: int
) -> Leaf:
    """Append the leaf of a commit, its dead letters and its reports."""
    key = (feed, stage, partition_key, revision)
    rows: dict[str, tuple[Any, ...]] = {"commits": key, "dead_letters": key}
    if stage == "validated":
        rows["reports"] = (feed, partition_key, revision)
    return append_rows_leaf(connection, LeafKind.COMMIT, commit_subject(*key), rows)


def append_batch_leaf(
    connection: sa.Connection,
    batch_id: str,
    index: int,
    signature: str = "",
    among: Iterable[str] = ("decisions", "exceptions", "batch_subjects"),
) -> Leaf:
    """Append the leaf of a batch and of what was decided on it.

    Args:
        connection: in the transaction that committed the batch.
        batch_id: which.
        index: that the rows name.
        signature: of its manifest.
        among: the tables that may hold such rows.
    """
    rows = {"batches": (batch_id,), **dict.fromkeys(among, (index,))}
    return append_rows_leaf(connection, LeafKind.BATCH, batch_id, rows, signature, index)


_UNASSIGNED = (tables.decisions, tables.exceptions, tables.batch_subjects)


def _log_batch(connection: sa.Connection, batch_id: str) -> None:
    index = next_index(connection)
    for table in _UNASSIGNED:
        own = sa.update(table).where(table.c.batch_id == batch_id).values(leaf_index=index)
        connection.execute(own)
    append_batch_leaf(connection, batch_id, index)


def _log_deliveries(connection: sa.Connection) -> None:
    table = tables.deliveries
    places = sa.select(table.c.feed, table.c.partition_key).distinct()
    for feed, partition_key in sorted(map(tuple, connection.execute(places))):
        index = next_index(connection)
        own = (table.c.feed == feed, table.c.partition_key == partition_key)
        connection.execute(sa.update(table).where(*own).values(leaf_index=index))
        append_deliveries_leaf(connection, feed, partition_key, index)


def append_deliveries_leaf(
    connection: sa.Connection, feed: str, partition_key: str, index: int
) -> Leaf:
    """Append the leaf of deliveries that name its index."""
    rows = {"deliveries": (index,)}
    subject = f"{feed}/{partition_key}"
    return append_rows_leaf(connection, LeafKind.DELIVERIES, subject, rows, index=index)
