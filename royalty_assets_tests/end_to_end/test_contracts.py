"""Contracts as a user meets them: the example that comes with a project, and the linter."""

import json
import subprocess
import sys

from royalty_assets_tests.end_to_end.test_commands import environment


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "royalty_assets.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(arguments),
        timeout=120,
        check=False,
    )


def test_the_example_is_inactive_until_it_is_made_ones_own_and_then_lints_clean(tmp_path):
    home = tmp_path / "label"
    assert run("init", home).returncode == 0
    example = home / "contracts" / "example.yaml.txt"
    calm = run("contracts", "lint", home)
    assert (calm.returncode, calm.stderr) == (0, "")
    deals = home / "contracts" / "deals.yaml"
    deals.write_text(example.read_text())
    clean = run("contracts", "lint", home, "--month", "2025-03")
    assert clean.returncode == 0, clean.stdout
    assert "contracts for 2025-03: 0 errors, 0 warnings, 0 notes" in clean.stdout

    deals.write_text(
        deals.read_text().replace(
            "percent: 50}\n      - {payee: jo", "percent: 98}\n      - {payee: jo"
        )
    )
    found = run("contracts", "lint", home)
    assert found.returncode == 1
    assert "it would pay 101 % of receipts" in found.stdout
    (finding,) = [
        each
        for each in json.loads(run("contracts", "lint", home, "--json").stdout)["findings"]
        if each["severity"] == "error"
    ]
    assert finding["subject"] == "contracts/deals.yaml: ada-single"


def test_a_month_that_is_none_and_a_folder_without_project_are_told(tmp_path):
    home = tmp_path / "label"
    nowhere = run("contracts", "lint", home)
    assert nowhere.returncode == 2
    assert "does not exist" in nowhere.stderr
    run("init", home)
    odd = run("contracts", "lint", home, "--month", "March")
    assert odd.returncode == 2
    assert "write it as 2025-03" in odd.stderr
