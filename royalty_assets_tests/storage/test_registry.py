"""The registry on each real database: append-only, idempotent, and its schema as migrated."""

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
    RegistryConflictError,
    ReportRecord,
    open_registry,
)
from royalty_assets_tests.databases import url_of

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
REPORT = ReportRecord(
    source_sha256="4" * 64,
    name="march.csv",
    kind="spotify",
    content_sha256="4" * 64,
    outcome="taken",
    message={},
    counts={"rows": 1},
    money={"EUR": "1.50"},
    stated_amount=None,
    notes={},
    pools=[],
)
LETTER = DeadLetter("3" * 64, 7, "page", "territory:unknown", "QQ", "No such territory", "{}")


pytestmark = pytest.mark.on_databases


def turn_at(registry, item):
    """The next turn at the partition of a batch or a commit."""
    return registry.take_turn(item.feed, item.stage, item.partition_key)


@pytest.fixture
def registry(tmp_path):
    registry = open_registry(url_of(tmp_path))
    yield registry
    registry.close()


def test_migrations_make_the_tables_that_the_code_expects(registry):
    with registry._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_opening_again_migrates_nothing_and_loses_nothing(registry, tmp_path):
    registry.commit_batch(BATCH, turn_at(registry, BATCH))
    again = open_registry(url_of(tmp_path))
    assert again.batches_by_id([BATCH.batch_id]) == [BATCH]
    again.close()


def test_a_batch_comes_back_with_the_same_manifest(registry):
    registry.commit_batch(BATCH, turn_at(registry, BATCH))
    (read,) = registry.batches_by_id([BATCH.batch_id])
    assert read == BATCH
    assert read.sha256 == BATCH.sha256
    assert read.batch_id == "f/validated/20250301T0510Z.0"


def test_committing_again_changes_nothing(registry):
    turn = turn_at(registry, BATCH)
    for _ in range(2):
        registry.commit_batch(BATCH, turn)
        registry.commit_partition(COMMIT, turn)
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.batches)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.commits)) == 1


def test_a_batch_of_other_content_does_not_take_the_place_of_one_that_is_committed(registry):
    turn = turn_at(registry, BATCH)
    registry.commit_batch(BATCH, turn)
    other = replace(BATCH, objects=(replace(BATCH.objects[0], sha256="9" * 64),))
    with pytest.raises(RegistryConflictError, match="another run got there first"):
        registry.commit_batch(other, turn)
    assert registry.batches_by_id([BATCH.batch_id]) == [BATCH]


def test_of_two_runs_of_a_partition_the_one_that_began_later_commits(registry):
    earlier = turn_at(registry, COMMIT)
    registry.add_dead_letters(earlier, [LETTER])
    later = turn_at(registry, COMMIT)
    taken_over = r"f/validated 2025-03-01-05:00 was taken over by another run \(.+:\d+, at"
    for write in (
        lambda: registry.commit_batch(BATCH, earlier),
        lambda: registry.add_dead_letters(earlier, [LETTER]),
        lambda: registry.add_reports(earlier, [REPORT]),
        lambda: registry.commit_partition(COMMIT, earlier),
    ):
        with pytest.raises(RegistryConflictError, match=taken_over):
            write()
    assert registry.commit("f", Stage.VALIDATED, COMMIT.partition_key) is None
    assert registry.batches("f", Stage.VALIDATED, COMMIT.partition_key) == {}
    other = replace(COMMIT, input_sha256="9" * 64)
    registry.commit_partition(other, later)
    assert registry.commit("f", Stage.VALIDATED, COMMIT.partition_key) == other
    assert registry.dead_letters() == []
    with pytest.raises(RegistryConflictError, match=taken_over):
        registry.commit_partition(COMMIT, earlier)


def test_a_run_that_slept_through_another_one_does_not_put_older_input_in_force(registry):
    """The newest revision is taken when work begins, not when it ends."""
    asleep = turn_at(registry, COMMIT)
    registry.commit_partition(
        replace(COMMIT, input_sha256="9" * 64), other := turn_at(registry, COMMIT)
    )
    with pytest.raises(RegistryConflictError):
        registry.commit_partition(COMMIT, asleep)
    assert registry.commit("f", Stage.VALIDATED, COMMIT.partition_key).input_sha256 == "9" * 64
    assert turn_at(registry, COMMIT).revision == other.revision + 1


def test_turns_at_other_partitions_do_not_end_one(registry):
    turn = turn_at(registry, COMMIT)
    for other in (
        replace(COMMIT, feed="g"),
        replace(COMMIT, stage=Stage.MATCHED),
        replace(COMMIT, partition_key="2025-03-01-06:00"),
    ):
        turn_at(registry, other)
    registry.commit_partition(COMMIT, turn)
    with pytest.raises(ValueError, match="in the turn of"):
        registry.commit_partition(replace(COMMIT, feed="g"), turn)


def test_reports_and_letters_of_a_run_that_died_are_not_of_the_next_one(registry):
    died = turn_at(registry, COMMIT)
    registry.add_dead_letters(died, [LETTER])
    registry.add_reports(died, [REPORT])
    turn = turn_at(registry, COMMIT)
    registry.add_reports(turn, [replace(REPORT, source_sha256="5" * 64)])
    registry.commit_partition(COMMIT, turn)
    (report,) = registry.reports("f", [COMMIT.partition_key])
    assert report.source_sha256 == "5" * 64
    assert registry.count_dead_letters(turn) == (0, 0)


def test_a_conflicting_batch_leaves_no_decision_behind(registry):
    turn = turn_at(registry, BATCH)
    registry.commit_batch(BATCH, turn)
    other = replace(BATCH, counts={"lines": 9})
    exception = dict.fromkeys(("usage_key", "territory", "reason", "isrc", "title", "artist"), "x")
    with pytest.raises(RegistryConflictError):
        registry.commit_batch(other, turn, exceptions=[exception | {"batch_id": "b", "units": 1}])
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.exceptions)) == 0


def test_the_highest_revision_is_in_force_and_the_others_stay(registry):
    registry.commit_partition(COMMIT, turn_at(registry, COMMIT))
    newer = replace(COMMIT, revision=1, input_sha256="4" * 64)
    registry.commit_partition(newer, turn_at(registry, COMMIT))
    assert registry.commit("f", Stage.VALIDATED, COMMIT.partition_key) == newer
    assert registry.commits(Stage.VALIDATED, "f") == [newer]
    with registry._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.commits)) == 2


def test_dead_letters_count_once_committed_and_only_then(registry):
    turn = turn_at(registry, COMMIT)
    for _ in range(2):
        registry.add_dead_letters(turn, [LETTER])
    assert registry.count_dead_letters(turn) == (1, 0)
    assert registry.dead_letters() == []
    registry.commit_partition(COMMIT, turn)
    (read,) = registry.dead_letters()
    assert (read["row_number"], read["rule"], read["reason"]) == (7, LETTER.rule, LETTER.reason)
    assert registry.dead_letter_rules() == [("f", "validated", LETTER.rule, 1)]


def test_what_a_crash_left_is_discarded_and_what_is_committed_is_not(registry):
    registry.add_dead_letters(turn_at(registry, COMMIT), [LETTER])
    turn = turn_at(registry, COMMIT)
    assert registry.count_dead_letters(turn) == (0, 0)
    registry.add_dead_letters(turn, [LETTER, replace(LETTER, row_number=8, reason="")])
    registry.commit_partition(COMMIT, turn)
    turn_at(registry, COMMIT)
    assert registry.count_dead_letters(turn) == (2, 1)


def test_a_red_commit_is_told_as_red(registry):
    registry.commit_partition(replace(COMMIT, checks={"x": ["broken"]}), turn_at(registry, COMMIT))
    commit = registry.commit("f", Stage.VALIDATED, COMMIT.partition_key)
    assert not commit.is_green
    assert commit.checks == {"x": ["broken"]}
