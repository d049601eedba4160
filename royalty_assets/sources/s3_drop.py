"""An S3 prefix as an inbox.

What is taken is what was listed: whole, of the length that was told, with the checksum of the store
where it gives one. Connection errors, 5xx and throttling are retried by botocore, with its waits.
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from royalty_assets.domain.feeds import InboxSource
from royalty_assets.sources.drops import TIMEOUT_SECONDS, Mirror, plain_name
from royalty_assets.sources.payloads import PermanentSourceError, TransientSourceError

LISTED_PER_PAGE = 1000
_DOWNLOADS = 3
"""How often an object is fetched whose bytes break off, or are not those that were sent."""
_CHUNK_BYTES = 1 << 20
_BROKEN_OFF = (
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)


class _ReplacedError(Exception):
    """An object that is no longer what was listed."""


class S3Drop:
    """The objects under an S3 prefix, one level deep. Credentials are boto3's to find."""

    def __init__(self, source: InboxSource, mirror: Path) -> None:
        url = urlsplit(source.folder)
        self._bucket = url.netloc
        self._prefix = unquote(url.path).strip("/")
        self._url = source.folder
        self._endpoint = source.endpoint_url
        self._bytes_max = source.file_bytes_max
        self._mirror = mirror

    async def mirror(self) -> list[tuple[str, str]]:
        """See ``Drop``."""
        try:
            return await asyncio.to_thread(self._fetch_all)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            kind = PermanentSourceError if 400 <= status < 429 else TransientSourceError
            raise kind(f"{self._url} cannot be read: {error}") from None
        except (BotoCoreError, OSError) as error:
            raise TransientSourceError(f"{self._url} cannot be read: {error}") from None

    def _fetch_all(self) -> list[tuple[str, str]]:
        # A session of its own: the one that boto3 shares is not for threads.
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self._endpoint,
            config=Config(
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=TIMEOUT_SECONDS,
                read_timeout=TIMEOUT_SECONDS,
            ),
        )
        left: list[tuple[str, str]] = []
        names: set[str] = set()
        with Mirror(self._mirror).held() as local:
            for name, version, key, size_bytes in self._objects(client):
                if (why := plain_name(name) or self._too_large(size_bytes)) is not None:
                    left.append((name, why))
                    continue
                names.add(name)
                if local.has(name, version):
                    continue
                try:
                    self._fetch(client, key, version, local.arriving())
                    local.take(name, version)
                except (ClientError, _ReplacedError) as error:
                    # Archived, forbidden, replaced or just gone: the others go on.
                    left.append((name, f"cannot be fetched: {error}"))
            local.keep_only(names)
        return left

    def _fetch(self, client: Any, key: str, version: str, target: Path) -> None:
        """Fetch an object as it was listed.

        In one piece: some stores answer a part of an object with the checksum of the whole.
        """
        for attempt in range(1, _DOWNLOADS + 1):
            answer = client.get_object(Bucket=self._bucket, Key=key)
            if _version(answer["ETag"], answer["ContentLength"]) != version:
                raise _ReplacedError("it was replaced meanwhile; it is fetched next time")
            try:
                with closing(answer["Body"]) as body, target.open("wb") as file:
                    for chunk in body.iter_chunks(_CHUNK_BYTES):
                        file.write(chunk)
            except _BROKEN_OFF:
                if attempt == _DOWNLOADS:
                    raise
            else:
                return

    def _too_large(self, size_bytes: int) -> str | None:
        if size_bytes <= self._bytes_max:
            return None
        return f"is larger than {self._bytes_max:,} bytes; if that is right, raise file_bytes_max"

    def _objects(self, client: Any) -> Iterator[tuple[str, str, str, int]]:
        """(name, version, key, bytes) of each object directly under the prefix."""
        prefix = f"{self._prefix}/" if self._prefix else ""
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=prefix,
            Delimiter="/",
            PaginationConfig={"PageSize": LISTED_PER_PAGE},
        )
        for page in pages:
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(prefix)
                if name:
                    version = _version(item["ETag"], item["Size"])
                    yield name, version, item["Key"], int(item["Size"])


def _version(etag: str, size_bytes: int) -> str:
    """What an object is told from its successor by; some stores list ETags without quotes."""
    bare = etag.strip('"')
    return f'"{bare}" {size_bytes}'
