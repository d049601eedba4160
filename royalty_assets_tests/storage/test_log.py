"""The log in the registry: with what it answers for or not at all, and what was there before."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from royalty_assets.audit.leaves import LeafKind, content_of_rows, rows_digest, rows_of_content
from royalty_assets.audit.merkle import MemoryTree, check_consistency, check_inclusion, root
from royalty_assets.storage import log, tables
from royalty_assets.storage.registry import (
    RegistryConflictError,
    open_registry,
)
from royalty_assets_tests.databases import url_of
from royalty_assets_tests.storage.test_registry import BATCH, COMMIT, LETTER, REPORT, turn_at

pytestmark = pytest.mark.on_databases

QUESTION = dict.fromkeys(("usage_key", "territory", "reason", "isrc", "title", "artist"), "x")


@pytest.fixture
def registry(tmp_path):
    registry = open_registry(url_of(tmp_path))
    yield registry
    registry.close()


def leaves(registry):
    with registry.as_stored() as connection:
        return list(log.stored_rows(connection, tables.log_leaves))


def told(registry):
    return [(row["kind"], row["subject"]) for row in leaves(registry)]


def test_each_commit_has_a_leaf_and_doing_it_again_has_none(registry):
    turn = turn_at(registry, COMMIT)
    registry.add_dead_letters(turn, [LETTER])
    question = QUESTION | {"batch_id": BATCH.batch_id, "units": 1}
    for _ in range(2):
        registry.commit_batch(BATCH, turn, exceptions=[question], subjects=["s"])
        registry.commit_partition(COMMIT, turn)
        registry.add_deliveries("f", "p", [("a.csv", "1" * 64, 3)], BATCH.window_start)
    assert told(registry) == [
        ("batch", BATCH.batch_id),
        ("commit", "f/validated/2025-03-01-05:00.0"),
        ("deliveries", "f/p"),
    ]
    parts = [rows_of_content(row["content"]) for row in leaves(registry)]
    assert [{name: part.rows for name, part in each.items()} for each in parts] == [
        {"batches": 1, "exceptions": 1, "batch_subjects": 1},
        {"commits": 1, "dead_letters": 1},
        {"deliveries": 1},
    ]


def test_what_conflicts_leaves_no_leaf_behind(registry):
    turn = turn_at(registry, BATCH)
    registry.commit_batch(BATCH, turn)
    with pytest.raises(RegistryConflictError):
        registry.commit_batch(replace(BATCH, counts={"lines": 9}), turn)
    assert len(leaves(registry)) == 1


def test_a_revision_that_is_committed_takes_no_more_rows(registry):
    turn = turn_at(registry, COMMIT)
    registry.commit_partition(COMMIT, turn)
    for add, row in ((registry.add_dead_letters, LETTER), (registry.add_reports, REPORT)):
        with pytest.raises(RegistryConflictError, match="committed already"):
            add(turn, [row])
    assert registry.count_dead_letters(turn) == (0, 0)
    assert registry.reports("f", [COMMIT.partition_key]) == []


def test_roots_and_proofs_are_those_of_the_leaves(registry):
    hashes = []
    for number in range(23):
        leaf = registry.append_leaf("statement", f"payee {number}", f"{number:064x}")
        assert leaf.index == number
        hashes.append(leaf.hash)
    tree = MemoryTree(hashes)
    assert registry.log_size() == 23
    for size in range(24):
        assert registry.log_root(size) == root(tree, size)
    proof = registry.inclusion_proof(11, 23)
    check_inclusion(hashes[11], 11, 23, proof, root(tree, 23))
    check_consistency(9, 23, registry.consistency_proof(9, 23), root(tree, 9), root(tree, 23))
    assert [leaf.index for leaf in registry.leaves_of("statement", "payee 7")] == [7]


def test_kinds_that_answer_for_rows_are_not_logged_without_them(registry):
    with pytest.raises(ValueError, match="comes with the rows"):
        registry.append_leaf(LeafKind.BATCH, "x", "0" * 64)
    with pytest.raises(ValueError, match="of one line"):
        registry.append_leaf("period", "a\nb", "0" * 64)


def test_writers_at_once_make_one_log_without_gaps(tmp_path):
    url = url_of(tmp_path)
    registries = [open_registry(url) for _ in range(3)]

    def write(writer):
        for number in range(12):
            batch = replace(BATCH, window_label=f"{writer}.{number}", partition_key=f"{writer}")
            turn = turn_at(registries[writer], batch)
            registries[writer].commit_batch(batch, turn, subjects=["s"])
            files = [(f"{number}", "1" * 64, 3)]
            registries[writer].add_deliveries("f", f"{writer}", files, BATCH.window_start)
        registries[writer].close()

    with ThreadPoolExecutor(3) as writers:
        list(writers.map(write, range(3)))
    registry = open_registry(url)
    rows = leaves(registry)
    assert [row["leaf_index"] for row in rows] == list(range(3 * 24))
    tree = MemoryTree(bytes.fromhex(row["leaf_hash"]) for row in rows)
    assert registry.log_root(len(rows)) == root(tree, len(rows))
    registry.close()


def test_the_order_in_which_rows_are_read_makes_no_difference():
    rows = ['{"a":1}', '{"a":2}', '{"a":2}']
    assert rows_digest(rows) == rows_digest(rows[::-1]) != rows_digest(rows[:2])


@pytest.mark.parametrize("content", ["", "batches 0 " + "0" * 64 + "\n", "batches 1 x\n", "\n"])
def test_what_is_no_content_of_rows_is_none(content):
    assert rows_of_content(content) is None


def test_a_content_of_rows_is_spelt_in_one_way():
    content = content_of_rows({"b": rows_digest(["x"]), "a": rows_digest(["y", "z"])})
    assert rows_of_content(content)["a"].rows == 2
    assert rows_of_content("".join(content.splitlines(keepends=True)[::-1])) is None
    assert rows_of_content(content.removesuffix("\n")) is None
