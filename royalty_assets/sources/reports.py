"""Report files of every kind, opened by what they are: DSR flat files, or delimited by template."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import BinaryIO, Protocol

from royalty_assets.domain.validation import SourceRow
from royalty_assets.sources.delimited import DelimitedFile
from royalty_assets.sources.dsr.reader import HEADS, DsrFile
from royalty_assets.sources.reading import Message, ReadBlock, Totals
from royalty_assets.sources.templates import Template
from royalty_assets.sources.text_lines import TextLines

_CHUNK_BYTES = 1 << 20


class Report(Protocol):
    """An open report. ``blocks`` is read once; the rest is known when it has been.

    Attributes:
        totals: counted so far, and stated by the file.
        message: a DDEX message's identity; None for other files.
    """

    totals: Totals

    @property
    def kind(self) -> str:
        """Name of the template, or of the DSR profile."""

    @property
    def generation(self) -> str:
        """Which version of it."""

    @property
    def encoding(self) -> str:
        """Of the text."""

    @property
    def content_sha256(self) -> str:
        """A digest of the text, however it was packed, encoded and named."""

    @property
    def message(self) -> Message | None:
        """A DDEX message's identity."""

    @property
    def day(self) -> date | None:
        """The day that the file as a whole tells, if it does."""

    @property
    def findings(self) -> dict[str, list[str]]:
        """Check → what breaks it."""

    @property
    def pools(self) -> list[SourceRow]:
        """Rows of pools that the report's usage shares."""

    def blocks(self) -> Iterator[ReadBlock]:
        """Usage lines and rejections."""


def open_report(
    source_sha256: str, stream: BinaryIO, templates: Sequence[Template], name: str = ""
) -> Report:
    """Open a report by what its first line says.

    Args:
        source_sha256: of the file's bytes.
        stream: of them.
        templates: of report lines.
        name: of the file.

    Raises:
        UnreadableFileError: if nothing knows it.
    """
    text = TextLines(stream)
    if _begins_dsr(text.peek()):
        return DsrFile(source_sha256, text, name)
    return DelimitedFile(source_sha256, text, templates, name)


def _begins_dsr(beginning: str) -> bool:
    """Whether the first line that is no comment is a HEAD record."""
    for line in beginning.splitlines():
        first, border, _ = line.partition("\t")
        if line.strip() and not line.startswith("#"):
            return bool(border) and first.strip() in HEADS
    return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
