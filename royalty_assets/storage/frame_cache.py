"""Tables that could be made again, kept in a folder because making them takes a while.

What is kept is uncompressed Arrow, mapped into memory when it is read: processes on one machine
share it. An entry appears whole or not at all; one that is damaged counts as absent. Only the last
entry is kept. Nothing that cannot be made again belongs here; that is the lake's.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import ipc

from royalty_assets.storage.lake import file_sha256

_MANIFEST = "manifest.json"


class FrameCache:
    """Named entries of several tables each, in one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, name: str) -> dict[str, pl.DataFrame] | None:
        """The tables of an entry; None if it is absent, or not as it was written."""
        folder = self._root / name
        try:
            manifest = json.loads((folder / _MANIFEST).read_bytes())
            tables = {table: folder / f"{table}.arrow" for table in manifest}
            if any(list(file_sha256(path)) != manifest[table] for table, path in tables.items()):
                return None
        except (OSError, ValueError, AttributeError, TypeError):
            return None
        return {table: _mapped(path) for table, path in tables.items()}

    def put(self, name: str, tables: Mapping[str, pl.DataFrame]) -> None:
        """Keep an entry instead of whatever was kept before.

        Raises:
            OSError: if it cannot be written; nothing of it is left then.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=self._root))
        try:
            _write(folder, tables)
            # Whoever has an older entry mapped keeps reading it: its files lose only their names.
            for older in self._root.iterdir():
                if older != folder:
                    shutil.rmtree(older, ignore_errors=True)
            folder.replace(self._root / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    manifest = {}
    for table, frame in tables.items():
        path = folder / f"{table}.arrow"
        content = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        # In one batch, so that it is one piece of memory when it is mapped.
        with ipc.new_file(path, content.schema) as writer:
            writer.write_table(content)
        manifest[table] = file_sha256(path)
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _mapped(path: Path) -> pl.DataFrame:
    with pa.memory_map(str(path)) as file:
        frame = pl.from_arrow(ipc.open_file(file).read_all(), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame
