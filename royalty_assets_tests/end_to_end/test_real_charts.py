"""Real input: Luxembourg's daily Top 200, a real catalog; three months, or (long) five years.

The data is not part of the project; where it is not at hand, this is skipped.
"""

import csv
import gzip
import shutil
from pathlib import Path

import pytest

from royalty_assets_tests.end_to_end.test_commands import ledger_hash, run

CHARTS = Path(__file__).parents[3] / "shared/data/charts"

pytestmark = pytest.mark.skipif(
    not CHARTS.is_dir(), reason=f"the real charts are not at hand ({CHARTS})"
)


@pytest.fixture(scope="module", params=["2021-1", pytest.param("", marks=pytest.mark.long)])
def charts_project(tmp_path_factory, request):
    """A project with some months' charts, or with all: its home, its rows, what it told."""
    home = tmp_path_factory.mktemp("charts") / "project"
    run("init", home)
    shutil.copy(CHARTS / "most_streamed_2024.csv.gz", home / "catalog")
    with gzip.open(CHARTS / "spotify_top200_lu_daily.csv.gz", "rt", encoding="utf-8-sig") as packed:
        chart = csv.DictReader(packed)
        rows = [row for row in chart if row["chart_date"].startswith(request.param)]
    with (home / "inbox/charts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, chart.fieldnames)
        writer.writeheader()
        writer.writerows(rows)
    return home, rows, run("run", home).stdout


def test_every_row_of_the_charts_is_accounted_for(charts_project):
    _, rows, output = charts_project
    streams = sum(int(row["streams"]) for row in rows)
    assert len(rows) > 500
    assert (
        f"accounted for: all {len(rows):,} rows, all {streams:,} units, all money in EUR" in output
    )


def test_a_second_run_changes_nothing(charts_project):
    home, _, _ = charts_project
    before = ledger_hash(home)
    assert "committed" not in run("run", home).stdout
    assert ledger_hash(home) == before
