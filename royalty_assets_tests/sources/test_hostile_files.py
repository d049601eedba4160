"""Files made to harm: bombs, archives that would write elsewhere, links out of the inbox."""

import gzip
import io
import os
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from royalty_assets.domain.feeds import Feed
from royalty_assets.sources import text_lines
from royalty_assets.sources.rows import ndjson_rows
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError
from royalty_assets.statement_files import payee_file_name, statement_contents
from royalty_assets_tests.hostile_server import bomb
from royalty_assets_tests.projects import MARCH, inbox_context, take_in
from royalty_assets_tests.statements.samples import sample_statement

REPORT = b"Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
LINE = b"2025-03-02,DE,USUM70600055,Flowers,Ada,7,0.70,EUR\n"


def texts(body):
    return [line for block in TextLines(io.BytesIO(body)).blocks() for line in block.texts]


def archive(name, body, packing=zipfile.ZIP_DEFLATED, mode=0o644):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", packing) as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = packing
        opened.writestr(info, body)
    return packed.getvalue()


def test_telemetry_that_unpacks_out_of_all_proportion_is_refused(monkeypatch):
    monkeypatch.setattr(text_lines, "_UNPACKED_MIN", 8 << 20)
    with pytest.raises(UnreadableFileError) as refused:
        for _ in ndjson_rows("0" * 64, io.BytesIO(bomb(10))):
            pass
    assert refused.value.rule == "file:bomb"


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_cannot_be_unpacked_in_bounded_steps_is_refused(packing):
    with pytest.raises(UnreadableFileError, match="with plain deflate") as refused:
        texts(archive("a.csv", REPORT, packing))
    assert refused.value.rule == "file:zip"


@pytest.mark.parametrize("name", ["../../evil.csv", "/tmp/evil.csv", "C:\\evil.csv", "..\\evil"])
def test_names_inside_a_zip_lead_nowhere(name, tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    assert texts(archive(name, REPORT)) == [REPORT.decode().strip()]
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_a_link_inside_a_zip_is_only_its_text():
    assert texts(archive("a.csv", b"/etc/passwd", mode=0o120777)) == ["/etc/passwd"]


def test_what_is_packed_twice_is_no_report_and_is_not_opened(tmp_path):
    context = inbox_context(tmp_path)
    inner = archive("a.csv", REPORT + LINE)
    (tmp_path / "inbox/a.csv.gz").write_bytes(gzip.compress(inner))
    (tmp_path / "inbox/b.zip").write_bytes(archive("b.csv.gz", gzip.compress(REPORT + LINE)))
    take_in(context, context.project.feeds[0], [MARCH])
    assert {letter["source"] for letter in context.registry.dead_letters()} == {"a.csv.gz", "b.zip"}
    context.registry.close()


def test_what_leads_out_of_the_inbox_is_left_and_told(tmp_path):
    context = inbox_context(tmp_path / "home")
    inbox = tmp_path / "home/inbox"
    secret = tmp_path / "another_label.csv"
    secret.write_bytes(REPORT + LINE)
    (inbox / "stolen.csv").symlink_to(secret)
    (inbox / "by_detour.csv").symlink_to(inbox / "../../another_label.csv")
    (inbox / "own.csv").write_bytes(REPORT + LINE.replace(b"Flowers", b"Own"))
    (inbox / "again.csv").symlink_to("own.csv")
    (inbox / "folder.csv").symlink_to(tmp_path)
    os.mkfifo(inbox / "pipe.csv")  # reading it would wait for ever
    (outcome,) = take_in(context, context.project.feeds[0], [MARCH])
    assert outcome.commit.counts["payloads"] == 1
    told = context.registry.commit("reports", outcome.commit.stage, "inbox").warnings
    assert told == {
        "every_file_is_complete": [
            f"{name}: is a link that leads out of the inbox; put the file itself here"
            for name in ("by_detour.csv", "stolen.csv")
        ]
    }
    context.registry.close()


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "A", "a.b", "", "a\n", "ä", "a" * 41])
def test_a_feeds_name_is_always_a_plain_folder(name):
    with pytest.raises(ValidationError):
        Feed(
            name=name,
            records="report_lines",
            cadence="monthly",
            start=datetime(2025, 1, 1, tzinfo=UTC),
            source={"dialect": "inbox", "folder": "inbox"},
        )


HOSTILE_IDS = st.one_of(
    st.text(min_size=1),
    st.sampled_from(
        ["..", ".", "/", "../../etc/passwd", "a/../b", "\x00", "CON", "~", "a" * 4_000]
    ),
)


@settings(max_examples=40)
@given(HOSTILE_IDS, HOSTILE_IDS)
def test_a_payees_folder_is_one_plain_name_of_its_own(one, other):
    names = [payee_file_name(payee_id) for payee_id in (one, other)]
    for name in names:
        assert PurePosixPath(name).parts == (name,)
        assert name not in {".", ".."}
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 255
    assert one == other or names[0] != names[1]


@pytest.mark.parametrize("payee_id", ["../../evil", "/etc/passwd", "a\x00b", "x" * 4_000, ".."])
def test_no_file_of_a_statement_is_named_out_of_its_folder(payee_id):
    statement = replace(sample_statement(3), payee_id=payee_id)
    for name, _ in statement_contents(statement, ("csv", "dsr"), issued_by="../Label/\x1b[2J"):
        assert PurePosixPath(name).parts == (name,)
        assert len(name) <= 255
