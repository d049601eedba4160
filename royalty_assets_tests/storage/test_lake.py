"""The lake: whole objects or none, never changed, and bytes that are missed."""

import hashlib
import os

import polars as pl
import pytest

from royalty_assets.storage.lake import LakeError, LocalLake, put_frame, read_frame

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path / "lake")


def files(tmp_path):
    return sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())


def test_a_frame_comes_back_as_it_was(lake):
    stored = put_frame(lake, "feed/raw/date=2025-03-01", "w", FRAME)
    assert read_frame(lake, stored).equals(FRAME)
    assert read_frame(lake, stored, ["b"]).columns == ["b"]
    assert stored.rows == 3
    body = lake.local_path(stored).read_bytes()
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))


def test_equal_content_is_one_object(lake, tmp_path):
    one = put_frame(lake, "f", "w", FRAME)
    two = put_frame(lake, "f", "w", FRAME)
    assert one == two
    assert len(files(tmp_path)) == 1


def test_an_object_that_is_there_is_not_written_again(lake):
    stored = put_frame(lake, "f", "w", FRAME)
    path = lake.local_path(stored)
    os.utime(path, (1, 1))
    put_frame(lake, "f", "w", FRAME)
    assert path.stat().st_mtime == 1


def test_a_writer_that_fails_leaves_nothing(lake, tmp_path):
    def write(path):
        path.write_bytes(b"half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.put("f", "w", 1, write)
    assert files(tmp_path) == []


def test_an_object_that_is_gone_or_cut_is_named(lake):
    stored = put_frame(lake, "f", "w", FRAME)
    path = lake.local_path(stored)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LakeError, match="bytes, not"):
        read_frame(lake, stored)
    path.unlink()
    with pytest.raises(LakeError, match="it was there when committed"):
        read_frame(lake, stored)
