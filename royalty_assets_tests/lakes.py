"""The lakes of tests' projects, wherever ``pytest --lake`` puts them, and what is done behind them.

The servers that speak S3 are in ``s3_stores``.
"""

import shutil
from pathlib import Path

from royalty_assets.settings import Settings
from royalty_assets.storage.lake import Lake, LocalLake
from royalty_assets.storage.lakes import open_lake
from royalty_assets.storage.s3_lake import S3Lake

CHOSEN = frozenset({"ROYALTY_ASSETS_LAKE_URL"})
"""What commands that tests start keep of the environment, apart from what is not ours."""


def lake_of(home: Path) -> Lake:
    """The lake of a project: in its folder, or where ``--lake`` says."""
    return open_lake(Settings(home=home))


class LakeOver:
    """A lake that does as the one beneath; what a test changes of it is a subclass's."""

    def __init__(self, beneath: Lake) -> None:
        self.beneath = beneath

    def __getattr__(self, name: str) -> object:
        return getattr(self.beneath, name)

    def put(self, folder, label, rows, write):
        return self.beneath.put(folder, label, rows, write)


# Behind the lake's back


def object_bytes(lake: Lake, path: str) -> bytes:
    """An object as its store has it."""
    if isinstance(lake, LocalLake):
        return (lake._root / path).read_bytes()
    assert isinstance(lake, S3Lake)
    with lake._client.get_object(Bucket=lake._bucket, Key=lake._key(path))["Body"] as body:
        return body.read()


def overwrite(lake: Lake, path: str, content: bytes) -> None:
    """Let the store have other bytes under an object's name; nothing near by hides it."""
    if isinstance(lake, LocalLake):
        (lake._root / path).write_bytes(content)
        return
    assert isinstance(lake, S3Lake)
    lake._client.put_object(Bucket=lake._bucket, Key=lake._key(path), Body=content)
    forget_near_copies(lake)


def take_away(lake: Lake, path: str) -> None:
    """Let an object be gone."""
    if isinstance(lake, LocalLake):
        (lake._root / path).unlink()
        return
    assert isinstance(lake, S3Lake)
    lake._client.delete_object(Bucket=lake._bucket, Key=lake._key(path))
    forget_near_copies(lake)


def forget_near_copies(lake: Lake) -> None:
    """Let everything be fetched again."""
    if isinstance(lake, S3Lake):
        lake._cache.close()
        shutil.rmtree(lake._cache.root, ignore_errors=True)


def copy_lake(home: Path, other: Path) -> None:
    """Copy a project's objects to another's lake, where copying its folder has not done it."""
    lake, copy = lake_of(home), lake_of(other)
    if isinstance(lake, S3Lake):
        for path in lake.paths():
            overwrite(copy, path, object_bytes(lake, path))
