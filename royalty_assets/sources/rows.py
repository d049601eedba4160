"""The rows in a payload, by dialect: what was stored as bytes becomes records to be validated.

A row that cannot even be found (a line without end, a page that is no page) comes out as a
rejection; nothing is skipped.
"""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.sources.http import parse_json
from royalty_assets.sources.text_lines import (
    CountedStream,
    UnreadableFileError,
    require_proportion,
)

_LINE_BYTES_MAX = 1 << 20


class ChunkReader(io.RawIOBase):
    """A binary stream over pieces of bytes, holding one of them at a time."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` from the current piece."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        number = min(len(buffer), len(self._rest))
        buffer[:number] = self._rest[:number]
        self._rest = self._rest[number:]
        return number


def page_rows(source_sha256: str, chunks: Iterable[bytes]) -> Iterator[SourceRow | Rejection]:
    """The events of one JSON page (``cursor_json``)."""
    content = parse_json(b"".join(chunks))
    for number, event in enumerate(content["events"], start=1):
        yield SourceRow(source_sha256, number, event)


def ndjson_rows(source_sha256: str, stream: BinaryIO) -> Iterator[SourceRow | Rejection]:
    """The lines of a gzip file of JSON lines (``ndjson_files``).

    Raises:
        UnreadableFileError: if the compressed data breaks off, or has no end.
    """
    counted = CountedStream(stream)
    packed = io.BufferedReader(counted)
    if not packed.peek(1):
        raise UnreadableFileError("file:empty", "the file is empty; not even gzip data of no lines")
    lines = io.BufferedReader(gzip.GzipFile(fileobj=packed))
    number = 0
    unpacked_bytes = 0
    try:
        while line := lines.readline(_LINE_BYTES_MAX):
            number += 1
            unpacked_bytes += len(line)
            require_proportion(counted.taken, unpacked_bytes)
            row = SourceRow(source_sha256, number, line.rstrip(b"\r\n"))
            if len(line) < _LINE_BYTES_MAX:
                yield row
                continue
            while rest := lines.readline(_LINE_BYTES_MAX):
                unpacked_bytes += len(rest)
                require_proportion(counted.taken, unpacked_bytes)
                if rest.endswith(b"\n"):
                    break
            yield reject(row, "record:too_long", "", f"more than {_LINE_BYTES_MAX} bytes")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFileError(
            "file:truncated_gzip", f"the gzip data breaks off after line {number} ({error})"
        ) from None


def event_rows(
    dialect: str, source_sha256: str, chunks: Iterable[bytes]
) -> Iterator[SourceRow | Rejection]:
    """The events of a telemetry payload."""
    if dialect == "cursor_json":
        return page_rows(source_sha256, chunks)
    return ndjson_rows(source_sha256, io.BufferedReader(ChunkReader(chunks)))


def in_chunks(
    rows: Iterable[SourceRow | Rejection], size: int
) -> Iterator[Sequence[SourceRow | Rejection]]:
    """The same rows, in lists of ``size`` at most."""
    chunk: list[SourceRow | Rejection] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
