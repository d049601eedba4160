"""The lake: whole objects or none, never changed, and bytes that are missed.

Each test runs on a folder and on two real servers that speak S3: one that honours conditional
writes, and one that ignores them.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from royalty_assets.storage.lake import (
    HALF_WRITTEN,
    RENEWED_AFTER,
    LakeError,
    LocalLake,
    put_frame,
    read_frame,
)
from royalty_assets_tests.lakes import object_bytes, overwrite, take_away
from royalty_assets_tests.s3_stores import moto_store, put_at, rclone_store, s3_lake

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
PART_BYTES = 64 << 10
LARGE = b"PAR1" + b"0123456789abcdef" * (PART_BYTES // 16) + b"the second part"


@pytest.fixture(scope="module")
def moto():
    with moto_store() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rclone():
    with rclone_store() as (endpoint, _):
        yield endpoint


@pytest.fixture(params=["local", "moto", "rclone"])
def lake(request, tmp_path):
    if request.param == "local":
        yield LocalLake(tmp_path / "lake")
    else:
        endpoint = request.getfixturevalue(request.param)
        with s3_lake(endpoint, tmp_path, part_bytes=PART_BYTES) as lake:
            yield lake


@pytest.fixture(params=["local", "moto"])
def dated_lake(request, tmp_path):
    """One whose objects' ages a test can set."""
    if request.param == "local":
        yield LocalLake(tmp_path / "lake")
    else:
        with s3_lake(request.getfixturevalue("moto"), tmp_path) as lake:
            yield lake


def put_small(lake):
    return put_frame(lake, "f", "w", FRAME)


def put_large(lake):
    return lake.put("f", "large", 1, lambda path: path.write_bytes(LARGE))


def half_written(lake):
    return [each.name for each in lake.half_written()]


def test_a_frame_comes_back_as_it_was(lake):
    stored = put_frame(lake, "feed/raw/date=2025-03-01", "w", FRAME)
    assert read_frame(lake, stored).equals(FRAME)
    assert read_frame(lake, stored, ["b"]).columns == ["b"]
    assert stored.rows == 3
    body = lake.local_path(stored).read_bytes()
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert lake.sha256(stored) == stored.sha256
    assert object_bytes(lake, stored.path) == body
    assert lake.uri(stored).endswith(stored.path.rpartition("/")[2])


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_an_object_of_any_size_comes_back_as_it_was(lake, size):
    content = LARGE[:size]
    stored = lake.put("f", "w", 1, lambda path: path.write_bytes(content))
    assert object_bytes(lake, stored.path) == content
    assert lake.sha256(stored) == hashlib.sha256(content).hexdigest()
    assert half_written(lake) == []


def test_equal_content_is_one_object(lake):
    one = put_frame(lake, "f", "w", FRAME)
    two = put_frame(lake, "f", "w", FRAME)
    assert one == two
    assert list(lake.paths()) == [one.path]
    assert half_written(lake) == []


def test_all_objects_are_listed_with_their_sizes_and_no_others(lake):
    begun = datetime.now(UTC) - timedelta(seconds=2)
    stored = [put_frame(lake, f"f{n}/raw", "w", FRAME.head(n)) for n in range(3)]
    listed = {each.path: each for each in lake.listing()}
    assert {path: each.size_bytes for path, each in listed.items()} == {
        each.path: each.size_bytes for each in stored
    }
    assert set(lake.paths()) == set(listed)
    ended = datetime.now(UTC) + timedelta(seconds=2)
    assert all(begun <= each.modified_at <= ended for each in listed.values())


def test_an_object_that_is_there_is_not_written_again(dated_lake):
    stored = put_frame(dated_lake, "f", "w", FRAME)
    young = datetime.now(UTC).replace(microsecond=0) - RENEWED_AFTER / 2
    put_at(dated_lake, stored.path, young)
    put_frame(dated_lake, "f", "w", FRAME)
    (listed,) = dated_lake.listing()
    assert listed.modified_at == young


def test_an_old_object_that_is_put_again_is_young(dated_lake):
    """Or it would be swept away as an orphan before whoever put it again has committed."""
    stored = put_frame(dated_lake, "f", "w", FRAME)
    put_at(dated_lake, stored.path, datetime.now(UTC) - timedelta(days=8))
    before = datetime.now(UTC) - timedelta(seconds=2)
    assert put_frame(dated_lake, "f", "w", FRAME) == stored
    (listed,) = dated_lake.listing()
    assert listed.modified_at >= before
    assert read_frame(dated_lake, stored).equals(FRAME)


def test_an_object_is_removed_unless_it_was_put_since(lake):
    stored = put_frame(lake, "f", "w", FRAME)
    assert not lake.remove(stored.path, datetime.now(UTC) - timedelta(hours=1))
    assert list(lake.paths()) == [stored.path]
    assert lake.remove(stored.path, datetime.now(UTC) + timedelta(hours=1))
    assert list(lake.paths()) == []
    assert lake.remove(stored.path, datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize("put", [put_small, put_large])
def test_a_damaged_object_is_healed_by_whoever_puts_it_again(lake, put):
    stored = put(lake)
    whole = object_bytes(lake, stored.path)
    for damaged in (b"", whole[:-1], whole[:-1] + b"?"):
        overwrite(lake, stored.path, damaged)
        assert put(lake) == stored
        assert object_bytes(lake, stored.path) == whole


def test_many_who_put_the_same_make_one_object(lake):
    with ThreadPoolExecutor(8) as writers:
        done = list(writers.map(lambda _: put_frame(lake, "f", "w", FRAME), range(8)))
    assert len(set(done)) == 1
    assert list(lake.paths()) == [done[0].path]
    assert lake.sha256(done[0]) == done[0].sha256


def test_a_writer_that_fails_leaves_nothing(lake, tmp_path):
    def write(path):
        path.write_bytes(b"half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.put("f", "w", 1, write)
    assert list(lake.paths()) == []
    assert not list(tmp_path.rglob(f"{HALF_WRITTEN}*"))


def test_an_object_that_is_gone_or_cut_is_named(lake):
    stored = put_frame(lake, "f", "w", FRAME)
    overwrite(lake, stored.path, object_bytes(lake, stored.path)[:-1])
    with pytest.raises(LakeError, match=f"{stored.path} has .* bytes, not {stored.size_bytes}"):
        read_frame(lake, stored)
    with pytest.raises(LakeError, match="bytes, not"):
        lake.sha256(stored)
    take_away(lake, stored.path)
    with pytest.raises(LakeError, match="it was there when committed"):
        read_frame(lake, stored)


def test_what_a_killed_writer_left_is_found_and_discarded(lake, tmp_path):
    put_frame(lake, "f", "w", FRAME)
    folder = tmp_path / ("lake" if isinstance(lake, LocalLake) else "cache")
    (folder / f"{HALF_WRITTEN}abc").write_bytes(b"half")
    (left,) = lake.half_written()
    assert (left.name, left.size_bytes) == (str(folder / f"{HALF_WRITTEN}abc"), 4)
    left.discard()
    assert half_written(lake) == []
    assert len(list(lake.paths())) == 1
