"""Remote inboxes against real servers: S3 by moto's server, SFTP by asyncssh's."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import boto3
import pytest
from moto.server import ThreadedMotoServer

from royalty_assets.domain.feeds import InboxSource
from royalty_assets.sources import s3_drop as s3_drops
from royalty_assets.sources.drops import open_drop, plain_name
from royalty_assets.sources.payloads import PermanentSourceError, TransientSourceError
from royalty_assets.sources.s3_drop import S3Drop
from royalty_assets.sources.sftp_drop import SftpDrop
from royalty_assets_tests.faulty_proxy import Fault, faulty_proxy
from royalty_assets_tests.s3_stores import credentials, rclone_store

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket="reports")
    yield client
    while items := client.list_objects_v2(Bucket="reports").get("Contents", []):
        keys = [{"Key": item["Key"]} for item in items]
        client.delete_objects(Bucket="reports", Delete={"Objects": keys})
    client.delete_bucket(Bucket="reports")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def s3_drop(s3_url: str, folder: Path, prefix: str = "in/label") -> S3Drop:
    source = InboxSource(dialect="inbox", folder=f"s3://reports/{prefix}", endpoint_url=s3_url)
    drop = open_drop(source, folder)
    assert isinstance(drop, S3Drop)
    return drop


def test_the_objects_of_a_prefix_become_files_and_follow_its_changes(bucket, s3_url, tmp_path):
    for key, body in {
        "in/label/a.csv": b"one",
        "in/label/b.csv": b"two",
        "in/label/deeper/c.csv": b"not ours",
        "in/other.csv": b"not ours",
        "in/label/": b"",
    }.items():
        bucket.put_object(Bucket="reports", Key=key, Body=body)
    drop = s3_drop(s3_url, tmp_path)
    assert asyncio.run(drop.mirror()) == []
    assert names(tmp_path) == ["a.csv", "b.csv"]
    before = (tmp_path / "b.csv").stat().st_ino
    bucket.put_object(Bucket="reports", Key="in/label/a.csv", Body=b"one, corrected")
    asyncio.run(drop.mirror())
    assert (tmp_path / "a.csv").read_bytes() == b"one, corrected"
    assert (tmp_path / "b.csv").stat().st_ino == before  # what has not changed is not fetched
    bucket.delete_object(Bucket="reports", Key="in/label/a.csv")
    asyncio.run(drop.mirror())
    assert names(tmp_path) == ["b.csv"]


def test_more_objects_than_a_page_of_the_listing_holds_all_come(
    bucket, s3_url, tmp_path, monkeypatch
):
    monkeypatch.setattr(s3_drops, "LISTED_PER_PAGE", 2)
    for number in range(5):
        bucket.put_object(Bucket="reports", Key=f"many/{number}.csv", Body=b"x")
    asyncio.run(s3_drop(s3_url, tmp_path, "many").mirror())
    assert len(names(tmp_path)) == 5


def test_names_that_would_leave_the_folder_are_left_and_told(bucket, s3_url, tmp_path):
    bucket.put_object(Bucket="reports", Key="in/label/..\\evil.csv", Body=b"x")
    bucket.put_object(Bucket="reports", Key="in/label/fine.csv", Body=b"x")
    left = asyncio.run(s3_drop(s3_url, tmp_path / "mirror").mirror())
    assert [name for name, _ in left] == ["..\\evil.csv"]
    assert names(tmp_path) == ["mirror"]
    assert names(tmp_path / "mirror") == ["fine.csv"]


def test_a_bucket_that_is_not_there_is_told(bucket, s3_url, tmp_path):
    source = InboxSource(dialect="inbox", folder="s3://nowhere/x", endpoint_url=s3_url)
    with pytest.raises(PermanentSourceError, match="s3://nowhere/x cannot be read"):
        asyncio.run(S3Drop(source, tmp_path).mirror())


def test_a_download_that_breaks_off_is_begun_again(bucket, s3_url, tmp_path):
    bucket.put_object(Bucket="reports", Key="in/label/a.csv", Body=b"one" * 1_000)
    with faulty_proxy(s3_url) as proxy:
        proxy.spoil("GET", Fault(answered_bytes=200), containing="a.csv")
        assert asyncio.run(s3_drop(proxy.url, tmp_path).mirror()) == []
        assert (tmp_path / "a.csv").read_bytes() == b"one" * 1_000
        bucket.put_object(Bucket="reports", Key="in/label/a.csv", Body=b"two" * 1_000)
        proxy.spoil("GET", Fault(answered_bytes=200), times=99, containing="a.csv")
        with pytest.raises(TransientSourceError, match="s3://reports/in/label cannot be read"):
            asyncio.run(s3_drop(proxy.url, tmp_path).mirror())
    # Nothing of it is taken; what was there stays, until the other has come whole.
    assert (tmp_path / "a.csv").read_bytes() == b"one" * 1_000
    assert asyncio.run(s3_drop(s3_url, tmp_path).mirror()) == []
    assert (tmp_path / "a.csv").read_bytes() == b"two" * 1_000


def test_a_file_that_is_replaced_while_it_is_listed_waits_for_the_next_time(
    bucket, s3_url, tmp_path
):
    bucket.put_object(Bucket="reports", Key="in/label/a.csv", Body=b"one")
    bucket.put_object(Bucket="reports", Key="in/label/b.csv", Body=b"fine")
    with faulty_proxy(s3_url) as proxy:

        def replace(_: str, path: str) -> None:
            if "a.csv" in path:
                bucket.put_object(Bucket="reports", Key="in/label/a.csv", Body=b"one, corrected")

        proxy.fault_of = replace
        ((name, why),) = asyncio.run(s3_drop(proxy.url, tmp_path).mirror())
    assert (name, "it was replaced meanwhile" in why) == ("a.csv", True)
    assert names(tmp_path) == ["b.csv"]
    assert asyncio.run(s3_drop(s3_url, tmp_path).mirror()) == []
    assert (tmp_path / "a.csv").read_bytes() == b"one, corrected"


def test_a_large_file_comes_whole_from_a_store_of_other_habits(tmp_path, monkeypatch):
    body = bytes(range(256)) * 40_000  # more than boto3 fetches in one piece
    with rclone_store() as (endpoint, folder):
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        (folder / "reports/in/label").mkdir(parents=True)
        (folder / "reports/in/label/a.csv").write_bytes(body)
        assert asyncio.run(s3_drop(endpoint, tmp_path).mirror()) == []
        before = (tmp_path / "a.csv").stat().st_ino
        assert asyncio.run(s3_drop(endpoint, tmp_path).mirror()) == []
    assert (tmp_path / "a.csv").read_bytes() == body
    assert (tmp_path / "a.csv").stat().st_ino == before


class _OnePassword(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - theirs to name
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("label", PASSWORD)


@asynccontextmanager
async def sftp_server(root: Path, folder: Path):
    """A real SFTP server on localhost; yields its URL and a known_hosts file."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_OnePassword,
        server_host_keys=[key],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(root)),
        allow_scp=False,
    )
    port = server.get_port()
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    try:
        yield f"sftp://label@127.0.0.1:{port}/out", known
    finally:
        server.close()
        await server.wait_closed()


def sftp_source(url: str, known: Path) -> InboxSource:
    return InboxSource(dialect="inbox", folder=url, known_hosts=str(known))


def test_the_files_of_an_sftp_folder_follow_its_changes(tmp_path):
    out = tmp_path / "server/out"
    (out / "old").mkdir(parents=True)
    (out / "a.tsv").write_bytes(b"one")

    async def scenario() -> None:
        async with sftp_server(tmp_path / "server", tmp_path) as (url, known):
            drop = SftpDrop(sftp_source(url, known), tmp_path / "mirror", PASSWORD)
            assert await drop.mirror() == []
            assert names(tmp_path / "mirror") == ["a.tsv"]
            (out / "b.tsv").write_bytes(b"two")
            (out / "a.tsv").write_bytes(b"one, corrected")
            os.utime(out / "a.tsv", (1, 1))
            await drop.mirror()
            assert (tmp_path / "mirror/a.tsv").read_bytes() == b"one, corrected"
            (out / "a.tsv").unlink()
            await drop.mirror()
            assert names(tmp_path / "mirror") == ["b.tsv"]

    asyncio.run(scenario())


def test_an_sftp_server_that_does_not_let_us_in_is_told_without_the_password(tmp_path):
    (tmp_path / "server/out").mkdir(parents=True)

    async def scenario() -> str:
        async with sftp_server(tmp_path / "server", tmp_path) as (url, known):
            drop = SftpDrop(sftp_source(url, known), tmp_path / "mirror", "wrong secret")
            with pytest.raises(PermanentSourceError) as refused:
                await drop.mirror()
            return str(refused.value)

    told = asyncio.run(scenario())
    assert "does not let us in" in told
    assert "wrong secret" not in told


def test_a_host_key_that_is_not_known_is_not_trusted(tmp_path):
    (tmp_path / "server/out").mkdir(parents=True)

    async def scenario() -> None:
        async with sftp_server(tmp_path / "server", tmp_path) as (url, known):
            known.write_text("")
            drop = SftpDrop(sftp_source(url, known), tmp_path / "mirror", PASSWORD)
            with pytest.raises(PermanentSourceError, match="does not let us in"):
                await drop.mirror()

    asyncio.run(scenario())


def test_a_server_that_is_away_may_come_back(tmp_path):
    source = InboxSource(dialect="inbox", folder="sftp://label@127.0.0.1:1/out")
    with pytest.raises(TransientSourceError, match="cannot be read"):
        asyncio.run(SftpDrop(source, tmp_path, PASSWORD).mirror())


def test_a_local_folder_is_no_drop(tmp_path):
    assert open_drop(InboxSource(dialect="inbox", folder="inbox"), tmp_path) is None


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a/b", "a\\b", "a\x00", "x" * 300, ".mirror.json", ".mirror.lock",
        ".mirror.json.new", ".arriving", "\udcff" * 201,
    ],
)  # fmt: skip
def test_what_is_no_plain_file_name(name):
    assert plain_name(name) is not None


def test_what_is_larger_than_allowed_is_left_and_told(bucket, s3_url, tmp_path):
    bucket.put_object(Bucket="reports", Key="in/large.csv", Body=b"x" * 1_001)
    bucket.put_object(Bucket="reports", Key="in/small.csv", Body=b"x" * 1_000)
    folder = tmp_path / "s3"
    limited = {"dialect": "inbox", "file_bytes_max": 1_000}
    source = InboxSource(folder="s3://reports/in", endpoint_url=s3_url, **limited)
    left = asyncio.run(S3Drop(source, folder).mirror())
    assert [name for name, why in left if "file_bytes_max" in why] == ["large.csv"]
    assert names(folder) == ["small.csv"]

    out = tmp_path / "server/out"
    out.mkdir(parents=True)
    (out / "large.csv").write_bytes(b"x" * 1_001)
    (out / "small.csv").write_bytes(b"x" * 1_000)

    async def scenario() -> list[tuple[str, str]]:
        async with sftp_server(tmp_path / "server", tmp_path) as (url, known):
            source = InboxSource(folder=url, known_hosts=str(known), **limited)
            return await SftpDrop(source, tmp_path / "mirror", PASSWORD).mirror()

    left = asyncio.run(scenario())
    assert [name for name, why in left if "file_bytes_max" in why] == ["large.csv"]
    assert names(tmp_path / "mirror") == ["small.csv"]


def test_two_at_once_never_put_one_file_under_anothers_name(bucket, s3_url, tmp_path):
    """Sensors and runs mirror the same drop in processes of their own; here in threads."""
    bodies = {f"{number}.csv": f"file {number}".encode() * 20_000 for number in range(6)}
    for name, body in bodies.items():
        bucket.put_object(Bucket="reports", Key=f"in/label/{name}", Body=body)

    async def both() -> None:
        drops_ = [s3_drop(s3_url, tmp_path) for _ in range(4)]
        await asyncio.gather(*(drop.mirror() for drop in drops_))

    asyncio.run(both())
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == bodies


def test_a_file_that_cannot_be_had_holds_no_other_up(tmp_path):
    out = tmp_path / "server/out"
    out.mkdir(parents=True)
    (out / "a.tsv").symlink_to("nowhere")
    (out / "b.tsv").write_bytes(b"two")

    async def scenario() -> list[tuple[str, str]]:
        async with sftp_server(tmp_path / "server", tmp_path) as (url, known):
            return await SftpDrop(sftp_source(url, known), tmp_path / "mirror", PASSWORD).mirror()

    left = asyncio.run(scenario())
    assert [name for name, _ in left] == ["a.tsv"]
    assert names(tmp_path / "mirror") == ["b.tsv"]
