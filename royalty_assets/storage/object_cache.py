"""Objects of a lake that is elsewhere, kept on this machine: each is fetched once, not per reader.

The folder is shared by all processes of the machine. A file in it has an object's SHA-256 as its
name and appears whole. The least recently used ones go when there is too much; a file that was
handed out lately stays, by a lock that goes with the process that holds it. All of it can be
deleted at any time. What an object should be and how it is fetched is ``s3_lake``'s to know.
"""

import fcntl
import os
from collections import deque
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Lock

from royalty_assets.storage.lake import HALF_WRITTEN, writing

HANDED_OUT = 64
"""How many of the files that it was handed last a process can count on being there."""
_SWEPT_EVERY = 10
"""A process makes room when it added this part of the limit: the folder can be larger by that."""


class ObjectCache:
    """A folder of limited size.

    Args:
        root: made when something is kept.
        bytes_max: what the files may take together, give or take a tenth per process.
    """

    def __init__(self, root: Path, bytes_max: int) -> None:
        self.root = root
        self._bytes_max = bytes_max
        self._added = bytes_max  # what was there before has never been counted
        self._held: deque[int] = deque()
        self._guard = Lock()

    def writing(self) -> AbstractContextManager[Path]:
        """A file to write in, for ``take``."""
        self.root.mkdir(parents=True, exist_ok=True)
        return writing(self.root)

    def get(self, sha256: str, size_bytes: int) -> Path | None:
        """The file, if it is there at this size; as used now."""
        path = self.root / sha256
        held = _lock(path, fcntl.LOCK_SH)
        if held is None:
            return None
        if os.fstat(held).st_size != size_bytes:
            os.close(held)
            self.drop(sha256)
            return None
        os.utime(held)
        self._hold(held)
        return path

    def take(self, file: Path, sha256: str) -> Path:
        """Keep what was written; what was kept under the name goes."""
        path = self.root / sha256
        held = os.open(file, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        os.utime(held)
        size_bytes = os.fstat(held).st_size
        file.replace(path)
        self._hold(held)
        with self._guard:
            self._added += size_bytes
            is_due = self._added * _SWEPT_EVERY >= self._bytes_max
            if is_due:
                self._added = 0
        if is_due:
            self._make_room()
        return path

    def drop(self, sha256: str) -> None:
        """Forget an object."""
        (self.root / sha256).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of what was handed out."""
        with self._guard:
            while self._held:
                os.close(self._held.popleft())

    def _hold(self, held: int) -> None:
        with self._guard:
            self._held.append(held)
            if len(self._held) > HANDED_OUT:
                os.close(self._held.popleft())

    def _make_room(self) -> None:
        """Remove what was used longest ago, down to the limit."""
        there = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if not entry.name.startswith(HALF_WRITTEN):
                        status = entry.stat()
                        there.append((status.st_mtime_ns, entry.name, status.st_size))
        size_bytes = sum(size for _, _, size in there)
        for _, name, size in sorted(there):
            if size_bytes <= self._bytes_max:
                return
            path = self.root / name
            alone = _lock(path, fcntl.LOCK_EX)
            if alone is not None:
                path.unlink(missing_ok=True)
                os.close(alone)
                size_bytes -= size


def _lock(path: Path, kind: int) -> int | None:
    """An open, locked file; None if it is not there, or others hold it."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        # Between the opening and the lock another process may have removed it.
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    return None
