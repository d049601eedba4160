"""Remote inboxes: an S3 prefix or an SFTP folder, mirrored into a local one.

What was there before and has not changed is not fetched again; a file appears in the mirror
whole, or not at all. The remote side is only read. Names that are no plain file names are left
where they are, and told. How each kind of server is spoken to is in ``s3_drop`` and ``sftp_drop``.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

from royalty_assets.domain.feeds import InboxSource

_STATE = ".mirror.json"
_LOCK = ".mirror.lock"
_PARTIAL = ".arriving"
TIMEOUT_SECONDS = 30


class Drop(Protocol):
    """A remote folder."""

    async def mirror(self) -> list[tuple[str, str]]:
        """Make the local folder what the remote one is.

        Returns:
            (name, why) of what is left where it is.

        Raises:
            SourceError: if the remote side cannot be asked.
        """


def open_drop(source: InboxSource, mirror: Path, password: str | None = None) -> Drop | None:
    """The remote folder of a source; None where it is a local one.

    Args:
        source: whose ``folder`` is a URL.
        mirror: the local folder.
        password: for SFTP.
    """
    # Their libraries take half a second to load; most projects speak to neither.
    scheme = urlsplit(source.folder).scheme
    if scheme == "s3":
        from royalty_assets.sources.s3_drop import S3Drop

        return S3Drop(source, mirror)
    if scheme == "sftp":
        from royalty_assets.sources.sftp_drop import SftpDrop

        return SftpDrop(source, mirror, password)
    return None


def plain_name(name: str) -> str | None:
    """Why a name is none that a file of ours may have; None if it is one."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\x00" in name:
        return "its name is no plain file name"
    if name.startswith((_STATE, _LOCK, _PARTIAL)):
        return "its name is one that we use ourselves beside it"
    if len(name.encode(errors="surrogateescape")) > 200:
        return "its name is longer than 200 bytes"
    return None


class Mirror:
    """The local side: what is there, at which version. One process at a time has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions: dict[str, str] = {}

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Hold the mirror while it is brought up to date."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self._versions = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                self._versions = {}
            # What is half-written is an interrupted download's.
            for partial in self.folder.glob(f"{_PARTIAL}*"):
                partial.unlink(missing_ok=True)
            yield self

    def has(self, name: str, version: str) -> bool:
        """Whether the file is there at this version."""
        return self._versions.get(name) == version and (self.folder / name).is_file()

    def arriving(self) -> Path:
        """Where a download is written."""
        return self.folder / _PARTIAL

    def take(self, name: str, version: str) -> None:
        """Let what has arrived be the file, whole."""
        self.arriving().replace(self.folder / name)
        self._versions[name] = version
        self._save()

    def keep_only(self, names: set[str]) -> None:
        """Forget what is no longer on the remote side."""
        for gone in set(self._versions) - names:
            (self.folder / gone).unlink(missing_ok=True)
            del self._versions[gone]
        self._save()

    def _save(self) -> None:
        temporary = self.folder / f"{_STATE}.new"
        temporary.write_text(json.dumps(self._versions), encoding="utf-8")
        temporary.replace(self.folder / _STATE)
