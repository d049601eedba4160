"""Secrets come by the environment and go nowhere: every byte that a run leaves is searched.

The run meets what makes programs talkative: a service that repeats the token in its refusal. What
a service or a proxy that is not there makes the client say is looked at by itself.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import traceback

import polars as pl
import pytest

from royalty_assets.audit.notes import new_signing_key
from royalty_assets.domain.feeds import HttpSource
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.sources.dialects import open_http_source
from royalty_assets.sources.payloads import SourceError
from royalty_assets.storage.database import DatabaseAccessError
from royalty_assets.storage.registry import open_registry
from royalty_assets_tests.hostile_server import hostile_server_beside, says

TOKEN = "canary-token-5f0d7b3a9c1e"
PROXY_PASSWORD = "canary-proxy-77aa41c2"
REPORT = b"""Date,Territory,ISRC,Title,Artist,Units,Amount,Currency
2025-03-02,DE,USUM70600055,Flowers,Ada,7,0.70,EUR
"""


async def answer(server, head, writer):
    path = head.split(b" ")[1]
    if path.startswith(b"/refuses"):
        await says(f"401 Not {TOKEN}", body=TOKEN.encode())(server, head, writer)
    elif path.startswith(b"/serves/deliveries/"):
        file = {"name": "march.csv", "url": "/serves/march.csv", "bytes": len(REPORT)}
        listed = {"key": "2025-03-01", "version": "1", "files": [file]}
        await says("200 OK", body=json.dumps(listed).encode())(server, head, writer)
    else:
        await says("200 OK", body=REPORT)(server, head, writer)


def feed(name, url):
    return {
        "name": name,
        "records": "report_lines",
        "cadence": "monthly",
        "start": "2025-03-01",
        "end": "2025-04-01",
        "source": {
            "dialect": "report_files", "url": url, "token_env": "CANARY_TOKEN", "attempts": 1,
        },
    }  # fmt: skip


def everything_in(folder):
    """(file, its bytes; of Parquet also what is packed in it)."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += repr(pl.read_parquet(path).rows()).encode()
            yield path, content


def test_no_secret_is_in_anything_that_a_run_writes_or_says(tmp_path):
    key = new_signing_key("label.example/royalties").text
    home = tmp_path / "home"
    (home / "catalog").mkdir(parents=True)
    (home / "catalog/c.csv").write_text("isrc,title,artist\nUSUM70600055,Flowers,Ada\n")
    with hostile_server_beside(answer) as server:
        feeds = [
            feed("refuses", f"{server.url}/refuses"),
            feed("serves", f"{server.url}/serves"),
        ]
        (home / "feeds.yaml").write_text(json.dumps({"feeds": feeds}))
        done = subprocess.run(
            [sys.executable, "-m", "royalty_assets.cli", "run", str(home)],
            capture_output=True,
            check=False,
            timeout=240,
            env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
            | {
                "CANARY_TOKEN": TOKEN,
                "ROYALTY_ASSETS_SIGNING_KEY": key,
                "NO_PROXY": "127.0.0.1",
                "TMPDIR": str(tmp_path),
            },
        )
        asked = b"".join(server.asked)
    # The token was sent, one service refused it, and what the other served is there.
    assert asked.count(TOKEN.encode()) >= 3
    said = done.stdout + done.stderr
    assert b"refuses" in said
    assert b"401" in said
    written = list(everything_in(tmp_path))
    assert any(b"Flowers" in content for path, content in written if path.suffix == ".parquet")
    secrets = {
        "token": TOKEN.encode(),
        "token in Base64": base64.b64encode(TOKEN.encode()),
        "signing key": key.encode(),
        "signing key's secret": key.rpartition("+")[2].encode(),
    }
    found = [
        (name, place)
        for place, content in [*written, ("output", said)]
        for name, secret in secrets.items()
        if secret in content
    ]
    assert found == []


@pytest.mark.parametrize(
    "proxy", [f"http://label:{PROXY_PASSWORD}@127.0.0.1:1", f"nonsense://x:{PROXY_PASSWORD}@y"]
)
def test_a_proxys_password_is_not_told(proxy, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    partition = Partition.parse(Cadence.MONTHLY, "2025-03-01")

    async def ask():
        config = HttpSource(dialect="report_files", url="https://dsp.invalid/x", attempts=1)
        async with open_http_source(config, TOKEN) as source:
            await source.version(partition)

    with pytest.raises((SourceError, ValueError)) as failed:
        asyncio.run(ask())
    for secret in (PROXY_PASSWORD, TOKEN):
        assert secret not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://label:hunter2@127.0.0.1:1/royalties",
        "postgresql+psycopg2://label:hunter2@127.0.0.1:nonsense/royalties",
        "hunter2",
    ],
)
def test_a_registry_that_cannot_be_opened_is_told_without_its_password(url):
    with pytest.raises(DatabaseAccessError) as refused:
        open_registry(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))
