"""Migrations up and down with data in, on each database, and who may run them.

What is there at each revision is read as that revision's own tables say, by reflection.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from royalty_assets.audit.leaves import rows_of_content
from royalty_assets.domain.adjudication import Action, Decision
from royalty_assets.storage import log, tables
from royalty_assets.storage.database import SCHEMA, connect, is_postgresql, parsed_url
from royalty_assets.storage.registry import (
    ReportRecord,
    SignedCheckpoint,
    open_registry,
)
from royalty_assets.storage.schema import (
    BASE,
    SchemaError,
    downgrade,
    lost_by_downgrade,
    migrate,
    schema_status,
)
from royalty_assets_tests.databases import empty_url_of, on_postgresql, server
from royalty_assets_tests.storage.test_registry import BATCH, COMMIT, LETTER, turn_at

pytestmark = pytest.mark.on_databases

NAME = dict.fromkeys(("usage_key", "isrc", "title", "artist"), "x")
QUESTION = NAME | {"territory": "DE", "reason": "r", "batch_id": BATCH.batch_id, "units": 3}
JUDGEMENT = NAME | {
    "catalog_version": "c", "matcher_version": "1", "method": "fuzzy", "score": 0.1 + 0.2,
    "batch_id": BATCH.batch_id, "batch_sha256": BATCH.sha256,
}  # fmt: skip
AT = datetime(2025, 4, 1, 12, 30, 15, 123456, tzinfo=UTC)
FIRST = ("batches", "commits", "dead_letters", "decisions", "exceptions")
KEPT = {
    "0001": FIRST,
    "0002": (*FIRST, "deliveries", "reports"),
    "0003": (*FIRST, "deliveries", "reports", "adjudications", "batch_subjects"),
    "0004": (*FIRST, "deliveries", "reports", "adjudications", "batch_subjects", "log_leaves",
             "checkpoints"),
    "0005": (*FIRST, "deliveries", "reports", "adjudications", "batch_subjects", "log_leaves",
             "checkpoints", "turns"),
}  # fmt: skip
"""Revision → the tables whose rows it can hold."""


@pytest.fixture
def url(tmp_path):
    return empty_url_of(tmp_path)


@pytest.fixture
def engine(url):
    engine = connect(parsed_url(url))
    yield engine
    engine.dispose()


def fill(registry):
    """A row in every table."""
    turn = turn_at(registry, COMMIT)
    registry.add_deliveries("f", "p", [("a.csv", "1" * 64, 3)], AT)
    registry.add_dead_letters(turn, [LETTER])
    registry.add_reports(turn, [ReportRecord(
        "1" * 64, "a.csv", "k", "2" * 64, "taken", {}, {"rows": 4}, {"EUR": "1.10"}, None, {}, [],
    )])  # fmt: skip
    registry.commit_batch(BATCH, turn, decisions=[JUDGEMENT], exceptions=[QUESTION], subjects=["s"])
    registry.commit_partition(replace(COMMIT, warnings={"w": ["late"]}), turn)
    registry.add_adjudication(Decision(0, "s", Action.REJECT, "Ann", AT), None)
    root = registry.log_root(registry.log_size()).hex()
    registry.add_checkpoint(SignedCheckpoint(1, registry.log_size(), root, "note", AT))


def rows(engine):
    """Table → digest of its rows without the columns that came later than the first revision."""
    found = {}
    schema = SCHEMA if is_postgresql(engine) else None
    with engine.connect() as connection:
        for name in sa.inspect(connection).get_table_names(schema=schema):
            table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection)
            texts = [
                sa.cast(c, sa.Text)
                for c in table.columns
                if c.name not in {"leaf_index", "warnings"}
            ]
            told = sorted(map(str, connection.execute(sa.select(*texts))))
            found[name] = sha256("\n".join(told).encode()).hexdigest() if told else None
    return {name: digest for name, digest in found.items() if name in tables.metadata.tables}


def test_every_revision_down_keeps_what_it_can_hold_and_up_again_loses_nothing_more(engine, url):
    """Head, down a step at a time to nothing, and up again; and from each step up to head."""
    registry = open_registry(url)
    fill(registry)
    registry.close()
    whole = rows(engine)
    assert all(whole[name] for name in KEPT["0005"])
    for revision in sorted(KEPT, reverse=True):
        downgrade(engine, revision)
        assert schema_status(engine).revision == revision
        assert rows(engine) == {name: whole[name] for name in KEPT[revision]}
    downgrade(engine, BASE)
    assert rows(engine) == {}
    assert schema_status(engine).revision is None
    registry = open_registry(url)
    assert schema_status(engine).is_current
    fill(registry)
    registry.close()
    assert rows(engine)["exceptions"] == whole["exceptions"]


@pytest.mark.parametrize("revision", sorted(KEPT))
def test_what_was_written_at_a_revision_is_there_and_logged_at_the_newest(engine, url, revision):
    registry = open_registry(url)
    fill(registry)
    registry.close()
    downgrade(engine, revision)
    before = rows(engine)
    registry = open_registry(url)
    after = rows(engine)
    assert {name: after[name] for name in before} == before
    with registry._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    with registry.as_stored() as connection:
        leaves = list(log.stored_rows(connection, tables.log_leaves))
        answered = {name: log.digests(connection, name) for name in log.LOGGED}
    told = sorted(
        name for leaf in leaves for name, part in rows_of_content(leaf["content"]).items()
        for there in [answered[name][leaf["leaf_index"] if log.LOGGED[name].by_index
                                     else leaf["subject"]]]
        if part == there
    )  # fmt: skip
    assert told == sorted({*KEPT[revision]} & {*log.LOGGED})
    # What goes on from there is the same as if it had always been so.
    registry.append_leaf("note", "n", "0" * 64)
    assert registry.log_root(registry.log_size())
    registry.close()


def test_what_a_step_down_loses_is_told_before(engine):
    migrate(engine)
    told = dict(lost_by_downgrade(engine, "0002"))
    assert "what people decided" in told["0003"]
    assert "the log with its signed checkpoints" in told["0004"]
    assert "0002" not in told
    assert [revision for revision, _ in lost_by_downgrade(engine, BASE)][-1] == "0001"
    assert lost_by_downgrade(engine, "head") == []
    with pytest.raises(SchemaError, match=r"going back to 0002 loses data"):
        migrate(engine, "0002")
    with pytest.raises(SchemaError, match=r"no revision '0x'; there are 0001, 0002"):
        migrate(engine, "0x")


def test_who_opens_an_empty_database_at_once_with_others_finds_it_made(url):
    with ThreadPoolExecutor(4) as openers:
        registries = list(openers.map(open_registry, [url] * 4))
    for number, registry in enumerate(registries):
        registry.append_leaf("note", f"{number}", "0" * 64)
        registry.close()
    engine = connect(parsed_url(url))
    assert schema_status(engine).is_current
    engine.dispose()


def test_a_schema_that_may_not_be_changed_is_said_to_be_old(engine, url):
    with pytest.raises(SchemaError, match="does not exist yet, and this version works with"):
        open_registry(url, migrates=False)
    migrate(engine, "0003")
    with pytest.raises(SchemaError, match="is at 0003.*registry migrate"):
        open_registry(url, migrates=False)
    assert schema_status(engine).revision == "0003"
    migrate(engine)
    open_registry(url, migrates=False).close()


def test_a_schema_of_a_newer_version_is_left_alone(engine, url):
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="at 9999, which a newer version of royalty_assets wrote"):
        open_registry(url)


def test_dagsters_tables_and_ours_do_not_see_each_others_version(engine, url, tmp_path):
    if not on_postgresql():
        pytest.skip("on SQLite they are in files of their own")
    server().execute(
        "CREATE TABLE alembic_version (version_num text); "
        "INSERT INTO alembic_version VALUES ('29b539ebc72a'); CREATE TABLE runs (id int)",
        url.rpartition("/")[2].partition("?")[0],
    )
    registry = open_registry(url)
    fill(registry)
    with registry.as_stored() as connection:
        query = sa.text("SELECT version_num FROM public.alembic_version")
        assert connection.scalar(query) == "29b539ebc72a"
        assert sa.inspect(connection).get_table_names(schema="public") == [
            "alembic_version",
            "runs",
        ]
    registry.close()


def test_tables_that_were_made_in_public_are_taken_over(engine, url):
    """As an earlier version left them, which knew no schema of its own."""
    if not on_postgresql():
        pytest.skip("SQLite has no schemas")
    registry = open_registry(url)
    fill(registry)
    registry.close()
    whole = rows(engine)
    downgrade(engine, "0004")
    with engine.begin() as connection:
        for name in [*KEPT["0004"], "alembic_version"]:
            connection.exec_driver_sql(f"ALTER TABLE {name} SET SCHEMA public")
        connection.exec_driver_sql(f"DROP SCHEMA {SCHEMA} CASCADE")
    engine.dispose()
    registry = open_registry(url)
    assert {name: d for name, d in rows(engine).items() if d} == {
        name: digest for name, digest in whole.items() if name != "turns"
    }
    again = Decision(0, "s", Action.REVOKE, "Bob", AT)
    assert registry.add_adjudication(again, 1).number == 2
    registry.close()
