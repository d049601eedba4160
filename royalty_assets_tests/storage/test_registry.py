"""The registry on a real SQLite file: append-only, idempotent, and its schema as migrated."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage
from royalty_assets.storage import tables
from royalty_assets.storage.registry import (
    DeadLetter,
    PartitionRevision,
    RegistryConflictError,
    open_registry,
)

BATCH = Batch(
    feed="f",
    stage=Stage.VALIDATED,
    partition_key="2025-03-01-05:00",
    window_start=datetime(2025, 3, 1, 5, 10, tzinfo=UTC),
    window_label="20250301T0510Z",
    revision=0,
    input_sha256="1" * 64,
    objects=(LakeObject("f/validated/x.parquet", "2" * 64, 10, 3),),
    counts={"lines": 3, "units": 3},
)
COMMIT = Commit(
    feed="f",
    stage=Stage.VALIDATED,
    partition_key="2025-03-01-05:00",
    revision=0,
    input_sha256="1" * 64,
    batch_ids=(BATCH.batch_id,),
    counts={"received": 4},
    checks={"every_row_is_accounted_for": []},
)
LETTER = DeadLetter("3" * 64, 7, "page", "territory:unknown", "QQ", "No such territory", "{}")


@pytest.fixture
def registry(tmp_path):
    registry = open_registry(f"sqlite:///{tmp_path}/registry.db")
    yield registry
    registry.close()


def test_migrations_make_the_tables_that_the_code_expects(registry):
    with registry._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_opening_again_migrates_nothing_and_loses_nothing(registry, tmp_path):
    registry.commit_batch(BATCH)
    again = open_registry(f"sqlite:///{tmp_path}/registry.db")
    assert again.batches_by_id([BATCH.batch_id]) == [BATCH]
    again.close()


def test_a_batch_comes_back_with_the_same_manifest(registry):
    registry.commit_batch(BATCH)
    (read,) = registry.batches_by_id([BATCH.batch_id])
    assert read == BATCH
    assert read.sha256 == BATCH.sha256
    assert read.batch_id == "f/validated/20250301T0510Z.0"


def test_committing_again_changes_nothing(registry):
    for _ in range(2):
        registry.commit_batch(BATCH)
        registry.commit_partition(COMMIT)
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.batches)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.commits)) == 1


def test_two_writers_who_disagree_do_not_both_commit(registry):
    registry.commit_batch(BATCH)
    other = replace(BATCH, objects=(replace(BATCH.objects[0], sha256="9" * 64),))
    with pytest.raises(RegistryConflictError, match="another run got there first"):
        registry.commit_batch(other)
    assert registry.batches_by_id([BATCH.batch_id]) == [BATCH]
    registry.commit_partition(COMMIT)
    with pytest.raises(RegistryConflictError, match="another run"):
        registry.commit_partition(replace(COMMIT, input_sha256="9" * 64))


def test_a_conflicting_batch_leaves_no_decision_behind(registry):
    registry.commit_batch(BATCH)
    other = replace(BATCH, counts={"lines": 9})
    exception = dict.fromkeys(("usage_key", "territory", "reason", "isrc", "title", "artist"), "x")
    with pytest.raises(RegistryConflictError):
        registry.commit_batch(other, exceptions=[exception | {"batch_id": "b", "units": 1}])
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.exceptions)) == 0


def test_the_highest_revision_is_in_force_and_the_others_stay(registry):
    registry.commit_partition(COMMIT)
    newer = replace(COMMIT, revision=1, input_sha256="4" * 64)
    registry.commit_partition(newer)
    assert registry.commit("f", Stage.VALIDATED, COMMIT.partition_key) == newer
    assert registry.commits(Stage.VALIDATED, "f") == [newer]
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.commits)) == 2


def test_dead_letters_count_once_committed_and_only_then(registry):
    revision = PartitionRevision("f", Stage.VALIDATED, COMMIT.partition_key, 0)
    for _ in range(2):
        registry.add_dead_letters(revision, [LETTER])
    assert registry.count_dead_letters(revision) == (1, 0)
    assert registry.dead_letters() == []
    registry.commit_partition(COMMIT)
    (read,) = registry.dead_letters()
    assert (read["row_number"], read["rule"], read["reason"]) == (7, LETTER.rule, LETTER.reason)
    assert registry.dead_letter_rules() == [("f", "validated", LETTER.rule, 1)]


def test_what_a_crash_left_is_discarded_and_what_is_committed_is_not(registry):
    revision = PartitionRevision("f", Stage.VALIDATED, COMMIT.partition_key, 0)
    registry.add_dead_letters(revision, [LETTER])
    registry.discard_uncommitted(revision)
    assert registry.count_dead_letters(revision) == (0, 0)
    registry.add_dead_letters(revision, [LETTER, replace(LETTER, row_number=8, reason="")])
    registry.commit_partition(COMMIT)
    registry.discard_uncommitted(revision)
    assert registry.count_dead_letters(revision) == (2, 1)


def test_a_red_commit_is_told_as_red(registry):
    registry.commit_partition(replace(COMMIT, checks={"x": ["broken"]}))
    commit = registry.commit("f", Stage.VALIDATED, COMMIT.partition_key)
    assert not commit.is_green
    assert commit.checks == {"x": ["broken"]}
