"""Texts from outside in what people look at: terminals, spreadsheets, the UI's Markdown."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.cli.options import PlainConsole
from royalty_assets.orchestration.metadata import plain_markdown
from royalty_assets_tests.projects import inbox_context, run_month

STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\r\x08"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_text_steers_a_terminal(is_terminal):
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=is_terminal, width=80)
    table = Table("name")
    table.add_row(escape(STEERING), style="red")
    console.print(table)
    console.print(f"error: {STEERING}", style="bold", markup=False, soft_wrap=True)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()) if is_terminal else out.getvalue()
    assert "owned" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert ("\x1b[" in out.getvalue()) == is_terminal


MARKUP = [
    "<script>alert(1)</script>", "[click](javascript:alert(1))", "![x](http://evil.example/p.png)",
    "a | b |", "`code`", "# heading", "http://evil.example", "&lt;b&gt;", "a\n- b", "\\<b>",
    "<me@evil.example>", "*b* _i_ ~~s~~",
]  # fmt: skip


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_text_is_shown_and_not_obeyed(text):
    written = plain_markdown(text)
    assert not re.search(r"(?<![\\&])[`*_\[\]()#!~]", written)
    assert not re.search(r"[<>|:@\n]|&(?!(lt|gt|amp|#124|#58|#64);)", written)


@given(st.text())
def test_any_text_is_one_line_that_reads_back(text):
    written = plain_markdown(text)
    reader = HTMLParser(convert_charrefs=True)
    told = []
    reader.handle_data = told.append
    reader.feed(re.sub(r"\\([\\`*_{}\[\]()#!~])", r"\1", written))
    reader.close()
    assert written.isprintable()
    assert "".join(told) == "".join(c if c.isprintable() else "\ufffd" for c in text)


def test_no_payee_is_a_formula_in_the_payouts(tmp_path):
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "\uff201"]
    context = inbox_context(tmp_path)
    (tmp_path / "feeds.yaml").write_text(context.project.model_dump_json(exclude_none=True))
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\n"
    )
    shares = "".join(f"R1,P{n},{name},{10 if n else 50}\n" for n, name in enumerate(formulas))
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,rights_holder_name,share\n" + shares
    )
    (tmp_path / "inbox/report.csv").write_text(
        "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
        "2025-03-02,DE,USUM70600055,Flowers,Ada,7,60.00,EUR\n"
    )
    run_month(context)
    context.registry.close()
    done = CliRunner().invoke(app, ["payouts", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sorted(row["rights_holder_name"] for row in rows) == sorted(f"'{f}" for f in formulas)
