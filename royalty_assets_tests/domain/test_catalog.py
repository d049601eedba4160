"""The catalog: consistent whatever the rows, and every row that is not used is told."""

import polars as pl
import pytest

from royalty_assets.domain.catalog import SHARE_WHOLE, CatalogRow, build_catalog
from royalty_assets.domain.simulated_splits import simulated_shares

RECORDING = {"recording_id": "R1", "isrc": "USUM70600055", "title": "T", "artist": "A"}


def rows(*fields, source="file.csv"):
    return [CatalogRow(source, number, each) for number, each in enumerate(fields, start=2)]


def share(holder, percent, recording="R1"):
    return {"recording_id": recording, "rights_holder_id": holder, "share": percent}


def test_a_catalog_is_its_three_tables():
    catalog, problems = build_catalog(
        rows(RECORDING),
        rows(share("x", "33.333333"), share("y", "66.666667")),
        rows({"recording_id": "R1", "territories": "DE|AT", "valid_from": "2020-01-01"}),
    )
    assert problems == []
    assert catalog.recordings.rows() == [("R1", "USUM70600055", "T", "A", "", "")]
    assert catalog.shares["share_parts"].to_list() == [33_333_333, 66_666_667]
    assert catalog.shares["share_parts"].sum() == SHARE_WHOLE
    assert catalog.rights["territories"].to_list() == ["DE|AT"]


def test_splits_that_sum_to_99_percent_are_named_and_their_money_will_be_held():
    other = RECORDING | {"recording_id": "R2", "isrc": "USUM70600056"}
    catalog, (problem,) = build_catalog(
        rows(RECORDING, other),
        rows(share("x", "50"), share("y", "49"), share("x", "100", "R2")),
        [],
    )
    assert (problem.rule, problem.value) == ("share:sum", "R1")
    assert "99 %" in problem.reason
    assert catalog.shares["recording_id"].to_list() == ["R2"]
    assert catalog.recordings.height == 2


@pytest.mark.parametrize(
    ("percent", "rule"),
    [
        ("0", "share:share"),
        ("100.5", "share:share"),
        ("half", "share:share"),
        ("", "share:share"),
        ("33.3333333", "share:share"),
    ],
)
def test_a_share_that_is_no_percentage_is_named(percent, rule):
    _, problems = build_catalog(rows(RECORDING), rows(share("x", percent)), [])
    assert problems[0].rule == rule
    assert problems[0].row_number == 2


def test_a_repeated_recording_is_told_and_the_first_counts():
    conflicting = RECORDING | {"recording_id": "R9", "title": "Other"}
    catalog, problems = build_catalog(rows(RECORDING, RECORDING, conflicting), [], [])
    assert catalog.recordings.height == 1
    assert [problem.rule for problem in problems] == ["isrc:repeated", "isrc:conflicting"]
    assert "'Other'" not in str(catalog.recordings.rows())


def test_an_id_for_two_isrcs_and_an_unknown_recording_are_told():
    taken = RECORDING | {"isrc": "USUM70600056"}
    _, problems = build_catalog(rows(RECORDING, taken), rows(share("x", "100", "R7")), [])
    assert [problem.rule for problem in problems] == ["recording_id:taken", "recording_id:unknown"]


def test_silence_on_rights_is_worldwide_but_a_refused_row_is_not():
    other = RECORDING | {"recording_id": "R2", "isrc": "USUM70600056"}
    catalog, problems = build_catalog(
        rows(RECORDING, other), [], rows({"recording_id": "R1", "territories": "Atlantis"})
    )
    assert [problem.rule for problem in problems] == ["territories:territories"]
    assert catalog.rights.select("recording_id", "territories").rows() == [("R2", "Worldwide")]


def test_an_isrc_that_is_none_is_named():
    catalog, (problem,) = build_catalog(rows(RECORDING | {"isrc": "USUM7060005"}), [], [])
    assert catalog.recordings.is_empty()
    assert (problem.source, problem.row_number, problem.value) == ("file.csv", 2, "USUM7060005")


def test_the_version_follows_from_the_content_and_not_from_row_order():
    other = RECORDING | {"recording_id": "R2", "isrc": "USUM70600056"}
    one, _ = build_catalog(rows(RECORDING, other), [], [])
    two, _ = build_catalog(rows(other, RECORDING), [], [])
    three, _ = build_catalog(rows(RECORDING, other | {"title": "T2"}), [], [])
    assert one.version == two.version != three.version


def test_simulated_splits_are_whole_and_say_what_they_are():
    recordings = pl.DataFrame([RECORDING, RECORDING | {"recording_id": "R2", "artist": ""}])
    shares = simulated_shares(recordings)
    sums = shares.group_by("recording_id").agg(pl.col("share_parts").sum())
    assert set(sums["share_parts"]) == {SHARE_WHOLE}
    assert shares["rights_holder_name"].str.contains("simulated").all()
