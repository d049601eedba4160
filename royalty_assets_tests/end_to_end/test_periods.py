"""A month as its people meet it: proposed, closed, told to its payees, and compared."""

import json
import subprocess
import sys

import pytest

from royalty_assets_tests.end_to_end.test_commands import environment
from royalty_assets_tests.monthly_reports import FEBRUARY, JANUARY, project, report, row
from royalty_assets_tests.monthly_reports import run as run_months

FEEDS = """
feeds:
  - name: reports
    records: report_lines
    cadence: monthly
    start: 2020-01-01
    source: {dialect: inbox, folder: inbox}
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "royalty_assets.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(arguments),
        timeout=120,
        check=False,
    )


@pytest.fixture
def home(tmp_path):
    context = project(tmp_path / "label")
    (context.home / "feeds.yaml").write_text(FEEDS)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "5.00", "R2"))
    report(context, "feb.csv", row("2025-02-03", "2.00"))
    run_months(context, JANUARY, FEBRUARY)
    context.registry.close()
    return context.home


def test_a_month_is_closed_and_its_payees_are_told(home, tmp_path):
    assert "can be closed" in run("periods", home).stdout
    ready = run("close", home, "--month", "2025-01", "--dry-run")
    assert (ready.returncode, "2025-01 can be closed" in ready.stdout) == (0, True)
    not_yet = run("close", home, "--month", "2025-02", "--dry-run")
    assert (not_yet.returncode, "is still open" in not_yet.stdout) == (1, True)
    early = run("receipt", "2025-01/ada/EUR/1", "--home", home)
    assert early.returncode
    assert "2025-01 is not closed" in early.stderr
    closed = run("close", home, "--month", "2025-01", "--who", "Ann")
    assert closed.returncode == 0, closed.stderr
    assert "2025-01 is closed: 3 statements of 3 lines" in closed.stdout

    assert "Ada Park" in run("statements", home, "--month", "2025-01", "--list").stdout
    forms = [part for form in ("pdf", "csv", "parquet", "dsr") for part in ("--format", form)]
    out = tmp_path / "out"
    written = run("statements", home, "--month", "2025-01", "--out", out, *forms)
    assert written.returncode == 0, written.stderr
    payees = sorted(path.name for path in (out / "2025-01").iterdir())
    assert payees == ["ada", "bo", "cy"]
    for payee in payees:
        suffixes = [path.suffix for path in (out / "2025-01" / payee).iterdir()]
        assert {*suffixes} == {".pdf", ".csv", ".parquet", ".tsv"}
    nobody = run("statements", home, "--month", "2025-01", "--payee", "zoe")
    assert "there is no statement for zoe" in nobody.stderr

    path = tmp_path / "receipt.json"
    given = run("receipt", "2025-01/ada/EUR/1", "--home", home, "--out", path, "--verifier")
    assert given.returncode == 0, given.stderr
    checked = subprocess.run(
        [sys.executable, "-I", tmp_path / "verify_receipt.py", path,
         "--source", home / "inbox/jan.csv"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert (
        "the lines 1 to 1, and no 2" in run("receipt", "2025-01/ada/EUR/2", "--home", home).stderr
    )

    known = ("2020-01-01", "2099-01-01")
    told = json.loads(
        run(
            "diff", home, "--month", "2025-01", "--known", *known, "--json", "--payee", "ada"
        ).stdout
    )
    assert [line["difference"] for line in told["lines"]] == ["6"]
    verified = run("verify", home)
    assert verified.returncode == 0, verified.stdout
    assert "closed periods" in verified.stdout
