"""Looking into files: what is told of them, and that no bytes at all make it stumble."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.sources.inspection import inspect_file
from royalty_assets.sources.template_draft import suggest_template
from royalty_assets.sources.templates import Template, bundled_templates
from royalty_assets.sources.text_lines import TextLines

HERE = Path(__file__).parent
FILES = sorted([*(HERE / "statements").iterdir(), *(HERE / "dsr").glob("*.tsv")])
BODIES = {path.name: path.read_bytes() for path in FILES}


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_json_tells_rows_units_and_money():
    done = run("inspect", str(HERE / "statements/bandcamp.csv"), "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    figures = ("template", "rows_read", "lines", "rejected", "units", "money")
    assert {name: told[name] for name in figures} == {
        "template": "bandcamp",
        "rows_read": 3,
        "lines": 2,
        "rejected": 1,
        "units": 2,
        "money": {"EUR": "0"},
    }
    assert told["rejections"][0]["row"] == 4
    assert told["encoding"] == "utf-16-le"


def test_a_file_that_nothing_recognises_has_no_template():
    told = json.loads(run("inspect", str(HERE / "statements/unknown.csv"), "--json").stdout)
    assert told["template"] is None
    assert told["refused"]["rule"] == "file:template_unknown"
    assert (told["rows_read"], told["money"]) == (0, {})


def test_the_money_of_a_pool_is_money_of_the_file():
    told = json.loads(run("inspect", str(HERE / "dsr/basic_audio_1_4.tsv"), "--json").stdout)
    assert told["template"] == "dsr_basic_audio"
    assert told["money"] == told["pools"] == {"EUR": "14.6"}


def test_people_read_what_it_is_and_what_is_refused():
    done = run("inspect", str(HERE / "statements/bandcamp.csv"))
    for text in ("bandcamp", "3 read = 2 lines + 1 refused", "record:not_usage", "payout"):
        assert text in done.stdout
    assert "not recognised" in run("inspect", str(HERE / "statements/unknown.csv")).stdout


def test_a_file_that_is_not_there_is_an_error():
    assert run("inspect", "/nowhere.csv").exit_code == 2


def test_catalog_files_are_told_too(tmp_path):
    path = tmp_path / "recordings.csv"
    path.write_text("isrc,title,artist\nUSUM70600055,T,A\n")
    told = json.loads(run("inspect", str(path), "--json").stdout)
    assert (told["template"], told["records"], told["lines"]) == (
        "catalog_recordings",
        "recordings",
        1,
    )


@pytest.mark.parametrize(
    "path", sorted((HERE / "statements").iterdir()), ids=lambda path: path.name
)
def test_a_draft_of_each_statement_is_a_template_that_names_its_columns(path):
    known = [t for t in bundled_templates() if t.records == "report_lines"]
    with path.open("rb") as stream:
        draft = yaml.safe_load(suggest_template(path.name, TextLines(stream), known))
    template = Template.model_validate(draft)
    assert template.columns.keys() & {"isrc", "title"}
    assert all(column for columns in template.columns.values() for column in columns)


def test_a_drafted_template_reads_the_file_it_was_drafted_for(tmp_path):
    body = (
        "Sold on;Land;Code;Song;Stück;Ertrag\n"
        "31.12.2024;Deutschland;USUM70600055;T;12;1,23\n"
        "30.12.2024;Österreich;USUM70600056;T2;1;0,5\n"
    )
    (tmp_path / "new.csv").write_text(body)
    (tmp_path / "templates").mkdir()
    done = run("template", "suggest", str(tmp_path / "new.csv"))
    draft = done.stdout
    assert "TODO units" in draft
    finished = draft.replace("  # TODO units: which column? Every line needs it.", "  units: Stück")
    finished = finished.replace("  # Not read:", "  amount: Ertrag\n  # Not read:")
    finished += 'constants: {currency: EUR}\ndecimal: ","\n'
    (tmp_path / "templates/new.yaml").write_text(finished)
    done = run("inspect", str(tmp_path / "new.csv"), "--project", str(tmp_path), "--json")
    told = json.loads(done.stdout)
    assert (told["lines"], told["units"], told["money"]) == (2, 13, {"EUR": "1.73"})


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(BODIES)),
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["cut", "put", "drop", "twice"]), st.binary()),
        min_size=1,
        max_size=4,
    ),
)
def test_no_bytes_make_a_reader_stumble_or_lose_a_row(tmp_path_factory, name, changes):
    """Rows in = lines + rejected, always, and never an exception, whatever happens to a file."""
    body = BODIES[name]
    for place, what, extra in changes:
        at = int(place * len(body))
        match what:
            case "cut":
                body = body[:at]
            case "put":
                body = body[:at] + extra + body[at:]
            case "drop":
                body = body[:at] + body[at + len(extra) + 1 :]
            case "twice":
                body = body[:at] + body[at // 2 :]
    path = tmp_path_factory.getbasetemp() / "fuzzed" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    found = inspect_file(path, bundled_templates())
    assert found.rows_read == found.lines + found.rejected
    assert sum(found.rules.values()) == found.rejected
    assert json.dumps(found.as_json())
