"""What strikes an operation, and the stores that it strikes: wrapped, not changed.

One operation of the operator meets one fault at most, at a counted boundary: the n-th write to
the lake, the n-th transaction of the registry. What a fault is about to do is told by the draw,
whether it came to that by ``struck``. Faults of the network are the simulated services' own
(``royalty_assets.simulator.faults``); those of deliveries are in ``actor``.
"""

import errno
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from sys import _getframe
from typing import Any, TypeVar

import sqlalchemy as sa

from royalty_assets.domain.batches import LakeObject
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.simulator.faults import Fault as NetworkFault
from royalty_assets.storage import registry
from royalty_assets.storage.database import DatabaseFullError, write_alone
from royalty_assets.storage.lake import Lake

_Result = TypeVar("_Result")


class Strike(StrEnum):
    """The faults of operations, as the table tells them."""

    KILL_BEFORE_WRITE = "killed before a lake write"
    KILL_IN_WRITE = "killed in a lake write (partial upload)"
    KILL_AFTER_WRITE = "killed after a lake write"
    KILL_BEFORE_TRANSACTION = "killed before a registry transaction"
    KILL_BEFORE_COMMIT = "killed before a registry commit"
    KILL_AFTER_COMMIT = "killed after a registry commit"
    LAKE_FULL = "disk full: lake"
    SPOOL_FULL = "disk full: spool"
    REGISTRY_FULL = "disk full: registry"
    REGISTRY_LOCKED = "database locked"
    DATABASE_RESTART = "database restarted in mid-transaction"
    S3_CUT = "S3: upload cut off in the middle"
    S3_BUSY = "S3: 503 SlowDown"
    TWO_AT_ONCE = "two runs of one partition at once"
    CLOCK_AHEAD = "clock ahead"
    CLOCK_BEHIND = "clock behind"
    NETWORK = "network"


KILLS = frozenset(strike for strike in Strike if strike.startswith("killed"))
NETWORK_NAMES = {
    NetworkFault.SERVER_ERROR: "network: 503",
    NetworkFault.RATE_LIMITED: "network: 429 with Retry-After",
    NetworkFault.TRUNCATED_BODY: "network: truncated body",
    NetworkFault.HTML_PAGE: "network: HTML in place of data",
    NetworkFault.CONNECTION_RESET: "network: connection reset",
    NetworkFault.TIMEOUT: "network: timeout",
    NetworkFault.REPEATED_PAGE: "network: repeated page",
    NetworkFault.REORDERED_PAGES: "network: reordered pages",
    NetworkFault.SCHEMA_CHANGE: "network: schema change in mid-hour",
}


class KilledError(BaseException):
    """The process ends here: what catches ordinary errors must not catch it."""


def is_killed(error: BaseException) -> bool:
    """Whether an error is, or is a group of nothing but, the end of the process."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_killed(each) for each in error.exceptions)
    return isinstance(error, KilledError)


@dataclass(slots=True)
class Armed:
    """A fault that waits for its boundary.

    Attributes:
        strike: what happens; None for an operation without a fault.
        at: how many boundaries of its kind are let pass.
        seed: decides what else there is to decide, as by how much a clock is wrong.
        is_real: whether who is killed is a process.
        meanwhile: what happens at the boundary, where that is done elsewhere: another run, or a
            server that is restarted or spoilt.
        struck: the boundary that it has struck at; empty before.
    """

    strike: Strike | None = None
    at: int = 0
    seed: int = 0
    is_real: bool = False
    meanwhile: Callable[[], None] | None = None
    struck: str = ""
    _passed: int = 0

    def comes(self, strike: Strike, boundary: str) -> bool:
        """Whether the fault strikes here, if it is this one."""
        if self.strike is not strike or self.struck:
            return False
        self._passed += 1
        if self._passed <= self.at:
            return False
        self.struck = boundary
        return True

    def is_due(self, strike: Strike) -> bool:
        """Whether the fault is this one, and strikes at the boundary that comes next."""
        return self.strike is strike and not self.struck and self._passed >= self.at

    def perhaps_kill(self, strike: Strike, boundary: str) -> None:
        """End the process, if that is the fault and this its boundary."""
        if self.comes(strike, boundary):
            if self.is_real:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KilledError

    def perhaps_let_another_run(self, boundary: str) -> None:
        """Stand still while another process runs the same partition, if that is the fault."""
        self.perhaps_do(Strike.TWO_AT_ONCE, boundary)

    def perhaps_do(self, strike: Strike, boundary: str) -> None:
        """Let happen what is to happen meanwhile, if that is the fault and this its boundary."""
        if self.meanwhile is not None and self.comes(strike, boundary):
            self.meanwhile()


@dataclass(slots=True)
class Gate:
    """Where the fault of the operation under way is asked for."""

    armed: Armed = field(default_factory=Armed)


class StruckLake:
    """A lake whose writes a fault may strike."""

    def __init__(self, lake: Lake, gate: Gate) -> None:
        self._lake = lake
        self._gate = gate

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """See ``Lake``."""
        armed, name = self._gate.armed, f"{folder}/{label}"
        armed.perhaps_let_another_run(f"lake write {name}")
        armed.perhaps_kill(Strike.KILL_BEFORE_WRITE, name)
        armed.perhaps_do(Strike.S3_CUT, name)
        armed.perhaps_do(Strike.S3_BUSY, name)
        stored = self._lake.put(folder, label, rows, lambda path: self._write(path, write, name))
        armed.perhaps_kill(Strike.KILL_AFTER_WRITE, name)
        armed.perhaps_let_another_run(f"lake write {name}, done")
        return stored

    def _write(self, path: Path, write: Callable[[Path], None], name: str) -> None:
        write(path)
        armed = self._gate.armed
        if armed.comes(Strike.LAKE_FULL, name):
            _halve(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if armed.is_due(Strike.KILL_IN_WRITE):
            _halve(path)
        armed.perhaps_kill(Strike.KILL_IN_WRITE, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)


def _halve(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


class StruckEngine:
    """A registry's engine whose transactions a fault may strike.

    Whatever the registry writes goes through ``write_alone``, which ``strike_transactions`` puts in
    the place of the registry's own.
    """

    def __init__(self, engine: sa.Engine, gate: Gate) -> None:
        self._struck_engine = engine
        self._gate = gate

    def write_alone(
        self, work: Callable[[sa.Connection], _Result], *, is_repeatable: bool = True
    ) -> _Result:
        """A transaction that writes, see ``royalty_assets.storage.database.write_alone``."""
        armed, name = self._gate.armed, _writer()
        armed.perhaps_let_another_run(f"before {name}")
        armed.perhaps_kill(Strike.KILL_BEFORE_TRANSACTION, name)

        def struck(connection: sa.Connection) -> _Result:
            with self._while_full(connection, name):
                result = work(connection)
            armed.perhaps_kill(Strike.KILL_BEFORE_COMMIT, name)
            armed.perhaps_do(Strike.DATABASE_RESTART, name)
            return result

        with self._while_locked(name):
            result = write_alone(self._struck_engine, struck, is_repeatable=is_repeatable)
        armed.perhaps_kill(Strike.KILL_AFTER_COMMIT, name)
        armed.perhaps_let_another_run(f"after {name}")
        return result

    @contextmanager
    def _while_full(self, connection: sa.Connection, name: str) -> Iterator[None]:
        """SQLite says itself that the disk is full, once it needs a page more."""
        if not self._gate.armed.is_due(Strike.REGISTRY_FULL) or connection.dialect.name != "sqlite":
            if self._gate.armed.strike is Strike.REGISTRY_FULL:
                self._gate.armed._passed += 1
            yield
            return
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        try:
            yield
        except DatabaseFullError:
            self._gate.armed.struck = name
            raise
        finally:
            connection.exec_driver_sql(f"PRAGMA max_page_count={2**30}")

    @contextmanager
    def _while_locked(self, name: str) -> Iterator[None]:
        """Somebody else holds the database, for longer than anyone waits."""
        engine = self._struck_engine
        if engine.dialect.name != "sqlite" or not self._gate.armed.comes(
            Strike.REGISTRY_LOCKED, name
        ):
            yield
            return
        with engine.connect() as waiting:
            waiting.exec_driver_sql("PRAGMA busy_timeout=1")
        other = sqlite3.connect(str(engine.url.database), isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
        finally:
            other.close()
            with engine.connect() as waiting:
                waiting.exec_driver_sql("PRAGMA busy_timeout=30000")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._struck_engine, name)


def _writer() -> str:
    """The method of the registry that has begun a transaction."""
    frame = _getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("registry.py") and not code.co_name.startswith("_"):
            return code.co_name
        frame = frame.f_back
    return "transaction"


def strike_transactions() -> None:
    """Let the registry ask the gate of its engine, in this process, if it has one."""

    def perhaps_struck(engine: Any, work: Any, *, is_repeatable: bool = True) -> Any:
        if isinstance(engine, StruckEngine):
            return engine.write_alone(work, is_repeatable=is_repeatable)
        return write_alone(engine, work, is_repeatable=is_repeatable)

    registry.write_alone = perhaps_struck


class StruckContext(PipelineContext):
    """A project whose spool may have no room."""

    gate: Gate = Gate()
    opened: ExitStack = ExitStack()

    def close(self) -> None:
        """Let the stores go, as at the end of a process."""
        self.opened.close()

    def spool(self) -> Path:
        """See ``PipelineContext``."""
        if self.gate.armed.comes(Strike.SPOOL_FULL, "spool"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.home / "spool"))
        return PipelineContext.spool(self)


_IN_STORES = (
    Strike.KILL_BEFORE_WRITE, Strike.KILL_IN_WRITE, Strike.KILL_AFTER_WRITE,
    Strike.KILL_BEFORE_TRANSACTION, Strike.KILL_BEFORE_COMMIT, Strike.KILL_AFTER_COMMIT,
    Strike.LAKE_FULL, Strike.SPOOL_FULL, Strike.REGISTRY_FULL, Strike.REGISTRY_LOCKED,
    Strike.TWO_AT_ONCE, Strike.TWO_AT_ONCE,
)  # fmt: skip
_ON_SQLITE = (Strike.REGISTRY_FULL, Strike.REGISTRY_LOCKED)
ON_S3 = (Strike.S3_CUT, Strike.S3_BUSY)
_CLOCKS = (Strike.CLOCK_AHEAD, Strike.CLOCK_BEHIND)


@dataclass(slots=True)
class FaultDraw:
    """Decides, operation by operation, what it meets.

    Attributes:
        rate: of operations that are to meet something.
        kinds: that may happen; all, if not said.
        on_postgresql: whether the registry is there, which may be restarted.
        on_s3: whether the lake is there.
    """

    seed: int
    rate: float
    kinds: frozenset[Strike] = frozenset(Strike)
    on_postgresql: bool = False
    on_s3: bool = False
    draw: random.Random = field(init=False)
    _in_stores: tuple[Strike, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(f"faults/{self.seed}")
        self._in_stores = (
            tuple(
                Strike.DATABASE_RESTART if self.on_postgresql and strike in _ON_SQLITE else strike
                for strike in _IN_STORES
            )
            + (*ON_S3, *ON_S3) * self.on_s3
        )

    def arm(self, *, is_network: bool, is_by_hand: bool, is_contested: bool) -> Armed:
        """The fault of the next operation.

        Args:
            is_network: whether it asks a service.
            is_by_hand: whether a person does it, by a clock that is right.
            is_contested: whether another run could do it with newer input.
        """
        draw = self.draw
        if is_contested and Strike.TWO_AT_ONCE in self.kinds and draw.random() < self.rate * 2:
            return Armed(Strike.TWO_AT_ONCE, draw.randrange(6), draw.getrandbits(32))
        if draw.random() >= self.rate:
            return Armed()
        chosen = draw.choice(self._in_stores)
        if is_network and draw.random() < 0.5:
            chosen = Strike.NETWORK
        elif not is_by_hand and draw.random() < 0.08:
            chosen = draw.choice(_CLOCKS)
        passed, seed = int(draw.triangular(0, 6, 0)), draw.getrandbits(32)
        # An operation asks for its spool once.
        armed = Armed(chosen, 0 if chosen is Strike.SPOOL_FULL else passed, seed)
        return armed if chosen in self.kinds else Armed()
