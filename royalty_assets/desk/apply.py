"""Applying decisions from the desk: the project's run, in a process of its own."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_LOG = ".desk-run.log"
_SHOWN_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Run:
    """How the last run goes or went; ``exit_code`` is None while it runs, or if there was none."""

    is_running: bool
    exit_code: int | None
    output: str


class Applying:
    """Starts `royalty-assets run` for a project, one at a time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._log = home / _LOG
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a run, unless one is under way."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            plain = os.environ | {"NO_COLOR": "1", "COLUMNS": "110", "TERM": "dumb"}
            command = [sys.executable, "-m", "royalty_assets.cli", "run", str(self._home)]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own command line
                    command, stdout=log, stderr=subprocess.STDOUT, env=plain
                )

    def look(self) -> Run:
        """How it goes."""
        with self._lock:
            code = None if self._process is None else self._process.poll()
            is_running = self._process is not None and code is None
        output = b""
        if self._process is not None and self._log.exists():
            output = self._log.read_bytes()[-_SHOWN_BYTES:]
        return Run(is_running, code, output.decode("utf-8", "replace"))
