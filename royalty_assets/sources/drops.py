"""Remote inboxes: an S3 prefix or an SFTP folder, mirrored into a local one.

What was there before and has not changed is not fetched again; a file appears in the mirror
whole, or not at all. The remote side is only read. Names that are no plain file names are left
where they are, and told.
"""

import asyncio
import fcntl
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit

import asyncssh
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from royalty_assets.domain.feeds import InboxSource
from royalty_assets.sources.payloads import PermanentSourceError, TransientSourceError

_STATE = ".mirror.json"
_LOCK = ".mirror.lock"
_PARTIAL = ".arriving"
_TIMEOUT_SECONDS = 30
LISTED_PER_PAGE = 1000


class Drop(Protocol):
    """A remote folder."""

    async def mirror(self) -> list[tuple[str, str]]:
        """Make the local folder what the remote one is.

        Returns:
            (name, why) of what is left where it is.

        Raises:
            SourceError: if the remote side cannot be asked.
        """


def open_drop(source: InboxSource, mirror: Path, password: str | None = None) -> Drop | None:
    """The remote folder of a source; None where it is a local one.

    Args:
        source: whose ``folder`` is a URL.
        mirror: the local folder.
        password: for SFTP.
    """
    url = urlsplit(source.folder)
    if url.scheme == "s3":
        return S3Drop(source, mirror)
    if url.scheme == "sftp":
        return SftpDrop(source, mirror, password)
    return None


def plain_name(name: str) -> str | None:
    """Why a name is none that a file of ours may have; None if it is one."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\x00" in name:
        return "its name is no plain file name"
    if len(name.encode()) > 200:
        return "its name is longer than 200 bytes"
    return None


class _Mirror:
    """The local side: what is there, at which version. One process at a time has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions: dict[str, str] = {}

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Hold the mirror while it is brought up to date."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self._versions = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                self._versions = {}
            # What is half-written is an interrupted download's.
            for partial in self.folder.glob(f"{_PARTIAL}*"):
                partial.unlink(missing_ok=True)
            yield self

    def has(self, name: str, version: str) -> bool:
        """Whether the file is there at this version."""
        return self._versions.get(name) == version and (self.folder / name).is_file()

    def arriving(self) -> Path:
        """Where a download is written."""
        return self.folder / _PARTIAL

    def take(self, name: str, version: str) -> None:
        """Let what has arrived be the file, whole."""
        self.arriving().replace(self.folder / name)
        self._versions[name] = version
        self._save()

    def keep_only(self, names: set[str]) -> None:
        """Forget what is no longer on the remote side."""
        for gone in set(self._versions) - names:
            (self.folder / gone).unlink(missing_ok=True)
            del self._versions[gone]
        self._save()

    def _save(self) -> None:
        temporary = self.folder / f"{_STATE}.new"
        temporary.write_text(json.dumps(self._versions), encoding="utf-8")
        temporary.replace(self.folder / _STATE)


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
                connect_timeout=_TIMEOUT_SECONDS,
                read_timeout=_TIMEOUT_SECONDS,
            ),
        )
        left: list[tuple[str, str]] = []
        names: set[str] = set()
        with _Mirror(self._mirror).held() as local:
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


class SftpDrop:
    """The files of an SFTP folder: ``sftp://user@host:port/folder``."""

    def __init__(self, source: InboxSource, mirror: Path, password: str | None) -> None:
        self._source = source
        self._url = urlsplit(source.folder)
        self._password = password
        self._mirror = mirror

    async def mirror(self) -> list[tuple[str, str]]:
        """See ``Drop``."""
        told = f"{self._url.scheme}://{self._url.hostname}{self._url.path}"
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS * 20), self._sftp() as sftp:
                return await self._fetch_all(sftp)
        except (asyncssh.PermissionDenied, asyncssh.HostKeyNotVerifiable) as error:
            raise PermanentSourceError(f"{told} does not let us in: {error}") from None
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
            raise PermanentSourceError(f"{told} does not exist: {error}") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise TransientSourceError(f"{told} cannot be read: {error or 'timed out'}") from None

    @asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        options: dict[str, Any] = {"connect_timeout": _TIMEOUT_SECONDS}
        if self._password is not None:
            options["password"] = self._password
        if self._source.key_file is not None:
            options["client_keys"] = [self._source.key_file]
        if self._source.known_hosts is not None:
            options["known_hosts"] = self._source.known_hosts
        async with (
            asyncssh.connect(
                self._url.hostname or "",
                self._url.port or 22,
                username=unquote(self._url.username or "") or None,
                **options,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            yield sftp

    async def _fetch_all(self, sftp: asyncssh.SFTPClient) -> list[tuple[str, str]]:
        folder = unquote(self._url.path) or "."
        left: list[tuple[str, str]] = []
        names: set[str] = set()
        with _Mirror(self._mirror).held() as local:
            for entry in sorted(await sftp.readdir(folder), key=lambda entry: str(entry.filename)):
                name = str(entry.filename)
                if name in {".", ".."} or entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
                    continue
                if (why := plain_name(name)) is not None:
                    left.append((name, why))
                    continue
                names.add(name)
                version = f"{entry.attrs.size} {entry.attrs.mtime}"
                if local.has(name, version):
                    continue
                try:
                    await sftp.get(f"{folder.rstrip('/')}/{name}", local.arriving())
                    local.take(name, version)
                except asyncssh.SFTPError as error:
                    # Forbidden, a link to nowhere or just gone: the others go on.
                    left.append((name, f"cannot be fetched: {error}"))
            local.keep_only(names)
        return left
