"""The lake: immutable objects with content-addressed names, written once.

An object appears under its name whole or not at all, is on disk before its name is returned, and
is never changed or replaced. Paths are hive-style (``feed/stage/date=…/hour=…``), so that any
engine can read them as they are. What an object means is the registry's to know; an object that
no batch refers to is an orphan of a crash and harmless.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import polars as pl

from royalty_assets.domain.batches import LakeObject


class LakeError(Exception):
    """An object that is absent, or has another length than what was stored."""


class Lake(Protocol):
    """What the pipeline asks of a lake."""

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """Store what ``write`` puts into the file it is given, as ``folder/label-<sha>…``."""

    def local_path(self, stored: LakeObject) -> Path:
        """A readable file with the object's bytes.

        Raises:
            LakeError: if there is no such object or it has another size.
        """

    def uri(self, stored: LakeObject) -> str:
        """Where a person finds the object."""

    def paths(self) -> Iterator[str]:
        """The paths of all objects, listed in a batch or not."""


class LocalLake:
    """A lake in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """See ``Lake``."""
        self._root.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=self._root)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            sha256, size_bytes = file_sha256(temporary)
            path = PurePosixPath(folder) / f"{label}-{sha256[:32]}.parquet"
            target = self._root / path
            # An object that is there and damaged is healed; its name says what it has to be.
            if not target.exists() or file_sha256(target) != (sha256, size_bytes):
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.chmod(0o644)  # other engines read the lake under other accounts
                _sync(temporary)
                temporary.replace(target)
                _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return LakeObject(str(path), sha256, size_bytes, rows)

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

    def uri(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        return (self._root / stored.path).resolve().as_uri()

    def paths(self) -> Iterator[str]:
        """See ``Lake``."""
        for path in self._root.rglob("*.parquet"):
            yield path.relative_to(self._root).as_posix()


def put_frame(lake: Lake, folder: str, label: str, frame: pl.DataFrame) -> LakeObject:
    """Store a frame as Parquet; equal frames become equal bytes."""
    return lake.put(
        folder,
        label,
        frame.height,
        lambda path: frame.write_parquet(path, compression="zstd", compression_level=1),
    )


def read_frame(lake: Lake, stored: LakeObject, columns: list[str] | None = None) -> pl.DataFrame:
    """The frame in an object."""
    return pl.read_parquet(lake.local_path(stored), columns=columns, memory_map=False)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
