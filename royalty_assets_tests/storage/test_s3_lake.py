"""A lake on S3 on bad days: connections that break, answers that are wrong, stores that refuse.

The faults are on real sockets, made by a proxy before a real server; what ``test_lake`` asks of
every lake is not asked again.
"""

import polars as pl
import pytest

from royalty_assets.settings import Settings, SettingsError
from royalty_assets.storage.lake import (
    LakeError,
    LakeRefusedError,
    LakeUnavailableError,
    LocalLake,
    put_frame,
    read_frame,
)
from royalty_assets.storage.lakes import open_lake
from royalty_assets.storage.s3_lake import S3Lake, s3_client
from royalty_assets_tests.faulty_proxy import Fault, faulty_proxy
from royalty_assets_tests.lakes import forget_near_copies, object_bytes
from royalty_assets_tests.s3_stores import credentials, moto_store, rclone_store, s3_lake

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
PART_BYTES = 64 << 10
LARGE = b"0123456789abcdef" * (PART_BYTES // 16) + b"the second part"
CUT = Fault(sent_bytes=100)


@pytest.fixture(scope="module")
def store():
    with moto_store() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(store):
    with faulty_proxy(store) as proxy:
        yield proxy


@pytest.fixture
def lake(proxy, tmp_path):
    """A lake that tries once and no more, so that each fault is seen."""
    with s3_lake(proxy.url, tmp_path, attempts=1, part_bytes=PART_BYTES) as lake:
        yield lake


@pytest.fixture
def patient(proxy, tmp_path):
    with s3_lake(proxy.url, tmp_path, attempts=2, part_bytes=PART_BYTES) as lake:
        yield lake


def put_large(lake):
    return lake.put("f", "large", 1, lambda path: path.write_bytes(LARGE))


def uploads(lake):
    return [each for each in lake.half_written() if "upload" in each.name]


# Storing


def test_a_connection_that_is_cut_in_mid_put_leaves_nothing_that_is_taken_for_the_object(
    lake, proxy
):
    proxy.spoil("PUT", CUT)
    with pytest.raises(LakeUnavailableError, match=r"lake/of one/f/w-.*try again"):
        put_frame(lake, "f", "w", FRAME)
    stored = put_frame(lake, "f", "w", FRAME)
    assert list(lake.paths()) == [stored.path]
    forget_near_copies(lake)
    assert read_frame(lake, stored).equals(FRAME)


@pytest.mark.parametrize("where", ["partNumber=1", "partNumber=2"])
def test_a_connection_that_is_cut_in_mid_part_leaves_neither_object_nor_parts(lake, proxy, where):
    proxy.spoil("PUT", CUT, containing=where)
    with pytest.raises(LakeUnavailableError, match="try again"):
        put_large(lake)
    assert list(lake.paths()) == []
    assert uploads(lake) == []
    stored = put_large(lake)
    assert object_bytes(lake, stored.path) == LARGE


def test_parts_that_nobody_could_abort_are_found_and_discarded(lake, proxy):
    """The store is away when they should be given up, as after a crash in mid-upload."""
    proxy.fault_of = lambda method, path: (
        Fault(status=503) if method == "DELETE" or "partNumber=2" in path else None
    )
    with pytest.raises(LakeUnavailableError):
        put_large(lake)
    proxy.fault_of = lambda *_: None
    (left,) = uploads(lake)
    left.discard()
    left.discard()
    assert uploads(lake) == []
    assert list(lake.paths()) == []


@pytest.mark.parametrize("put", [lambda lake: put_frame(lake, "f", "w", FRAME), put_large])
def test_an_object_whose_storing_nobody_heard_of_is_stored_once(patient, proxy, put):
    """The retry finds the object that the first try has stored."""
    proxy.spoil("PUT", Fault(loses_answer=True))
    stored = put(patient)
    assert [each.path for each in patient.listing()] == [stored.path]
    assert patient.sha256(stored) == stored.sha256
    assert uploads(patient) == []


def test_a_store_that_asks_for_patience_gets_it(patient, proxy):
    proxy.spoil("PUT", Fault(status=503))
    stored = put_frame(patient, "f", "w", FRAME)
    assert [method for method, _ in proxy.asked] == ["PUT", "PUT", "PUT"]  # the bucket's first
    forget_near_copies(patient)
    proxy.spoil("GET", Fault(status=503))
    assert read_frame(patient, stored).equals(FRAME)


def test_a_store_that_asks_for_too_much_patience_may_be_asked_later(lake, proxy):
    proxy.spoil("PUT", Fault(status=503), times=99)
    with pytest.raises(LakeUnavailableError, match="SlowDown.*try again later"):
        put_frame(lake, "f", "w", FRAME)


def test_a_small_object_is_stored_by_one_request(lake, proxy):
    proxy.asked.clear()
    put_frame(lake, "f", "w", FRAME)
    assert [method for method, _ in proxy.asked] == ["PUT"]


def test_a_store_that_refuses_conditions_is_asked_without_them(lake, proxy):
    proxy.spoil("PUT", Fault(status=501))
    stored = put_frame(lake, "f", "w", FRAME)
    assert put_frame(lake, "f", "w", FRAME) == stored
    forget_near_copies(lake)
    assert read_frame(lake, stored).equals(FRAME)


# Fetching


def test_a_download_that_breaks_off_is_begun_again(lake, proxy):
    stored = put_frame(lake, "f", "w", FRAME)
    forget_near_copies(lake)
    proxy.spoil("GET", Fault(answered_bytes=200))
    assert read_frame(lake, stored).equals(FRAME)


def test_a_download_that_always_breaks_off_is_told_and_leaves_nothing(lake, proxy, tmp_path):
    stored = put_frame(lake, "f", "w", FRAME)
    forget_near_copies(lake)
    proxy.spoil("GET", Fault(answered_bytes=200), times=99)
    with pytest.raises(LakeUnavailableError, match=stored.path):
        read_frame(lake, stored)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_that_is_damaged_on_its_way_is_fetched_again(lake, proxy):
    stored = put_frame(lake, "f", "w", FRAME)
    forget_near_copies(lake)
    proxy.spoil("GET", Fault(flips=True))
    assert read_frame(lake, stored).equals(FRAME)
    proxy.spoil("GET", Fault(flips=True))
    assert lake.sha256(stored) == stored.sha256


def test_an_object_that_is_damaged_in_the_store_is_named_and_never_read(lake, proxy, tmp_path):
    stored = put_frame(lake, "f", "w", FRAME)
    forget_near_copies(lake)
    proxy.spoil("GET", Fault(flips=True), times=99)
    with pytest.raises(LakeError, match=f"{stored.path}: its SHA-256 is .*, not {stored.sha256}"):
        lake.local_path(stored)
    assert lake.sha256(stored) != stored.sha256
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_the_store_lost_is_missed_though_a_copy_is_near(lake):
    stored = put_frame(lake, "f", "w", FRAME)
    lake.remove(stored.path, lake._now().replace(year=9999))
    assert read_frame(lake, stored).equals(FRAME)
    with pytest.raises(LakeError, match="it was there when committed"):
        lake.sha256(stored)


# Refusals


def test_a_bucket_that_is_not_there_is_told_with_what_to_do(lake):
    lost = S3Lake(lake._client, "no-such-bucket", "x", lake._cache)
    with pytest.raises(LakeRefusedError, match="s3://no-such-bucket/x/f/w.*make the bucket, or"):
        put_frame(lost, "f", "w", FRAME)
    with pytest.raises(LakeRefusedError, match="make the bucket"):
        list(lost.paths())


def test_a_key_that_is_wrong_is_told_with_what_to_do(tmp_path, monkeypatch):
    with rclone_store() as (endpoint, folder):
        (folder / "bucket").mkdir()
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        monkeypatch.setenv("ROYALTY_ASSETS_LAKE_URL", "s3://bucket/lake")
        lake = open_lake(Settings(home=tmp_path))
        with pytest.raises(LakeRefusedError, match="check AWS_SECRET_ACCESS_KEY"):
            put_frame(lake, "f", "w", FRAME)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        lake = open_lake(Settings(home=tmp_path))
        with pytest.raises(LakeRefusedError, match="set AWS_ACCESS_KEY_ID"):
            put_frame(lake, "f", "w", FRAME)


def test_a_store_that_is_away_may_come_back(tmp_path, monkeypatch, lake):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    away = S3Lake(s3_client(1), "bucket", "", lake._cache)
    with pytest.raises(LakeUnavailableError, match="127.0.0.1:1.*try again later"):
        put_frame(away, "f", "w", FRAME)


# Where it is


def test_the_place_of_a_lake_is_one_setting(tmp_path):
    home = tmp_path / "home"
    assert Settings(home=home, lake_url="").lake == str(home / "lake")
    assert Settings(home=home, lake_url="/else/where").lake == "/else/where"
    assert Settings(home=home, lake_url="", lake_folder="/older").lake == "/older"
    assert Settings(home=home, lake_url="s3://b/{home}/x").lake == f"s3://b/{home}/x"
    assert isinstance(open_lake(Settings(home=home, lake_url="/else/where")), LocalLake)


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", "s3:///x", "s3://b/x?y", "http://b/x"])
def test_a_place_that_is_none_is_told(tmp_path, url):
    with pytest.raises(SettingsError, match="ROYALTY_ASSETS_LAKE_URL is .*s3://bucket/prefix"):
        open_lake(Settings(home=tmp_path, lake_url=url))


def test_two_places_are_one_too_many(tmp_path):
    with pytest.raises(SettingsError, match="unset the second"):
        open_lake(Settings(home=tmp_path, lake_url="s3://b", lake_folder="/older"))
