"""``bench-matching`` as a user types it, and what it comes to on the public benchmarks.

The benchmarks are not part of the project; where they are not at hand, those tests are skipped.
"""

import csv
import json
import os
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.matching_quality import measure_matching
from royalty_assets_tests.domain.matching.examples import clustered, labelled_pairs

DATA = Path(os.environ.get("MATCHING_DATA") or Path(__file__).parents[2] / "shared/data")
KEYS = {
    "kind",
    "fields",
    "f1",
    "precision",
    "recall",
    "threshold",
    "pairs_compared",
    "cpu_seconds",
}


def bench(*arguments):
    environment = {"COLUMNS": "200"}
    return CliRunner().invoke(app, ["bench-matching", *map(str, arguments)], env=environment)


def write_clusters(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_pairs(path, pairs, labels):
    def side(song):
        return " ".join(f"COL {name} VAL {value}" for name, value in song.items())

    lines = [
        f"{side(left)} \t{side(right)} \t{int(label)}"
        for (left, right), label in zip(pairs, labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def clusters(tmp_path):
    train = write_clusters(tmp_path / "train.csv", clustered(seed=1))
    return train, write_clusters(tmp_path / "test.csv", clustered(seed=2))


@pytest.fixture
def pairs(tmp_path):
    train = write_pairs(tmp_path / "train.txt", *labelled_pairs(seed=1))
    return train, write_pairs(tmp_path / "test.txt", *labelled_pairs(seed=2))


def test_clusters_are_measured_and_told_as_json(clusters):
    train, test = clusters
    done = bench("--kind", "clusters", "--train", train, "--test", test, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told.keys() == KEYS
    assert told["fields"] == ["number", "title", "artist", "album", "year", "language"]
    assert 0.95 < told["f1"] <= 1
    assert all(type(told[name]) is float for name in ("f1", "precision", "recall", "cpu_seconds"))


def test_pairs_are_measured_and_told_as_json(pairs):
    train, test = pairs
    done = bench("--kind", "pairs", "--train", train, "--test", test, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told.keys() == KEYS
    assert (told["kind"], told["pairs_compared"]) == ("pairs", 90)
    assert told["f1"] > 0.95


def test_people_read_a_small_table(clusters):
    train, test = clusters
    done = bench(
        "--kind", "clusters", "--train", train, "--test", test, "--fields", "title, artist"
    )
    assert done.exit_code == 0, done.output
    for text in ("title, artist", "precision", "recall", "F1", "pairs compared", "CPU seconds"):
        assert text in done.stdout


def test_what_is_told_does_not_depend_on_the_order_of_rows(clusters, tmp_path):
    train, test = clusters
    shuffled = []
    for number, rows in enumerate((clustered(seed=1), clustered(seed=2))):
        random.Random(number).shuffle(rows)
        for at, row in enumerate(rows):
            row.update(id=str(at), cluster=f"x{row['cluster']}")
        shuffled.append(write_clusters(tmp_path / f"shuffled_{number}.csv", rows))
    one, other = measure_matching("clusters", train, test), measure_matching("clusters", *shuffled)
    told, again = one.as_json(), other.as_json()
    del told["cpu_seconds"], again["cpu_seconds"]
    assert told == again


def test_a_file_that_lacks_columns_is_measured_by_those_that_both_have(clusters, tmp_path):
    train, _ = clusters
    names = ("cluster", "title", "artist")
    rows = [{name: row[name] for name in names} | {"mood": "sad"} for row in clustered(seed=2)]
    quality = measure_matching("clusters", train, write_clusters(tmp_path / "few.csv", rows))
    assert quality.fields == ("title", "artist")
    assert quality.f1 > 0.9


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fields", "title,mood"], "no field 'mood'; clusters files have number, title"),
        (["--fields", ","], "no field is named"),
        (["--kind", "songs"], "songs"),
        (["--test", "nowhere.csv"], "nowhere.csv"),
        (["--kind", "pairs"], "line 1: 1 parts between tabs"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(clusters, options, told):
    train, test = clusters
    done = bench("--kind", "clusters", "--train", train, "--test", test, *options)
    assert done.exit_code == 2
    assert told in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("id,title,artist\n1,Stay,Zed\n", "no column 'cluster'"),
        ("cluster,title\n1,Stay\n2,Go\n", "nothing can be learnt from"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_named(clusters, tmp_path, content, told):
    path = tmp_path / "broken.csv"
    path.write_text(content, encoding="utf-8")
    done = bench("--kind", "clusters", "--train", path, "--test", clusters[1])
    assert done.exit_code == 2
    assert told in done.output
    assert "broken.csv" in done.output


def test_a_field_that_a_file_lacks_is_refused_by_name(clusters, tmp_path):
    path = write_clusters(tmp_path / "few.csv", [{"cluster": "1", "title": "Stay"}] * 2)
    done = bench(
        "--kind", "clusters", "--train", clusters[0], "--test", path, "--fields", "title,album"
    )
    assert done.exit_code == 2
    assert "has no field 'album', only title" in done.output


def test_a_hostile_title_is_measured_like_any_other(clusters, tmp_path):
    hostile = [
        {"title": "la " * 3_500_000},
        {"title": "\u202e\u200fevil\u200f", "artist": "\x00\x1b[31m"},
        {"title": '=cmd|"/c calc"!A1', "year": "9" * 400},
    ]
    rows = [clustered(seed=3)[0] | each for each in hostile] + clustered(seed=2)
    quality = measure_matching("clusters", clusters[0], write_clusters(tmp_path / "h.csv", rows))
    assert quality.f1 > 0.9


@pytest.mark.skipif(
    not (DATA / "musicbrainz20k").is_dir() or not (DATA / "itunes_amazon").is_dir(),
    reason=f"the public benchmarks are not at hand ({DATA})",
)
@pytest.mark.parametrize(
    ("kind", "train", "test", "fields", "least"),
    [
        ("clusters", "ee_er-train.csv", "ee_er-valid.csv", None, 0.975),
        ("clusters", "ee_er-train.csv", "ee_er-valid.csv", ("title", "artist"), 0.94),
        ("pairs", "Structured.train.txt", "Structured.valid.txt", None, 0.95),
    ],
)
def test_public_benchmarks_are_matched_well(kind, train, test, fields, least):
    folder = DATA / ("musicbrainz20k" if kind == "clusters" else "itunes_amazon")
    quality = measure_matching(kind, folder / train, folder / test, fields)
    assert quality.f1 >= least
