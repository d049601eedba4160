"""Late regions, bad files and bad catalogs: told by name, and everything else goes on."""

import asyncio
import errno
import gzip
import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.money import ATOMS_PER_UNIT
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.month import month_frames, post_ledger
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.questions import questions
from royalty_assets.pipeline.validate import validate
from royalty_assets.simulator.faults import Fault, FaultPlan
from royalty_assets.sources.templates import Template, bundled_templates
from royalty_assets.storage.lake import LocalLake
from royalty_assets_tests.projects import (
    MARCH,
    counts,
    demo_context,
    inbox_context,
    month_hash,
    run_feed,
    run_month,
    take_in,
)

CATALOG = "isrc,title,artist\nUSUM70600055,Flowers,Miley Cyrus\nUSUM70600056,Hello,Adele\n"
SHARES = (
    "recording_id,rights_holder_id,rights_holder_name,share\n"
    "USUM70600055,miley,Miley,60\nUSUM70600055,label,Label,40\nUSUM70600056,adele,Adele,100\n"
)
REPORT = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"


def inbox_project(home, report=REPORT, *, catalog=CATALOG, shares=SHARES, **feed):
    context = inbox_context(home, **feed)
    (home / "catalog/recordings.csv").write_text(catalog)
    (home / "catalog/shares.csv").write_text(shares)
    (home / "inbox/report.csv").write_text(report)
    return context


def month(key: str) -> Partition:
    return Partition.parse(Cadence.MONTHLY, f"{key}-01")


def run_inbox(context, *keys):
    (feed,) = context.project.feeds
    take_catalog(context)
    months = [month(key) for key in keys]
    outcomes = run_feed(context, feed, months)
    for each in months:
        if feed.has_pool:
            asyncio.run(take_pool(context, feed, each))
        post_ledger(context, each)
    return outcomes


@pytest.mark.on_databases
def test_a_late_region_makes_a_new_revision_of_its_windows_only(tmp_path):
    with demo_context(tmp_path) as (context, services):
        feed = context.project.feed("vinylia")
        hour = feed.partitions(MARCH, context.now())[0]
        take_catalog(context)
        services.clock.now = hour.window.end + timedelta(hours=1)  # APAC is not in yet
        first = run_feed(context, feed, [hour])
        assert all(outcome.changed for outcome in first)
        early = counts(context, Stage.VALIDATED, "vinylia")
        services.clock.now = hour.window.end + timedelta(hours=3)
        run_feed(context, feed, [hour])
        late = counts(context, Stage.VALIDATED, "vinylia")
        assert late["accepted"] > early["accepted"]
        (commit,) = context.registry.commits(Stage.VALIDATED, "vinylia")
        assert commit.revision == 1
        made = services._make_hour("vinylia", hour).truth.filter("is_well_formed")
        assert late["accepted"] == made["event_id"].n_unique()


def test_late_data_ends_in_the_ledger_of_data_on_time(tmp_path):
    with demo_context(tmp_path / "on_time") as (context, _):
        run_month(context)
        on_time = month_hash(context)
    with demo_context(tmp_path / "late") as (context, services):
        take_catalog(context)
        feed = context.project.feed("vinylia")
        hours = feed.partitions(MARCH, context.now())
        services.clock.now = hours[-1].window.end
        take_in(context, feed, hours)
        services.clock.now = datetime(9999, 1, 1, tzinfo=UTC)
        run_month(context)
        assert month_hash(context) == on_time


def test_an_hour_that_does_not_come_is_told_and_the_others_go_on(tmp_path):
    with demo_context(tmp_path) as (context, services):
        feed = context.project.feed("sonora")
        hours = feed.partitions(MARCH, context.now())
        services.clock.now = hours[0].window.end
        outcomes = {outcome.partition_key: outcome for outcome in take_in(context, feed, hours)}
        assert outcomes[hours[0].key].commit is not None
        assert "404" in outcomes[hours[1].key].problem
        with pytest.raises(StageBlockedError, match="sonora/raw is not committed"):
            validate(context, feed, hours[1])


def test_a_page_of_html_fails_its_hour_by_name(tmp_path):
    plan = FaultPlan(seed=1, enabled=frozenset({Fault.HTML_PAGE}), rate=1.0)
    with demo_context(tmp_path, faults=plan) as (context, _):
        feed = context.project.feed("sonora")
        source = feed.source.model_copy(update={"attempts": 1})
        feed = feed.model_copy(update={"source": source})
        (outcome,) = take_in(context, feed, feed.partitions(MARCH, context.now())[:1])
        assert outcome.commit is None
        assert "sonora/deliveries/2025-03-01-00:00 is not JSON" in outcome.problem


def test_the_ledger_names_what_is_wanting_and_nothing_is_paid(tmp_path):
    with demo_context(tmp_path) as (context, _):
        take_catalog(context)
        feed = context.project.feed("sonora")
        run_feed(context, feed, feed.partitions(MARCH, context.now())[:1])
        commit = post_ledger(context, MARCH).commit
        assert not commit.is_green
        wanting = commit.checks["every_expected_partition_is_in"]
        assert "sonora/matched is not committed for 2025-03-01-01:00" in wanting
        assert "sonora/pool is not committed for 2025-03-01" in wanting
        with pytest.raises(StageBlockedError, match="ledger/ledger is red"):
            pay_out(context, MARCH)


def test_a_report_of_several_months_is_cut_by_its_dates(tmp_path):
    lines = [
        f"{day},DE,USUM70600055,Flowers,Miley Cyrus,{units},{amount},EUR\n"
        for day, units, amount in (
            ("2021-01-31", 1, "1.00"),
            ("2021-02-01", 2, "2.00"),
            ("2021-01-01", 3, "4.00"),
        )
    ]
    context = inbox_project(tmp_path, REPORT + "".join(lines))
    run_inbox(context, "2021-01", "2021-02")
    for key, units, paid in (("2021-01", 4, 5), ("2021-02", 2, 2)):
        pay_out(context, month(key))
        _, _, balance = month_frames(context, month(key))
        assert series_to_atoms(balance["paid"]) == [paid * ATOMS_PER_UNIT]
        assert (
            context.registry.commit("reports", Stage.VALIDATED, f"{key}-01").counts["units"]
            == units
        )


def test_rows_without_a_usable_date_are_refused_in_the_files_first_month(tmp_path):
    report = REPORT + (
        "2021-02-01,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
        "2021-01-01,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
        "someday,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
        "1999-01-01,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
        "2021-01-01,DE,USUM70600055\n"
    )
    context = inbox_project(tmp_path, report, rejected_fraction_max="1")
    run_inbox(context, "2021-01", "2021-02")
    received = [c.counts["received"] for c in context.registry.commits(Stage.VALIDATED, "reports")]
    assert received == [4, 1]
    letters = context.registry.dead_letters("reports")
    assert [(x["row_number"], x["rule"], x["partition_key"]) for x in letters] == [
        (4, "used_on:date", "2021-01-01"),
        (5, "used_at:outside_feed", "2021-01-01"),
        (6, "record:cells", "2021-01-01"),
    ]
    assert letters[0]["source"] == "report.csv"


def line(day, units, amount="1.00"):
    return f"{day},DE,USUM70600055,Flowers,Miley Cyrus,{units},{amount},EUR\n"


def units_of(context, key):
    return context.registry.commit("reports", Stage.VALIDATED, f"{key}-01").counts["units"]


def test_a_file_that_is_moved_away_stays_taken_and_another_adds_to_it(tmp_path):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3))
    run_inbox(context, "2021-01")
    (tmp_path / "inbox/report.csv").rename(tmp_path / "done.csv")
    (tmp_path / "inbox/more.csv").write_text(REPORT + line("2021-01-05", 4))
    run_inbox(context, "2021-01")
    assert units_of(context, "2021-01") == 7
    # The same bytes under another name say nothing new.
    (tmp_path / "done.csv").rename(tmp_path / "inbox/again.csv")
    run_inbox(context, "2021-01")
    assert units_of(context, "2021-01") == 7


@pytest.mark.on_databases
def test_a_file_with_other_bytes_under_its_name_replaces_what_it_tells_again(tmp_path):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3) + line("2021-02-01", 5))
    run_inbox(context, "2021-01", "2021-02")
    (tmp_path / "inbox/report.csv").write_text(REPORT + line("2021-01-01", 4))
    run_inbox(context, "2021-01", "2021-02")
    # January is told again, so corrected; of February the new file says nothing.
    assert units_of(context, "2021-01") == 4
    assert units_of(context, "2021-02") == 5
    raw = context.registry.commit("reports", Stage.RAW, "2021-01-01")
    assert raw.counts["payloads_replaced"] == 1


def test_a_file_that_cannot_be_read_displaces_nothing(tmp_path):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3))
    run_inbox(context, "2021-01")
    (tmp_path / "inbox/report.csv").write_text("<html>please log in</html>")
    run_inbox(context, "2021-01")
    assert units_of(context, "2021-01") == 3


def test_a_file_that_is_cut_off_before_its_first_day_leaves_nothing_behind(tmp_path):
    """It belongs to no period yet; put into one, the whole file could not take its place there."""
    context = inbox_project(tmp_path, REPORT + "2021-02-09,DE,USUM7060", start="2021-01-01")
    (feed,) = context.project.feeds
    take_in(context, feed, [month("2021-01")])
    (letter,) = context.registry.dead_letters("reports")
    assert (letter["rule"], letter["source"]) == ("file:no_day", "report.csv")
    assert "tells a day of this feed's time" in letter["reason"]
    (tmp_path / "inbox/report.csv").write_text(REPORT + line("2021-02-09", 4))
    run_inbox(context, "2021-01", "2021-02")
    assert (units_of(context, "2021-01"), units_of(context, "2021-02")) == (0, 4)
    assert context.registry.dead_letters("reports") == []


def test_whether_a_run_happens_between_two_deliveries_does_not_matter(tmp_path):
    for between in (True, False):
        home = tmp_path / str(between)
        context = inbox_project(home, REPORT + line("2021-01-01", 3))
        run_inbox(context, "2021-01")
        if between:
            (home / "inbox/report.csv").unlink()
            run_inbox(context, "2021-01")
        (home / "inbox/report.csv").write_text(REPORT + line("2021-02-01", 4))
        run_inbox(context, "2021-01", "2021-02")
        assert (units_of(context, "2021-01"), units_of(context, "2021-02")) == (3, 4)


@pytest.mark.on_databases
def test_what_a_crash_left_of_an_older_delivery_is_not_counted(tmp_path, monkeypatch):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3) + line("2021-01-02", "many"))
    (feed,) = context.project.feeds
    take_catalog(context)
    take_in(context, feed, [month("2021-01")])
    with monkeypatch.context() as crash:
        crash.setattr(context.registry, "commit_partition", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            validate(context, feed, month("2021-01"))
    (tmp_path / "inbox/report.csv").write_text(REPORT + line("2021-01-01", 3))
    run_inbox(context, "2021-01")
    commit = context.registry.commit("reports", Stage.VALIDATED, "2021-01-01")
    assert commit.is_green
    assert context.registry.dead_letters("reports") == []


@pytest.mark.parametrize(
    ("name", "body", "rule"),
    [
        ("long.csv", b"<html>" + b"x" * 140_000, "file:template_unknown"),
        (b"r\xe9port.csv".decode("utf-8", "surrogateescape"), b"", "file:empty"),
        ("header.csv", b"Date,Territor\xe9,ISRC\n1,2,3,4\n", "file:template_unknown"),
        ("quotes.csv", b'"a\n"b\n', "file:template_unknown"),
    ],
)
def test_no_bad_file_stops_a_feed_or_the_catalog(tmp_path, name, body, rule):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3))
    (tmp_path / "inbox" / name).write_bytes(body)
    (tmp_path / "catalog" / name).write_bytes(body)
    run_inbox(context, "2021-01")
    assert units_of(context, "2021-01") == 3
    for feed in ("reports", "catalog"):
        assert [letter["rule"] for letter in context.registry.dead_letters(feed)] == [rule]


def test_a_template_that_is_changed_reads_again(tmp_path):
    text = "Day,Where,Song,Count,Gross,Net\n2021-01-01,DE,Flowers,1,2.00,1.00\n"
    context = inbox_project(tmp_path, text)

    def template(amount):
        columns = {"used_on": "Day", "territory": "Where", "title": "Song", "units": "Count"}
        return Template(
            name="own",
            records="report_lines",
            signature=["Day", "Where", "Song"],
            columns=columns | {"amount": amount},
            constants={"currency": "EUR", "artist": "Miley Cyrus"},
        )

    for amount, received in (("Gross", 2), ("Net", 1)):
        context.templates = [*bundled_templates(), template(amount)]
        context.inbox_looks.clear()
        run_inbox(context, "2021-01")
        pay_out(context, month("2021-01"))
        _, _, balance = month_frames(context, month("2021-01"))
        assert series_to_atoms(balance["received"]) == [received * ATOMS_PER_UNIT]


def test_a_month_that_has_not_ended_is_not_paid_out(tmp_path):
    context = inbox_project(tmp_path, REPORT + line("2021-01-05", 3))
    context.now = lambda: datetime(2021, 1, 20, tzinfo=UTC)
    run_inbox(context, "2021-01")
    with pytest.raises(StageBlockedError, match="has not ended"):
        pay_out(context, month("2021-01"))


def test_a_pool_report_comes_from_an_inbox_too(tmp_path):
    source = {"dialect": "inbox", "folder": "pools"}
    context = inbox_project(
        tmp_path, REPORT + "2021-01-05,DE,USUM70600056,,,3,,\n", pool_source=source
    )
    (tmp_path / "pools").mkdir()
    pools = tmp_path / "pools/pools.csv"
    header = "Month,Territory,Tier,Currency,Pool Amount\n"
    pools.write_text(header + "2021-01,DE,all,EUR,7.00\n2021-02,DE,all,EUR,9.00\n")
    run_inbox(context, "2021-01")
    pay_out(context, month("2021-01"))
    _, _, balance = month_frames(context, month("2021-01"))
    assert series_to_atoms(balance["paid"]) == [7 * ATOMS_PER_UNIT]
    pools.write_text("What,is,this\n1,2,3\n")
    (feed,) = context.project.feeds
    outcome = asyncio.run(take_pool(context, feed, month("2021-02")))
    assert "pools.csv cannot be used" in outcome.problem


def test_a_damaged_payload_turns_red_and_is_healed_by_the_next_run(tmp_path):
    context = inbox_project(tmp_path, REPORT + line("2021-01-01", 3))
    (feed,) = context.project.feeds
    with pytest.MonkeyPatch.context() as damage:
        damage.setattr("royalty_assets.pipeline.ingest.altered_payloads", lambda *_: ["altered"])
        take_in(context, feed, [month("2021-01")])
    assert not context.registry.commit("reports", Stage.RAW, "2021-01-01").is_green
    with pytest.raises(StageBlockedError, match="every_payload_is_kept_as_sent"):
        validate(context, feed, month("2021-01"))
    run_inbox(context, "2021-01")
    assert units_of(context, "2021-01") == 3


def test_a_file_that_is_refused_is_quarantined_by_name_and_the_others_go_on(tmp_path):
    report = REPORT + "2021-01-01,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
    context = inbox_project(tmp_path, report)
    (tmp_path / "inbox/page.csv").write_text("<html><body>login</body></html>")
    (tmp_path / "inbox/cut.csv.gz").write_bytes(gzip.compress((report * 3000).encode())[:-9])
    run_inbox(context, "2021-01")
    assert context.registry.commit("reports", Stage.MATCHED, "2021-01-01").is_green
    inbox = context.registry.commit("reports", Stage.RAW, INBOX_PARTITION)
    assert not inbox.is_green
    rules = {
        letter["source"]: letter["rule"] for letter in context.registry.dead_letters("reports")
    }
    assert rules == {"page.csv": "file:template_unknown", "cut.csv.gz": "file:truncated_gzip"}
    # Mended files are taken, and no longer told.
    (tmp_path / "inbox/page.csv").unlink()
    (tmp_path / "inbox/cut.csv.gz").unlink()
    run_inbox(context, "2021-01")
    assert context.registry.commit("reports", Stage.RAW, INBOX_PARTITION).is_green


def test_a_catalog_whose_splits_sum_to_99_holds_that_recordings_money(tmp_path):
    report = REPORT + (
        "2021-01-01,DE,USUM70600055,,,1,1.00,EUR\n2021-01-01,DE,USUM70600056,,,1,2.00,EUR\n"
    )
    context = inbox_project(
        tmp_path, report, shares=SHARES.replace("label,Label,40", "label,Label,39")
    )
    run_inbox(context, "2021-01")
    pay_out(context, month("2021-01"))
    _, payouts, balance = month_frames(context, month("2021-01"))
    assert payouts["rights_holder_id"].to_list() == ["adele"]
    assert series_to_atoms(balance["held"]) == [1 * ATOMS_PER_UNIT]
    (letter,) = context.registry.dead_letters("catalog")
    assert (letter["rule"], letter["value"]) == ("share:sum", "USUM70600055")
    assert "99 %" in letter["reason"]


def test_too_many_rejects_shut_the_gate(tmp_path):
    good = "2021-01-01,DE,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
    bad = "2021-01-01,QQ,USUM70600055,Flowers,Miley Cyrus,1,1.00,EUR\n"
    context = inbox_project(tmp_path, REPORT + good + bad)
    (feed,) = context.project.feeds
    take_catalog(context)
    take_in(context, feed, [month("2021-01")])
    commit = validate(context, feed, month("2021-01")).commit
    assert "1 of 2 rows were rejected" in commit.checks["rejects_are_within_limits"][0]
    with pytest.raises(StageBlockedError, match="reports/validated is red"):
        match(context, feed, month("2021-01"))


def test_lines_without_money_share_the_agreed_pool(tmp_path):
    report = REPORT + (
        "2021-01-01,DE,USUM70600055,,,3,,\n"
        "2021-01-02,FR,USUM70600056,,,1,,\n"
        "2021-02-01,DE,USUM70600056,,,1,9.00,EUR\n"
    )
    pool = {"amount": "100.00", "currency": "EUR"}
    context = inbox_project(tmp_path, report, pool=pool)
    run_inbox(context, "2021-01", "2021-02")
    paid = {}
    for key in ("2021-01", "2021-02"):
        pay_out(context, month(key))
        _, payouts, _ = month_frames(context, month(key))
        cents = [atoms * 100 // ATOMS_PER_UNIT for atoms in series_to_atoms(payouts["amount_paid"])]
        paid[key] = dict(zip(payouts["rights_holder_id"], cents, strict=True))
    assert paid == {
        "2021-01": {"adele": 2500, "label": 3000, "miley": 4500},
        "2021-02": {"adele": 900},
    }


def test_a_new_catalog_is_matched_again_and_a_mended_split_pays_out(tmp_path):
    report = REPORT + "2021-01-01,DE,,Hello,Adele,1,2.00,EUR\n"
    context = inbox_project(tmp_path, report, catalog=CATALOG.replace("Hello", "Other"))
    run_inbox(context, "2021-01")
    assert (
        context.registry.commit("reports", Stage.MATCHED, "2021-01-01").counts["units_exception"]
        == 1
    )
    (question,) = questions(context)
    assert (question.title, question.artist, question.units) == ("Hello", "Adele", 1)
    (tmp_path / "catalog/recordings.csv").write_text(CATALOG)
    run_inbox(context, "2021-01")
    assert questions(context) == []
    pay_out(context, month("2021-01"))
    ledger, payouts, _ = month_frames(context, month("2021-01"))
    assert payouts["rights_holder_id"].to_list() == ["adele"]
    assert ledger.filter(pl.col("account") == "suspense").is_empty()


def test_a_folder_without_a_catalog_says_what_to_do(tmp_path):
    context = inbox_context(tmp_path)
    with pytest.raises(StageBlockedError, match="isrc, title and artist"):
        take_catalog(context)


def test_a_full_disk_fails_the_hour_that_it_strikes_and_no_other(tmp_path):
    """Also for files, which are stored while the next one is fetched."""
    with demo_context(tmp_path) as (context, _):
        feed = context.project.feed("vinylia")
        hours = feed.partitions(MARCH, context.now())
        context.lake = FullOnceLake(tmp_path / "lake")
        outcomes = take_in(context, feed, hours)
        assert ["No space left" in (each.problem or "") for each in outcomes].count(True) == 1
        assert sum(each.commit is not None for each in outcomes) == len(hours) - 1


class FullOnceLake(LocalLake):
    """Has no room for the first object."""

    is_full = True

    def put(self, folder, label, rows, write):
        if self.is_full:
            self.is_full = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().put(folder, label, rows, write)
