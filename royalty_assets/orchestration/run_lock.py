"""The lock that lets one process at a time change a project: run it, close a month, verify it.

Apart from ``runner``, so that what only needs the lock does not load Dagster.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AnotherRunError(Exception):
    """The project is being run already."""


@contextmanager
def only_run_of(home: Path, *, keeps_spool: bool = False) -> Iterator[None]:
    """Hold the project for one process; the lock goes with the process, however it ends.

    Args:
        home: the project's folder.
        keeps_spool: whether what others left half-done stays, for whoever only looks.

    Raises:
        AnotherRunError: if it is held.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherRunError(
                f"{home} is being run by another process; wait for it to end"
            ) from None
        # Nobody else is at work here: what is half-written is a crash's.
        if not keeps_spool:
            shutil.rmtree(home / "spool", ignore_errors=True)
        yield
