"""The simulated world is the same for the same seed, and its truth is true."""

import hashlib
import io
from decimal import Decimal
from itertools import chain

import polars as pl
import pytest
from pydantic_core import from_json

from royalty_assets.domain.catalog import CatalogRow, build_catalog
from royalty_assets.domain.identifiers import normalise_isrc
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.validation import SourceRow, validate_rows
from royalty_assets.simulator.faults import FAULTS_PER_URL_MAX, FaultPlan
from royalty_assets.simulator.reports import make_pool_report, make_sales_reports
from royalty_assets.simulator.scenario import MERCADO, SONORA, VINYLIA, Scenario
from royalty_assets.simulator.telemetry import make_hour
from royalty_assets.simulator.world import make_world
from royalty_assets.sources.delimited import DelimitedFile
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.sources.text_lines import TextLines

SCENARIO = Scenario(events=20_000, recordings=500, hours=3)


@pytest.fixture(scope="module")
def world():
    return make_world(SCENARIO)


def digest(lines):
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def test_the_same_seed_is_the_same_bytes_and_another_is_not(world):
    hour = SCENARIO.partitions(SONORA)[1]
    one = make_hour(SCENARIO, world, SONORA, hour)
    two = make_hour(SCENARIO, make_world(SCENARIO), SONORA, hour)
    other = Scenario(seed=8, events=20_000, recordings=500, hours=3)
    three = make_hour(other, make_world(other), SONORA, hour)
    assert digest(one.lines) == digest(two.lines) != digest(three.lines)
    assert digest(make_hour(SCENARIO, world, VINYLIA, hour).lines) != digest(one.lines)


def test_all_plays_are_in_some_hour():
    for service in (SONORA, VINYLIA, MERCADO):
        assert (
            sum(SCENARIO.events_in(service).values()) == SCENARIO.events * service.share_of_events
        )


def test_the_models_accept_exactly_what_the_truth_calls_well_formed(world):
    hour = SCENARIO.partitions(SONORA)[2]
    made = make_hour(SCENARIO, world, SONORA, hour)
    rows = [SourceRow("sha", number, line) for number, line in enumerate(made.lines)]
    result = validate_rows(RecordKind.PLAY_EVENTS, rows, hour.window)
    accepted = {number for _, number in result.origins}
    well_formed = made.truth["is_well_formed"].to_list()
    assert accepted == {number for number, good in enumerate(well_formed) if good}
    assert 0 < len(result.rejections) < len(rows) / 10
    assert made.truth["is_repeated"].sum() > 0


def test_repetitions_repeat_what_was_sent(world):
    made = make_hour(SCENARIO, world, SONORA, SCENARIO.partitions(SONORA)[0])
    frame = made.truth.with_columns(pl.Series("line", made.lines)).with_row_index()
    repeated = frame.filter("is_repeated").join(
        frame.filter(~pl.col("is_repeated") & pl.col("is_well_formed")), on="event_id"
    )
    assert (repeated["line"] == repeated["line_right"]).all()
    assert (repeated["index"] > repeated["index_right"]).all()


def test_the_catalog_is_consistent_but_for_what_is_broken_on_purpose(world):
    def rows(frame):
        return [CatalogRow("c", i, row) for i, row in enumerate(frame.iter_rows(named=True))]

    catalog, problems = build_catalog(
        rows(world.recordings), rows(world.shares), rows(world.rights)
    )
    assert catalog.recordings.height == SCENARIO.recordings
    assert {problem.rule for problem in problems} <= {"share:sum"}
    assert all(normalise_isrc(isrc) for isrc in world.recordings["isrc"])


def test_a_sales_report_reads_back_to_its_truth_and_its_own_totals(world):
    month = SCENARIO.partitions(MERCADO)[0]
    reports = make_sales_reports(SCENARIO, world, MERCADO, month)
    assert [report.name.rsplit("_", 1)[1] for report in reports] == ["GBP.csv", "JPY.tsv"]
    for report in reports:
        file = DelimitedFile("sha", TextLines(io.BytesIO(report.body)), bundled_templates())
        rows = list(file.rows())
        assert [row.content["units"] for row in rows] == report.truth["units"].to_list()
        assert sum(Decimal(row.content["amount"]) for row in rows) == sum(
            map(Decimal, report.truth["amount"])
        )
        assert set(file.totals.stated) == {"units", "amount", "lines"}
        assert file.totals.differences() == []


def test_a_pool_report_covers_every_territory_and_tier():
    report = make_pool_report(SCENARIO, SONORA, SCENARIO.partitions(MERCADO)[0])
    assert report.truth.height == 14 * 4
    assert set(report.truth["currency"]) == {"EUR"}


def test_regions_share_an_hour_without_rest(world):
    made = make_hour(SCENARIO, world, VINYLIA, SCENARIO.partitions(VINYLIA)[0])
    regions = [made.of_regions([region]) for region in ("EMEA", "AMER", "APAC")]
    assert sum(map(len, regions)) == len(made.lines)
    assert sorted(chain.from_iterable(regions)) == sorted(made.lines)
    assert all(from_json(line)["device"] for line in regions[0][:5])


def test_faults_follow_from_the_seed_and_end():
    def faults(seed):
        plan = FaultPlan.all(seed, rate=0.5)
        return [[plan.transport_fault(f"/x/{n}") for _ in range(5)] for n in range(40)]

    assert faults(1) == faults(1) != faults(2)
    for attempts in faults(1):
        assert attempts[FAULTS_PER_URL_MAX:] == [None] * (5 - FAULTS_PER_URL_MAX)
