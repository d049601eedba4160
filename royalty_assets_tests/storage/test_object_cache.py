"""Near copies: whole or absent, within their room, and none taken from under a reader."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.storage import object_cache
from royalty_assets.storage.object_cache import ObjectCache


def name_of(content):
    return hashlib.sha256(content).hexdigest()


def keep(cache, content):
    with cache.writing() as file:
        file.write_bytes(content)
        return cache.take(file, name_of(content))


@pytest.fixture
def few_handed_out(monkeypatch):
    monkeypatch.setattr(object_cache, "HANDED_OUT", 2)


def test_what_is_kept_is_had_again_and_nothing_else(tmp_path):
    cache = ObjectCache(tmp_path / "cache", 1_000)
    path = keep(cache, b"one")
    assert path.read_bytes() == b"one"
    assert cache.get(name_of(b"one"), 3) == path
    assert cache.get(name_of(b"two"), 3) is None
    path.write_bytes(b"cut")
    assert cache.get(name_of(b"one"), 4) is None  # of another size: forgotten
    assert not path.exists()
    cache.close()


def test_the_least_recently_used_goes(tmp_path, few_handed_out):
    cache = ObjectCache(tmp_path, 500)
    names = [name_of(bytes([n]) * 100) for n in range(9)]
    for number in range(4):
        keep(cache, bytes([number]) * 100)
    assert cache.get(names[0], 100)
    for number in range(4, 7):
        keep(cache, bytes([number]) * 100)
    assert {path.name for path in tmp_path.iterdir()} == {names[n] for n in (0, 3, 4, 5, 6)}
    cache.close()


def test_what_is_handed_out_stays_whatever_it_takes(tmp_path, few_handed_out):
    cache, other = ObjectCache(tmp_path, 100), ObjectCache(tmp_path, 100)
    mine = keep(cache, b"m" * 90)
    for number in range(5):
        keep(other, bytes([number]) * 90)
    assert mine.read_bytes() == b"m" * 90
    cache.close()
    keep(other, b"o" * 90)
    assert not mine.exists()
    other.close()


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from royalty_assets.storage.object_cache import ObjectCache\n"
        "cache = ObjectCache(Path(sys.argv[1]), 100)\n"
        "with cache.writing() as file:\n"
        "    file.write_bytes(b'k' * 90); cache.take(file, 'killed')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / "killed").exists()
    cache = ObjectCache(tmp_path, 100)
    keep(cache, b"new" * 30)
    assert not (tmp_path / "killed").exists()
    cache.close()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_whatever_is_asked_what_comes_is_right_and_the_room_is_kept(tmp_path_factory, asked):
    """Two processes' caches of one folder; each hands out a file that is then read."""
    folder = tmp_path_factory.mktemp("cache")
    caches = [ObjectCache(folder, 1_000), ObjectCache(folder, 1_000)]
    for number, which in asked:
        content = bytes([number]) * (number * 40)
        path = caches[which].get(name_of(content), len(content)) or keep(caches[which], content)
        assert path.read_bytes() == content
        for cache in caches:  # nothing is handed out any more
            cache.close()
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000 + 2 * 100 + 360
    assert all(name_of(path.read_bytes()) == path.name for path in folder.iterdir())


def test_readers_and_sweepers_at_once_find_whole_files(tmp_path):
    caches = [ObjectCache(tmp_path, 2_000) for _ in range(4)]

    def work(number):
        cache = caches[number % 4]
        content = bytes([number % 23]) * 500
        path = cache.get(name_of(content), 500) or keep(cache, content)
        return path.read_bytes() == content

    with ThreadPoolExecutor(4) as workers:
        assert all(workers.map(work, range(600)))
    for cache in caches:
        cache.close()
