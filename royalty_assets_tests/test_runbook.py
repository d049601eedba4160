"""The runbook, entry by entry: each situation is made, and shows what the runbook says it shows."""

import json
import logging
import re
import sqlite3
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from royalty_assets.audit import verify_receipt
from royalty_assets.cli import app
from royalty_assets.domain.batches import Stage
from royalty_assets.orchestration.runner import fail_orphaned_runs
from royalty_assets.orchestration.unfinished import unfinished_work
from royalty_assets.pipeline.attempts import attempted
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.closing import receipt
from royalty_assets.pipeline.context import Outcome
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.month import post_ledger
from royalty_assets.pipeline.status import State
from royalty_assets.pipeline.validate import validate
from royalty_assets.simulator.faults import Fault, FaultPlan
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.storage.lake import LocalLake
from royalty_assets.storage.registry import RegistryConflictError
from royalty_assets_tests.monthly_reports import (
    JANUARY,
    RECORDINGS,
    project,
    report,
    row,
    run,
    run_and_close,
)
from royalty_assets_tests.projects import MARCH, FullLake, demo_context, take_in

RUNBOOK = (Path(__file__).parents[1] / "docs/runbook.md").read_text(encoding="utf-8")
ENTRIES = {part.partition("\n")[0]: " ".join(part.split()) for part in RUNBOOK.split("\n## ")[1:]}
TINY = Scenario(events=600, recordings=100, hours=1)


def shows(entry, told, *phrases):
    """What is told has these phrases, and the entry, or the table of contents, says so."""
    told = " ".join(told.split())
    for phrase in phrases:
        assert phrase in told, f"{phrase!r} is not told: {told[:600]}"
        assert phrase in ENTRIES[entry], f"{entry} does not say {phrase!r}"


def configured(home, **feed):
    """A project of one inbox, with the feeds.yaml that commands read."""
    content = {"end": "2025-02-01"} | feed
    source = {"dialect": "inbox", "folder": "inbox"}
    context = project(home, start="2025-01-01", **content)
    written = {
        "name": "reports", "records": "report_lines", "cadence": "monthly",
        "start": "2025-01-01", "source": source, **content,
    }  # fmt: skip
    (home / "feeds.yaml").write_text(yaml.safe_dump({"feeds": [written]}))
    return context


def command(*arguments):
    """(what a command says, its exit code)."""
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output, done.exit_code


def status(home):
    return command("status", home)


def failed(outcomes):
    return " / ".join(f"{o.problem} ({o.failure.actor})" for o in outcomes if o.failure)


def test_each_entry_has_all_its_parts_is_listed_and_names_its_test():
    listed = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", RUNBOOK.partition("\n## ")[0])
    assert {title for title, _ in listed} == set(ENTRIES)
    assert all(anchor == title.lower().replace(" ", "-") for title, anchor in listed)
    for title, text in ENTRIES.items():
        parts = ("You see", "It means", "Look at", "Do", "It is over", "Tried by")
        assert all(f"*{part}*" in text for part in parts), title
        (name,) = re.findall(r"\*Tried by\* `(\w+)`", text)
        assert callable(globals().get(name)), f"{title} names {name}, which there is not"


def test_a_feed_that_is_late_is_named_until_its_file_is_in(tmp_path):
    calendar = {"due_after_days": 10, "missing_after_days": 20}
    context = configured(tmp_path, calendar=calendar)
    told, code = status(tmp_path)
    assert code == 1
    shows("A feed is late", told, "missing", "raw")
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    told, code = status(tmp_path)
    assert code == 0
    shows(
        "A feed is late",
        told + command("calendar", tmp_path)[0],
        "arrived",
        "nothing needs a person",
    )


def test_a_refused_token_needs_its_owner_and_then_goes_on(tmp_path):
    with demo_context(tmp_path, TINY) as (context, services):
        services._token = "another"
        feed = context.project.feed("sonora")
        hours = feed.partitions(MARCH, context.now())
        shows(
            "A DSP refuses the token", failed(take_in(context, feed, hours)),
            "answered 401", "feed owner",
        )  # fmt: skip
        services._token = None
        assert all(outcome.commit for outcome in take_in(context, feed, hours))


def test_a_service_that_asks_for_patience_is_given_it(tmp_path, caplog):
    plan = FaultPlan(enabled=frozenset({Fault.RATE_LIMITED}), rate=1)
    with demo_context(tmp_path, TINY, plan) as (context, _):
        feed = context.project.feed("sonora")
        hasty = feed.model_copy(update={"source": feed.source.model_copy(update={"attempts": 2})})
        hours = feed.partitions(MARCH, context.now())
        with caplog.at_level(logging.WARNING):
            told = failed(take_in(context, hasty, hours))
        shows(
            "A DSP asks for patience", told + caplog.text,
            "answered 429", "given up after", "the next one in",
        )  # fmt: skip
        assert all(outcome.commit for outcome in take_in(context, feed, hours))


def test_a_file_in_quarantine_is_named_until_it_is_gone(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    odd = tmp_path / "inbox/odd.csv"
    odd.write_text("what,is,this\n1,2,3\n")
    run(context, JANUARY)
    told, code = status(tmp_path)
    assert code == 1
    letters, _ = command("dead-letters", tmp_path)
    assert "odd.csv" in told
    shows("A file is in quarantine", told + letters, "quarantined", "file:template_unknown")
    odd.unlink()
    run(context, JANUARY)
    assert status(tmp_path)[1] == 0


def test_too_many_refused_rows_are_named_by_rule_until_corrected(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-03", "ten"))
    take_and_match(context)
    told, code = status(tmp_path)
    assert code == 1
    shows("Too many rows are refused", told, "validated", "rejects_are_within_limits")
    assert "amount:" in command("dead-letters", tmp_path, "--feed", "reports")[0]
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-03", "10.00"))
    run(context, JANUARY)
    assert status(tmp_path)[1] == 0


def take_and_match(context):
    """The stages of the feed over January; what is blocked is an outcome."""
    (feed,) = context.project.feeds
    take_catalog(context)
    outcomes = take_in(context, feed, [JANUARY])
    for stage, call in (("validated", validate), ("matched", match)):
        outcomes.append(
            attempted("reports", stage, JANUARY.key, lambda call=call: call(context, feed, JANUARY))
        )
    return outcomes


def test_drift_that_blocks_names_both_titles_until_the_catalog_is_mended(tmp_path):
    context = configured(tmp_path)
    drift = context.project.drift.model_copy(update={"severity": "block"})
    context.project = context.project.model_copy(update={"drift": drift})
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    recordings = tmp_path / "catalog/recordings.csv"
    recordings.write_text(RECORDINGS.replace("Flowers", "Thunderstorm"))
    take_and_match(context)
    told, code = status(tmp_path)
    assert code == 1
    findings = " ".join(
        context.registry.commits(Stage.MATCHED)[0].checks["usage_agrees_with_catalog"]
    )
    assert "Thunderstorm" in findings
    assert "Flowers" in findings
    shows("Drift is red", told, "matched", "usage_agrees_with_catalog")
    recordings.write_text(RECORDINGS)
    assert take_and_match(context)[-1].commit.is_green


def test_a_remittance_that_differs_is_named_until_it_is_recorded(tmp_path):
    context = configured(tmp_path, checks={"remittance_agrees": "block"})
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    (tmp_path / "remittances").mkdir()
    bank = tmp_path / "remittances/bank.csv"
    header = "feed,period,amount,currency,received_on,reference\n"
    bank.write_text(header + "reports,2025-01-31,9.00,EUR,2025-02-20,R-1\n")
    take_and_match(context)
    post_ledger(context, JANUARY)
    told, code = status(tmp_path)
    assert code == 1
    shows("A remittance differs", told, "remittance_agrees", "a difference of")
    with bank.open("a") as file:
        file.write("reports,2025-01-31,1.00,EUR,2025-02-21,R-2\n")
    assert post_ledger(context, JANUARY).commit.is_green
    assert status(tmp_path)[1] == 0


def test_a_month_that_does_not_close_says_what_stands_against_it(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-03", "9.00", "Unknown"))
    run(context, JANUARY)
    told, code = command("close", tmp_path, "--month", "2025-01", "--who", "Ann")
    assert code == 2
    assert "is in suspense" in told
    shows("A month does not close", told, "cannot be closed")
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    told, code = command("close", tmp_path, "--month", "2025-01", "--dry-run")
    shows("A month does not close", told, "can be closed")
    assert code == 0


def test_a_full_disk_fails_its_partitions_and_leaves_nothing_half_done(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    take_catalog(context)
    context.lake = FullLake(context.lake)
    told = failed(take_in(context, context.project.feeds[0], [JANUARY]))
    shows("The disk is full", told, "the disk is full", "operator")
    assert context.registry.commit("reports", Stage.RAW, JANUARY.key) is None
    context.lake = LocalLake(tmp_path / "lake")
    run(context, JANUARY)
    assert status(tmp_path)[1] == 0


def test_a_database_that_does_not_answer_is_told_and_waited_for(tmp_path, monkeypatch):
    configured(tmp_path)
    monkeypatch.setenv(
        "ROYALTY_ASSETS_REGISTRY_URL", "postgresql+psycopg2://nobody:secret@127.0.0.1:9/none"
    )
    told, code = status(tmp_path)
    assert code == 2
    assert "secret" not in told
    shows("The database is down", told, "cannot be reached")
    monkeypatch.delenv("ROYALTY_ASSETS_REGISTRY_URL")
    assert status(tmp_path)[1] == 0


def test_a_run_that_hangs_is_named_until_it_is_failed(tmp_path):
    context = configured(tmp_path)
    with warnings.catch_warnings(), dg.DagsterInstance.ephemeral() as instance:
        warnings.simplefilter("ignore")
        instance.add_run(dg.DagsterRun("reports_delivery", status=dg.DagsterRunStatus.STARTED))
        context.now = lambda: datetime.now(UTC) + timedelta(hours=3)
        (told,) = unfinished_work(context, instance)
        shows("A run hangs after a crash", f"{told.state} {told.why}", "hanging", "STARTED")
        assert fail_orphaned_runs(instance, everyone=True) == 1
        assert unfinished_work(context, instance) == []


def test_of_two_runs_at_once_the_earlier_says_that_it_stopped(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    place = ("reports", Stage.RAW, JANUARY.key)
    earlier = context.registry.take_turn(*place)
    context.registry.take_turn(*place)
    commit = context.registry.commit(*place)

    def go_on() -> Outcome:
        context.registry.commit_partition(replace(commit, revision=earlier.revision), earlier)
        raise AssertionError("both have committed")

    with pytest.raises(RegistryConflictError):
        go_on()
    outcome = attempted("reports", "raw", JANUARY.key, go_on)
    assert outcome.failure.is_transient
    shows("Two runs at once", outcome.problem, "was taken over by another run")
    with sqlite3.connect(tmp_path / "registry.db") as opened:
        (query,) = re.findall(r"`(select \* from turns [^`]+)`", ENTRIES["Two runs at once"])
        assert len(opened.execute(query).fetchall()) == 6
    opened.close()


def test_what_a_killed_worker_began_is_named_until_it_is_run_again(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    context.registry.take_turn("reports", Stage.RAW, JANUARY.key)  # and then it is killed
    context.now = lambda: datetime.now(UTC) + timedelta(hours=3)
    told = [each for each in unfinished_work(context, None) if each.state is State.BEGUN]
    shows("A worker was killed", f"{told[0].state} {told[0].why}", "begun, not committed")
    run(context, JANUARY)
    assert unfinished_work(context, None) == []


def test_verify_names_what_was_changed_and_is_content_once_it_is_back(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    sign_checkpoint(context)
    (spoilt, *_) = sorted((tmp_path / "lake/reports/raw").rglob("*.parquet"))
    whole = spoilt.read_bytes()
    spoilt.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told, code = command("verify", tmp_path)
    assert code == 1
    assert spoilt.name in told
    shows("Verify finds a difference", told, "difference")
    spoilt.write_bytes(whole)
    told, code = command("verify", tmp_path)
    shows("Verify finds a difference", told, "0 differences")
    assert code == 0


def test_an_orphan_is_a_note_and_no_difference(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    sign_checkpoint(context)
    orphan = tmp_path / "lake/reports/raw/left-behind.parquet"
    orphan.write_bytes(b"half")
    told, code = command("verify", tmp_path)
    assert code == 0
    assert orphan.name in told
    shows("Orphans in the lake", told, "objects that no batch lists")
    orphan.unlink()
    assert "no batch lists" not in command("verify", tmp_path)[0]


def test_a_receipt_that_was_changed_does_not_hold_and_a_new_one_does(tmp_path):
    context = configured(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run_and_close(context, JANUARY)
    path = tmp_path / "receipt.json"

    def check():
        done = subprocess.run(
            [sys.executable, verify_receipt.__file__, path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout, done.returncode

    good = receipt(context, JANUARY, "ada", "EUR", 1)
    spoilt = json.loads(good)
    spoilt["statement"]["payee"] = "bo"
    path.write_text(json.dumps(spoilt, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
    told, code = check()
    assert code == 1
    shows("A receipt does not verify", told, "This receipt does NOT hold")
    path.write_text(good)
    told, code = check()
    assert code == 0
    shows("A receipt does not verify", told, "This receipt holds")


def test_a_registry_of_a_newer_version_is_told_and_left_alone(tmp_path):
    context = configured(tmp_path)
    engine = context.registry._engine
    with engine.begin() as connection:
        before = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    told, code = status(tmp_path)
    assert code == 2
    shows(
        "The registry needs another version",
        told,
        "which a newer version of royalty_assets wrote",
    )
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{before}'"))
    assert status(tmp_path)[1] == 0
