"""The lines of a text file, whatever it is packed and encoded in, in blocks of bounded size.

Gzip and zip (of one file) are unpacked; UTF-8 and UTF-16 are told by their byte order marks; a
line that is no UTF-8 is read as Windows-1252 and said to have been. What is refused: data that
breaks off, a spreadsheet, and a file that unpacks to out of all proportion. A packed file is read
as a stream and never written out, so that names inside it lead nowhere.
"""

import codecs
import gzip
import hashlib
import io
import lzma
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any, BinaryIO

import polars as pl

_READ_BYTES = 4 << 20
BLOCK_BYTES = 8 << 20
LINE_BYTES_MAX = 1 << 20
"""A longer line is no record of anything; it is refused as one line, and not held in memory."""
_KEPT_OF_LONG_LINE = 2000
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_UNPACKED_MIN, _UNPACKED_RATIO_MAX = 256 << 20, 300
"""Real reports pack to a tenth, repetitive ones to a hundredth; a bomb to a thousandth."""
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


_BROKEN_PACKING = (
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)
"""What the standard library raises for packed data that is damaged, or packed as it cannot read."""


class UnreadableFileError(Exception):
    """A file that is refused as a whole: by which rule, and what to do."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end; ``is_too_long`` if only its beginning is here."""

    number: int
    text: str
    is_too_long: bool = False


@dataclass(frozen=True)
class LineBlock:
    """Consecutive lines.

    Attributes:
        first: number of the first, from 1.
        body: the lines without their ends, as UTF-8, joined by line feeds.
        not_utf8: numbers of the lines that were read as Windows-1252.
        too_long: numbers of the lines of which only the beginning is here.
    """

    first: int
    body: bytes
    not_utf8: frozenset[int] = frozenset()
    too_long: frozenset[int] = frozenset()

    @cached_property
    def texts(self) -> pl.Series:
        """One String per line; made only where somebody asks."""
        return _split(self.body)


@dataclass(slots=True)
class _Raw:
    """Whole lines as UTF-8 or unknown bytes, with what is known of them."""

    body: bytes
    too_long: set[int] = field(default_factory=set)


class TextLines:
    """The lines of one open file: first one by one (a header is looked for), then in blocks.

    Attributes:
        encoding: ``utf-8``, ``utf-16-le`` or ``utf-16-be``; lines may be exceptions (``not_utf8``).
    """

    def __init__(self, stream: BinaryIO, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._packed = CountedStream(stream)
        buffered = io.BufferedReader(self._packed, 1 << 16)
        self._source = _unpacked(buffered)
        self._is_packed = self._source is not buffered
        self._number = 0
        self._unpacked_bytes = 0
        self._is_over = False
        self._digest = hashlib.sha256()
        self._buffer = self._read()
        self.encoding = "utf-8"
        self._decoder: Any = None
        if self._buffer.startswith(codecs.BOM_UTF8):
            self._buffer = self._buffer[len(codecs.BOM_UTF8) :]
        elif (name := _utf16(self._buffer[:200])) is not None:
            self.encoding = name
            self._decoder = codecs.getincrementaldecoder(name)(errors="replace")
            text = self._decoder.decode(self._buffer).removeprefix("\ufeff")
            self._buffer = text.encode("utf-8", "replace")
        # Old Macintosh files end lines with a carriage return alone.
        head = self._buffer[: 1 << 16]
        self._ends_with_cr = b"\r" in head and b"\n" not in head
        if self._ends_with_cr:
            self._buffer = self._buffer.replace(b"\r", b"\n")

    @property
    def content_sha256(self) -> str:
        """A digest of the lines read so far, whatever they were packed, encoded or ended in."""
        return self._digest.hexdigest()

    @property
    def lines_read(self) -> int:
        """How many lines there have been so far."""
        return self._number

    def peek(self) -> str:
        """The beginning of the file, without taking it."""
        return self._buffer[:_KEPT_OF_LONG_LINE].decode("utf-8", "replace")

    def lines(self) -> Iterator[Line]:
        """Line after line; what is not taken here is left for ``blocks``."""
        while (raw := self._take_line()) is not None:
            body, _ = self._as_utf8(raw.body, self._number + 1)
            self._number += 1
            yield Line(self._number, body.decode(), bool(raw.too_long))

    def blocks(self) -> Iterator[LineBlock]:
        """The rest of the file.

        Raises:
            UnreadableFileError: if the packed data breaks off, or has no end.
        """
        while (raw := self._take_block(self._block_bytes)) is not None:
            first = self._number + 1
            body = raw.body.replace(b"\r\n", b"\n") if b"\r" in raw.body else raw.body
            body, not_utf8 = self._as_utf8(body, first)
            too_long = set(raw.too_long)
            if _may_hold_long_line(body):
                body, numbers = _without_long_lines(body, first)
                too_long |= numbers
            self._number += body.count(b"\n") + 1
            yield LineBlock(first, body, frozenset(not_utf8), frozenset(too_long))

    def _as_utf8(self, body: bytes, first: int) -> tuple[bytes, set[int]]:
        body = body.removesuffix(b"\n").removesuffix(b"\r")
        not_utf8: set[int] = set()
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError:
                body, not_utf8 = _line_by_line(body, first)
        self._digest.update(body)
        self._digest.update(b"\n")
        return body, not_utf8

    def _take_line(self) -> _Raw | None:
        end = self._buffer.find(b"\n")
        while end < 0 and len(self._buffer) <= LINE_BYTES_MAX and self._fill():
            end = self._buffer.find(b"\n")
        if end < 0 and len(self._buffer) > LINE_BYTES_MAX:
            return self._take_long_line()
        if end < 0:
            body, self._buffer = self._buffer, b""
            return _Raw(body) if body else None
        body, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        if len(body) > LINE_BYTES_MAX:
            return _Raw(body[:_KEPT_OF_LONG_LINE], {self._number + 1})
        return _Raw(body)

    def _take_long_line(self) -> _Raw:
        """The beginning of a line that does not end within measure; the rest is read and let go."""
        body = self._buffer[:_KEPT_OF_LONG_LINE]
        self._buffer = b""
        while self._fill():
            end = self._buffer.find(b"\n")
            if end >= 0:
                self._buffer = self._buffer[end + 1 :]
                break
            self._buffer = b""
        return _Raw(body, {self._number + 1})

    def _take_block(self, size: int) -> _Raw | None:
        self._fill(size)
        if not self._buffer:
            return None
        if self._is_over and len(self._buffer) <= size:
            body, self._buffer = self._buffer, b""
        else:
            end = self._buffer.rfind(b"\n", 0, max(size, 1)) + 1
            if not end:
                return self._take_line()
            body, self._buffer = self._buffer[:end], self._buffer[end:]
        return _Raw(body)

    def _fill(self, size: int = 0) -> bool:
        """Take in some more, or until the buffer has ``size`` bytes; False if there is no more."""
        pieces = [self._buffer]
        have = len(self._buffer)
        while not self._is_over:
            piece = self._next_piece()
            pieces.append(piece)
            have += len(piece)
            if have >= size and piece:
                break
        self._buffer = b"".join(pieces)
        return len(pieces) > 1 and have > len(pieces[0])

    def _next_piece(self) -> bytes:
        """The next bytes, as UTF-8 where that is known; none, and ``_is_over``, at the end."""
        piece = self._read()
        if not piece:
            self._is_over = True
            if self._decoder is not None:
                piece, self._decoder = self._decoder.decode(b"", final=True).encode(), None
        elif self._decoder is not None:
            piece = self._decoder.decode(piece).encode("utf-8", "replace")
        return piece.replace(b"\r", b"\n") if self._ends_with_cr else piece

    def _read(self) -> bytes:
        try:
            piece = self._source.read1(_READ_BYTES)
        except _BROKEN_PACKING as error:
            if not self._is_packed:
                raise
            raise UnreadableFileError(
                "file:truncated_gzip" if isinstance(self._source, gzip.GzipFile) else "file:zip",
                f"the packed data breaks off after line {self._number} ({error}); fetch the file "
                "again",
            ) from None
        self._unpacked_bytes += len(piece)
        require_proportion(self._packed.taken, self._unpacked_bytes)
        return bytes(piece)


def require_proportion(packed_bytes: int, unpacked_bytes: int) -> None:
    """Hold what has been unpacked so far against what it was unpacked from.

    Raises:
        UnreadableFileError: if no report does that.
    """
    if unpacked_bytes > max(_UNPACKED_MIN, packed_bytes * _UNPACKED_RATIO_MAX):
        raise UnreadableFileError(
            "file:bomb",
            f"{packed_bytes:,} bytes have unpacked to {unpacked_bytes:,} and go on; no report "
            "does that",
        )


def _utf16(head: bytes) -> str | None:
    """UTF-16 by its byte order mark, or by every other byte of a Latin text being zero."""
    if (name := _UTF16.get(head[:2])) is not None:
        return name
    pairs = head[: len(head) // 2 * 2]
    if len(pairs) >= 8 and not any(pairs[1::2]) and all(pairs[0::2]):
        return "utf-16-le"
    if len(pairs) >= 8 and not any(pairs[0::2]) and all(pairs[1::2]):
        return "utf-16-be"
    return None


class CountedStream(io.RawIOBase):
    """A stream that knows how many bytes were taken from it; closing it is its owner's."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.taken = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as there is something."""
        piece = self._stream.read(len(buffer)) or b""
        buffer[: len(piece)] = piece
        self.taken += len(piece)
        return len(piece)


def _unpacked(buffered: Any) -> Any:
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=buffered)
    if magic == _ZIP_MAGIC:
        return _only_member(buffered)
    return buffered


def _only_member(buffered: Any) -> IO[bytes]:
    """The one file in a zip; a zip can only be read from its end, so it is put aside first."""
    spooled = tempfile.SpooledTemporaryFile(max_size=BLOCK_BYTES)  # noqa: SIM115 - lives on
    try:
        while piece := buffered.read(_READ_BYTES):
            spooled.write(piece)
        member = _open_only_member(zipfile.ZipFile(spooled))
    except _BROKEN_PACKING as error:
        spooled.close()
        raise UnreadableFileError("file:zip", f"the zip cannot be read: {error}") from None
    except UnreadableFileError:
        spooled.close()
        raise
    weakref.finalize(member, spooled.close)
    return member


def _open_only_member(packed: zipfile.ZipFile) -> IO[bytes]:
    members = [
        info
        for info in packed.infolist()
        # What macOS puts beside each file is none of ours.
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    names = [info.filename for info in members]
    if any(name.startswith(("xl/", "word/")) for name in names):
        raise UnreadableFileError(
            "file:spreadsheet", "this is an Excel workbook; save the sheet as CSV or TSV"
        )
    if len(members) != 1:
        told = ", ".join(names[:3])
        raise UnreadableFileError(
            "file:zip", f"the zip holds {len(names)} files ({told}); unpack it"
        )
    if members[0].compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # Zip's other packings are unpacked in steps without bound: 4 KB of bzip2 may be gigabytes.
        raise UnreadableFileError(
            "file:zip", "the zip is packed in an unusual way; pack it anew, with plain deflate"
        )
    return packed.open(members[0])


def _line_by_line(body: bytes, first: int) -> tuple[bytes, set[int]]:
    """Lines of which each is UTF-8, or else was Windows-1252; and the numbers of the latter."""
    lines = []
    others = set()
    for number, line in enumerate(body.split(b"\n"), start=first):
        try:
            line.decode()
            lines.append(line)
        except UnicodeDecodeError:
            others.add(number)
            lines.append(_windows_1252(line).encode())
    return b"\n".join(lines), others


def _windows_1252(line: bytes) -> str:
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _may_hold_long_line(body: bytes) -> bool:
    """Whether a line may be too long; sure where it says no."""
    # A longer line than two such parts covers at least one of them as a whole.
    part = LINE_BYTES_MAX // 2
    starts = range(0, len(body) - part + 1, part)
    return any(body.find(b"\n", start, start + part) < 0 for start in starts)


def _without_long_lines(body: bytes, first: int) -> tuple[bytes, set[int]]:
    """The lines, of those that are too long only the beginnings; and the latter's numbers."""
    texts = _split(body)
    is_long = texts.str.len_bytes() > LINE_BYTES_MAX
    cut = pl.when(is_long).then(pl.col("line").str.head(_KEPT_OF_LONG_LINE))
    texts = texts.to_frame().select(cut.otherwise("line"))["line"]
    return "\n".join(texts).encode(), {first + at for at in is_long.arg_true().to_list()}


def _split(body: bytes) -> pl.Series:
    """The lines of a text; the fast way where it tells the same."""
    # Polars would take a byte order mark at the start for no text.
    if body and b"\x01" not in body and not body.startswith(codecs.BOM_UTF8):
        lines = pl.read_csv(
            body,
            separator="\x01",
            quote_char=None,
            has_header=False,
            new_columns=["line"],
            infer_schema=False,
        )["line"]
        # Only if every byte is in one of the lines has none been trimmed or left out.
        size = int(lines.str.len_bytes().sum()) + lines.len() - 1
        if not lines.null_count() and size == len(body):
            return lines
    return pl.Series("line", body.decode().split("\n"), dtype=pl.String)
