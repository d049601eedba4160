"""An SFTP folder as an inbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncssh

from royalty_assets.domain.feeds import InboxSource
from royalty_assets.sources.drops import TIMEOUT_SECONDS, Mirror, plain_name
from royalty_assets.sources.payloads import PermanentSourceError, TransientSourceError


class _TooLargeError(Exception):
    """A file beyond what is configured."""


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
            async with asyncio.timeout(TIMEOUT_SECONDS * 20), self._sftp() as sftp:
                return await self._fetch_all(sftp)
        except (asyncssh.PermissionDenied, asyncssh.HostKeyNotVerifiable) as error:
            raise PermanentSourceError(f"{told} does not let us in: {error}") from None
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
            raise PermanentSourceError(f"{told} does not exist: {error}") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise TransientSourceError(f"{told} cannot be read: {error or 'timed out'}") from None

    @asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        options: dict[str, Any] = {"connect_timeout": TIMEOUT_SECONDS}
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

    def _require_size(self, _from: bytes, _to: bytes, received: int, announced: int) -> None:
        limit = self._source.file_bytes_max
        if max(received, announced) > limit:
            raise _TooLargeError(
                f"is larger than {limit:,} bytes; if that is right, raise file_bytes_max"
            )

    async def _fetch_all(self, sftp: asyncssh.SFTPClient) -> list[tuple[str, str]]:
        folder = unquote(self._url.path) or "."
        left: list[tuple[str, str]] = []
        names: set[str] = set()
        with Mirror(self._mirror).held() as local:
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
                    await sftp.get(
                        f"{folder.rstrip('/')}/{name}",
                        local.arriving(),
                        progress_handler=self._require_size,
                    )
                    local.take(name, version)
                except _TooLargeError as error:
                    left.append((name, str(error)))
                except asyncssh.SFTPError as error:
                    # Forbidden, a link to nowhere or just gone: the others go on.
                    left.append((name, f"cannot be fetched: {error}"))
            local.keep_only(names)
        return left
