"""``make soak``: seed after seed on every core, until the time is up or one fails."""

import os

# Before anything is loaded: frames of a hundred rows are not worth a pool of threads, and
# processes share the cores.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from time import monotonic

from royalty_assets_tests.soak.actor import processes
from royalty_assets_tests.soak.bugs import BUGS
from royalty_assets_tests.soak.faults import NETWORK_NAMES, Strike
from royalty_assets_tests.soak.oracle import Kind
from royalty_assets_tests.soak.seeds import SeedReport, run_seed_in_process

_SECONDS_BETWEEN_LINES = 10


def main() -> int:
    """Run seeds; 1 if one of them fails."""
    asked = _arguments()
    started = monotonic()
    done: list[SeedReport] = []
    failed: list[SeedReport] = []
    told_at = started
    for report in _reports(asked):
        done.append(report)
        if report.findings:
            failed.append(report)
            _tell(report.as_text(asked.bug))
            if not asked.go_on:
                break
        if monotonic() - told_at >= _SECONDS_BETWEEN_LINES:
            told_at = monotonic()
            number = sum(report.injected.total() for report in done)
            _tell(
                f"{told_at - started:5.0f} s: {len(done)} seeds, the last of them {report.seed}; "
                f"{number} faults, {len(failed)} seeds failed"
            )
    for line in table(done):
        _tell(line)
    _tell(last_line(done, asked.bug))
    return bool(failed)


def table(reports: Iterable[SeedReport]) -> Iterator[str]:
    """How often each fault struck, and what was lost or doubled in the seeds that it struck."""
    injected: Counter[str] = Counter()
    wrong: dict[Kind, Counter[str]] = {Kind.LOST: Counter(), Kind.DOUBLED: Counter()}
    for report in reports:
        injected.update(report.injected)
        for kind, of_kind in wrong.items():
            of_kind.update(dict.fromkeys(report.injected, report.number_of(kind)))
    names = [str(strike) for strike in Strike if strike is not Strike.NETWORK]
    names += NETWORK_NAMES.values()
    names += sorted(injected.keys() - set(names))
    width = max(len(name) for name in names)
    yield f"| {'fault':{width}} | injected | lost | doubled |"
    yield f"|{'-' * (width + 2)}|---------:|-----:|--------:|"
    for name in names:
        yield (
            f"| {name:{width}} | {injected[name]:8} | {wrong[Kind.LOST][name]:4} | "
            f"{wrong[Kind.DOUBLED][name]:7} |"
        )


def last_line(reports: list[SeedReport], bug: str) -> str:
    """What all of it comes to."""
    faults = sum(report.injected.total() for report in reports)
    lost = sum(report.number_of(Kind.LOST) for report in reports)
    doubled = sum(report.number_of(Kind.DOUBLED) for report in reports)
    failed = sorted(report.seed for report in reports if report.findings)
    told = f"{len(reports)} seeds, {faults} faults, {lost} losses, {doubled} doubled; "
    told += f"{len(failed)} seeds failed" + (f", the first is {failed[0]}" if failed else "")
    if lacking := sum(report.lacks_postgresql for report in reports):
        told += f"; {lacking} on SQLite, as no PostgreSQL could be started"
    return told + (f" (with the bug {bug} put in)" if bug else "")


def _reports(asked: argparse.Namespace) -> Iterator[SeedReport]:
    """The seeds' reports as they end; in the order of seeds but for who is faster."""
    until = monotonic() + asked.minutes * 60
    seed = asked.first_seed
    end = None if asked.seeds is None else seed + asked.seeds
    pool = ProcessPoolExecutor(asked.jobs, mp_context=processes())
    running: set[Future[SeedReport]] = set()
    try:
        while True:
            is_more = seed < end if end is not None else monotonic() < until
            while is_more and len(running) < asked.jobs + 1 and (end is None or seed < end):
                running.add(pool.submit(run_seed_in_process, seed, asked.bug))
                seed += 1
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=lambda future: future.result().seed):
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many; otherwise until the time is up")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=["", *BUGS], default="", help="put a bug in, to find it")
    parser.add_argument("--go-on", action="store_true", help="do not stop at a seed that fails")
    return parser.parse_args()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
