"""Where a run keeps its registry and its lake: in its home, or on real servers that may fail it.

A worker has servers of its own, as one that is restarted would strike the seeds of other workers
too. What is done to them, and when, is in ``faults`` and ``actor``.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from royalty_assets.storage.lake import Lake, LocalLake
from royalty_assets.storage.registry import Registry, open_registry
from royalty_assets_tests.databases import TEMPLATE, Server, make_template

if TYPE_CHECKING:
    from royalty_assets_tests.faulty_proxy import FaultyProxy

_SENT_BYTES = 400
"""Of an upload that is cut off: more than nothing, and less than the smallest object."""
_ATTEMPTS = 2
"""Of a request to S3: waiting between them takes its time."""
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a run keeps what it has; a value, so that another process can be told.

    Attributes:
        name: of the database and the bucket that this run has to itself.
        registry_url: of the PostgreSQL database; empty for a SQLite file in the home.
        endpoint: of the store that speaks S3; empty for a folder in the home.
    """

    name: str = ""
    registry_url: str = ""
    endpoint: str = ""

    def __str__(self) -> str:
        names = ["PostgreSQL"] * bool(self.registry_url) + ["S3"] * bool(self.endpoint)
        return " and ".join(names)

    def registry(self, home: Path) -> Registry:
        """Connect to the registry."""
        return open_registry(self.registry_url or f"sqlite:///{home}/registry.db")

    @contextmanager
    def lake(self, home: Path) -> Iterator[Lake]:
        """The lake, until who has opened it ends."""
        if not self.endpoint:
            yield LocalLake(home / "lake")
            return
        # Most seeds do without boto3, which takes half a second to load.
        from royalty_assets.storage.object_cache import ObjectCache  # noqa: PLC0415
        from royalty_assets.storage.s3_lake import S3Lake  # noqa: PLC0415

        near = ObjectCache(home / "near", _CACHE_BYTES)
        try:
            yield S3Lake(_client(self.endpoint), self.name, "lake", near)
        finally:
            near.close()


@cache
def _client(endpoint: str) -> Any:
    """A client for all that this process has on a server."""
    import pytest  # noqa: PLC0415

    from royalty_assets.storage.s3_lake import s3_client  # noqa: PLC0415
    from royalty_assets_tests.s3_stores import credentials  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials(endpoint).items():
            environment.setenv(name, value)
        return s3_client(_ATTEMPTS)


class Servers:
    """The servers of a worker; each is started by the first seed that needs it."""

    def __init__(self) -> None:
        self._opened = ExitStack()

    def close(self) -> None:
        """End those that were started."""
        self._opened.close()

    @cached_property
    def postgresql(self) -> Server | None:
        """A server whose databases are copies of a migrated one; None if none can be started."""
        folder = Path(tempfile.mkdtemp(prefix="soak-postgresql-"))
        self._opened.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # the server's own user has to get in
        try:
            server = Server(folder / "data")
        except Exception:  # noqa: BLE001 - whatever keeps it from starting, others need not know
            return None
        self._opened.callback(server.stop)
        # What is committed has to outlive the server, but not the machine.
        make_template(server, ("fsync", "full_page_writes"))
        return server

    @cached_property
    def s3(self) -> "FaultyProxy":
        """A proxy before a store that honours conditions."""
        from royalty_assets_tests.faulty_proxy import faulty_proxy  # noqa: PLC0415
        from royalty_assets_tests.s3_stores import moto_store  # noqa: PLC0415

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it tells every request
        return self._opened.enter_context(faulty_proxy(self._opened.enter_context(moto_store())))

    @contextmanager
    def stores(self, *, on_postgresql: bool, on_s3: bool) -> Iterator[Stores]:
        """Stores with nothing in them; on SQLite if there is no PostgreSQL to be had."""
        name = f"s{uuid4().hex}"
        with ExitStack() as kept:
            registry_url = endpoint = ""
            if on_postgresql and (server := self.postgresql) is not None:
                server.create(name, TEMPLATE)
                kept.callback(server.drop, name)
                registry_url = server.url(name)
            if on_s3:
                endpoint = self.s3.url
                _client(endpoint).create_bucket(Bucket=name)
                kept.callback(self._empty, name)
            yield Stores(name, registry_url, endpoint)

    def _empty(self, bucket: str) -> None:
        """Remove a bucket, which is in this process's memory."""
        client = _client(self.s3.url)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            found = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if found:
                client.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
        client.delete_bucket(Bucket=bucket)
        self.s3.asked.clear()

    def restart_database(self) -> None:
        """Crash the database's server and start it again."""
        assert self.postgresql is not None
        self.postgresql.restart()

    def cut_uploads(self, times: int) -> None:
        """Let the connections of the next uploads break in the middle."""
        from royalty_assets_tests.faulty_proxy import Fault  # noqa: PLC0415

        self.s3.spoil("PUT", Fault(sent_bytes=_SENT_BYTES), times)

    def refuse_uploads(self, times: int) -> None:
        """Let the store ask for patience at the next uploads."""
        from royalty_assets_tests.faulty_proxy import Fault  # noqa: PLC0415

        self.s3.spoil("PUT", Fault(status=503), times)

    def let_uploads_pass(self) -> None:
        """Spoil no uploads any more."""
        self.s3.fault_of = lambda *_: None
