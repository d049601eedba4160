"""How a database is reached: its URL, its connections, who writes alone, what errors mean.

What belongs here is what differs between SQLite and PostgreSQL. What is written is in ``registry``
and ``log``; which tables there are, in ``tables`` and ``schema``. No message from here holds a
password.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity

SCHEMA = "royalty_assets"
"""Where a PostgreSQL database holds our tables: apart from Dagster's, whose ``alembic_version``
and ours would otherwise be one table."""

POSTGRESQL = "postgresql+psycopg2"
_WRITER = 0x726F79616C7479
"""The advisory lock of whoever writes; "royalty" in ASCII."""
_LOCK_TIMEOUT_SECONDS = 60
_CONNECT_TIMEOUT_SECONDS = 10
_ATTEMPTS = 6
_SERIALISATION, _DEADLOCK, _LOCK_NOT_AVAILABLE = "40001", "40P01", "55P03"
_DISK_FULL = "53100"
_REFUSED = frozenset({"42501", "25006"})
"""No right to it, or a role that only reads."""
_AWAY = ("08", "57P01", "57P02", "57P03", "53300")
"""Beginnings of SQLSTATEs: connections that broke, a server that stops, starts, or is full."""

_Result = TypeVar("_Result")


class DatabaseAccessError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


class DatabaseUrlError(DatabaseAccessError):
    """What should name a database does not."""


class DatabaseUnavailableError(DatabaseAccessError):
    """The database is not there, or went away; it may be back in a moment."""


class DatabaseBusyError(DatabaseAccessError):
    """Another writer has held the database for too long."""


class DatabaseRefusedError(DatabaseAccessError):
    """The role that we log in as, or the account that we run under, may not do this."""


class DatabaseFullError(DatabaseAccessError):
    """The database's disk has no room."""


class CommitUnknownError(DatabaseAccessError):
    """The connection broke while something was committed that may not be done twice."""


def parsed_url(text: str) -> sa.URL:
    """The URL of a database, with the driver that we have.

    ``postgresql://`` and ``postgres://`` are psycopg2's: SQLAlchemy would take another driver.

    Raises:
        DatabaseUrlError: without telling the text, which may hold a password.
    """
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseUrlError(
            "the registry's URL cannot be read; write postgresql://user:password@host:5432/database"
            " (with %40 for an @ in the password, and so on) or sqlite:////folder/registry.db"
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername=POSTGRESQL)
    if url.drivername not in {POSTGRESQL, "sqlite", "sqlite+pysqlite"}:
        raise DatabaseUrlError(
            f"the registry is kept in PostgreSQL (postgresql://…) or SQLite (sqlite:///…), not by "
            f"{url.drivername}"
        )
    return url


def is_postgresql(bind: sa.Engine | sa.Connection) -> bool:
    """Whether it is PostgreSQL, and no SQLite file."""
    return bind.dialect.name == "postgresql"


def connect(url: sa.URL) -> sa.Engine:
    """An engine over a database; for SQLite the file's folder is made if need be."""
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, hide_parameters=True)
        sa.event.listen(engine, "connect", _configure_sqlite)
    else:
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            # A connection that a restarted server has forgotten is replaced before it is used.
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS},
        )
        # First of all: what SQLAlchemy then asks for must be of this schema.
        sa.event.listen(engine, "connect", _configure_postgresql, insert=True)
    sa.event.listen(engine, "handle_error", _say_what_happened)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # WAL lets readers (the UI, a progress bar) read while a stage commits.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _configure_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {SCHEMA}")
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(f"SET lock_timeout TO '{_LOCK_TIMEOUT_SECONDS}s'")
    connection.autocommit = False


def write_alone(
    engine: sa.Engine, work: Callable[[sa.Connection], _Result], *, is_repeatable: bool = True
) -> _Result:
    """Do one transaction that writes, alone: writers wait for each other from its first statement.

    So the log's next index is nobody else's, and what was looked at before something is written
    still holds when it is committed, also under READ COMMITTED. If the database went away it is
    tried again for a few seconds, unless it may have been committed.

    Args:
        engine: of the database.
        work: given the connection, any number of times; all of it is undone if it raises.
        is_repeatable: whether doing it again after it was committed changes nothing.

    Raises:
        DatabaseUnavailableError: nothing of it was kept.
        CommitUnknownError: only if it is not repeatable.
    """
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=3, jitter=0.1),
        reraise=True,
    )
    done: _Result = again(_once, engine, work, is_repeatable)
    return done


def _once(
    engine: sa.Engine, work: Callable[[sa.Connection], _Result], is_repeatable: bool
) -> _Result:
    with engine.connect() as connection, connection.begin() as transaction:
        exclude_other_writers(connection)
        result = work(connection)
        try:
            transaction.commit()
        except DatabaseUnavailableError as error:
            if is_repeatable:
                raise
            raise CommitUnknownError(
                f"{error} It broke while this was committed: look whether it is there before you "
                "do it again."
            ) from error
        return result


def exclude_other_writers(connection: sa.Connection) -> None:
    """Wait until nobody else writes; they wait until the transaction ends."""
    if is_postgresql(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))
    else:
        # SQLite would otherwise let a second writer begin, and refuse it in the middle.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, sa.exc.DBAPIError):
        return _sqlstate(error.orig) in {_SERIALISATION, _DEADLOCK}
    return isinstance(error, DatabaseUnavailableError)


def _sqlstate(error: BaseException | None) -> str:
    return str(getattr(error, "pgcode", None) or "")


def _say_what_happened(context: sa.engine.ExceptionContext) -> None:
    """Raise in place of a driver's error what a person can do something about."""
    error = context.original_exception
    if context.is_pre_ping or not isinstance(error, Exception):
        return
    state = _sqlstate(error)
    told = " ".join(str(error).split()) or type(error).__name__
    where = _shown(context)
    of_sqlite = getattr(error, "sqlite_errorname", "")
    if of_sqlite == "SQLITE_FULL" or state == _DISK_FULL:
        raise DatabaseFullError(
            f"the database's disk is full ({told}); make room for the registry {where}, and run it "
            "again: nothing is lost"
        )
    if of_sqlite.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        raise DatabaseRefusedError(
            f"the registry {where} cannot be opened or written: {told}; see to the file, its "
            "folder, and the rights on them"
        )
    is_locked = of_sqlite.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    if is_locked or state == _LOCK_NOT_AVAILABLE:
        raise DatabaseBusyError(
            f"another process has been writing to the registry {where} for too long ({told}); "
            "run it again when that has ended"
        )
    if state in _REFUSED:
        raise DatabaseRefusedError(
            f"the registry {where} does not let this role do that: {told.partition(' LINE ')[0]}; "
            "docs/how-to/run-on-postgresql.md tells which role may do what"
        )
    if context.connection is None:
        raise DatabaseUnavailableError(
            f"the registry {where} cannot be reached: {told}; see that its server runs and that "
            "ROYALTY_ASSETS_REGISTRY_URL is right"
        )
    if context.is_disconnect or state.startswith(_AWAY):
        raise DatabaseUnavailableError(
            f"the connection to the registry {where} was lost: {told}. Nothing of what was not "
            "committed is kept; run it again."
        )


def _shown(context: sa.engine.ExceptionContext) -> str:
    url = context.engine.url if context.engine is not None else None
    return "" if url is None else url.render_as_string(hide_password=True)
