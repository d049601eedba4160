"""The registry's schema: which revision it is at, and how it is brought to another.

The steps themselves are in ``migrations/versions``. A step down keeps what the older tables can
hold; what it loses, the step says itself (``LOST_BY_DOWNGRADE``).
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from royalty_assets.storage import log, tables
from royalty_assets.storage.database import (
    SCHEMA,
    DatabaseAccessError,
    exclude_other_writers,
    is_postgresql,
)

BASE = "base"
_VERSION_TABLE = "alembic_version"


class SchemaError(DatabaseAccessError):
    """The schema is not that of this version, or cannot be brought to what was asked for."""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a schema stands.

    Attributes:
        revision: it is at; None if there is none yet.
        newest: the revision that this version of the code works with.
        to_come: (revision, what it brings) of the steps between, in order.
    """

    revision: str | None
    newest: str
    to_come: tuple[tuple[str, str], ...]

    @property
    def is_current(self) -> bool:
        """Whether nothing is to be done."""
        return self.revision == self.newest


def schema_status(engine: sa.Engine) -> SchemaStatus:
    """Look, and change nothing.

    Raises:
        SchemaError: if it was written by a newer version of the code.
    """
    with engine.connect() as connection:
        return _status(connection)


def bring_up_to_date(engine: sa.Engine, *, migrates: bool = True) -> None:
    """See that the schema is this version's; the first step for whoever opens a registry.

    Args:
        engine: of the database.
        migrates: whether it may be changed for that, which also takes a role that is let.

    Raises:
        SchemaError: saying what to run, if it is another's and may not be changed.
    """
    with engine.connect() as connection:
        status = _status(connection)
        if status.is_current:
            return
        may = migrates and _may_change(connection)
    if not may:
        at = "does not exist yet" if status.revision is None else f"is at {status.revision}"
        raise SchemaError(
            f"the registry's schema {at}, and this version works with {status.newest}; run "
            "`royalty-assets registry migrate` with ROYALTY_ASSETS_REGISTRY_URL of the role that "
            "owns it"
        )
    migrate(engine)


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the schema up to a revision; log what was there before there was a log.

    Of several who do so at once, one does it, and the others find it done.

    Raises:
        SchemaError: if there is no such revision, or it is an older one.
    """
    config = _config()
    with engine.begin() as connection:
        exclude_other_writers(connection)
        if is_postgresql(connection):
            _make_schema(connection)
        before = _status(connection)
        target = _known(revision)
        if before.revision is not None and target < before.revision:
            raise SchemaError(
                f"the schema is at {before.revision}; going back to {target} loses data, and is "
                "asked for by --drop-data"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        was_there = before.revision not in {None, target}
        if was_there and target == before.newest and not log.next_index(connection):
            log.log_what_is_there(connection)


def lost_by_downgrade(engine: sa.Engine, revision: str) -> list[tuple[str, str]]:
    """(revision, what is lost) of each step down to a revision, in order; empty for none.

    Raises:
        SchemaError: if there is no such revision.
    """
    current = schema_status(engine).revision or ""
    target = "" if revision == BASE else _known(revision)
    return [
        (script.revision, getattr(script.module, "LOST_BY_DOWNGRADE", "nothing"))
        for script in _scripts().walk_revisions()
        if target < script.revision <= current
    ]


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Bring the schema down to a revision (``base``: to nothing), losing what that cannot hold."""
    config = _config()
    with engine.begin() as connection:
        exclude_other_writers(connection)
        _status(connection)
        config.attributes["connection"] = connection
        command.downgrade(config, revision if revision == BASE else _known(revision))


def _status(connection: sa.Connection) -> SchemaStatus:
    revision = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in _scripts().walk_revisions()]
    if revision is not None and revision not in known:
        raise SchemaError(
            f"the registry's schema is at {revision}, which a newer version of royalty_assets "
            f"wrote; this one knows {known[-1]} to {known[0]}: use the newer one"
        )
    to_come = tuple(
        (script.revision, script.doc)
        for script in reversed(list(_scripts().walk_revisions()))
        if script.revision > (revision or "")
    )
    return SchemaStatus(revision, known[0], to_come)


def _known(revision: str) -> str:
    known = [script.revision for script in _scripts().walk_revisions()]
    if revision == "head":
        return known[0]
    if revision not in known:
        raise SchemaError(f"there is no revision {revision!r}; there are {', '.join(known[::-1])}")
    return revision


def _may_change(connection: sa.Connection) -> bool:
    if not is_postgresql(connection):
        return True
    there = "EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)"
    query = sa.text(
        f"SELECT CASE WHEN {there} THEN has_schema_privilege(:name, 'CREATE') "
        "ELSE has_database_privilege(current_database(), 'CREATE') END"
    )
    return bool(connection.scalar(query, {"name": SCHEMA}))


def _make_schema(connection: sa.Connection) -> None:
    """Make our schema; take over tables that were made in ``public``, before there was one."""
    there = sa.text("SELECT FROM pg_namespace WHERE nspname = :name")
    if connection.execute(there, {"name": SCHEMA}).first() is None:
        connection.execute(sa.schema.CreateSchema(SCHEMA))
    if sa.inspect(connection).has_table(_VERSION_TABLE, schema=SCHEMA):
        return
    inspector = sa.inspect(connection)
    if not inspector.has_table(_VERSION_TABLE, schema="public"):
        return
    may_read = sa.func.has_table_privilege(f"public.{_VERSION_TABLE}", "SELECT")
    if not connection.scalar(sa.select(may_read)):
        return  # another role's, and so not what this one made in public
    at = connection.scalar(sa.text(f"SELECT version_num FROM public.{_VERSION_TABLE}"))  # noqa: S608
    if at not in {script.revision for script in _scripts().walk_revisions()}:
        return  # Dagster's
    ours = {*tables.metadata.tables, _VERSION_TABLE}
    for name in sorted(ours.intersection(inspector.get_table_names(schema="public"))):
        connection.exec_driver_sql(f"ALTER TABLE public.{name} SET SCHEMA {SCHEMA}")


def _config() -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(files("royalty_assets.storage").joinpath("migrations"))
    )
    config.set_main_option("path_separator", "os")
    return config


@lru_cache(maxsize=1)
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
