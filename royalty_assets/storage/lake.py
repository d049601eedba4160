"""The lake: immutable objects with content-addressed names, written once.

An object appears under its name whole or not at all, is on disk before its name is returned, and
is never changed. Paths are hive-style (``feed/stage/date=…/hour=…``), so that any engine can read
them as they are. What an object means is the registry's to know; an object that no batch refers to
is an orphan of a crash and harmless. Here are what a lake is asked, and the lake in a folder; the
one on S3 is in ``s3_lake``, which orphans go and when in ``pipeline.leftovers``.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import polars as pl

from royalty_assets.domain.batches import LakeObject

HALF_WRITTEN = ".writing-"
"""How the names of files begin that are no objects yet."""
RENEWED_AFTER = timedelta(hours=1)
"""An object older than this counts as new again when it is put once more.

It is an orphan then, or listed already. What removes orphans by their age leaves it alone until
whoever put it had the time to commit.
"""
_PROBE_BYTES = 1 << 16
"""Written where a frame could not be, so that the disk itself says what is wrong with it."""

Clock = Callable[[], datetime]


class LakeError(Exception):
    """An object that is absent, or has other bytes than what was stored."""


class LakeUnavailableError(LakeError):
    """Asking again may help: no connection, 5xx, throttling."""


class LakeRefusedError(LakeError):
    """Asking again will not help: no such bucket, no permission. The message says what to do."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a lake lists it.

    Attributes:
        path: below the lake's root.
        size_bytes: as stored.
        modified_at: when it was last put, in UTC.
    """

    path: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class HalfWritten:
    """What a writer began and did not end, or is still at.

    Attributes:
        name: where a person finds it.
        size_bytes: on disk; 0 where the store does not tell.
        begun_at: in UTC.
        discard: removes it; whoever is still at it fails.
    """

    name: str
    size_bytes: int
    begun_at: datetime
    discard: Callable[[], None]


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Lake(Protocol):
    """What the pipeline asks of a lake."""

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """Store what ``write`` puts into the file it is given, as ``folder/label-<sha>…``.

        An object that is there already is left as it is, but for its age; a damaged one is healed.
        """

    def local_path(self, stored: LakeObject) -> Path:
        """A readable file with the object's bytes, to be opened before others are asked for.

        Raises:
            LakeError: if there is no such object or it has another size.
        """

    def sha256(self, stored: LakeObject) -> str:
        """SHA-256 of the object's bytes as they are in the store now, whatever is kept nearer by.

        Raises:
            LakeError: if there is no such object or it has another size.
        """

    def uri(self, stored: LakeObject) -> str:
        """Where a person finds the object."""

    def paths(self) -> Iterator[str]:
        """The paths of all objects, listed in a batch or not."""

    def listing(self) -> Iterator[ListedObject]:
        """All objects, listed in a batch or not."""

    def half_written(self) -> Iterator[HalfWritten]:
        """What is no object yet, or will never be one."""

    def remove(self, path: str, put_before: datetime) -> bool:
        """Remove an object unless it was put again since; whether it is gone."""


class LocalLake:
    """A lake in a folder of this machine.

    Args:
        root: the folder; made when something is put.
        now: the clock that objects' ages go by.
    """

    def __init__(self, root: Path, now: Clock = utc_now) -> None:
        self._root = root
        self._now = now

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """See ``Lake``."""
        self._root.mkdir(parents=True, exist_ok=True)
        with writing(self._root) as temporary:
            write(temporary)
            sha256, size_bytes = file_sha256(temporary)
            path = object_path(folder, label, sha256)
            target = self._root / path
            with self._locked(fcntl.LOCK_SH):
                # An object that is there and damaged is healed; its name says what it has to be.
                if target.exists() and file_sha256(target) == (sha256, size_bytes):
                    self._renew(target)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.chmod(0o644)  # other engines read the lake under other accounts
                    _set_age(temporary, self._now())
                    _sync(temporary)
                    temporary.replace(target)
                    _sync(target.parent)
        return LakeObject(path, sha256, size_bytes, rows)

    def _renew(self, target: Path) -> None:
        now = self._now()
        if now - _modified_at(target) > RENEWED_AFTER:
            _set_age(target, now)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Whoever puts shares the lake; whoever removes an object has it alone."""
        folder = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(folder, kind)
            yield
        finally:
            os.close(folder)

    def local_path(self, stored: LakeObject) -> Path:
        """See ``Lake``."""
        path = self._root / stored.path
        if not path.is_file():
            raise LakeError(f"the lake has no object {stored.path}; it was there when committed")
        if path.stat().st_size != stored.size_bytes:
            raise LakeError(
                f"{stored.path} has {path.stat().st_size} bytes, not {stored.size_bytes}"
            )
        return path

    def sha256(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        return file_sha256(self.local_path(stored))[0]

    def uri(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        return (self._root / stored.path).resolve().as_uri()

    def paths(self) -> Iterator[str]:
        """See ``Lake``."""
        for path in self._root.rglob("*.parquet"):
            yield path.relative_to(self._root).as_posix()

    def listing(self) -> Iterator[ListedObject]:
        """See ``Lake``."""
        for path in self.paths():
            file = self._root / path
            yield ListedObject(path, file.stat().st_size, _modified_at(file))

    def half_written(self) -> Iterator[HalfWritten]:
        """See ``Lake``."""
        return half_written_in(self._root)

    def remove(self, path: str, put_before: datetime) -> bool:
        """See ``Lake``."""
        target = self._root / path
        with self._locked(fcntl.LOCK_EX):
            if target.exists() and _modified_at(target) >= put_before:
                return False
            target.unlink(missing_ok=True)
        return True


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A file to write in; whatever is left under its name in the end is removed."""
    handle, name = tempfile.mkstemp(prefix=HALF_WRITTEN, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def half_written_in(folder: Path) -> Iterator[HalfWritten]:
    """The files in a folder that writers that were killed left, or are still at."""
    for path in sorted(folder.glob(f"{HALF_WRITTEN}*")):
        try:
            size_bytes, begun_at = path.stat().st_size, _modified_at(path)
        except FileNotFoundError:
            continue
        yield HalfWritten(str(path), size_bytes, begun_at, partial(path.unlink, missing_ok=True))


def object_path(folder: str, label: str, sha256: str) -> str:
    """The path of an object with these bytes."""
    return str(PurePosixPath(folder) / f"{label}-{sha256[:32]}.parquet")


def put_frame(lake: Lake, folder: str, label: str, frame: pl.DataFrame) -> LakeObject:
    """Store a frame as Parquet; equal frames become equal bytes."""
    return lake.put(
        folder,
        label,
        frame.height,
        lambda path: write_frame(path, frame, compression="zstd", compression_level=1),
    )


def write_frame(path: Path, frame: pl.DataFrame, **options: Any) -> None:
    """Write a frame as Parquet.

    Raises:
        OSError: if the disk does not take it. Polars tells a full disk as a broken file.
    """
    try:
        frame.write_parquet(path, **options)
    except pl.exceptions.ComputeError:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
            os.fsync(file.fileno())
        raise


def read_frame(lake: Lake, stored: LakeObject, columns: list[str] | None = None) -> pl.DataFrame:
    """The frame in an object.

    Raises:
        LakeError: if the object is not there, or damaged.
    """
    try:
        return pl.read_parquet(lake.local_path(stored), columns=columns, memory_map=False)
    except pl.exceptions.ComputeError as error:
        raise damaged(stored, error) from error


def damaged(stored: LakeObject, error: Exception) -> LakeError:
    """What to raise where an object's bytes are no longer what a reader can read."""
    return LakeError(
        f"{stored.path} cannot be read ({error}); `royalty-assets verify` says what is damaged, "
        "and a backup or its stage, run again, puts it right"
    )


def read_table(lake: Lake, stored: LakeObject, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """A frame of this schema; what an older object lacks is empty text, or nothing of a number."""
    frame = read_frame(lake, stored)
    missing = [
        pl.lit("" if dtype == pl.String else 0).cast(dtype).alias(name)
        for name, dtype in schema.items()
        if name not in frame.columns
    ]
    return frame.with_columns(missing).select(schema.keys())


def file_sha256(path: Path) -> tuple[str, int]:
    """SHA-256 and length of a file, read in pieces."""
    with path.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def _modified_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _set_age(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
