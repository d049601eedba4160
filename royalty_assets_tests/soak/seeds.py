"""One seed after another: run without faults, run with them, compare."""

import random
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from time import perf_counter

from royalty_assets_tests.soak.actor import OperatorError, operating
from royalty_assets_tests.soak.bugs import broken
from royalty_assets_tests.soak.faults import FaultDraw
from royalty_assets_tests.soak.oracle import (
    Finding,
    Kind,
    books_of,
    count_differences,
    differences,
    payout_differences,
    storage_differences,
    what_was_sent,
)
from royalty_assets_tests.soak.service import Switchboard, switchboard
from royalty_assets_tests.soak.stores import Servers
from royalty_assets_tests.soak.world import make_world

_SHARE_ON_SERVERS = 0.12
"""Of seeds whose registry is on PostgreSQL, and of those whose lake is on S3; with faults, that is:
the run without any has both in its home, so that databases and lakes are compared as well."""
_IN_MEMORY = Path("/dev/shm")
"""Where there is one: disks are not what is tested."""


@dataclass(slots=True)
class SeedReport:
    """What came of a seed.

    Attributes:
        injected: fault → how often it struck.
        findings: what is lost, doubled or otherwise wrong; none if all is well.
        trace: what struck, in order.
        ledger_hash: of the run with faults.
        lacks_postgresql: whether it would have been there, and none could be started.
    """

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    ledger_hash: str = ""
    about: str = ""
    lacks_postgresql: bool = False
    seconds: float = 0.0

    def number_of(self, kind: Kind) -> int:
        """How many findings are of a kind."""
        return sum(finding.kind is kind for finding in self.findings)

    def as_text(self, bug: str = "") -> str:
        """For somebody who has to find out why, with the command that does it again."""
        replay = f"make soak SEEDS=1 FIRST_SEED={self.seed}" + (f" BUG={bug}" if bug else "")
        struck = [f"  {number:3}. {line}" for number, line in enumerate(self.trace, start=1)]
        found = [f"  {finding.kind}: {finding.told}" for finding in self.findings[:20]]
        more = len(self.findings) - len(found)
        found += [f"  and {more} more"] if more > 0 else []
        return "\n".join(
            [
                f"seed {self.seed} ({self.about}) fails:", *found,
                "what struck, in order:", *struck,
                f"to do it again: {replay}",
            ]
        )  # fmt: skip


_OF_PROCESS = ExitStack()


@cache
def _board_of_process() -> Switchboard:
    """The one server of a worker, which goes with it."""
    return _OF_PROCESS.enter_context(switchboard())


@cache
def _servers_of_process() -> Servers:
    """Those that a worker has, which it ends with itself."""
    servers = Servers()
    Finalize(servers, servers.close, exitpriority=0)
    return servers


def run_seed_in_process(seed: int, bug: str = "") -> SeedReport:
    """Run a seed in a worker, which keeps its servers."""
    return run_seed(seed, _board_of_process(), _servers_of_process(), bug)


def run_seed(seed: int, board: Switchboard, servers: Servers, bug: str = "") -> SeedReport:
    """Run a seed's world without faults and with them, and compare.

    Args:
        seed: which.
        board: where the services are asked.
        servers: where registry and lake are kept, of some seeds.
        bug: that is put into this process, and those it starts.
    """
    started = perf_counter()
    report = SeedReport(seed)
    folder = tempfile.mkdtemp(prefix="soak-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
    try:
        with broken(bug):
            _run(report, Path(folder), board, servers, bug)
    finally:
        shutil.rmtree(folder)
    report.seconds = perf_counter() - started
    return report


def _run(report: SeedReport, folder: Path, board: Switchboard, servers: Servers, bug: str) -> None:
    seed = report.seed
    world = make_world(seed)
    report.about = (
        f"{len(world.months)} months from {world.months[0].key[:7]}, feeds {', '.join(world.feeds)}"
    )
    choice = random.Random(f"how/{seed}")
    rate, has_real_kills = choice.choice((0.05, 0.1, 0.2)), choice.random() < 0.25
    is_thorough = choice.random() < 0.1
    on_postgresql, on_s3 = (
        random.Random(f"{store}/{seed}").random() < _SHARE_ON_SERVERS
        for store in ("registry", "lake")
    )
    with (
        servers.stores(on_postgresql=on_postgresql, on_s3=on_s3) as stores,
        operating(world, folder / "calm", board.url, board.install) as calm,
        operating(
            world,
            folder / "struck",
            board.url,
            board.install,
            FaultDraw(
                seed, rate, on_postgresql=bool(stores.registry_url), on_s3=bool(stores.endpoint)
            ),
            has_real_kills=has_real_kills,
            bug=bug,
            stores=stores,
            servers=servers,
        ) as struck,
    ):
        report.lacks_postgresql = on_postgresql and not stores.registry_url
        report.about += f", on {stores}" * bool(str(stores))
        try:
            board.install(calm.services)
            calm.run()
            board.install(struck.services)
            struck.run()
        except OperatorError as error:
            report.findings.append(Finding(Kind.WRONG, str(error)))
        report.trace, report.injected = struck.trace, struck.injected
        if report.findings:
            return
        expected = books_of(calm.context, world, calm.deeds)
        found = books_of(struck.context, world, struck.deeds)
        report.ledger_hash = found.ledger_hash
        sent = what_was_sent(world, struck.services, struck.copies)
        report.findings += [
            *differences(expected, found),
            *count_differences(struck.context, world, sent),
            *payout_differences(struck.context, world),
            *storage_differences(struck.context, is_thorough=is_thorough),
        ]
