"""splink 5.0.0 on the same files as ours: run by an interpreter of its own, which has it.

Nothing of ours is imported here. Fields are tidied, blocked and compared as splink's documentation
advises, on DuckDB with one thread. For lists of records m and u are estimated without labels, and
labels choose the threshold; for given pairs m and u are counted from the labels of the training
file, which does better than estimating them (its expectation maximisation has 321 pairs to go by).
"""

import argparse
import csv
import datetime as dt
import json
import logging
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import splink.comparison_level_library as cll
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

WEIGHT_MIN = -40
"""Nearly everything that blocking brings up is kept: the best threshold may be far below 0."""
RANDOM_PAIRS = 2e5
SAYS_NOTHING = {"", "null", "unknown", "[unknown]", "none"}
BRACKET = re.compile(r"[(\[{].*")
TITLE_NOISE = frozenset(
    "explicit clean album version edited deluxe edition bonus track main original feat with".split()
)
Row = dict[str, Any]
Scored = list[tuple[float, bool]]


def api() -> DuckDBAPI:
    """A database of its own."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET threads=1")
    return DuckDBAPI(connection=connection)


# Text


def fold(text: str | None) -> str:
    """Lower case without accents."""
    plain = unicodedata.normalize("NFKD", text or "").lower()
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def words_of(text: str) -> str:
    """Words with single spaces."""
    return " ".join(re.findall(r"[^\W_]+", fold(text).replace("'", "")))


def tokens(text: str | None, shortest: int = 1) -> list[str] | None:
    """Distinct words, sorted."""
    return sorted({word for word in (text or "").split() if len(word) >= shortest}) or None


# Comparisons


def token_jaccard(column: str, least: float) -> Any:
    """Share of words in common (splink's own Jaccard level is on letters)."""
    left, right = f"{column}_l", f"{column}_r"
    both = f"len(list_distinct(list_concat({left}, {right})))"
    return cll.CustomLevel(
        f"len(list_intersect({left}, {right})) >= {least} * {both}",
        f"{column} token jaccard >= {least}",
    )


def token_overlap(column: str, least: float) -> Any:
    """Share of the shorter side's words that the other has."""
    left, right = f"{column}_l", f"{column}_r"
    return cll.CustomLevel(
        f"len(list_intersect({left}, {right})) >= {least} * least(len({left}), len({right}))",
        f"{column} token overlap >= {least}",
    )


def text_comparison(column: str, *, by_frequency: bool) -> Any:
    """A text by letters and by words, best level first."""
    exact = cll.ExactMatchLevel(column)
    if by_frequency:
        exact = exact.configure(tf_adjustment_column=column)
    return cl.CustomComparison(
        output_column_name=column,
        comparison_levels=[
            cll.NullLevel(column),
            exact,
            cll.JaroWinklerLevel(column, 0.95),
            token_jaccard(f"{column}_tok", 0.6),
            cll.JaroWinklerLevel(column, 0.88),
            token_jaccard(f"{column}_tok", 0.3),
            token_overlap(f"{column}_tok", 0.6),
            cll.ElseLevel(),
        ],
    )


# Thresholds and quality


def quality(both: int, accepted: int, true: int) -> dict[str, float]:
    """Precision, recall and F1."""
    return {
        "precision": both / max(accepted, 1),
        "recall": both / max(true, 1),
        "f1": 2 * both / max(accepted + true, 1),
    }


def best_cut(scored: Scored, true: int) -> float:
    """The weight, of (weight, is true) in descending order, from which F1 is best."""
    both, best_f1, best = 0, 0.0, 0.0
    for number, (weight, is_true) in enumerate(scored, 1):
        both += is_true
        is_last = number == len(scored)
        if is_last or scored[number][0] < weight:
            f1 = 2 * both / (number + true)
            if f1 > best_f1:
                best_f1 = f1
                best = weight if is_last else (weight + scored[number][0]) / 2
    return best


def pairs_within(clusters: Iterable[Any]) -> int:
    """Pairs of records that share a cluster."""
    return sum(size * (size - 1) // 2 for size in Counter(clusters).values())


# Lists of records


def tidy_record(number: int, cells: Row) -> Row:
    """Undo what the benchmark's makers did to fields, as far as a rule can."""

    def cell(name: str) -> str:
        text = fold(cells.get(name)).strip()
        return "" if text in SAYS_NOTHING else text

    title, artist, album, year = cell("title"), cell("artist"), cell("album"), cell("year")
    title = re.sub(r"^\d{1,3}-", "", title)
    if dated := re.search(r"\s*\((\d{4}|unknown)\)$", album):
        year = year or (dated[1] if dated[1] != "unknown" else "")
        album = album[: dated.start()]
    if not artist and " - " in title:
        artist, title = title.split(" - ", 1)
    elif artist and title.endswith(f" - {artist}"):
        title = title[: -len(artist) - 3]
    elif artist and title.startswith(f"{artist} - "):
        title = title[len(artist) + 3 :]
    if album and (bare := title.rstrip(") ")).endswith(album):
        title = re.sub(r"\s*\($", "", bare[: -len(album)]) or title
    if short := re.fullmatch(r"'?(\d\d)", year):
        year = str((2000 if int(short[1]) < 25 else 1900) + int(short[1]))
    track = re.search(r"\d+", cell("number"))
    texts = {
        name: words_of(text) or None
        for name, text in (("title", title), ("artist", artist), ("album", album))
    }
    return {
        "unique_id": number,
        "cluster": cells["cluster"],
        **texts,
        **{f"{name}_tok": tokens(text) for name, text in texts.items()},
        "title_long": tokens(texts["title"], 4),
        "year": int(year) if re.fullmatch(r"\d{4}", year) else None,
        "number": str(int(track[0])) if track else None,
        "lang": cell("language")[:3] or None,
    }


def read_records(path: str, names: Sequence[str] | None) -> pa.Table:
    """The file's records; fields that are not among ``names`` are left out."""
    with open(path, newline="", encoding="utf-8-sig") as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    if names is not None:
        kept = {"cluster", *names}
        rows = [{name: text for name, text in row.items() if name in kept} for row in rows]
    return pa.Table.from_pylist([tidy_record(number, row) for number, row in enumerate(rows)])


def records_settings(*, all_fields: bool) -> SettingsCreator:
    """What is blocked on and compared."""
    comparisons = [text_comparison(name, by_frequency=True) for name in ("title", "artist")]
    rules = [
        block_on("substr(title,1,5)"),
        block_on("artist"),
        block_on("substr(title,1,3)", "substr(artist,1,2)"),
        block_on("substr(artist,1,4)", "substr(title,1,2)"),
        block_on("title_long", arrays_to_explode=["title_long"]),
    ]
    if all_fields:
        years = [
            cll.NullLevel("year"),
            cll.ExactMatchLevel("year"),
            cll.AbsoluteDifferenceLevel("year", 1),
            cll.ElseLevel(),
        ]
        comparisons += [
            text_comparison("album", by_frequency=True),
            cl.ExactMatch("number"),
            cl.ExactMatch("lang"),
            cl.CustomComparison(output_column_name="year", comparison_levels=years),
        ]
        rules += [
            block_on("substr(album,1,6)", "number"),
            block_on("substr(album,1,6)", "substr(title,1,2)"),
            block_on("substr(artist,1,4)", "number"),
        ]
    return SettingsCreator(
        link_type="dedupe_only",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=rules,
        retain_matching_columns=False,
        additional_columns_to_retain=["cluster"],
    )


def train_records(linker: Linker, *, all_fields: bool) -> None:
    """Estimate m and u; no label is looked at."""
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("title", "artist")], recall=0.4
    )
    training.estimate_u_using_random_sampling(max_pairs=RANDOM_PAIRS, seed=1)
    training.estimate_parameters_using_expectation_maximisation(block_on("title"))
    others = block_on("artist", "album") if all_fields else block_on("artist")
    training.estimate_parameters_using_expectation_maximisation(others)
    if all_fields:
        training.estimate_parameters_using_expectation_maximisation(block_on("album", "number"))


def clusters_quality(linker: Linker, predicted: Any, cut: float) -> dict[str, float]:
    """Pairwise, of the clusters that a threshold gives."""
    clustered = linker.clustering.cluster_pairwise_predictions_at_threshold(
        predicted, threshold_match_weight=cut
    )
    told = clustered.as_pyarrow_table().to_pydict()
    found, truth = told["cluster_id"], told["cluster"]
    joint = pairs_within(zip(found, truth, strict=True))
    return quality(joint, pairs_within(found), pairs_within(truth))


def records_linker(table: pa.Table, settings: Any) -> Linker:
    """A linker over one list."""
    registered = api().register(table, dataset_display_name="records")
    return Linker(registered, settings, log_level=logging.ERROR)


def measure_clusters(train: str, test: str, names: Sequence[str] | None) -> dict[str, float]:
    """Learn from one list, cluster another."""
    all_fields = names is None
    table = read_records(train, names)
    linker = records_linker(table, records_settings(all_fields=all_fields))
    train_records(linker, all_fields=all_fields)
    predicted = linker.inference.predict(threshold_match_weight=WEIGHT_MIN)
    told = predicted.as_pyarrow_table().select(["match_weight", "cluster_l", "cluster_r"])
    scored = sorted(
        ((row["match_weight"], row["cluster_l"] == row["cluster_r"]) for row in told.to_pylist()),
        reverse=True,
    )
    start = best_cut(scored, pairs_within(table["cluster"].to_pylist()))
    # Clusters also hold the pairs that others bring together, so a higher cut may do better.
    cut = max(
        (start + more for more in (-2, 0, 2, 4, 6, 8)),
        key=lambda cut: clusters_quality(linker, predicted, cut)["f1"],
    )
    model = linker.misc.save_model_to_json(out_path=None)
    tested = records_linker(read_records(test, names), model)
    predicted = tested.inference.predict(threshold_match_weight=WEIGHT_MIN)
    return clusters_quality(tested, predicted, cut)


# Given pairs


def tidy_song(number: int, text: str) -> Row:
    """One side of a pair."""
    parts = re.split(r"COL (\w+) VAL ", text.lstrip() + " ")
    cells = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    brackets = " ".join(BRACKET.findall(cells["Song_Name"]))
    version = words_of(re.sub(r"feat[^)\]]*", "", fold(brackets))).split()
    title = words_of(BRACKET.sub("", cells["Song_Name"])) or words_of(cells["Song_Name"])
    album = words_of(BRACKET.sub("", cells["Album_Name"])) or words_of(cells["Album_Name"])
    owners = words_of(cells.get("CopyRight", ""))
    length = re.search(r"(\d+):(\d\d)", cells.get("Time", ""))
    price = re.search(r"\d+\.\d\d", cells.get("Price", ""))
    return {
        "unique_id": number,
        "pair_id": number,
        "title": title or None,
        "title_tok": tokens(title),
        "version": " ".join(word for word in version if word not in TITLE_NOISE) or "none",
        "artist": words_of(cells["Artist_Name"]) or None,
        "album": album or None,
        "album_tok": tokens(album),
        "secs": int(length[1]) * 60 + int(length[2]) if length else None,
        "released": release_day(cells.get("Released", "")),
        "price": price[0] if price else None,
        "copyright": owners or None,
        "copyright_tok": tokens(owners, 2),
    }


def release_day(text: str) -> str | None:
    """In ISO form."""
    for form in ("%d-%b-%y", "%B %d , %Y"):
        try:
            return dt.datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007
        except ValueError:
            continue
    return None


def pairs_settings() -> SettingsCreator:
    """Only the given pairs are compared."""
    lengths = [cll.AbsoluteDifferenceLevel("secs", seconds) for seconds in (1, 5, 20)]
    owners = [token_jaccard("copyright_tok", least) for least in (0.6, 0.3)]
    return SettingsCreator(
        link_type="link_only",
        blocking_rules_to_generate_predictions=[block_on("pair_id")],
        probability_two_random_records_match=0.25,
        comparisons=[
            text_comparison("title", by_frequency=False),
            cl.CustomComparison(
                output_column_name="secs",
                comparison_levels=[cll.NullLevel("secs"), *lengths, cll.ElseLevel()],
            ),
            cl.JaroWinklerAtThresholds("version", [0.8]),
            cl.JaroWinklerAtThresholds("artist", [0.88]),
            text_comparison("album", by_frequency=False),
            cl.AbsoluteDateDifferenceAtThresholds(
                "released", input_is_string=True, metrics=["day", "year"], thresholds=[7, 1]
            ),
            cl.ExactMatch("price"),
            cl.CustomComparison(
                output_column_name="copyright",
                comparison_levels=[cll.NullLevel("copyright"), *owners, cll.ElseLevel()],
            ),
        ],
        # Without both of these the levels that a pair falls into are not told.
        retain_matching_columns=True,
        retain_intermediate_calculation_columns=True,
        additional_columns_to_retain=["pair_id"],
    )


def pairs_linker(path: str, settings: Any) -> tuple[Linker, list[bool]]:
    """A linker over left and right sides, and the labels."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        lines = [line.rstrip("\n").split("\t") for line in file]
    database = api()
    sides = [
        database.register(
            pa.Table.from_pylist([tidy_song(at, line[side]) for at, line in enumerate(lines)]),
            dataset_display_name=name,
        )
        for side, name in enumerate(("a_left", "b_right"))
    ]
    return Linker(sides, settings, log_level=logging.ERROR), [int(line[2]) == 1 for line in lines]


def count_labels(model: Row, linker: Linker, labels: Sequence[bool]) -> None:
    """Set m and u to each level's share of the pairs labelled 1 and 0, plus one for luck."""
    told = linker.inference.predict(warning_mode="never").as_pyarrow_table().to_pydict()
    truth = [labels[at] for at in told["pair_id_l"]]
    for comparison in model["comparisons"]:
        levels = [each for each in comparison["comparison_levels"] if not each.get("is_null_level")]
        found = told["gamma_" + comparison["output_column_name"]]
        # Levels are listed best first, and numbered from the worst.
        for number, level in zip(reversed(range(len(levels))), levels, strict=True):
            for name, label in (("m_probability", True), ("u_probability", False)):
                of_label = [g for g, y in zip(found, truth, strict=True) if y == label and g >= 0]
                level[name] = (of_label.count(number) + 1) / (len(of_label) + len(levels))
    model["probability_two_random_records_match"] = sum(truth) / len(truth)


def scores(linker: Linker, labels: Sequence[bool]) -> Scored:
    """(weight, is true) of every given pair, in descending order."""
    told = linker.inference.predict().as_pyarrow_table().to_pydict()
    if len(told["match_weight"]) != len(labels):
        raise AssertionError("not exactly the given pairs were compared")
    both = zip(told["match_weight"], told["pair_id_l"], strict=True)
    return sorted(((weight, labels[at]) for weight, at in both), reverse=True)


def measure_pairs(train: str, test: str, _: Sequence[str] | None) -> dict[str, float]:
    """Learn from labelled pairs, decide others."""
    linker, labels = pairs_linker(train, pairs_settings())
    model = linker.misc.save_model_to_json(out_path=None)
    count_labels(model, linker, labels)
    linker, labels = pairs_linker(train, model)
    cut = best_cut(scores(linker, labels), sum(labels))
    linker, labels = pairs_linker(test, model)
    accepted = [is_true for weight, is_true in scores(linker, labels) if weight >= cut]
    return quality(sum(accepted), len(accepted), sum(labels))


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "clusters": measure_clusters,
    "pairs": measure_pairs,
}


def main() -> None:
    """Print one JSON object."""
    logging.getLogger("splink").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=MEASURES, required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--fields", help="title,artist; all if not given")
    given = parser.parse_args()
    names = given.fields.split(",") if given.fields else None
    start = time.process_time()
    figures = MEASURES[given.kind](given.train, given.test, names)
    print(json.dumps(figures | {"cpu_seconds": time.process_time() - start}))


if __name__ == "__main__":
    main()
