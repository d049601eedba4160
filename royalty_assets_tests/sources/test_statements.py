"""A statement written by hand per sender and generation: recognised, read to the last digit."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from royalty_assets.sources.inspection import inspect_file
from royalty_assets.sources.reports import Report, file_sha256, open_report
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.sources.text_lines import UnreadableFileError

STATEMENTS = Path(__file__).parent / "statements"
TEMPLATES = [t for t in bundled_templates() if t.records == "report_lines"]


def read(path: Path) -> tuple[Report, pl.DataFrame, list]:
    with path.open("rb") as stream:
        report = open_report(file_sha256(path), stream, TEMPLATES, path.name)
        blocks = list(report.blocks())
    lines = pl.concat([block.lines for block in blocks])
    return report, lines, [r for block in blocks for r in block.rejections]


def money(lines: pl.DataFrame) -> dict[str, Decimal]:
    priced = lines.filter(pl.col("amount").is_not_null())
    sums = priced.group_by("currency").agg(pl.col("amount").sum()).sort("currency")
    return {currency: amount.normalize() for currency, amount in sums.rows()}


@pytest.mark.parametrize(
    ("name", "lines", "units", "amounts"),
    [
        ("apple_music.plays.tsv", 2, 107, {"EUR": "0.457"}),
        ("apple_music.quantity.tsv", 1, 1200, {"USD": "5.4"}),
        ("apple_sales_content.tsv", 1, 1, {"USD": "0.7"}),
        ("bandcamp.csv", 2, 2, {"EUR": "0"}),
        ("believe.csv", 2, 1241, {"RUB": "1235.12"}),
        ("cdbaby.tsv", 1, 1, {"USD": "0.0998269974"}),
        ("deezer.2013-01.csv", 1, 12, {"EUR": "0.0345"}),
        ("deezer.2021-01.csv", 1, 13, {"EUR": "0.0355"}),
        ("distrokid.2013-01.tsv", 3, 4, {"USD": "0.02579986"}),
        ("distrokid.2025-01.tsv", 1, 3, {"USD": "0.0123"}),
        ("fuga_label_run.csv", 1, 3, {"GBP": "0.00159849395"}),
        ("itunes_sales.financial.tsv", 3, 4, {"EUR": "2.8"}),
        ("pandora.tsv", 2, 150, {"USD": "0.255"}),
        ("royalty_report.csv", 1, 120, {"EUR": "0.4312"}),
        ("soundcloud.2016-01.csv", 1, 33, {"USD": "0.0911"}),
        ("soundcloud.2021-02.csv", 1, 33, {"USD": "0.0911"}),
        ("spotify_merlin.2013-01.tsv", 1, 10, {"USD": "0.02133"}),
        ("spotify_merlin.2020-01.tsv", 3, 124, {"EUR": "1E-8", "USD": "0.4312"}),
        ("symphonic.csv", 1, 900, {"USD": "3.41"}),
        ("the_orchard.2018-01.csv", 2, 495, {"USD": "2.108"}),
        ("tunecore.2013-01.csv", 2, 1201, {"GBP": "0.0268"}),
        ("tunecore.2021-01.csv", 1, 1200, {"GBP": "0.0271"}),
        ("youtube.ads_undated.YouTube_label_M_202302.csv", 1, 250, {"USD": "0.5"}),
        ("youtube.asset.csv", 2, 500, {"USD": "0.3"}),
        ("youtube.red_label.csv", 1, 250, {"USD": "0.0000015"}),
        ("youtube.subscription.csv", 1, 40, {"USD": "0.12"}),
        (
            "youtube.subscription_undated.YouTube_label_M_20230201_20230228.csv",
            1,
            41,
            {"USD": "0.12"},
        ),
    ],
)
def test_each_statement_is_recognised_and_read_exactly(name, lines, units, amounts):
    report, frame, rejections = read(STATEMENTS / name)
    kind, _, rest = name.partition(".")
    assert report.kind == kind
    assert report.generation in {"", rest.partition(".")[0]}
    assert frame.height == lines
    assert int(frame["units"].sum()) == units
    assert money(frame) == {currency: Decimal(text) for currency, text in amounts.items()}
    assert report.totals.lines == lines + len(rejections)
    assert not any(report.findings.values())


def test_every_bundled_generation_has_a_statement():
    told = {path.name.partition(".")[0] for path in STATEMENTS.iterdir()}
    own = {"mercado_sales", "spotify_chart"}  # the simulator's and the charts' own tests read them
    assert {t.name for t in TEMPLATES} - told == own
    generations = {(t.name, t.generation) for t in TEMPLATES if t.generation}
    read_ones = {(r.kind, r.generation) for r in map(_opened, _recognisable())}
    assert generations <= read_ones


def _recognisable() -> list[Path]:
    return [path for path in sorted(STATEMENTS.iterdir()) if path.name != "unknown.csv"]


def _opened(path: Path) -> Report:
    return read(path)[0]


def line(name: str, number: int = 0) -> dict:
    return read(STATEMENTS / name)[1].row(number, named=True)


def test_identifiers_are_kept_as_sent_beside_their_normal_form():
    second = line("spotify_merlin.2020-01.tsv", 1)
    assert (second["isrc"], second["isrc_as_sent"]) == ("USUM70600056", "us-um7-06-00056")
    assert (second["upc"], second["upc_as_sent"]) == ("00724384960650", "724384960650")
    assert second["notes"] == "isrc:normalised"
    third = line("spotify_merlin.2020-01.tsv", 2)
    assert (third["upc"], third["notes"]) == ("", "upc:malformed")
    assert line("distrokid.2013-01.tsv", 2)["notes"] == "text:not_utf8 upc:zeros_restored"
    assert "isrc:prefix_unknown" in line("tunecore.2013-01.csv")["notes"]


def test_lines_that_are_equal_are_both_real():
    _, lines, _ = read(STATEMENTS / "distrokid.2013-01.tsv")
    first, second = lines.drop("row_number").rows()[:2]
    assert first == second


def test_a_sale_is_accounted_when_it_is_reported_and_used_when_it_was():
    late = line("distrokid.2013-01.tsv")
    assert late["used_at"].date() == date(2021, 4, 1)
    assert late["reported_at"].date() == date(2023, 2, 2)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("believe.csv", "territory", "RU"),
        ("apple_music.plays.tsv", "territory", "DE"),
        ("the_orchard.2018-01.csv", "artist", "A"),
        ("distrokid.2025-01.tsv", "store", "TIDAL"),
        ("distrokid.2025-01.tsv", "artist", "A, B"),
        ("distrokid.2013-01.tsv", "store", "Napster"),
        ("cdbaby.tsv", "title", '"Heroes'),
        ("symphonic.csv", "used_at", date(2026, 6, 1)),
        ("itunes_sales.financial.tsv", "used_at", date(2024, 9, 29)),
        ("bandcamp.csv", "used_at", date(2020, 1, 2)),
        ("pandora.tsv", "use_type", "NonInteractiveStream"),
        ("youtube.asset.csv", "grid", "A12425GABC1234002M"),
        ("spotify_merlin.2020-01.tsv", "store", "Spotify"),
        ("royalty_report.csv", "title", "=cmd"),
    ],
)
def test_what_a_field_becomes(name, field, value):
    found = line(name)[field]
    assert (found.date() if field == "used_at" else found) == value


def test_a_return_has_negative_units_and_money():
    returned = line("itunes_sales.financial.tsv", 1)
    assert (returned["units"], returned["amount"]) == (-1, Decimal("-0.70"))


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("itunes_sales.financial.tsv", b"Total_Rows\t3", b"Total_Rows\t4", "says 4 lines"),
        ("itunes_sales.financial.tsv", b"FR\tEUR\t2\t1.40", b"FR\tEUR\t2\t1.41", "2.81 amount"),
        ("itunes_sales.financial.tsv", b"FR\tEUR\t2\t1.40", b"FR\tEUR\t3\t1.40", "5 units"),
        ("pandora.tsv", b"\t0.255\t", b"\t0.256\t", "0.256 amount"),
        ("pandora.tsv", b"\tUSD\t2\t", b"\tUSD\t3\t", "says 3 lines"),
    ],
)
def test_a_control_total_that_is_not_met_is_told(tmp_path, name, old, new, told):
    body = (STATEMENTS / name).read_bytes()
    assert old in body
    changed = tmp_path / name
    changed.write_bytes(body.replace(old, new))
    report, _, _ = read(changed)
    (finding,) = report.findings["report_totals_agree"]
    assert told in finding


def test_a_payout_among_the_sales_is_refused_as_what_it_is():
    _, _, (refused,) = read(STATEMENTS / "bandcamp.csv")
    assert (refused.row_number, refused.rule, refused.value) == (4, "record:not_usage", "payout")


def test_an_unknown_header_names_the_nearest_template_and_the_difference():
    with pytest.raises(UnreadableFileError) as refused:
        read(STATEMENTS / "unknown.csv")
    assert refused.value.rule == "file:template_unknown"
    assert "nearest is mercado_sales, which also has Track Title" in refused.value.reason
    assert "does not have Something" in refused.value.reason


def test_a_column_that_is_read_and_stands_twice_is_a_guess_that_is_not_made(tmp_path):
    body = (STATEMENTS / "symphonic.csv").read_text().replace("Label,", "Territory,")
    changed = tmp_path / "symphonic.csv"
    changed.write_text(body)
    with pytest.raises(UnreadableFileError) as refused:
        read(changed)
    assert refused.value.rule in {"file:column_repeated", "file:template_unknown"}
    assert "Territory" in refused.value.reason


def test_a_file_whose_name_should_tell_the_period_and_does_not_is_refused(tmp_path):
    body = (STATEMENTS / "youtube.ads_undated.YouTube_label_M_202302.csv").read_bytes()
    changed = tmp_path / "report.csv"
    changed.write_bytes(body)
    with pytest.raises(UnreadableFileError, match="used_on in their name"):
        read(changed)


def changed(tmp_path: Path, name: str, *pairs: tuple[str, str]) -> Path:
    """A statement with some of its text replaced."""
    body = (STATEMENTS / name).read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in body
        body = body.replace(old, new)
    path = tmp_path / name
    path.write_text(body, encoding="utf-8")
    return path


def test_a_decimal_comma_in_a_file_of_points_is_never_a_thousand(tmp_path):
    path = changed(tmp_path, "deezer.2021-01.csv", ("0.0355", "0,0355"))
    assert money(read(path)[1]) == {"EUR": Decimal("0.0355")}
    path = changed(tmp_path, "deezer.2021-01.csv", ("0.0355", "0,034"))
    assert money(read(path)[1]) == {"EUR": Decimal("0.034")}


def test_a_header_that_comes_again_before_more_sales_takes_none_of_them(tmp_path):
    body = (STATEMENTS / "itunes_sales.financial.tsv").read_text().splitlines()
    path = tmp_path / "itunes_sales.tsv"
    path.write_text("\n".join([*body[:4], *body[:4], ""]))
    _, lines, rejections = read(path)
    assert (lines.height, rejections) == (6, [])
    assert int(lines["units"].sum()) == 8


def test_the_whole_header_may_stand_above_the_summary_too(tmp_path):
    body = (STATEMENTS / "itunes_sales.financial.tsv").read_text().splitlines()
    blank = [""] * 18
    summary = ["EU", *blank[1:5], "4", "", "2.80", "EUR", *blank[9:17], "DE"]
    path = tmp_path / "itunes_sales.tsv"
    path.write_text("\n".join([*body[:4], body[0], "\t".join(summary), ""]))
    report, lines, rejections = read(path)
    assert (lines.height, rejections) == (3, [])
    assert not any(report.findings.values())


def test_totals_and_a_summary_that_are_both_right_are_not_added_up(tmp_path):
    path = changed(
        tmp_path,
        "itunes_sales.financial.tsv",
        ("Total_Rows\t3", "Total_Rows\t3\nTotal_Amount\t2.80\nTotal_Units\t4"),
        ("FR\tEUR\t2\t1.40", "FR\tEUR\t2\t1.40\nTotal\t\t4\t2.80"),
    )
    report, lines, _ = read(path)
    assert lines.height == 3
    assert not any(report.findings.values())


def test_a_total_that_is_none_is_told_and_blocks_no_line(tmp_path):
    path = changed(tmp_path, "itunes_sales.financial.tsv", ("Total_Rows\t3", "Total_Rows\t#N/A"))
    report, lines, _ = read(path)
    assert lines.height == 3
    assert report.findings["report_totals_agree"] == ["the file's total lines is '#N/A'"]


@pytest.mark.parametrize("disclaimer", ["Confidential, a, b, c, d, e, f, g", "", "x\t"])
def test_commas_and_tabs_in_the_preamble_do_not_hide_the_period(tmp_path, disclaimer):
    path = changed(tmp_path, "spotify_merlin.2020-01.tsv", ("Confidential", disclaimer))
    assert line_of(path)["used_at"].date() == date(2021, 3, 1)


def line_of(path: Path) -> dict:
    return read(path)[1].row(0, named=True)


def test_a_quotation_mark_over_two_cells_moves_none(tmp_path):
    path = changed(tmp_path, "pandora.tsv", ("\tT\tA\t", '\t"Heroes\tBand"\t'))
    first = line_of(path)
    assert (first["title"], first["artist"], first["territory"]) == ('"Heroes', 'Band"', "US")


def test_subscription_columns_decide_against_the_advertising_report(tmp_path):
    path = changed(
        tmp_path,
        "youtube.subscription.csv",
        ("Monetized Views : Audio", "Owned Views,Monetized Views : Audio"),
        (",40,", ",250,40,"),
    )
    report, lines, _ = read(path)
    assert report.generation == "subscription"
    assert lines["units"].to_list() == [40]


def test_money_without_views_is_an_adjustment(tmp_path):
    path = changed(tmp_path, "youtube.asset.csv", ("No,250,", "No,,"))
    _, lines, rejections = read(path)
    assert (lines.height, rejections, lines["units"].sum()) == (2, [], 0)


def test_the_price_of_a_unit_is_not_the_money_of_a_line(tmp_path):
    path = changed(tmp_path, "apple_sales_content.tsv", ("\tS\t1\t0.70", "\tS\t-3\t0.70"))
    assert money(read(path)[1]) == {"USD": Decimal("-2.1")}


def test_a_header_without_a_needed_column_is_refused_by_name(tmp_path):
    path = changed(tmp_path, "cdbaby.tsv", ("\tQuantity\t", "\tHow many\t"))
    with pytest.raises(UnreadableFileError, match="no column is called Quantity"):
        read(path)


@pytest.mark.parametrize("end", ["", "\t"])
def test_a_delimiter_after_the_last_column_does_no_harm(tmp_path, end):
    body = (STATEMENTS / "soundcloud.2016-01.csv").read_text().splitlines()
    path = tmp_path / "soundcloud.csv"
    path.write_text(f"{body[0]},\n{body[1]}{',' if end else ''}\n")
    assert read(path)[1].height == 1


def test_blank_lines_are_nothing_and_cost_nothing(tmp_path):
    path = tmp_path / "symphonic.csv"
    path.write_text((STATEMENTS / "symphonic.csv").read_text() + "\n" * 500_000 + ",,,,,,,\n")
    report, lines, rejections = read(path)
    assert (lines.height, rejections, report.totals.lines) == (1, [], 1)


def test_a_file_that_only_looks_like_a_catalog_is_not_one(tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text("Date;ISRC;Artist;Title;Streams;Royalty\n2025-03-01;USUM70600055;A;T;1;0.5\n")
    found = inspect_file(path, bundled_templates())
    assert (found.template, found.rows_read) == (None, 0)
