"""Real input: Luxembourg's daily Top 200 of five years against a real catalog.

The data is not part of the project; where it is not at hand, this is skipped.
"""

import csv
import gzip
import io
import shutil
from pathlib import Path

import pytest

from royalty_assets_tests.end_to_end.test_commands import ledger_hash, run

CHARTS = Path(__file__).parents[3] / "shared/data/charts"

pytestmark = pytest.mark.skipif(
    not CHARTS.is_dir(), reason=f"the real charts are not at hand ({CHARTS})"
)


@pytest.fixture(scope="module")
def charts_project(tmp_path_factory):
    home = tmp_path_factory.mktemp("charts") / "project"
    run("init", home)
    shutil.copy(CHARTS / "most_streamed_2024.csv.gz", home / "catalog")
    shutil.copy(CHARTS / "spotify_top200_lu_daily.csv.gz", home / "inbox")
    return home, run("run", home).stdout


def test_every_row_of_five_years_is_accounted_for(charts_project):
    with gzip.open(CHARTS / "spotify_top200_lu_daily.csv.gz") as packed:
        rows = list(csv.DictReader(io.TextIOWrapper(packed, encoding="utf-8-sig")))
    streams = sum(int(row["streams"]) for row in rows)
    _, output = charts_project
    assert (
        f"accounted for: all {len(rows):,} rows, all {streams:,} units, all money in EUR" in output
    )


def test_a_second_run_changes_nothing(charts_project):
    home, _ = charts_project
    before = ledger_hash(home)
    assert "committed" not in run("run", home).stdout
    assert ledger_hash(home) == before
