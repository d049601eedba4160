"""The operator of a world: runs the project tick by tick, through whatever strikes.

As the product's own operation would, it runs everything that is due, and runs it again after
something went wrong, until a run of everything has met nothing more. Then people do what they
have to do. Without a draw of faults the same operator gives the run that all others are held
against.
"""

import gzip
import multiprocessing
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from royalty_assets.domain.batches import Stage
from royalty_assets.simulator.faults import Fault, FaultPlan
from royalty_assets.simulator.server import SimulatedServices
from royalty_assets.storage.database import (
    CommitUnknownError,
    DatabaseBusyError,
    DatabaseFullError,
    DatabaseUnavailableError,
)
from royalty_assets.storage.lake import LakeUnavailableError
from royalty_assets.storage.registry import RegistryConflictError
from royalty_assets_tests.soak.bugs import broken
from royalty_assets_tests.soak.faults import (
    KILLS,
    NETWORK_NAMES,
    ON_S3,
    Armed,
    FaultDraw,
    Gate,
    Strike,
    StruckContext,
    is_killed,
)
from royalty_assets_tests.soak.operations import (
    Operation,
    changes_again,
    open_project,
    perform,
    what_is_due,
)
from royalty_assets_tests.soak.stores import Servers, Stores
from royalty_assets_tests.soak.world import CSV_FEEDS, HTTP_FEEDS, Delivered, World, make_world

PASSES_STRUCK_MAX = 2
PASSES_MAX = 6
REAL_KILLS_MAX = 3
"""A process costs as much as many operations; so many are killed a seed, where any are."""
_FOR_GOOD = 1_000
"""More uploads than an operation has: it fails; of one that fails another is made."""
_EXPECTED: dict[Strike, tuple[type[Exception], ...]] = {
    Strike.LAKE_FULL: (OSError,),
    Strike.SPOOL_FULL: (OSError,),
    Strike.REGISTRY_FULL: (DatabaseFullError,),
    Strike.REGISTRY_LOCKED: (DatabaseBusyError,),
    Strike.DATABASE_RESTART: (DatabaseUnavailableError, CommitUnknownError),
    Strike.S3_CUT: (LakeUnavailableError,),
    Strike.S3_BUSY: (LakeUnavailableError,),
    Strike.TWO_AT_ONCE: (RegistryConflictError,),
}
"""How an operation may fail of what struck it; anything else is a finding."""


class OperatorError(Exception):
    """Something that no fault explains."""


@dataclass(slots=True)
class Operator:
    """Runs one world in one home.

    Attributes:
        services: what is asked at ``url``.
        draw: of faults; None for the run without any.
        has_real_kills: whether processes are killed, rather than operations broken off.
        stores: where registry and lake are.
        servers: those that are struck, of stores that are on one.
        trace: what struck, in order.
        injected: fault → how often it struck.
        copies: path → how often a report came again as other bytes.
        deeds: what came of what people did.
    """

    world: World
    home: Path
    url: str
    services: SimulatedServices
    draw: FaultDraw | None = None
    has_real_kills: bool = False
    bug: str = ""
    stores: Stores = field(default_factory=Stores)
    servers: Servers | None = None
    trace: list[str] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    deeds: list[str] = field(default_factory=list)
    passes: int = 0
    _now: datetime = field(init=False)
    _skew: timedelta = timedelta(0)
    _tick: int = 0
    _gate: Gate = field(default_factory=Gate)
    _context: StruckContext | None = None
    _real_kills: int = 0
    _come: dict[int, list[Delivered]] = field(default_factory=dict)
    _partly: list[Delivered] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._now = self.world.ticks[0]
        for delivered in self.world.deliveries:
            self._come.setdefault(delivered.tick, []).append(delivered)

    @property
    def context(self) -> StruckContext:
        """The project, as it is open now."""
        if self._context is None:
            self._context = open_project(
                self.world, self.home, self.stores, self.url, self.now, self._gate
            )
        return self._context

    def now(self) -> datetime:
        """The simulated time, as the clock shows it."""
        return self._now + self._skew

    def close(self) -> None:
        """Let the project go, as at the end of a process."""
        if self._context is not None:
            self._context.close()
            self._context = None

    def run(self) -> None:
        """Everything that is to happen.

        Raises:
            OperatorError: if something went wrong that no fault explains.
        """
        for folder in ("catalog", "contracts", "remittances", "rates", "inbox"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        for number, tick in enumerate(self.world.ticks):
            self._tick, self._now = number, tick
            self.services.clock.now = tick
            self._bring(number)
            self._until_calm()
            deeds = [deed for deed in self.world.deeds if deed.tick == number]
            for deed in deeds:
                key = self.world.months[deed.number].key if deed.what == "close" else ""
                self._until_done(Operation(deed.what, key=key or str(deed.number)))
            if deeds:
                self._until_calm()
            self._tidy()
        self.close()

    # Operations

    def _until_calm(self) -> None:
        """Run everything that is due, until nothing more has struck."""
        for number in range(PASSES_MAX):
            self.passes += 1
            has_faults = self.draw is not None and number < PASSES_STRUCK_MAX
            struck = [
                self._do(operation, has_faults=has_faults)[1]
                for operation in what_is_due(self.context)
            ]
            if not any(struck):
                return
        raise OperatorError("faults struck where none were drawn")

    def _until_done(self, operation: Operation) -> None:
        for number in range(PASSES_MAX):
            has_faults = self.draw is not None and number < PASSES_STRUCK_MAX
            told, was_struck = self._do(operation, has_faults=has_faults)
            if not was_struck:
                self.deeds.append(f"{operation}: {told or 'done'}")
                return

    def _do(self, operation: Operation, *, has_faults: bool) -> tuple[str, bool]:
        """What came of an operation, in words, and whether something struck it."""
        armed = Armed()
        if has_faults and self.draw is not None:
            is_network = operation.what in {"raw", "pool"} and operation.feed in HTTP_FEEDS
            armed = self.draw.arm(
                is_network=is_network,
                is_by_hand=operation.is_by_hand,
                is_contested=self._is_first_validation(operation),
            )
        match armed.strike:
            case Strike.NETWORK:
                return self._do_over_bad_network(operation, armed)
            case Strike.CLOCK_AHEAD | Strike.CLOCK_BEHIND:
                return self._do_by_wrong_clock(operation, armed)
            case Strike.TWO_AT_ONCE:
                return self._do_beside_another(operation, armed)
        if armed.strike in KILLS and self.has_real_kills and self._real_kills < REAL_KILLS_MAX:
            return self._do_in_a_process(operation, armed)
        if self.servers is not None:
            _aim_at_server(armed, self.servers)
        told = self._do_struck(operation, armed)
        if self.servers is not None and armed.strike in ON_S3:
            self.servers.let_uploads_pass()
        if armed.struck and armed.strike is not None:
            self._note(armed.strike, operation, f"at {armed.struck}", told)
        elif told and operation.what in {"raw", "pool"} and not told.startswith("blocked"):
            raise OperatorError(f"{operation}: {told}, though nothing struck it")
        return told, bool(armed.struck)

    def _do_beside_another(self, operation: Operation, armed: Armed) -> tuple[str, bool]:
        """Let another run the partition through in between; of a report, by what is newer then."""
        older = self._with_older_report(operation)
        if older is not None and operation.what == "validated":
            self._do_struck(replace(operation, what="raw"), Armed())

        def meanwhile() -> None:
            if older is not None:
                self._put(*older)
            self._another_runs(operation)

        armed.meanwhile = meanwhile
        told = self._do_struck(operation, armed)
        if older is not None and not armed.struck:
            self._put(*older)
        if armed.struck and armed.strike is not None:
            where = f"at {armed.struck}" + (", newer input between" if older is not None else "")
            self._note(armed.strike, operation, where, told)
            if operation.what != "raw" and changes_again(self.context, self.world, operation):
                raise OperatorError(
                    f"{operation}: of two runs at once ({where}) the one with older input stands"
                )
        return told, bool(armed.struck) or older is not None

    def _with_older_report(self, operation: Operation) -> tuple[str, bytes] | None:
        """Put an earlier draft in a report's place; the path and bytes of what it is to become."""
        if operation.what not in {"raw", "validated"} or operation.feed not in CSV_FEEDS:
            return None
        if operation.what == "validated" and not self._is_first_validation(operation):
            return None  # what it is to become may stand already, and the other run would find so
        for delivered in self.world.deliveries:
            label = delivered.path.rpartition("_")[2].removesuffix(".csv")
            path = self.home / delivered.path
            if delivered.feed != operation.feed or not operation.key.startswith(label):
                continue
            if not path.is_file() or (body := path.read_bytes()).count(b"\n") < 4:
                continue
            header, first, *rows = body.splitlines(keepends=True)
            cells = first.split(b",")
            spoilt = b",".join([cells[0], b"QQ", *cells[2:]])
            path.write_bytes(b"".join([header, *rows[: len(rows) // 2], spoilt]))
            return delivered.path, body
        return None

    def _is_first_validation(self, operation: Operation) -> bool:
        if operation.what != "validated" or operation.feed not in CSV_FEEDS:
            return False
        place = (operation.feed, Stage.VALIDATED, operation.key)
        return self.context.registry.commit(*place) is None

    def _do_struck(self, operation: Operation, armed: Armed) -> str:
        context, self._gate.armed = self.context, armed
        try:
            return self._without_places(perform(context, self.world, operation))
        except BaseException as error:
            if is_killed(error):
                # What was in memory is gone; connections are, too.
                self.close()
                return "killed"
            expected = _EXPECTED.get(armed.strike, ()) if armed.strike and armed.struck else ()
            if not isinstance(error, expected or ()):
                told = f"{operation}: {type(error).__name__}: {error}"
                if armed.struck:
                    told += f" (after {armed.strike} at {armed.struck})"
                raise OperatorError(told) from error
            return f"failed: {type(error).__name__}"
        finally:
            self._gate.armed = Armed()

    def _without_places(self, told: str) -> str:
        """The same of every run of a seed, wherever it keeps what it has."""
        for place in (str(self.home), self.stores.name, self.stores.endpoint):
            told = told.replace(place, "…") if place else told
        return told

    def _do_over_bad_network(self, operation: Operation, armed: Armed) -> tuple[str, bool]:
        draw = random.Random(armed.seed)
        kinds = [kind for kind in Fault if kind is not Fault.TIMEOUT]
        chosen = set(draw.sample(kinds, 3))
        if draw.random() < 0.1:
            chosen = {Fault.TIMEOUT}
        plan = FaultPlan(armed.seed, frozenset(chosen), rate=0.5)
        self.services.faults = plan
        told = self._do_struck(operation, Armed())
        self.services.faults = FaultPlan()
        struck = {kind: times for kind, times in sorted(plan.struck.items()) if times}
        for kind, times in struck.items():
            self.injected[NETWORK_NAMES[kind]] += times
        if struck:
            names = ", ".join(f"{kind} × {times}" for kind, times in struck.items())
            self.trace.append(f"tick {self._tick}: {operation}: network: {names}: {told or 'done'}")
        return told, bool(struck)

    def _do_by_wrong_clock(self, operation: Operation, armed: Armed) -> tuple[str, bool]:
        hours = random.Random(armed.seed).choice((1, 25, 24 * 20, 24 * 40))
        sign = 1 if armed.strike is Strike.CLOCK_AHEAD else -1
        self._skew = timedelta(hours=sign * hours)
        try:
            told = self._do_struck(operation, Armed())
        finally:
            self._skew = timedelta(0)
        assert armed.strike is not None
        self._note(armed.strike, operation, f"by {hours} h", told)
        return told, True

    def _do_in_a_process(self, operation: Operation, armed: Armed) -> tuple[str, bool]:
        """Let a process of its own do it, which is killed for good."""
        assert armed.strike is not None
        self.close()
        spec = replace(armed, is_real=True)
        child = processes().Process(
            target=_child,
            args=(
                self.world.seed,
                self.home,
                self.stores,
                self.url,
                self._now,
                operation,
                spec,
                self.bug,
            ),
        )
        child.start()
        child.join()
        if child.exitcode not in {0, -9}:
            raise OperatorError(f"{operation}: a process ended with {child.exitcode}")
        if child.exitcode == 0:
            return "", False
        self._real_kills += 1
        self._note(armed.strike, operation, f"no. {armed.at}, by SIGKILL", "killed")
        return "killed", True

    def _another_runs(self, operation: Operation) -> None:
        """Run the partition through in another process's stead, with newer input if there is."""
        if operation.feed:
            self._bring_early(operation.feed)
            if operation.feed in HTTP_FEEDS and not self.world.barrier(self._tick):
                self.services.clock.now += timedelta(hours=2)
        stages = [operation.what]
        if operation.what in {"raw", "validated", "matched"}:
            stages = ["raw", "validated", "matched"]
        errors: list[BaseException] = []

        def run() -> None:
            other = open_project(self.world, self.home, self.stores, self.url, self.now, Gate())
            try:
                for stage in stages:
                    told = perform(other, self.world, replace(operation, what=stage))
                    if told and stage == "raw":
                        errors.append(OperatorError(told))
            except BaseException as error:  # noqa: BLE001 - told by who waits for it
                errors.append(error)
            finally:
                other.close()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise OperatorError(f"{operation}: the other run: {errors[0]!r}") from errors[0]

    def _note(self, strike: Strike, operation: Operation, where: str, told: str) -> None:
        self.injected[str(strike)] += 1
        self.trace.append(f"tick {self._tick}: {operation}: {strike} {where}: {told or 'done'}")

    # Deliveries

    def _bring(self, tick: int) -> None:
        """Put what comes at a tick into its place; with faults, not always as it should."""
        coming = self._come.pop(tick, [])
        if self.draw is None:
            for delivered in coming:
                self._put(delivered.path, delivered.body)
            return
        draw = self.draw.draw
        for delivered in self._partly:
            self._put(delivered.path, delivered.body)
        self._partly = []
        draw.shuffle(coming)
        for delivered in coming:
            if not delivered.feed or not self._is_alone(delivered):
                self._put(delivered.path, delivered.body)
                continue
            may_wait = not self.world.barrier(tick)
            chance = draw.random()
            if chance < 0.10:
                self._put(delivered.path, delivered.body)
                self._put_again(delivered, is_packed=False)
            elif chance < 0.20:
                self._put(delivered.path, delivered.body)
                self._put_again(delivered, is_packed=True)
            elif chance < 0.30 and may_wait:
                self._come.setdefault(tick + 1, []).append(delivered)
                self._note_delivery("late", delivered)
            elif chance < 0.40 and may_wait:
                self._put(delivered.path, delivered.body[: draw.randrange(len(delivered.body))])
                self._partly.append(delivered)
                self._note_delivery("in part first", delivered)
            else:
                self._put(delivered.path, delivered.body)

    def _is_alone(self, delivered: Delivered) -> bool:
        """Whether nothing else comes under its name."""
        return sum(other.path == delivered.path for other in self.world.deliveries) == 1

    def _put(self, path: str, body: bytes) -> None:
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)

    def _put_again(self, delivered: Delivered, *, is_packed: bool) -> None:
        folder, _, name = delivered.path.rpartition("/")
        if is_packed:
            self._put(f"{folder}/{name}.gz", gzip.compress(delivered.body, mtime=0))
            self.copies[delivered.path] += 1
        else:
            # The very same bytes are told of where they come in, and not read a second time.
            self._put(f"{folder}/again_{name}", delivered.body)
        self._note_delivery("twice, packed otherwise" if is_packed else "twice", delivered)

    def _bring_early(self, feed: str) -> None:
        """Let a feed's next delivery come while two runs are under way."""
        later = sorted(tick for tick in self._come if tick > self._tick)
        for tick in later:
            if any(self.world.barrier(between) for between in range(self._tick, tick)):
                return
            early = [delivered for delivered in self._come[tick] if delivered.feed == feed]
            for delivered in early:
                self._come[tick].remove(delivered)
                self._put(delivered.path, delivered.body)
                self._note_delivery("early, between two runs", delivered)
            if early:
                return

    def _tidy(self) -> None:
        """Move reports away that have been taken."""
        if self.draw is None or self.draw.draw.random() >= 0.2:
            return
        inbox = self.home / "inbox"
        there = {self.home / d.path: d for d in self.world.deliveries if d.feed}
        partly = {self.home / d.path for d in self._partly}
        for path in sorted(inbox.glob("*/*")):
            delivered = there.get(path)
            if delivered is None or not self._is_alone(delivered) or path in partly:
                continue
            if self.draw.draw.random() < 0.5:
                attic = self.home / "attic" / path.name
                attic.parent.mkdir(exist_ok=True)
                shutil.move(path, attic)
                self._note_delivery("tidied away", delivered)

    def _note_delivery(self, how: str, delivered: Delivered) -> None:
        self.injected[f"delivered {how}"] += 1
        self.trace.append(f"tick {self._tick}: {delivered.path} {how}")


def _aim_at_server(armed: Armed, servers: Servers) -> None:
    """Say what a server is to do at the boundary, if the fault is a server's."""
    times = 1 if armed.seed % 2 else _FOR_GOOD
    match armed.strike:
        case Strike.DATABASE_RESTART:
            armed.meanwhile = servers.restart_database
        case Strike.S3_CUT:
            armed.meanwhile = partial(servers.cut_uploads, times)
        case Strike.S3_BUSY:
            armed.meanwhile = partial(servers.refuse_uploads, times)


def processes() -> multiprocessing.context.ForkServerContext:
    """Where processes come from that start with everything loaded, and nothing running."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["royalty_assets_tests.soak.preloaded"])
    return context


def _child(
    seed: int,
    home: Path,
    stores: Stores,
    url: str,
    now: datetime,
    operation: Operation,
    armed: Armed,
    bug: str,
) -> None:
    world = make_world(seed)
    with broken(bug):
        context = open_project(world, home, stores, url, lambda: now, Gate())
        context.gate.armed = armed
        perform(context, world, operation)
        context.close()


@contextmanager
def operating(
    world: World,
    home: Path,
    url: str,
    install: Callable[[SimulatedServices], None],
    draw: FaultDraw | None = None,
    *,
    has_real_kills: bool = False,
    bug: str = "",
    stores: Stores | None = None,
    servers: Servers | None = None,
) -> Iterator[Operator]:
    """An operator whose services are those that are asked at ``url``."""
    services = world.services()
    install(services)
    operator = Operator(
        world, home, url, services, draw, has_real_kills, bug, stores or Stores(), servers
    )
    try:
        yield operator
    finally:
        operator.close()
