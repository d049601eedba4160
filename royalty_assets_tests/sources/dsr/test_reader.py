"""One DSR written by hand per profile and version, and what breaks in them."""

import io
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from royalty_assets.domain.usage import USAGE_LINE_SCHEMA
from royalty_assets.sources.dsr.reader import DsrFile
from royalty_assets.sources.reports import open_report
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

FOLDER = Path(__file__).parent
SAMPLE = Path(__file__).parents[4] / "shared/data/dsr"


def read(body: bytes, name: str = "") -> tuple[DsrFile, pl.DataFrame, list]:
    report = DsrFile("sha", TextLines(io.BytesIO(body)), name)
    blocks = list(report.blocks())
    lines = pl.concat([pl.DataFrame(schema=USAGE_LINE_SCHEMA), *(block.lines for block in blocks)])
    return report, lines, [r for block in blocks for r in block.rejections]


def fixture(name: str) -> bytes:
    return (FOLDER / f"{name}.tsv").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "generation", "lines", "units", "money", "pools"),
    [
        ("basic_audio_1_0", "basic_audio", "1.0", 3, 153, {}, ["12.5", "2.1"]),
        ("basic_audio_1_1", "basic_audio", "1.1", 3, 153, {}, ["12.5", "2.1"]),
        ("basic_audio_1_2", "basic_audio", "1.2", 3, 153, {}, ["12.5", "2.1"]),
        ("basic_audio_1_4", "basic_audio", "1.4", 3, 153, {}, ["12.5", "2.1"]),
        ("basic_audio_srb_1_2", "basic_audio", "1.2", 3, 104, {"EUR": "0"}, ["12.5", "2"]),
        ("ugc_1_0", "ugc", "1.0", 2, 30, {"USD": "1.75"}, []),
        ("ugc_1_1_1", "ugc", "1.1.1", 2, 30, {"USD": "1.75"}, []),
        ("ugc_1_2", "ugc", "1.2", 2, 30, {"USD": "1.75"}, []),
        ("ugc_srb_1_2", "ugc", "1.2", 1, 30, {"USD": "1.75"}, []),
        ("financial_reporting_1_0", "financial_reporting", "1.0", 2, 130, {"EUR": "0.899"}, []),
        ("no_sales", "basic_audio", "1.4", 0, 0, {}, ["0"]),
    ],
)
def test_each_profile_and_version_is_read(name, kind, generation, lines, units, money, pools):
    report, frame, rejections = read(fixture(name))
    assert (report.kind, report.generation) == (f"dsr_{kind}", generation)
    assert (frame.height, rejections) == (lines, [])
    assert int(frame["units"].sum()) == report.totals.units == units
    sums = (
        frame.filter(pl.col("amount").is_not_null())
        .group_by("currency")
        .agg(pl.col("amount").sum())
    )
    assert dict(sums.rows()) == {currency: Decimal(text) for currency, text in money.items()}
    assert [row.content["amount"] for row in report.pools] == pools
    assert not any(report.findings.values())


@pytest.mark.parametrize("name", ["basic_audio_1_0", "basic_audio_1_2", "basic_audio_1_4"])
def test_usage_inherits_from_its_resource_release_and_summary(name):
    report, frame, _ = read(fixture(name))
    first = frame.row(0, named=True)
    told = {
        "isrc": "USUM70600055",
        "upc": "00724384960650",
        "dsp_recording_id": "trk:1",
        "title": "Let Me | Go",
        "artist": "Norah",
        "release_title": "Album",
        "territory": "DE",
        "tier": "premium_ondemandst_subscript",
        "use_type": "OnDemandStream",
        "commercial_model": "SubscriptionModel",
        "transaction_id": "T1",
        "currency": None,
    }
    assert {field: first[field] for field in told} == told
    assert first["reported_at"].date() == date(2024, 1, 1)
    assert {row.content["tier"] for row in report.pools} == {
        "premium_ondemandst_subscript",
        "premium_permanentd_payasyoug",
    }


def test_a_sale_of_a_release_is_net_of_returns():
    _, frame, _ = read(fixture("basic_audio_1_0"))
    sale = frame.filter(pl.col("use_type") == "PermanentDownload").row(0, named=True)
    assert (sale["units"], sale["returns"], sale["isrc"]) == (3, 2, "")
    assert sale["upc"] == "00724384960650"


def test_what_bears_no_royalty_shares_no_pool():
    _, frame, _ = read(fixture("basic_audio_srb_1_2"))
    free = frame.filter(pl.col("isrc") == "USUM70600056").row(0, named=True)
    assert (free["amount"], free["currency"]) == (Decimal(0), "EUR")


def test_money_of_part_9_is_that_of_accounting_to_the_last_digit():
    _, frame, _ = read(fixture("financial_reporting_1_0"))
    assert frame["amount"].to_list() == [
        Decimal("0.889123456789012345"),
        Decimal("0.009876543210987655"),
    ]
    assert frame["grid"].unique().to_list() == ["A12425GABC1234002M"]


def test_two_summaries_of_one_territory_are_two_pools():
    report, _, _ = read(fixture("basic_audio_srb_1_2"))
    tiers = [row.content["tier"] for row in report.pools]
    assert tiers == ["premium_ondemandst_subscript", "premium_permanentd_subscript"]


@pytest.mark.parametrize(
    ("old", "new", "rule", "told"),
    [
        (b"SU02.03\t1\tS1\tT1\t\tA1", b"SU02.03\t1\tS7\tT1\t\tA1", "dsr:summary_unknown", "'S7'"),
        (b"T1\t\tA1", b"T1\t\tA9", "dsr:resource_unknown", "no resource 'A9'"),
        (b"SU02.03\t1\tS1", b"SU02.03\t1", "dsr:resource_unknown", "'true'"),
        (b"SU02.03\t1\tS1", b"XX01\t1\tS1", "dsr:record_unknown", "'XX01'"),
        (b"\ttrue\t100", b"\ttrue\t1e400", "units:int_type", "units"),
        (b"\ttrue\t100\t\t\t\t", b"\ttrue", "record:cells", "needs 7"),
        (b"\ttrue\t100\t\t\t\t", b"\ttrue\t100\t\t\t\t\tmore", "record:cells", "not 11"),
    ],
)
def test_a_broken_record_is_refused_and_the_rest_goes_on(old, new, rule, told):
    body = fixture("basic_audio_1_4")
    assert old in body
    report, frame, rejections = read(body.replace(old, new, 1))
    assert frame.height + len(rejections) == report.totals.lines
    (refused,) = [r for r in rejections if r.row_number == 8]
    assert refused.rule == rule
    assert told in refused.reason


@pytest.mark.parametrize(
    ("old", "new", "check", "told"),
    [
        (b"FOOT\t13", b"FOOT\t14", "report_totals_agree", "NumberOfLinesInFile 14, there are 13"),
        (b"\t2\t2\t2\n", b"\t3\t2\t2\n", "report_totals_agree", "NumberOfSummaryRecords 3"),
        (b"\t2\t2\t2\n", b"\t2\t5\t2\n", "report_totals_agree", "NumberOfBlocksInFile 5"),
        (b"Premium\t150\t", b"Premium\t151\t", "report_cross_sums_agree", "says 151 usages"),
    ],
)
def test_counts_and_sums_that_do_not_agree_are_told(old, new, check, told):
    body = fixture("basic_audio_1_4")
    assert old in body
    report, _, _ = read(body.replace(old, new))
    assert any(told in finding for finding in report.findings[check])


def test_money_that_does_not_add_up_to_its_summary_is_told():
    body = fixture("financial_reporting_1_0").replace(b"0.009876543210987655", b"0.01")
    report, _, _ = read(body)
    (finding,) = report.findings["report_cross_sums_agree"]
    assert "0.899 EUR, its lines come to 0.899123456789012345" in finding


@pytest.mark.parametrize(
    ("body", "rule", "told"),
    [
        (b"HEAD\tID1\tUgcProfile\t1.1\n", "dsr:head", "lacks MessageId"),
        (fixture("no_sales").replace(b"\t1\t1\t2024", b"\tone\t1\t2024"), "dsr:head", "'one'"),
        (fixture("no_sales").replace(b"2024-01-01", b"January"), "dsr:head", "'January'"),
        (fixture("no_sales").partition(b"FOOT")[0], "dsr:no_foot", "not whole"),
    ],
)
def test_a_file_that_is_no_whole_report_is_refused(body, rule, told):
    with pytest.raises(UnreadableFileError) as refused:
        read(body)
    assert refused.value.rule == rule
    assert told in refused.value.reason


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("DSR_Label_Streamly_Premium_2024-01_DE_1of1_20240210T090000.tsv", []),
        ("DSR_PADPIDA2014999999Z_PADPIDA2011072101T__2024-01_DE_1of1_2.tsv.gz", []),
        ("DSR_Other_Streamly_Premium_2024-01_DE_1of1_2.tsv", ["recipient Other"]),
        ("DSR_Label_Streamly_Premium_2024-01_DE_1of2_2.tsv", ["file 1of2, HEAD 1of1"]),
        ("DSR_Label_Streamly_Free_2024-01_DE_1of1_2.tsv", ["service Free, HEAD Premium"]),
        ("january.tsv", []),
    ],
)
def test_the_name_is_held_against_the_head(name, told):
    report, _, _ = read(fixture("no_sales"), name)
    findings = report.findings["report_name_agrees"]
    assert len(findings) == len(told)
    assert all(text in finding for text, finding in zip(told, findings, strict=True))


def test_blocks_may_be_cut_anywhere():
    """A file is read in pieces; no block is torn by it, however small they are."""
    body = fixture("basic_audio_1_4")
    whole = read(body)[1]
    for size in (1, 200, 400, 700):
        report = DsrFile("sha", TextLines(io.BytesIO(body), block_bytes=size), "")
        lines = pl.concat([block.lines for block in report.blocks()])
        assert lines.sort("row_number").equals(whole.sort("row_number"))
        assert not any(report.findings.values())


@pytest.mark.skipif(not SAMPLE.exists(), reason="the DSR samples of ddexnet/dsrf are not here")
def test_the_published_ugc_sample_is_read():
    (path,) = SAMPLE.glob("DSR_TEST_YouTube*.tsv")
    report, frame, rejections = read(path.read_bytes(), path.name)
    assert (report.kind, frame.height, rejections) == ("dsr_ugc", 6, [])
    assert frame["units"].to_list() == [7810, 2045, 18, 4, 258, 75]
    assert frame["amount"].sum() == 7
    assert report.findings["report_cross_sums_agree"]


def test_a_release_that_its_block_does_not_have_is_nobody_elses():
    body = fixture("basic_audio_1_4").replace(b"\tT9\tR1\t", b"\tT9\tR9\t")
    _, frame, rejections = read(body)
    assert [(r.rule, r.value) for r in rejections] == [("dsr:release_unknown", "R9")]
    assert frame.height == 2


def test_a_release_without_a_code_is_known_by_its_title():
    body = fixture("basic_audio_1_4").replace(b"724384960650", b"")
    _, frame, rejections = read(body)
    assert rejections == []
    sale = frame.filter(pl.col("use_type") == "PermanentDownload").row(0, named=True)
    assert (sale["title"], sale["release_title"], sale["units"]) == ("", "Album", 3)


def test_money_without_a_count_is_told_with_none():
    body = fixture("ugc_1_1_1").replace(b"\tas1\t10\t1.5", b"\tas1\t\t1.5")
    _, frame, rejections = read(body)
    assert rejections == []
    assert frame["units"].to_list() == [0, 20]
    assert frame["amount"].sum() == Decimal("1.75")


def test_a_summary_that_is_said_twice_is_one_pool():
    body = fixture("basic_audio_1_4")
    (summary,) = [line for line in body.splitlines() if line.startswith(b"SY01.03\tS1")]
    report, _, _ = read(body.replace(summary, summary + b"\n" + summary))
    assert [row.content["amount"] for row in report.pools] == ["12.5", "2.1"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [(b"\tEUR\t12.50", b"\tXX9\t12.50", "currency: XX9"), (b"\tDE\t", b"\tQQ\t", "territory: QQ")],
)
def test_a_summary_in_no_known_currency_or_territory_is_told(old, new, told):
    report, _, _ = read(fixture("basic_audio_1_4").replace(old, new))
    assert any(told in finding for finding in report.findings["report_totals_agree"])


def test_net_usage_is_held_against_total_and_returns():
    report, _, _ = read(fixture("financial_reporting_1_0").replace(b"\t121\t1\t", b"\t121\t5\t"))
    (finding,) = report.findings["report_cross_sums_agree"]
    assert "121 usages less 5 returns are not 120" in finding


def test_a_profile_that_is_not_read_is_refused():
    with pytest.raises(UnreadableFileError, match="'AudioVisualProfile'"):
        read(fixture("no_sales").replace(b"BasicAudioProfile", b"AudioVisualProfile"))


@pytest.mark.parametrize("before", [b"# made by x\n", b"\n", b"  HEAD"])
def test_comments_blanks_and_spaces_before_the_head_do_not_hide_it(before):
    body = fixture("no_sales").replace(b"FOOT\t3\t3", b"FOOT\t4\t4")
    body = before + (body[4:] if before.strip() == b"HEAD" else body)
    report = open_report("sha", io.BytesIO(body), [])
    assert isinstance(report, DsrFile)
    assert sum(block.lines.height for block in report.blocks()) == 0


def test_records_of_a_block_need_not_stand_together():
    """The resources first, then all of the usage: each line still finds its own."""
    body = fixture("basic_audio_1_2")
    lines = body.splitlines(keepends=True)
    torn = sorted(lines[1:-1], key=lambda line: line[:2] == b"SU")
    _, whole, _ = read(body)
    report, frame, rejections = read(b"".join([lines[0], *torn, lines[-1]]))
    assert not rejections
    same = pl.exclude("row_number", "source_sha256")
    assert (
        frame.select(same).sort("transaction_id").equals(whole.select(same).sort("transaction_id"))
    )
    assert not any(report.findings.values())


def test_of_several_resources_in_a_block_a_record_means_the_one_that_it_names():
    body = fixture("basic_audio_1_2").replace(b"AS02.02\t2\tA1", b"AS02.02\t1\tA2")
    body = body.replace(b"SU02\t2\tS1\tT2\t\tA1", b"SU02\t1\tS1\tT2\t\tA2")
    _, frame, rejections = read(body)
    assert not rejections
    told = dict(frame.filter(pl.col("isrc") != "").select("transaction_id", "isrc").rows())
    assert told == {"T1": "USUM70600055", "T2": "USUM70600056"}


def test_a_cell_with_a_nul_is_refused_wherever_it_stands():
    for place, value in ((b"\tSay\t", b"\tS\x00ay\t"), (b"\tNorah\t", b"\tNo\x00rah\t")):
        _, frame, rejections = read(fixture("basic_audio_1_2").replace(place, value))
        assert frame.height + len(rejections) == 3
        assert rejections
        assert "\x00" not in "".join(frame["title"].to_list() + frame["artist"].to_list())


@pytest.mark.parametrize("spaces", [b" ", b"   ", b"       "])
def test_spaces_before_a_type_hide_no_cell(spaces):
    body = fixture("basic_audio_1_2")
    _, whole, _ = read(body)
    _, frame, rejections = read(body.replace(b"\nSU0", b"\n" + spaces + b"SU0"))
    assert not rejections
    same = pl.exclude("source_sha256")
    assert frame.select(same).equals(whole.select(same))
