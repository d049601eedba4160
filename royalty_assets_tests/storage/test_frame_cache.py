"""Kept tables: whole entries or none, and a damaged one counts as absent."""

import polars as pl
import pytest

from royalty_assets.storage.frame_cache import FrameCache

TABLES = {
    "names": pl.DataFrame({"name": ["a", "b", "a longer one than fits inline", None]}),
    "numbers": pl.DataFrame({"number": [1, 2, 3]}, schema={"number": pl.UInt32}),
    "empty": pl.DataFrame(schema={"x": pl.UInt64}),
}


@pytest.fixture
def cache(tmp_path):
    return FrameCache(tmp_path / "cache")


def files(tmp_path):
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())


def test_an_entry_comes_back_as_it_was(cache):
    assert cache.get("one") is None
    cache.put("one", TABLES)
    kept = cache.get("one")
    assert kept.keys() == TABLES.keys()
    assert all(kept[name].equals(TABLES[name]) for name in TABLES)
    assert kept["numbers"].schema == TABLES["numbers"].schema


def test_only_the_last_entry_is_kept_and_one_in_use_stays_readable(cache, tmp_path):
    cache.put("one", TABLES)
    in_use = cache.get("one")
    cache.put("two", TABLES)
    cache.put("two", {"numbers": TABLES["numbers"]})
    assert in_use["names"].equals(TABLES["names"])
    assert cache.get("one") is None
    assert cache.get("two").keys() == {"numbers"}
    assert files(tmp_path) == ["cache/two/manifest.json", "cache/two/numbers.arrow"]


@pytest.mark.parametrize("file", ["names.arrow", "numbers.arrow", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "bit", "gone", "other", "empty"])
def test_a_damaged_entry_counts_as_absent(cache, tmp_path, file, how):
    cache.put("one", TABLES)
    path = tmp_path / "cache" / "one" / file
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    damaged = {"cut": body[:-1], "bit": body, "other": b"[1, 2]", "empty": b"", "gone": b""}
    path.write_bytes(damaged[how])
    if how == "gone":
        path.unlink()
    assert cache.get("one") is None
    cache.put("one", TABLES)
    assert cache.get("one")["names"].equals(TABLES["names"])


def test_what_cannot_be_written_leaves_nothing(cache, tmp_path):
    cache.put("one", TABLES)
    with pytest.raises(OSError, match="No such file"):
        cache.put("two", {"no/such/folder": TABLES["names"]})
    assert cache.get("one") is not None
    assert all(name.startswith("cache/one/") for name in files(tmp_path))
