"""The roles of ``deploy/postgres/roles.sql`` on a real server: who may do what, and no more.

The script is run by psql as the page says: before the first migration, and after it.
"""

import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from royalty_assets.domain.batches import Stage
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.verify import verify_quickly
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.simulator.server import SimulatedServices, serve
from royalty_assets.simulator.world import write_catalog
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.storage import tables
from royalty_assets.storage.database import DatabaseRefusedError, connect, parsed_url
from royalty_assets.storage.lake import LocalLake
from royalty_assets.storage.registry import RegistryConflictError, open_registry
from royalty_assets.storage.schema import SchemaError, downgrade, migrate
from royalty_assets_tests.databases import empty_url_of, server
from royalty_assets_tests.projects import MARCH, demo_project, month_hash, run_month
from royalty_assets_tests.storage.test_registry import BATCH, COMMIT, LETTER, turn_at
from royalty_assets_tests.storage.test_schema import fill

pytestmark = pytest.mark.on_databases("postgresql")

SCRIPT = Path(__file__).parents[2] / "deploy/postgres/roles.sql"
APPEND_ONLY = sorted(set(tables.metadata.tables) - {"turns"})


def set_up_roles(url):
    command = [server().program("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1"]
    url = url.replace("postgresql+psycopg2://", "postgresql://")
    done = subprocess.run(
        [*command, "-d", url, "-f", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def urls(tmp_path):
    """Role → URL, of a database that the owner has migrated."""
    url = empty_url_of(tmp_path)
    set_up_roles(url)
    name = parsed_url(url).database
    urls = {role: server().url(name, f"royalty_{role}") for role in ("owner", "app", "auditor")}
    engine = connect(parsed_url(urls["owner"]))
    migrate(engine)
    engine.dispose()
    set_up_roles(url)
    return urls


def execute(url, statement, **values):
    engine = connect(parsed_url(url))
    try:
        with engine.begin() as connection:
            return connection.execute(sa.text(statement), values).rowcount
    finally:
        engine.dispose()


def test_the_app_runs_a_month_that_the_auditor_verifies(urls, tmp_path):
    scenario = Scenario(events=600, recordings=100, hours=1)
    services = SimulatedServices(scenario)
    write_catalog(services.world, tmp_path / "catalog")
    lake = LocalLake(tmp_path / "lake")
    with serve(services) as url:
        project = demo_project(scenario, url)
        registry = open_registry(urls["app"], migrates=False)
        context = PipelineContext(project, tmp_path, lake, registry, bundled_templates())
        outcomes = run_month(context)
        digest = month_hash(context)
        registry.close()
    assert all(outcome.commit is not None for outcome in outcomes)
    reading = open_registry(urls["auditor"])
    seen = PipelineContext(project, tmp_path, lake, reading, bundled_templates())
    assert [told for checked in verify_quickly(seen) for told in checked.differences] == []
    assert month_hash(seen) == digest
    assert reading.commit("ledger", Stage.LEDGER, MARCH.key) is not None
    with pytest.raises(DatabaseRefusedError, match="read-only transaction"):
        reading.append_leaf("note", "n", "0" * 64)
    reading.close()


@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}"])
def test_the_app_can_change_and_remove_nothing_that_counts(urls, verb):
    registry = open_registry(urls["app"])
    fill(registry)
    registry.close()
    for name in APPEND_ONLY:
        column = next(iter(tables.metadata.tables[name].columns)).name
        statement = verb.format(name, column)
        with pytest.raises(DatabaseRefusedError, match=f"permission denied for table {name}"):
            execute(urls["app"], statement)


def test_the_app_removes_what_a_run_that_died_left(urls):
    registry = open_registry(urls["app"])
    registry.add_dead_letters(turn_at(registry, COMMIT), [LETTER])
    turn = turn_at(registry, COMMIT)
    assert registry.count_dead_letters(turn) == (0, 0)
    registry.add_dead_letters(turn, [LETTER])
    registry.commit_partition(COMMIT, turn)
    turn_at(registry, COMMIT)
    assert registry.count_dead_letters(turn) == (1, 0)
    with pytest.raises(RegistryConflictError):
        registry.add_dead_letters(turn, [LETTER])
    registry.close()


def test_the_app_does_not_migrate_and_says_who_does(urls):
    engine = connect(parsed_url(urls["owner"]))
    downgrade(engine, "0004")
    engine.dispose()
    with pytest.raises(SchemaError, match="of the role that owns it"):
        open_registry(urls["app"])
    with pytest.raises(DatabaseRefusedError):
        execute(urls["app"], "UPDATE alembic_version SET version_num = '0006'")
    open_registry(urls["owner"]).close()
    open_registry(urls["app"]).close()


def test_the_owner_migrates_beside_dagsters_tables_that_are_the_apps(tmp_path):
    url = empty_url_of(tmp_path)
    set_up_roles(url)
    name = parsed_url(url).database
    execute(server().url(name, "royalty_app"), "CREATE TABLE public.alembic_version (x text)")
    open_registry(server().url(name, "royalty_owner")).close()


def test_the_app_makes_dagsters_tables_and_the_auditor_makes_none(urls):
    execute(urls["app"], "CREATE TABLE public.runs (id int)")
    execute(urls["app"], "DELETE FROM public.runs")
    for role in ("app", "auditor"):
        with pytest.raises(DatabaseRefusedError):
            execute(urls[role], "CREATE TABLE royalty_assets.more (id int)")
    registry = open_registry(urls["auditor"])
    with pytest.raises(DatabaseRefusedError):
        turn_at(registry, BATCH)
    registry.close()
