"""Report files through the pipeline: repetitions, corrections, pools, severities, semaphores."""

import asyncio
import gzip
import os
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.ledger import Account
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.context import PipelineContext, StageBlockedError
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.pipeline.month import blocked_because, month_frames, post_ledger
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.validate import validate
from royalty_assets.storage.lake import read_frame
from royalty_assets_tests.projects import inbox_context, month_hash, run_feed, run_month, take_in

DSR = Path(__file__).parents[1] / "sources/dsr"
JANUARY = Partition.parse(Cadence.MONTHLY, "2024-01-01")
MARCH = Partition.parse(Cadence.MONTHLY, "2024-03-01")
REPORT = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
LINE = "2024-03-01,DE,USUM70600055,T,A,{units},{amount},EUR\n"
CATALOG = "recording_id,isrc,title,artist\nR1,USUM70600055,T,A\nR2,USUM70600056,Say,A\n"
SHARES = "recording_id,rights_holder_id,share\nR1,P1,100\nR2,P2,100\n"


def project(home: Path, **feed) -> PipelineContext:
    context = inbox_context(home, **feed)
    (home / "catalog/recordings.csv").write_text(CATALOG)
    (home / "catalog/shares.csv").write_text(SHARES)
    return context


def drop(context: PipelineContext, name: str, body: str | bytes) -> None:
    content = body if isinstance(body, bytes) else body.encode()
    (context.home / "inbox" / name).write_bytes(content)


def dsr(name: str = "basic_audio_1_4") -> bytes:
    return (DSR / f"{name}.tsv").read_bytes()


def lines(context: PipelineContext, month: Partition) -> pl.DataFrame:
    commit = context.registry.commit("reports", Stage.VALIDATED, month.key)
    batches = context.registry.batches_by_id(commit.batch_ids)
    return pl.concat([read_frame(context.lake, o) for b in batches for o in b.objects])


def validate_only(context: PipelineContext, month: Partition) -> None:
    feed = context.project.feed("reports")
    take_in(context, feed, [month])
    validate(context, feed, month)


def validated(context: PipelineContext, month: Partition):
    return context.registry.commit("reports", Stage.VALIDATED, month.key)


def test_the_same_text_packed_and_named_otherwise_is_paid_once(tmp_path):
    body = REPORT + LINE.format(units=3, amount="1.50") + LINE.format(units=3, amount="1.50")
    one = project(tmp_path / "one")
    drop(one, "report.csv", body)
    run_month(one, MARCH)
    many = project(tmp_path / "many")
    drop(many, "report.csv", body)
    drop(many, "again.csv.gz", gzip.compress(body.encode()))
    drop(many, "windows.csv", body.replace("\n", "\r\n"))
    drop(many, "wide.csv", ("\ufeff" + body).encode("utf-16-le"))
    run_month(many, MARCH)
    assert month_hash(many, MARCH) == month_hash(one, MARCH)
    counts = validated(many, MARCH).counts
    assert (counts["received"], counts["accepted"], counts["duplicates"]) == (8, 2, 6)
    assert validated(many, MARCH).is_green
    outcomes = [r.outcome for r in many.registry.reports("reports", [MARCH.key])]
    assert sorted(outcomes) == ["repeated", "repeated", "repeated", "taken"]


def test_two_lines_that_are_equal_are_both_paid(tmp_path):
    context = project(tmp_path)
    drop(context, "report.csv", REPORT + LINE.format(units=3, amount="1.50") * 2)
    run_month(context, MARCH)
    _, payouts, _ = month_frames(context, MARCH)
    assert payouts["amount_paid"].sum() == Decimal(3)


def test_a_late_sale_is_paid_in_the_month_that_it_is_reported_in(tmp_path):
    context = project(tmp_path, start="2023-01-01")
    header = "Reporting Date\tSale Month\tStore\tArtist\tTitle\tISRC\tUPC\tQuantity\t"
    header += "Team Percentage\tSong/Album\tCountry of Sale\tEarnings (USD)\n"
    row = "2024-03-02\t2021-04\tNapster\tA\tT\tUSUM70600055\t\t1\t100\tSong\tUS\t0.5\n"
    drop(context, "bank.tsv", header + row)
    run_month(context, MARCH)
    (line,) = lines(context, MARCH).to_dicts()
    assert line["used_at"].date() == date(2021, 4, 1)
    _, payouts, _ = month_frames(context, MARCH)
    assert payouts["amount_paid"].to_list() == [Decimal("0.5")]


def test_the_revenue_of_summaries_is_a_pool_that_their_usage_shares(tmp_path):
    context = project(tmp_path, pools_in_reports=True)
    drop(context, "dsr.tsv", dsr())
    run_month(context, JANUARY)
    ledger, payouts, _ = month_frames(context, JANUARY)
    assert not context.registry.commit("ledger", Stage.LEDGER, JANUARY.key).checks[
        "every_expected_partition_is_in"
    ]
    received = ledger.filter(pl.col("account") == Account.RECEIVABLE)["amount"].sum()
    assert received == Decimal("14.6")
    # 100 of the 150 streams in Germany are R1's, 50 R2's; the downloads in France are nobody's.
    assert dict(payouts.select("rights_holder_id", "amount_paid").rows()) == {
        "P1": Decimal("8.33"),
        "P2": Decimal("4.17"),
    }


def test_pools_that_nobody_configured_are_told_and_not_paid_otherwise(tmp_path):
    context = project(tmp_path)
    drop(context, "dsr.tsv", dsr())
    validate_only(context, JANUARY)
    (finding,) = validated(context, JANUARY).checks["every_pool_is_configured"]
    assert "pools_in_reports: true" in finding


def correction(old: bytes, new: bytes, message: bytes = b"M2") -> bytes:
    body = dsr("financial_reporting_1_0")
    assert old in body
    body = body.replace(b"\tM1\t", b"\t" + message + b"\t").replace(old, new)
    return body.replace(b"2024-02-10T", b"2024-03-10T")


def test_a_corrected_message_takes_the_earlier_lines_back_and_books_anew(tmp_path):
    """120 units for 0.889… EUR become 100 for 0.7: -120, +100; the other line is told again."""
    context = project(tmp_path, checks={"report_cross_sums_agree": "off"})
    drop(context, "first.tsv", dsr("financial_reporting_1_0"))
    run_month(context, JANUARY)
    before = lines(context, JANUARY)
    drop(
        context,
        "second.tsv",
        correction(b"\t121\t1\t120\t", b"\t101\t1\t100\t").replace(b"0.889123456789012345", b"0.7"),
    )
    run_month(context, JANUARY)
    after = lines(context, JANUARY)
    assert validated(context, JANUARY).is_green
    assert after.height == 2 + 2 + 2
    back = after.filter(pl.col("corrects") != "")
    assert sorted(back["units"].to_list()) == [-120, -10]
    first = before.row(0, named=True)
    pointers = {f"{first['source_sha256']}:{number}" for number in before["row_number"]}
    assert set(back["corrects"]) == pointers
    assert after["units"].sum() == 110
    assert after["amount"].sum() == Decimal("0.7") + Decimal("0.009876543210987655")
    counts = validated(context, JANUARY).counts
    assert (counts["received"], counts["accepted"], counts["units"]) == (4, 4, 110)


def test_corrections_come_out_the_same_in_any_order_of_arrival(tmp_path):
    first = dsr("financial_reporting_1_0")
    second = correction(b"\t121\t1\t120\t", b"\t101\t1\t100\t")
    third = correction(b"\t121\t1\t120\t", b"\t0\t0\t0\t", b"M3").replace(b"03-10T", b"04-10T")
    hashes = set()
    for number, order in enumerate([(first, second, third), (third, first, second)]):
        context = project(tmp_path / str(number), checks={"report_cross_sums_agree": "off"})
        for name, body in enumerate(order):
            drop(context, f"{name}.tsv", body)
            run_month(context, JANUARY)
        assert lines(context, JANUARY)["units"].sum() == 10
        hashes.add(month_hash(context, JANUARY))
    assert len(hashes) == 1


def test_one_message_with_two_contents_is_nobodys_guess(tmp_path):
    context = project(tmp_path, checks={"report_cross_sums_agree": "off"})
    drop(context, "a.tsv", dsr("financial_reporting_1_0"))
    other = dsr("financial_reporting_1_0").replace(b"0.889123456789012345", b"0.9")
    drop(context, "b.tsv", other)
    validate_only(context, JANUARY)
    commit = validated(context, JANUARY)
    (finding,) = commit.checks["every_message_is_sent_once"]
    assert "message M1" in finding
    assert commit.counts["received"] == commit.counts["accepted"] + commit.counts["rejected"]
    assert not commit.checks["every_row_is_accounted_for"]


@pytest.mark.parametrize(
    ("severity", "is_green", "warns"),
    [(None, True, True), ("block", False, False), ("off", True, False)],
)
def test_the_severity_of_cross_sums_is_the_feeds_to_set(tmp_path, severity, is_green, warns):
    checks = {} if severity is None else {"report_cross_sums_agree": severity}
    context = project(tmp_path, pools_in_reports=True, checks=checks)
    drop(context, "dsr.tsv", dsr().replace(b"Premium\t150\t", b"Premium\t151\t"))
    validate_only(context, JANUARY)
    commit = validated(context, JANUARY)
    assert commit.is_green is is_green
    assert bool(commit.warnings.get("report_cross_sums_agree")) is warns


def parts(number: int) -> bytes:
    return dsr("no_sales").replace(b"Z\t1\t1\t2024", f"Z\t{number}\t2\t2024".encode())


def test_a_report_of_several_files_waits_for_all_of_them(tmp_path):
    context = project(tmp_path, pools_in_reports=True)
    drop(context, "1of2.tsv", parts(1))
    run_month(context, JANUARY)
    assert not context.registry.commit("reports", Stage.RAW, JANUARY.key).batch_ids or (
        context.registry.commit("reports", Stage.RAW, JANUARY.key).counts["payloads"] == 0
    )
    waiting = context.registry.commit("reports", Stage.RAW, INBOX_PARTITION)
    assert waiting.warnings["every_file_is_complete"] == ["1of2.tsv: waits for 2of2 of its report"]
    drop(context, "2of2.tsv", parts(2))
    run_month(context, JANUARY)
    assert context.registry.commit("reports", Stage.RAW, JANUARY.key).counts["payloads"] == 2


def test_a_file_without_its_semaphore_is_left(tmp_path):
    source = {"dialect": "inbox", "folder": "inbox", "semaphore": True}
    context = project(tmp_path, source=source)
    drop(context, "report.csv", REPORT + LINE.format(units=3, amount="1.50"))
    run_month(context, MARCH)
    assert context.registry.commit("reports", Stage.RAW, MARCH.key).counts["payloads"] == 0
    drop(context, "report.csv.ctrl", b"")
    run_month(context, MARCH)
    assert context.registry.commit("reports", Stage.RAW, MARCH.key).counts["payloads"] == 1


def test_a_file_that_was_just_changed_is_left_to_be_finished(tmp_path):
    source = {"dialect": "inbox", "folder": "inbox", "settle_seconds": 3600}
    context = project(tmp_path, source=source)
    drop(context, "report.csv", REPORT + LINE.format(units=3, amount="1.50"))
    run_month(context, MARCH)
    assert context.registry.commit("reports", Stage.RAW, MARCH.key).counts["payloads"] == 0
    os.utime(tmp_path / "inbox/report.csv", (1, 1))
    run_month(context, MARCH)
    assert context.registry.commit("reports", Stage.RAW, MARCH.key).counts["payloads"] == 1


def test_no_sales_is_a_delivery(tmp_path):
    context = project(tmp_path, pools_in_reports=True)
    drop(context, "none.tsv", dsr("no_sales"))
    run_month(context, JANUARY)
    assert validated(context, JANUARY).counts["received"] == 0
    (report,) = context.registry.reports("reports", [JANUARY.key])
    assert (report.kind, report.outcome) == ("dsr_basic_audio", "taken")


@settings(max_examples=12)
@given(
    corrections=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 50), min_size=1), max_size=4
    )
)
def test_after_any_corrections_each_transaction_stands_as_last_told(tmp_path_factory, corrections):
    """Against the obvious: the last message that names a transaction says what it is."""
    context = project(
        tmp_path_factory.mktemp("corrections"), checks={"report_cross_sums_agree": "off"}
    )
    head, rest = dsr("financial_reporting_1_0").split(b"\nSY10", 1)
    summary, row = (b"SY10" + rest).split(b"\n")[:2]
    messages = [{"a": 7, "b": 8}, *corrections]
    for number, told in enumerate(messages):
        own = head.replace(b"\tM1\t", f"\tM{number}\t".encode())
        own = own.replace(b"2024-02-10T", f"2024-02-{number + 1:02d}T".encode())
        rows = [
            row.replace(b"\tT1\t", f"\tT{name}\t".encode(), 1).replace(
                b"\t121\t1\t120\t", f"\t{units}\t0\t{units}\t".encode()
            )
            for name, units in told.items()
        ]
        body = b"\n".join([own, summary, *rows])
        count = body.count(b"\n") + 2
        drop(context, f"{number}.tsv", body + f"\nSRFO\t{count}\t1\n".encode())
    run_month(context, JANUARY)
    last = {name: units for message in messages for name, units in message.items()}
    found = lines(context, JANUARY)
    assert found["units"].sum() == sum(last.values())
    by_name = dict(found.group_by("transaction_id").agg(pl.col("units").sum()).rows())
    assert by_name == {f"T{name}": units for name, units in last.items()}


def test_what_has_turned_red_since_is_not_paid(tmp_path):
    """The pool and the matched usage of before do not outlive the lines that they were made of."""
    context = project(tmp_path, pools_in_reports=True)
    drop(context, "dsr.tsv", dsr())
    run_month(context, JANUARY)
    assert blocked_because(context, JANUARY) == ""
    later = dsr().replace(b"\tM1\t", b"\tM2\t").replace(b"FOOT\t13", b"FOOT\t99")
    drop(context, "later.tsv", later.replace(b"\t12.50\t", b"\t99.50\t"))
    validate_only(context, JANUARY)
    assert not validated(context, JANUARY).is_green
    with pytest.raises(StageBlockedError, match="red"):
        asyncio.run(take_pool(context, context.project.feed("reports"), JANUARY))
    post_ledger(context, JANUARY)
    commit = context.registry.commit("ledger", Stage.LEDGER, JANUARY.key)
    assert "reports/validated is red" in commit.checks["every_expected_partition_is_in"][0]
    assert "validated is red" in blocked_because(context, JANUARY)


def test_lines_that_have_changed_are_matched_before_they_are_posted(tmp_path):
    context = project(tmp_path)
    drop(context, "report.csv", REPORT + LINE.format(units=3, amount="1.50"))
    run_month(context, MARCH)
    drop(context, "report.csv", REPORT + LINE.format(units=4, amount="2.50"))
    validate_only(context, MARCH)
    post_ledger(context, MARCH)
    commit = context.registry.commit("ledger", Stage.LEDGER, MARCH.key)
    assert "other lines" in commit.checks["every_expected_partition_is_in"][0]


def test_a_pool_that_is_allowed_after_all_is_taken(tmp_path):
    context = project(tmp_path)
    drop(context, "dsr.tsv", dsr())
    validate_only(context, JANUARY)
    assert not validated(context, JANUARY).is_green
    allowed = project(tmp_path, pools_in_reports=True)
    validate_only(allowed, JANUARY)
    assert validated(allowed, JANUARY).is_green


def test_an_agreed_pool_is_nothing_where_reports_bring_their_own(tmp_path):
    pool = {"amount": "1000.00", "currency": "EUR"}
    context = project(tmp_path, pools_in_reports=True, pool=pool)
    drop(context, "dsr.tsv", dsr())
    run_month(context, JANUARY)
    ledger, _, _ = month_frames(context, JANUARY)
    received = ledger.filter(pl.col("account") == Account.RECEIVABLE)["amount"].sum()
    assert received == Decimal("14.6")


def test_a_correction_may_change_the_code(tmp_path):
    context = project(tmp_path, checks={"report_cross_sums_agree": "off"})
    drop(context, "a.tsv", dsr("financial_reporting_1_0"))
    drop(context, "b.tsv", correction(b"JPUM70600055", b"JPUM70600099"))
    validate_only(context, JANUARY)
    found = lines(context, JANUARY)
    assert found["units"].sum() == 130
    by_isrc = dict(found.group_by("isrc").agg(pl.col("units").sum()).rows())
    assert by_isrc == {"JPUM70600055": 0, "JPUM70600056": 10, "JPUM70600099": 120}


def test_corrections_follow_in_time_whatever_the_zone(tmp_path):
    """10:00+02:00 is before 09:00Z."""
    context = project(tmp_path, checks={"report_cross_sums_agree": "off"})
    newer = dsr("financial_reporting_1_0").replace(b"2024-02-10T09:00:00Z", b"2024-03-10T09:00:00Z")
    older = correction(b"\t121\t1\t120\t", b"\t101\t1\t100\t").replace(
        b"2024-03-10T09:00:00Z", b"2024-03-10T10:00:00+02:00"
    )
    drop(context, "newer.tsv", newer)
    drop(context, "older.tsv", older)
    validate_only(context, JANUARY)
    assert lines(context, JANUARY)["units"].sum() == 130


def test_a_later_message_tells_its_pools_anew_whatever_it_calls_them(tmp_path):
    context = project(tmp_path, pools_in_reports=True)
    drop(context, "a.tsv", dsr())
    later = dsr().replace(b"\tM1\t", b"\tM2\t").replace(b"2024-02-10T", b"2024-03-10T")
    drop(context, "b.tsv", later.replace(b"\tS1\t", b"\tX1\t").replace(b"\tS2\t", b"\tX2\t"))
    run_month(context, JANUARY)
    ledger, _, _ = month_frames(context, JANUARY)
    received = ledger.filter(pl.col("account") == Account.RECEIVABLE)["amount"].sum()
    assert received == Decimal("14.6")
    assert lines(context, JANUARY)["units"].sum() == 153


def test_a_header_alone_is_told_and_waits(tmp_path):
    context = project(tmp_path)
    drop(context, "none.csv", REPORT)
    run_feed(context, context.project.feed("reports"), [])
    commit = context.registry.commit("reports", Stage.RAW, INBOX_PARTITION)
    (told,) = commit.warnings["every_file_is_complete"]
    assert told.startswith("none.csv: has no rows")


def test_rows_that_tell_no_day_are_held_against_their_file_and_not_its_first_month(tmp_path):
    context = project(tmp_path)
    good = LINE.format(units=1, amount="0.10") * 100
    early = "2024-02-01,DE,USUM70600055,T,A,1,0.10,EUR\n"
    drop(context, "report.csv", REPORT + early + good + "broken\n" * 5)
    february = Partition.parse(Cadence.MONTHLY, "2024-02-01")
    validate_only(context, february)
    commit = validated(context, february)
    assert commit.is_green
    assert (commit.counts["received"], commit.counts["rejected"]) == (6, 5)
    drop(context, "worse.csv", REPORT + early + "broken\n" * 5)
    validate_only(context, february)
    (finding,) = validated(context, february).checks["rejects_are_within_limits"]
    assert finding.startswith("worse.csv: 5 of 6 rows")


def test_deliveries_are_on_record_before_the_partition_is(tmp_path, monkeypatch):
    context = project(tmp_path)
    drop(context, "report.csv", REPORT + LINE.format(units=3, amount="1.50"))

    def crash(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(type(context.registry), "commit_partition", crash)
        with pytest.raises((RuntimeError, ExceptionGroup)):
            take_in(context, context.project.feed("reports"), [MARCH])
    assert [d.name for d in context.registry.deliveries("reports", MARCH.key)] == ["report.csv"]
