"""The registry: which batches are committed, what was refused, decided and left open.

The registry is the truth about the pipeline; Dagster's records are for people. Each method is
one transaction. Rows are only ever added: a commit of a higher revision supersedes, it does not
replace. Writing the same batch or commit again changes nothing. Who makes a revision of a
partition holds a ``Turn``, and whoever takes the next one ends it. What is committed is logged in
the same transaction (see ``storage.log``); the registry has no key, signatures are given to it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from os import getpid
from socket import gethostname
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from royalty_assets.audit import merkle
from royalty_assets.audit.leaves import Leaf, LeafKind
from royalty_assets.domain.adjudication import Action, Decision
from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage
from royalty_assets.storage import log, tables
from royalty_assets.storage.database import connect, is_postgresql, parsed_url, write_alone
from royalty_assets.storage.schema import bring_up_to_date

_ROWS_PER_INSERT = 2_000
_NUL, _NUL_SHOWN = "\0", "\N{SYMBOL FOR NULL}"


class RegistryConflictError(Exception):
    """Two writers disagree about one batch; the first stands and this one must look again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused row: ``source`` names the file or page that a person knows it by."""

    source_sha256: str
    row_number: int
    source: str
    rule: str
    value: str
    reason: str
    content: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file that came for a partition, and when it was first seen."""

    partition_key: str
    name: str
    sha256: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """What one report file gave to a partition.

    Attributes:
        kind: the template or DSR profile that read it.
        content_sha256: of its text, however packed.
        outcome: ``taken``, ``repeated`` (nothing new), ``conflicting`` or ``unreadable``.
        message: a DDEX message's sender, id and time; empty for others.
        counts: rows, lines, rejected, units, corrected.
        money: currency → decimal text of the lines' amounts.
        stated_amount: the file's control total, if it has one.
        notes: word → lines that bear it.
        pools: pool rows that the file tells.
    """

    source_sha256: str
    name: str
    kind: str
    content_sha256: str
    outcome: str
    message: Mapping[str, Any]
    counts: Mapping[str, int]
    money: Mapping[str, str]
    stated_amount: str | None
    notes: Mapping[str, int]
    pools: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PartitionRevision:
    """One revision of one partition of one stage, committed or in the making."""

    feed: str
    stage: Stage
    partition_key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Turn(PartitionRevision):
    """The right to make the next revision of a partition, until somebody takes a later turn.

    Attributes:
        fencing_token: rises with every turn at the partition.
    """

    fencing_token: int


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """The log as it was signed.

    Attributes:
        number: from 1, without gaps.
        size: leaves.
        root: of the tree, in hexadecimal.
        note: the signed note (c2sp.org/tlog-checkpoint).
        signed_at: in UTC.
    """

    number: int
    size: int
    root: str
    note: str
    signed_at: datetime


def open_registry(url: str, *, migrates: bool = True) -> "Registry":
    """Connect, bring the schema up to date, and return the registry.

    Args:
        url: of a SQLite file, whose folder is made if need be, or of a PostgreSQL database.
        migrates: whether an older schema is brought up to date; otherwise it is an error.

    Raises:
        DatabaseAccessError: if it cannot be reached, or its schema is not this version's.
    """
    engine = connect(parsed_url(url))
    try:
        bring_up_to_date(engine, migrates=migrates)
    except BaseException:
        engine.dispose()
        raise
    return Registry(engine)


class Registry:
    """Reads and writes the registry's tables."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # Batches and commits

    def take_turn(self, feed: str, stage: Stage, partition_key: str) -> Turn:
        """Begin to make the next revision of a partition.

        Whoever was at it before can write nothing more of it, and what it left of a revision that
        it did not commit is removed. What the revision is made from has to be read afterwards, so
        that of two workers the one that read later commits.
        """
        table = tables.turns
        place = {"feed": feed, "stage": str(stage), "partition_key": partition_key}
        taken = {"holder": f"{gethostname()}:{getpid()}"[:128], "taken_at": datetime.now(UTC)}
        statement = self._insert(table).values(place | taken | {"fencing_token": 1})
        statement = statement.on_conflict_do_update(
            index_elements=list(place), set_=taken | {"fencing_token": table.c.fencing_token + 1}
        )
        newest = sa.select(sa.func.max(tables.commits.c.revision)).where(
            *_in_partition(tables.commits, feed, stage, partition_key)
        )

        def work(connection: sa.Connection) -> Turn:
            token = connection.execute(statement.returning(table.c.fencing_token)).scalar_one()
            in_force = connection.scalar(newest)
            revision = 0 if in_force is None else in_force + 1
            turn = Turn(feed, stage, partition_key, revision, token)
            left = sa.delete(tables.dead_letters)
            connection.execute(left.where(*_of_revision(tables.dead_letters, turn)))
            if stage is Stage.VALIDATED:
                told = tables.reports.c
                connection.execute(
                    sa.delete(tables.reports).where(
                        told.feed == feed,
                        told.partition_key == partition_key,
                        told.revision == revision,
                    )
                )
            return turn

        return write_alone(self._engine, work)

    def batches(self, feed: str, stage: Stage, partition_key: str) -> dict[str, Batch]:
        """Window label → the batch of highest revision in this partition."""
        query = (
            sa.select(tables.batches)
            .where(*_in_partition(tables.batches, feed, stage, partition_key))
            .order_by(tables.batches.c.window_label, tables.batches.c.revision)
        )
        with self._engine.connect() as connection:
            return {row.window_label: _batch(row) for row in connection.execute(query)}

    def batches_by_id(self, batch_ids: Sequence[str]) -> list[Batch]:
        """The batches with these ids, in the order asked for."""
        found: dict[str, Batch] = {}
        with self._engine.connect() as connection:
            for some in _chunks(batch_ids, 500):
                query = sa.select(tables.batches).where(tables.batches.c.batch_id.in_(some))
                found |= {row.batch_id: _batch(row) for row in connection.execute(query)}
        return [found[batch_id] for batch_id in batch_ids]

    def listed_paths(self) -> set[str]:
        """The paths of all objects of the lake that any batch lists, in force or superseded."""
        query = sa.select(tables.batches.c.objects).execution_options(yield_per=_ROWS_PER_INSERT)
        with self._engine.connect() as connection:
            return {
                stored["path"] for (objects,) in connection.execute(query) for stored in objects
            }

    def commit_batch(
        self,
        batch: Batch,
        turn: Turn,
        *,
        decisions: Iterable[Mapping[str, Any]] = (),
        exceptions: Iterable[Mapping[str, Any]] = (),
        subjects: Iterable[str] = (),
        signature: str = "",
    ) -> None:
        """Record a batch whose objects are in the lake, with what was decided on it.

        Args:
            batch: as it is; a batch that is committed already changes nothing.
            turn: at its partition.
            decisions: made on its input; those that are known already stay as they are.
            exceptions: what it leaves open.
            subjects: what a person's decision would settle in it.
            signature: of its manifest, if there is a key.

        Raises:
            RegistryConflictError: if another run has taken the partition over, or the same id is
                committed with other content.
        """
        row = {
            "batch_id": batch.batch_id,
            "feed": batch.feed,
            "stage": str(batch.stage),
            "partition_key": batch.partition_key,
            "window_start": batch.window_start,
            "window_label": batch.window_label,
            "revision": batch.revision,
            "input_sha256": batch.input_sha256,
            "sha256": batch.sha256,
            "objects": [asdict(stored) for stored in batch.objects],
            "counts": dict(batch.counts),
            "committed_at": datetime.now(UTC),
        }
        decisions, exceptions = list(decisions), list(exceptions)
        touched = [{"batch_id": batch.batch_id, "subject": each} for each in subjects]

        def work(connection: sa.Connection) -> None:
            _hold(connection, turn)
            is_new = self._add_one(connection, tables.batches, row)
            standing = connection.scalar(
                sa.select(tables.batches.c.sha256).where(
                    tables.batches.c.batch_id == batch.batch_id
                )
            )
            if standing != batch.sha256:
                raise RegistryConflictError(
                    f"batch {batch.batch_id} is already committed with manifest {standing}, not "
                    f"{batch.sha256}; another run got there first, run the partition again"
                )
            if not is_new:
                return
            index = log.next_index(connection)
            given: dict[str, Sequence[Mapping[str, Any]]] = {
                tables.decisions.name: decisions,
                tables.exceptions.name: exceptions,
                tables.batch_subjects.name: touched,
            }
            for name, rows in given.items():
                table = tables.metadata.tables[name]
                self._add(connection, table, ({**each, "leaf_index": index} for each in rows))
            among = [name for name, rows in given.items() if rows]
            log.append_batch_leaf(connection, batch.batch_id, index, signature, among)

        write_alone(self._engine, work)

    def commit(self, feed: str, stage: Stage, partition_key: str) -> Commit | None:
        """The commit in force, or None for a partition that never was."""
        query = (
            sa.select(tables.commits)
            .where(*_in_partition(tables.commits, feed, stage, partition_key))
            .order_by(tables.commits.c.revision.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _commit(row)

    def committed_at(self, commit: Commit) -> datetime:
        """When a commit was made."""
        table = tables.commits
        of = PartitionRevision(commit.feed, commit.stage, commit.partition_key, commit.revision)
        query = sa.select(table.c.committed_at).where(*_of_revision(table, of))
        with self._engine.connect() as connection:
            return _in_utc(connection.execute(query).scalar_one())

    def turns_without_commit(self, before: datetime) -> list[tuple[str, Stage, str, str, datetime]]:
        """(feed, stage, partition, holder, when) of turns after which nothing was committed.

        Args:
            before: turns that were taken later may be at work still, and are left out.
        """
        turns, commits = tables.turns.c, tables.commits.c
        committed = sa.exists().where(
            commits.feed == turns.feed,
            commits.stage == turns.stage,
            commits.partition_key == turns.partition_key,
            commits.committed_at >= turns.taken_at,
        )
        query = (
            sa.select(turns.feed, turns.stage, turns.partition_key, turns.holder, turns.taken_at)
            .where(turns.taken_at < before.astimezone(UTC), ~committed)
            .order_by(turns.feed, turns.stage, turns.partition_key)
        )
        with self._engine.connect() as connection:
            return [
                (feed, Stage(stage), key, holder, _in_utc(at))
                for feed, stage, key, holder, at in connection.execute(query)
            ]

    def commit_of_revision(
        self, feed: str, stage: Stage, partition_key: str, revision: int
    ) -> Commit | None:
        """One commit, in force or superseded."""
        query = sa.select(tables.commits).where(
            *_of_revision(tables.commits, PartitionRevision(feed, stage, partition_key, revision))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _commit(row)

    def commits(
        self, stage: Stage, feed: str | None = None, partition_keys: Sequence[str] | None = None
    ) -> list[Commit]:
        """The commits in force of a stage, by feed and partition key."""
        table = tables.commits
        query = (
            sa.select(table)
            .where(table.c.stage == str(stage))
            .order_by(table.c.feed, table.c.partition_key, table.c.revision)
        )
        if feed is not None:
            query = query.where(table.c.feed == feed)
        with self._engine.connect() as connection:
            in_force = {(row.feed, row.partition_key): row for row in connection.execute(query)}
        wanted = None if partition_keys is None else set(partition_keys)
        return [
            _commit(row) for (_, key), row in in_force.items() if wanted is None or key in wanted
        ]

    def commit_as_of(
        self, stage: Stage, feed: str, partition_key: str, instant: datetime
    ) -> Commit | None:
        """The commit of a partition that was in force at an instant; None if none was yet."""
        table = tables.commits
        query = (
            sa.select(table)
            .where(*_in_partition(table, feed, stage, partition_key))
            .where(table.c.committed_at <= instant.astimezone(UTC))
            .order_by(table.c.revision.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _commit(row)

    def commits_between(
        self, after: datetime, until: datetime
    ) -> list[tuple[str, Stage, str, int, datetime]]:
        """(feed, stage, partition, revision, when) of what was committed meanwhile, in order."""
        table = tables.commits
        told = ("feed", "stage", "partition_key", "revision", "committed_at")
        query = (
            sa.select(*(table.c[name] for name in told))
            .where(table.c.committed_at > after.astimezone(UTC))
            .where(table.c.committed_at <= until.astimezone(UTC))
            .order_by(table.c.committed_at)
        )
        with self._engine.connect() as connection:
            return [
                (feed, Stage(stage), key, revision, _in_utc(at))
                for feed, stage, key, revision, at in connection.execute(query)
            ]

    def commit_partition(
        self, commit: Commit, turn: Turn, leaves: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """Close a partition. Its dead letters are there already, and in force from now on.

        Args:
            commit: of the partition, as the revision of the turn.
            turn: at the partition.
            leaves: (kind, subject, SHA-256 of the content) of what is logged along with it.

        Raises:
            RegistryConflictError: if another run has taken the partition over.
        """
        if (commit.feed, commit.stage, commit.partition_key, commit.revision) != (
            turn.feed,
            turn.stage,
            turn.partition_key,
            turn.revision,
        ):
            raise ValueError(f"{commit.feed}/{commit.stage} is committed in the turn of {turn}")
        row = {
            "feed": commit.feed,
            "stage": str(commit.stage),
            "partition_key": commit.partition_key,
            "revision": commit.revision,
            "input_sha256": commit.input_sha256,
            "batch_ids": list(commit.batch_ids),
            "counts": dict(commit.counts),
            "checks": dict(commit.checks),
            "warnings": dict(commit.warnings),
            "is_green": commit.is_green,
            "committed_at": datetime.now(UTC),
        }

        leaves = list(leaves)

        def work(connection: sa.Connection) -> None:
            _hold(connection, turn)
            is_new = self._add_one(connection, tables.commits, row)
            standing = sa.select(tables.commits.c.input_sha256).where(
                *_of_revision(tables.commits, turn)
            )
            if connection.scalar(standing) != commit.input_sha256:
                raise RegistryConflictError(
                    f"revision {turn.revision} of {turn.feed}/{turn.stage} {turn.partition_key} "
                    "is committed already, from other input; run the partition again"
                )
            if is_new:
                log.append_commit_leaf(
                    connection,
                    commit.feed,
                    str(commit.stage),
                    commit.partition_key,
                    commit.revision,
                )
                for leaf in leaves:
                    log.append_leaf(connection, *leaf)

        write_alone(self._engine, work)

    # Deliveries and reports

    def add_deliveries(
        self, feed: str, partition_key: str, files: Iterable[tuple[str, str, int]], at: datetime
    ) -> None:
        """Record (name, SHA-256, bytes) of files that have come; known ones keep their time."""
        rows = [
            {
                "feed": feed,
                "partition_key": partition_key,
                "name": name[-512:],
                "sha256": sha256,
                "size_bytes": size_bytes,
                "received_at": at,
            }
            for name, sha256, size_bytes in files
        ]
        table = tables.deliveries

        def work(connection: sa.Connection) -> None:
            index = log.next_index(connection)
            self._add(connection, table, ({**row, "leaf_index": index} for row in rows))
            if connection.scalar(sa.select(sa.exists().where(table.c.leaf_index == index))):
                log.append_deliveries_leaf(connection, feed, partition_key, index)

        write_alone(self._engine, work)

    def deliveries(self, feed: str, partition_key: str) -> list[Delivered]:
        """The files that have come for a partition, by time."""
        table = tables.deliveries
        query = (
            sa.select(table)
            .where(table.c.feed == feed, table.c.partition_key == partition_key)
            .order_by(table.c.received_at, table.c.name, table.c.sha256)
        )
        with self._engine.connect() as connection:
            return [
                Delivered(row.partition_key, row.name, row.sha256, _in_utc(row.received_at))
                for row in connection.execute(query)
            ]

    def add_reports(self, turn: Turn, reports: Iterable[ReportRecord]) -> None:
        """Record what report files gave to the revision that is being made.

        Raises:
            RegistryConflictError: if another run has taken the partition over.
        """
        place = {
            "feed": turn.feed,
            "partition_key": turn.partition_key,
            "revision": turn.revision,
        }
        rows = [place | asdict(report) for report in reports]

        def work(connection: sa.Connection) -> None:
            _hold(connection, turn, is_open=True)
            self._add(connection, tables.reports, rows)

        write_alone(self._engine, work)

    def reports(self, feed: str, partition_keys: Sequence[str]) -> list[ReportRecord]:
        """The reports of the commits in force of these partitions."""
        revisions = {
            commit.partition_key: commit.revision
            for commit in self.commits(Stage.VALIDATED, feed, partition_keys)
        }
        table = tables.reports
        query = (
            sa.select(table)
            .where(table.c.feed == feed)
            .order_by(table.c.partition_key, table.c.name, table.c.source_sha256)
        )
        names = list(ReportRecord.__dataclass_fields__)
        with self._engine.connect() as connection:
            return [
                ReportRecord(**{name: getattr(row, name) for name in names})
                for row in connection.execute(query)
                if revisions.get(row.partition_key) == row.revision
            ]

    # Dead letters, decisions and exceptions

    def add_dead_letters(self, turn: Turn, letters: Iterable[DeadLetter]) -> None:
        """Record refused rows of the revision that is being made.

        Raises:
            RegistryConflictError: if another run has taken the partition over.
        """
        place = {
            "feed": turn.feed,
            "stage": str(turn.stage),
            "partition_key": turn.partition_key,
            "revision": turn.revision,
        }
        rows = (place | asdict(letter) | {"source": letter.source[-512:]} for letter in letters)
        # In pieces: the database is not held for as long as it takes to read a file.
        for some in _chunks(rows, _ROWS_PER_INSERT):

            def work(connection: sa.Connection, some: list[Any] = some) -> None:
                _hold(connection, turn, is_open=True)
                self._add(connection, tables.dead_letters, some)

            write_alone(self._engine, work)

    def count_dead_letters(self, revision: PartitionRevision) -> tuple[int, int]:
        """How many rows have a dead letter, and how many letters lack rule or reason."""
        table = tables.dead_letters
        row = (table.c.source_sha256, table.c.row_number)
        rows = sa.select(*row).where(*_of_revision(table, revision)).distinct().subquery()
        unexplained = (
            sa.select(sa.func.count())
            .select_from(table)
            .where(*_of_revision(table, revision), sa.or_(table.c.rule == "", table.c.reason == ""))
        )
        with self._engine.connect() as connection:
            recorded = connection.scalar(sa.select(sa.func.count()).select_from(rows))
            return recorded or 0, connection.scalar(unexplained) or 0

    def dead_letters(
        self,
        feed: str | None = None,
        stage: Stage | None = None,
        *,
        row_number: int | None = None,
        containing: str | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Dead letters of the commits in force, as rows of their table."""
        table = tables.dead_letters
        query = sa.select(table).where(*_in_force(table)).limit(limit)
        if feed is not None:
            query = query.where(table.c.feed == feed)
        if stage is not None:
            query = query.where(table.c.stage == str(stage))
        if containing is not None:
            query = query.where(table.c.content.contains(containing, autoescape=True))
        if row_number is not None:
            query = query.where(table.c.row_number == row_number)
        query = query.order_by(
            table.c.feed, table.c.partition_key, table.c.source, table.c.row_number
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def dead_letter_rules(self) -> list[tuple[str, str, str, int]]:
        """(feed, stage, rule, how many) over the commits in force, most frequent first."""
        table = tables.dead_letters
        number = sa.func.count().label("number")
        query = (
            sa.select(table.c.feed, table.c.stage, table.c.rule, number)
            .where(*_in_force(table))
            .group_by(table.c.feed, table.c.stage, table.c.rule)
            .order_by(number.desc(), table.c.feed, table.c.rule)
        )
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

    # Adjudication

    def adjudications(self, subject: str | None = None) -> list[Decision]:
        """What people have decided, in order; about one subject, or all."""
        table = tables.adjudications
        query = sa.select(table).order_by(table.c.number)
        if subject is not None:
            query = query.where(table.c.subject == subject)
        with self._engine.connect() as connection:
            return [_decision(row) for row in connection.execute(query)]

    def last_adjudication(self) -> int:
        """The number of the last decision; 0 before the first."""
        with self._engine.connect() as connection:
            number = connection.scalar(sa.select(sa.func.max(tables.adjudications.c.number)))
        return number or 0

    def add_adjudication(self, decision: Decision, after: int | None) -> Decision:
        """Record a decision.

        Args:
            decision: with any number.
            after: the number of the last decision about its subject that was seen.

        Raises:
            RegistryConflictError: if somebody decided about the subject meanwhile.
        """
        table = tables.adjudications
        row = asdict(decision) | {"action": str(decision.action), "told": dict(decision.told)}
        del row["number"]
        newest = sa.select(sa.func.max(table.c.number)).where(table.c.subject == decision.subject)

        def work(connection: sa.Connection) -> int:
            insert = sa.insert(table).values(_storable(row)).returning(table.c.number)
            number: int = connection.execute(insert).scalar_one()
            before = connection.scalar(newest.where(table.c.number < number))
            if before != after:
                raise RegistryConflictError(
                    "somebody else decided about this meanwhile; look at it again"
                )
            log.append_rows_leaf(
                connection, LeafKind.ADJUDICATION, str(number), {table.name: (number,)}
            )
            return number

        return replace(decision, number=write_alone(self._engine, work, is_repeatable=False))

    def subjects_of(self, batch_ids: Sequence[str], among: Iterable[str]) -> set[str]:
        """Those of some subjects that these batches have usage of."""
        table = tables.batch_subjects
        found: set[str] = set()
        wanted = sorted(among)
        with self._engine.connect() as connection:
            for ids in _chunks(batch_ids, 200):
                for some in _chunks(wanted, 200):
                    query = sa.select(table.c.subject).where(
                        table.c.batch_id.in_(ids), table.c.subject.in_(some)
                    )
                    found |= set(connection.scalars(query.distinct()))
        return found

    def partitions_with_subjects(self, subjects: Iterable[str]) -> list[tuple[str, str]]:
        """(feed, partition key) of matched partitions in force with usage of any subject."""
        table = tables.batch_subjects
        ids: set[str] = set()
        with self._engine.connect() as connection:
            for some in _chunks(sorted(subjects), 200):
                query = sa.select(table.c.batch_id).where(table.c.subject.in_(some)).distinct()
                ids |= set(connection.scalars(query))
        if not ids:
            return []
        return [
            (commit.feed, commit.partition_key)
            for commit in self.commits(Stage.MATCHED)
            if ids.intersection(commit.batch_ids)
        ]

    # The log

    def append_leaf(self, kind: str, subject: str, content_sha256: str) -> Leaf:
        """Log something that is no rows of the registry: a closed period, a statement.

        Args:
            kind: another word than those of ``LeafKind``.
            subject: what it is about; one line.
            content_sha256: of its content, which the log need not know.
        """
        if kind in set(LeafKind):
            raise ValueError(f"a leaf of kind {kind} comes with the rows that it answers for")
        return write_alone(
            self._engine,
            lambda connection: log.append_leaf(connection, kind, subject, content_sha256),
            is_repeatable=False,
        )

    def leaves_of(self, kind: str, subject: str) -> list[Leaf]:
        """The leaves about something, in order."""
        table = tables.log_leaves
        query = (
            sa.select(table)
            .where(table.c.kind == kind, table.c.subject == subject)
            .order_by(table.c.leaf_index)
        )
        with self._engine.connect() as connection:
            return [
                Leaf(row.leaf_index, row.kind, row.subject, row.content_sha256, row.signature)
                for row in connection.execute(query)
            ]

    def log_size(self) -> int:
        """How many leaves the log has."""
        with self._engine.connect() as connection:
            return log.next_index(connection)

    def log_root(self, size: int) -> bytes:
        """The root over the first ``size`` leaves, of the hashes that are kept."""
        with self._engine.connect() as connection:
            return merkle.root(log.LogTree(connection), size)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """What shows that a leaf is in the log of ``size`` leaves."""
        with self._engine.connect() as connection:
            return merkle.inclusion_proof(log.LogTree(connection), index, size)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """What shows that the log of ``new`` leaves begins with that of ``old``."""
        with self._engine.connect() as connection:
            return merkle.consistency_proof(log.LogTree(connection), old, new)

    def last_checkpoint(self) -> SignedCheckpoint | None:
        """The newest checkpoint."""
        query = sa.select(tables.checkpoints).order_by(tables.checkpoints.c.number.desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _checkpoint(row)

    def add_checkpoint(self, checkpoint: SignedCheckpoint) -> None:
        """Record a checkpoint.

        Raises:
            RegistryConflictError: if there is one of this number already.
        """

        def work(connection: sa.Connection) -> None:
            if not self._add_one(connection, tables.checkpoints, asdict(checkpoint)):
                raise RegistryConflictError(
                    f"checkpoint {checkpoint.number} was signed by another process meanwhile"
                )

        write_alone(self._engine, work, is_repeatable=False)

    @contextmanager
    def as_stored(self) -> Iterator[sa.Connection]:
        """A connection for reading rows as the database holds them, damaged ones too."""
        with self._engine.connect() as connection, log.reading_what_is_stored(connection):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction over the tables themselves, for stores that are copies."""
        with self._engine.begin() as connection:
            yield connection

    def _add_one(self, connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert a row; whether it was not there yet."""
        statement = self._insert(table).values(_storable(row)).on_conflict_do_nothing()
        return connection.execute(statement).rowcount == 1

    def _add(
        self, connection: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]
    ) -> int:
        """Insert rows but for those that are there; how many were given."""
        statement = self._insert(table).on_conflict_do_nothing()
        given = 0
        for some in _chunks(map(_storable, rows), _ROWS_PER_INSERT):
            connection.execute(statement, some)
            given += len(some)
        return given

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if is_postgresql(self._engine) else sqlite
        return dialect.insert(table)


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with NUL characters shown as ␀: PostgreSQL's texts hold none.

    So on SQLite too: what is committed, and its hash, does not depend on the database.
    """
    return {
        name: value.replace(_NUL, _NUL_SHOWN) if isinstance(value, str) else value
        for name, value in row.items()
    }


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _in_partition(
    table: sa.Table, feed: str, stage: Stage, partition_key: str
) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.feed == feed,
        table.c.stage == str(stage),
        table.c.partition_key == partition_key,
    )


def _of_revision(
    table: sa.Table, revision: PartitionRevision
) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        *_in_partition(table, revision.feed, revision.stage, revision.partition_key),
        table.c.revision == revision.revision,
    )


def _hold(connection: sa.Connection, turn: Turn, *, is_open: bool = False) -> None:
    """Make sure of a turn; as long as nobody else writes, nobody takes the next one.

    Args:
        connection: in a transaction that writes alone (``database.write_alone``).
        turn: that is to write.
        is_open: whether its revision must not be committed yet either.

    Raises:
        RegistryConflictError: if the turn is over.
    """
    table = tables.turns
    place = _in_partition(table, turn.feed, turn.stage, turn.partition_key)
    now = connection.execute(sa.select(table).where(*place)).one_or_none()
    if now is None or now.fencing_token != turn.fencing_token:
        who = "" if now is None else f" ({now.holder}, at {_in_utc(now.taken_at):%H:%M:%S} UTC)"
        raise RegistryConflictError(
            f"{turn.feed}/{turn.stage} {turn.partition_key} was taken over by another run{who}; "
            "what that one makes stands, and this one has stopped"
        )
    committed = sa.exists().where(*_of_revision(tables.commits, turn))
    if is_open and connection.scalar(sa.select(committed)):
        raise RegistryConflictError(
            f"revision {turn.revision} of {turn.feed}/{turn.stage} {turn.partition_key} is "
            "committed already; nothing more belongs to it"
        )


def _in_force(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    other = tables.commits.alias()
    newest = (
        sa.select(sa.func.max(other.c.revision))
        .where(
            other.c.feed == table.c.feed,
            other.c.stage == table.c.stage,
            other.c.partition_key == table.c.partition_key,
        )
        .scalar_subquery()
    )
    return (table.c.revision == newest,)


def _in_utc(instant: datetime) -> datetime:
    """SQLite gives instants without their zone."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _decision(row: Any) -> Decision:
    return Decision(
        number=row.number,
        subject=row.subject,
        action=Action(row.action),
        who=row.who,
        decided_at=_in_utc(row.decided_at),
        recording_id=row.recording_id,
        why=row.why,
        until=row.until,
        refers_to=row.refers_to,
        needs_second=row.needs_second,
        told=tuple(row.told.items()),
    )


def _checkpoint(row: Any) -> SignedCheckpoint:
    return SignedCheckpoint(row.number, row.size, row.root, row.note, _in_utc(row.signed_at))


def _batch(row: Any) -> Batch:
    return Batch(
        feed=row.feed,
        stage=Stage(row.stage),
        partition_key=row.partition_key,
        window_start=_in_utc(row.window_start),
        window_label=row.window_label,
        revision=row.revision,
        input_sha256=row.input_sha256,
        objects=tuple(LakeObject(**stored) for stored in row.objects),
        counts=row.counts,
    )


def _commit(row: Any) -> Commit:
    return Commit(
        feed=row.feed,
        stage=Stage(row.stage),
        partition_key=row.partition_key,
        revision=row.revision,
        input_sha256=row.input_sha256,
        batch_ids=tuple(row.batch_ids),
        counts=row.counts,
        checks=row.checks,
        warnings=row.warnings or {},
    )
