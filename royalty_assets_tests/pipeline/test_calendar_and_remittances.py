"""The delivery calendar and the three-way check on a project, and as Dagster shows them."""

import asyncio
import warnings
from datetime import UTC, datetime

import dagster as dg
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.definitions import build_defs
from royalty_assets.domain.batches import Stage
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.calendar import calendar_rows, delivery_calendar
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.month import post_ledger
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.settings import load_project
from royalty_assets_tests.databases import settings_of, url_of
from royalty_assets_tests.pipeline.test_reports import (
    LINE,
    MARCH,
    REPORT,
    drop,
    project,
    run_month,
)
from royalty_assets_tests.projects import run_feed

CALENDAR = {"due_after_days": 10, "missing_after_days": 20}
HEADER = "feed,period,amount,currency,received_on,reference\n"


def states(context) -> dict[str, str]:
    return {line.partition_key: str(line.state) for line in delivery_calendar(context)}


def test_a_month_goes_from_expected_to_arrived_to_re_sent(tmp_path):
    context = project(tmp_path, start="2024-01-01", end="2024-04-01", calendar=CALENDAR)
    context.now = lambda: datetime(2024, 4, 12, tzinfo=UTC)
    assert states(context) == {
        "2024-01-01": "missing",
        "2024-02-01": "missing",
        "2024-03-01": "late",
    }
    drop(context, "march.csv", REPORT + LINE.format(units=3, amount="1.50"))
    run_month(context, MARCH)
    assert states(context)["2024-03-01"] == "arrived"
    drop(context, "march.csv", REPORT + LINE.format(units=4, amount="2.00"))
    run_month(context, MARCH)
    assert states(context)["2024-03-01"] == "re-sent with other bytes"
    (newest, *_) = calendar_rows(delivery_calendar(context))
    assert newest[:2] == ("reports", "2024-03-01")
    assert newest[-2:] == ("1", "1")


def test_the_calendar_is_an_asset_with_a_check_per_feed(tmp_path):
    context = project(tmp_path, start="2024-01-01", end="2024-03-01", calendar=CALENDAR)
    session = PipelineSession(settings_of(tmp_path), context.project)
    with warnings.catch_warnings(), dg.DagsterInstance.ephemeral() as instance:
        warnings.simplefilter("ignore")  # Dagster's own, of its betas
        definitions = build_defs(settings_of(tmp_path), context.project, session=session)
        job = definitions.resolve_job_def("delivery_calendar")
        result = job.execute_in_process(instance=instance)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("reports_delivers_on_time", False)
    assert check.severity is dg.AssetCheckSeverity.ERROR
    (materialised,) = result.asset_materializations_for_node("deliveries")
    assert "reports | 2024-02-01" in materialised.metadata["calendar"].value
    assert materialised.metadata["missing"].value == 2
    session.close()


def run_to_matched(context):
    take_catalog(context)
    run_feed(context, context.project.feed("reports"), [MARCH])


def ledger_of(context):
    post_ledger(context, MARCH)
    return context.registry.commit("ledger", Stage.LEDGER, MARCH.key)


def test_cash_that_differs_blocks_the_payout_until_it_is_recorded(tmp_path):
    context = project(tmp_path, checks={"remittance_agrees": "block"})
    drop(context, "march.csv", REPORT + LINE.format(units=3, amount="1.50"))
    (tmp_path / "remittances").mkdir()
    run_to_matched(context)
    (finding,) = ledger_of(context).checks["remittance_agrees"]
    assert "1.50 EUR are reported, and no remittance is recorded" in finding
    bank = tmp_path / "remittances/bank.csv"
    bank.write_text(HEADER + "reports,2024-03-31,1.40,EUR,2024-05-02,R-1\n")
    (finding,) = ledger_of(context).checks["remittance_agrees"]
    assert "a difference of -0.10" in finding
    bank.write_text(
        HEADER
        + "reports,2024-03-31,1.40,EUR,2024-05-02,R-1\nreports,2024-03-31,0.10,EUR,2024-05-09,R-2\n"
    )
    assert ledger_of(context).is_green
    assert pay_out(context, MARCH).commit.is_green


def test_a_difference_may_only_warn_or_be_let_pass(tmp_path):
    context = project(tmp_path, checks={"remittance_agrees": "warn"}, remittance_tolerance="0.05")
    drop(context, "march.csv", REPORT + LINE.format(units=3, amount="1.50"))
    (tmp_path / "remittances").mkdir()
    bank = tmp_path / "remittances/bank.csv"
    bank.write_text(HEADER + "reports,2024-03-31,1.40,EUR,2024-05-02,R-1\n")
    run_month(context, MARCH)
    commit = ledger_of(context)
    assert commit.is_green
    assert commit.warnings["remittance_agrees"]
    bank.write_text(HEADER + "reports,2024-03-31,1.46,EUR,2024-05-02,R-1\n")
    assert not ledger_of(context).warnings


def test_a_remittance_that_cannot_be_read_is_named(tmp_path):
    context = project(tmp_path, checks={"remittance_agrees": "warn"})
    drop(context, "march.csv", REPORT + LINE.format(units=3, amount="1.50"))
    (tmp_path / "remittances").mkdir()
    (tmp_path / "remittances/bank.csv").write_text(
        HEADER + "reports,2024-03-31,many,EUR,2024-05-02,R-1\nother,2024-03-31,1,EUR,2024-05-02,R\n"
    )
    run_to_matched(context)
    findings = ledger_of(context).warnings["remittance_agrees"]
    assert "bank.csv, line 2: amount" in findings[0]
    assert "no feed is called 'other'" in findings[1]


def test_a_severity_or_tolerance_that_is_changed_has_the_ledger_checked_anew(tmp_path):
    context = project(tmp_path, checks={"remittance_agrees": "warn"})
    drop(context, "march.csv", REPORT + LINE.format(units=3, amount="1.50"))
    (tmp_path / "remittances").mkdir()
    bank = tmp_path / "remittances/bank.csv"
    bank.write_text(HEADER + "reports,2024-03-31,1.40,EUR,2024-05-02,R-1\n")
    run_month(context, MARCH)
    assert ledger_of(context).is_green
    strict = project(tmp_path, checks={"remittance_agrees": "block"})
    assert not ledger_of(strict).is_green
    lenient = project(tmp_path, checks={"remittance_agrees": "block"}, remittance_tolerance="0.10")
    assert ledger_of(lenient).is_green


def test_no_delivery_was_owed_before_the_calendar_begins(tmp_path):
    calendar = CALENDAR | {"since": "2024-02-01"}
    context = project(tmp_path, start="2024-01-01", end="2024-04-01", calendar=calendar)
    assert sorted(states(context)) == ["2024-02-01", "2024-03-01"]


def test_the_calendar_is_printed_and_a_blocked_month_is_not_paid_out(tmp_path):
    """As a user sees them: the dates whole, the month by name, and why it is not to be paid."""
    CliRunner().invoke(app, ["init", str(tmp_path / "label")], catch_exceptions=False)
    home = tmp_path / "label"
    config = (home / "feeds.yaml").read_text()
    config = config.replace("start: 2015-01-01", "start: 2024-03-01\n    end: 2024-04-01").replace(
        "    pools_in_reports: true\n",
        "    checks: {remittance_agrees: block}\n    calendar: {due_after_days: 10}\n",
    )
    (home / "feeds.yaml").write_text(config)
    (home / "catalog/recordings.csv").write_text("isrc,title,artist\nUSUM70600055,T,A\n")
    (home / "inbox/march.csv").write_text(REPORT + LINE.format(units=3, amount="1.50"))
    context = inbox_context_of(home)
    take_catalog(context)
    run_feed(context, context.project.feed("reports"), [MARCH])
    asyncio.run(take_pool(context, context.project.feed("reports"), MARCH))
    post_ledger(context, MARCH)
    context.registry.close()
    database = {"ROYALTY_ASSETS_REGISTRY_URL": url_of(home)}
    printed = CliRunner().invoke(app, ["calendar", str(home)], env=database | {"COLUMNS": "80"})
    assert "2024-03-01" in printed.stdout
    assert "arrived" in printed.stdout
    payouts = CliRunner().invoke(app, ["payouts", str(home)], env=database | {"COLUMNS": "200"})
    assert payouts.exit_code == 1
    assert "no remittance is recorded" in payouts.stderr


def inbox_context_of(home):
    return PipelineSession(settings_of(home), load_project(home)).context
