"""An S3 prefix as an inbox."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from royalty_assets.domain.feeds import InboxSource
from royalty_assets.sources.drops import TIMEOUT_SECONDS, Mirror, plain_name
from royalty_assets.sources.payloads import PermanentSourceError, TransientSourceError

LISTED_PER_PAGE = 1000


class S3Drop:
    """The objects under an S3 prefix, one level deep. Credentials are boto3's to find."""

    def __init__(self, source: InboxSource, mirror: Path) -> None:
        url = urlsplit(source.folder)
        self._bucket = url.netloc
        self._prefix = unquote(url.path).strip("/")
        self._url = source.folder
        self._endpoint = source.endpoint_url
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
        client = boto3.client(
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
            for name, version, key in self._objects(client):
                if (why := plain_name(name)) is not None:
                    left.append((name, why))
                    continue
                names.add(name)
                if local.has(name, version):
                    continue
                try:
                    client.download_file(self._bucket, key, str(local.arriving()))
                    local.take(name, version)
                except ClientError as error:
                    # Archived, forbidden or just gone: the others go on.
                    left.append((name, f"cannot be fetched: {error}"))
            local.keep_only(names)
        return left

    def _objects(self, client: Any) -> Iterator[tuple[str, str, str]]:
        """(name, version, key) of each object directly under the prefix."""
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
                    yield name, f"{item['ETag']} {item['Size']}", item["Key"]
