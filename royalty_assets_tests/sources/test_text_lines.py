"""Lines of files however packed, encoded and long; and what is refused before it hurts."""

import codecs
import gzip
import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.sources.text_lines import LINE_BYTES_MAX, TextLines, UnreadableFileError

TEXT = "Größe,Ü\nzwei,2\n\ndrei,3\n"


def read(body: bytes, block_bytes: int = 1 << 24) -> list[str]:
    return [
        line
        for block in TextLines(io.BytesIO(body), block_bytes=block_bytes).blocks()
        for line in block.texts
    ]


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name.replace("__", "/"), body)
    return packed.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
        gzip.compress(TEXT.encode()),
        gzip.compress(TEXT[:9].encode()) + gzip.compress(TEXT[9:].encode()),
        zipped(report=TEXT.encode()),
        TEXT.encode("latin-1"),
    ],
    ids="plain utf8_bom utf16_le utf16_be crlf gzip two_gzips zip latin_1".split(),
)
def test_packing_encoding_and_line_ends_do_not_matter(body):
    opened = TextLines(io.BytesIO(body))
    lines = [line for block in opened.blocks() for line in block.texts]
    assert lines == ["Größe,Ü", "zwei,2", "", "drei,3"]
    assert opened.lines_read == 4
    plain = TextLines(io.BytesIO(TEXT.encode()))
    list(plain.blocks())
    assert opened.content_sha256 == plain.content_sha256


def test_a_line_that_is_no_utf8_is_windows_1252_and_said_to_be():
    (block,) = TextLines(io.BytesIO("ü\n".encode() + b"caf\xe9 \x93x\x94\n\x81\n")).blocks()
    assert block.texts.to_list() == ["ü", "café “x”", "\x81"]
    assert block.not_utf8 == {2, 3}


def test_lines_one_by_one_and_then_in_blocks_leave_nothing_out():
    opened = TextLines(io.BytesIO(TEXT.encode()))
    first = next(opened.lines())
    rest = [line for block in opened.blocks() for line in block.texts]
    assert [first.text, *rest] == TEXT.splitlines()


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=9)),
    st.integers(1, 40),
)
def test_every_line_comes_once_wherever_blocks_are_cut(lines, block_bytes):
    body = "".join(f"{line}\n" for line in lines).encode()
    if body.startswith((codecs.BOM_UTF8, b"\x1f\x8b", b"PK\x03\x04")):
        return
    assert read(body, block_bytes) == lines


@given(st.binary(max_size=200), st.integers(1, 40))
def test_any_bytes_are_lines_or_refused(body, block_bytes):
    try:
        found = read(body, block_bytes)
    except UnreadableFileError:
        return
    if not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x1f\x8b")):
        assert len(found) == len(body.split(b"\n")) - (body.endswith(b"\n") or not body)


class _Endless(io.RawIOBase):
    """A gigabyte of one line, made as it is read; ends with an ordinary line."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.most_asked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if self._left > 0:
            count = min(len(buffer), self._left)
            buffer[:count] = b"x" * count
            self._left -= count
            return count
        if self._left == 0:
            self._left = -1
            buffer[:6] = b"\nlast\n"
            return 6
        return 0


def test_a_line_of_a_gigabyte_is_one_line_and_is_not_held():
    opened = TextLines(_Endless(1 << 30), block_bytes=1 << 20)
    blocks = list(opened.blocks())
    lines = [line for block in blocks for line in block.texts]
    assert [len(line) for line in lines] == [2000, 4]
    assert set().union(*(block.too_long for block in blocks)) == {1}


def test_a_line_beyond_measure_among_others_is_told():
    body = b"a\n" + b"x" * (LINE_BYTES_MAX + 1) + b"\nb\n"
    (block,) = TextLines(io.BytesIO(body)).blocks()
    assert block.too_long == {2}
    assert [len(line) for line in block.texts] == [1, 2000, 1]


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    line = (b"x" * 1023 + b"\n") * 1024
    return b"".join([*(packer.compress(line) for _ in range(megabytes)), packer.flush()])


@pytest.mark.parametrize(
    "pack", [lambda: bomb(300), lambda: zipped(report=b"x" * (300 << 20))], ids=["gzip", "zip"]
)
def test_what_unpacks_out_of_all_proportion_is_refused(pack):
    packed = pack()
    with pytest.raises(UnreadableFileError) as refused:
        for _ in TextLines(io.BytesIO(packed)).blocks():
            pass
    assert refused.value.rule == "file:bomb"


@pytest.mark.parametrize(
    ("body", "rule", "told"),
    [
        (gzip.compress(TEXT.encode() * 9000)[:-30], "file:truncated_gzip", "fetch the file again"),
        (zipped(report=TEXT.encode())[:-30], "file:zip", "cannot be read"),
        (zipped(a=b"1", b=b"2"), "file:zip", "holds 2 files (a, b)"),
        (zipped(xl__workbook=b"1"), "file:spreadsheet", "save the sheet as CSV"),
    ],
    ids=["cut_gzip", "cut_zip", "two_members", "workbook"],
)
def test_what_cannot_be_unpacked_is_refused_in_words(body, rule, told):
    with pytest.raises(UnreadableFileError) as refused:
        read(body)
    assert refused.value.rule == rule
    assert told in refused.value.reason
