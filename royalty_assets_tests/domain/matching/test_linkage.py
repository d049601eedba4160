"""Linkage: what is learnt and found does not depend on order or names, only on content.

Method: examples from a seed are shuffled and renamed; counts are held against slow, obvious ones.
"""

import os
import random
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.matching.clusters import (
    CandidatePairs,
    average_link,
    compare_records,
    linkage_record,
)
from royalty_assets.domain.matching.linkage import (
    NothingToLearnError,
    accept_pairs,
    best_threshold,
    find_clusters,
    learn_clusters,
    learn_pairs,
)
from royalty_assets.domain.matching.logistic import Quality, fit_logistic
from royalty_assets_tests.domain.matching.examples import clustered, labelled_pairs

TRAIN, TEST = clustered(seed=1), clustered(seed=2)


def clusters_of(rows):
    return [row["cluster"] for row in rows]


def partition(rows, found):
    """Clusters as a set of sets of records, whatever they are called."""
    groups = {}
    for row, cluster in zip(rows, found, strict=True):
        groups.setdefault(cluster, []).append(row["id"])
    return {frozenset(group) for group in groups.values()}


# Quality


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_pairwise_quality_is_that_of_looking_at_every_pair(both):
    truth, found = [one for one, _ in both], [other for _, other in both]
    pairs = list(combinations(range(len(both)), 2))
    same = {pair for pair in pairs if truth[pair[0]] == truth[pair[1]]}
    taken = {pair for pair in pairs if found[pair[0]] == found[pair[1]]}
    quality = Quality.of_clusters(truth, found)
    assert quality.precision == (len(same & taken) / len(taken) if taken else 0)
    assert quality.recall == (len(same & taken) / len(same) if same else 0)
    if same & taken:
        harmonic = 2 / (1 / quality.precision + 1 / quality.recall)
        assert quality.f1 == pytest.approx(harmonic)
    else:
        assert quality.f1 == 0


def test_the_best_threshold_is_in_the_middle_of_the_widest_gap():
    truth = np.array([False, False, True, True])
    assert best_threshold(truth, np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.5)


# Logistic regression


def test_two_classes_that_can_be_parted_are_parted_with_finite_weights():
    chance = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.0], 200)
    features = chance.normal(size=(400, 3)) + truth[:, None] * [6.0, 0.0, -6.0]
    model = fit_logistic(features, truth, ridge=1.0)
    assert ((model.probabilities(features) > 0.5) == (truth > 0.5)).all()
    assert np.isfinite(model.weights).all()


def test_the_fit_is_where_the_penalised_likelihood_is_greatest():
    """The slope there is nothing, in every direction."""
    chance = np.random.default_rng(2)
    features = chance.normal(size=(300, 2))
    truth = (chance.random(300) < 1 / (1 + np.exp(-features[:, 0]))).astype(float)
    model = fit_logistic(features, truth, ridge=2.0)
    standard = (features - model.means) / model.deviations
    assert np.abs(standard).max() < 6
    left_over = truth - model.probabilities(features)
    assert standard.T @ left_over == pytest.approx(2.0 * model.weights[1:], abs=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_feature_that_says_nothing_changes_nothing(value):
    chance = np.random.default_rng(3)
    features = chance.normal(size=(200, 2))
    truth = (features[:, 0] > 0).astype(float)
    alone = fit_logistic(features, truth, ridge=1.0, is_curved=True)
    more = np.hstack([features, np.full((200, 1), value)])
    beside = fit_logistic(more, truth, ridge=1.0, is_curved=True)
    decided = beside.logits(more) > 0
    assert (decided == (alone.logits(features) > 0)).all()


def test_nothing_is_learnt_from_nothing():
    with pytest.raises(ValueError, match="no rows"):
        fit_logistic(np.zeros((0, 2)), np.zeros(0), ridge=1.0)


# Average linkage


@given(
    count=st.integers(1, 14),
    size_max=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_no_cluster_exceeds_its_size_and_every_one_is_named_by_its_first(count, size_max, seed):
    chance = random.Random(seed)
    both = [pair for pair in combinations(range(count), 2) if chance.random() < 0.6]
    pairs = np.array(both, dtype=np.int64).reshape(len(both), 2)
    logits = np.array([chance.uniform(-9, 9) for _ in both])
    found = average_link(count, CandidatePairs(pairs[:, 0], pairs[:, 1]), logits, size_max)
    assert len(found) == count
    for cluster in set(found):
        held = [record for record in range(count) if found[record] == cluster]
        assert min(held) == cluster
        assert len(held) <= size_max
        if len(held) == 2:
            assert logits[both.index((held[0], held[1]))] > 0


def test_clusters_are_joined_by_what_all_their_pairs_say_and_not_by_one_of_them():
    """0-1 and 2-3 belong together; 1-2 alone says that all do, and three pairs that they do not."""
    pairs = CandidatePairs(np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 3, 2, 3, 3]))
    logits = np.array([8.0, -4.0, -4.0, 6.0, -4.0, 8.0])
    assert average_link(4, pairs, logits, 4) == [0, 0, 2, 2]
    assert average_link(4, pairs, np.full(6, 5.0), 4) == [0, 0, 0, 0]


# Records


@pytest.mark.parametrize(
    ("fields", "segments", "number", "year", "language"),
    [
        (
            {"title": "008-Time's Cold Grasp", "album": "The Album (2013)", "language": "eng."},
            ("times cold grasp", "the album"),
            "8",
            "13",
            "eng",
        ),
        (
            {"title": "Chloé - Here (Live)", "artist": "chloe", "year": "'98", "number": "05"},
            ("chloe", "here", "live"),
            "5",
            "98",
            "",
        ),
        ({"title": "null", "artist": "[unknown]", "album": "x (unknown)"}, ("x",), "", "", ""),
        ({"title": "ab\u200f\u202ecd", "artist": "\u200f"}, ("abcd",), "", "", ""),
        ({}, (), "", "", ""),
    ],
)
def test_records_have_a_normal_form(fields, segments, number, year, language):
    record = linkage_record(fields)
    assert (record.segments, record.number, record.year) == (segments, number, year)
    assert record.language == language


@given(st.dictionaries(st.sampled_from(["title", "artist", "album", "year", "number"]), st.text()))
def test_any_text_makes_a_record_that_can_be_compared(fields):
    records = sorted({linkage_record(fields), linkage_record({"title": "silver river"})})
    pairs, features = compare_records(records)
    assert features.shape == (len(pairs), 14)


def test_a_title_of_ten_megabytes_costs_no_more_than_its_beginning():
    for hostile in ("a b" * 3_500_000, "\u202e" * 10_000_000, "(" * 10_000_000, "鬱" * 3_000_000):
        record = linkage_record(dict.fromkeys(["title", "artist", "album", "year"], hostile))
        assert len(record.text) <= 1_000


# Lists of records


def test_typos_and_fields_run_together_are_found_out():
    model = learn_clusters(TRAIN, clusters_of(TRAIN))
    found, compared = find_clusters(model, TEST)
    assert Quality.of_clusters(clusters_of(TEST), found).f1 > 0.95
    assert compared > len(TEST)


@pytest.mark.parametrize("seed", range(3))
def test_neither_order_nor_names_of_records_and_clusters_matter(seed):
    """Train and test are shuffled, ids and clusters renamed: the very same clusters."""
    model = learn_clusters(TRAIN, clusters_of(TRAIN))
    found, compared = find_clusters(model, TEST)
    chance = random.Random(seed)
    train, test = TRAIN[:], TEST[:]
    chance.shuffle(train)
    chance.shuffle(test)
    renamed = {name: chance.random() for name in sorted(set(clusters_of(train)))}
    other = learn_clusters(train, [renamed[name] for name in clusters_of(train)])
    assert other.weights.weights.tolist() == model.weights.weights.tolist()
    assert (other.bias, other.size_max) == (model.bias, model.size_max)
    again, compared_again = find_clusters(other, test)
    assert compared_again == compared
    assert partition(test, again) == partition(TEST, found)


def test_records_that_say_the_same_are_one_however_often_they_come():
    model = learn_clusters(TRAIN, clusters_of(TRAIN))
    once, compared = find_clusters(model, TEST)
    thrice, compared_again = find_clusters(model, [*TEST, *TEST, *TEST])
    assert compared_again == compared
    assert thrice == once * 3


def test_records_that_say_nothing_are_not_the_same():
    model = learn_clusters(TRAIN, clusters_of(TRAIN))
    found, _ = find_clusters(model, [{"title": "null", "year": "1999"}, {}, {}, *TEST])
    assert len({*found[:3]} | {*found[3:]}) == 3 + len({*found[3:]})


def test_titles_and_artists_are_enough_to_learn_from():
    def only(rows):
        return [{name: row[name] for name in ("title", "artist")} for row in rows]

    model = learn_clusters(only(TRAIN), clusters_of(TRAIN))
    found, _ = find_clusters(model, only(TEST))
    assert Quality.of_clusters(clusters_of(TEST), found).f1 > 0.9


def test_an_empty_list_has_no_clusters():
    model = learn_clusters(TRAIN, clusters_of(TRAIN))
    assert find_clusters(model, []) == ([], 0)


@pytest.mark.parametrize("clusters", [["a"] * 60, list(range(60))])
def test_examples_that_show_one_answer_only_are_refused(clusters):
    with pytest.raises(NothingToLearnError):
        learn_clusters(TRAIN, clusters)


SAYS_ITS_CLUSTERS = """
from royalty_assets.domain.matching.linkage import find_clusters, learn_clusters
from royalty_assets_tests.domain.matching.examples import clustered
train = clustered(seed=1)
model = learn_clusters(train, [row["cluster"] for row in train])
print(model.weights.weights.tolist(), find_clusters(model, clustered(seed=2)))
"""


def test_the_seed_of_hashes_does_not_matter():
    told = {
        subprocess.run(
            [sys.executable, "-c", SAYS_ITS_CLUSTERS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(told) == 1


# Given pairs


def test_typos_are_the_same_recording_and_remixes_are_not():
    model = learn_pairs(*labelled_pairs(seed=1))
    pairs, labels = labelled_pairs(seed=2)
    accepted = accept_pairs(model, pairs)
    assert Quality.of_decisions(np.array(labels), accepted).f1 > 0.95


def test_the_order_of_pairs_does_not_matter():
    pairs, labels = labelled_pairs()
    model = learn_pairs(pairs, labels)
    order = list(range(len(pairs)))
    random.Random(1).shuffle(order)
    other = learn_pairs([pairs[at] for at in order], [labels[at] for at in order])
    assert other.weights.weights.tolist() == model.weights.weights.tolist()
    assert other.threshold == model.threshold


def test_pairs_with_one_label_only_teach_nothing():
    pairs, labels = labelled_pairs()
    with pytest.raises(NothingToLearnError, match="some of both"):
        learn_pairs(pairs, [True] * len(labels))
    assert accept_pairs(learn_pairs(pairs, labels), []).tolist() == []
