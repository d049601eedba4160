"""One setting chooses where the registry and Dagster's records are; no password is written down."""

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from royalty_assets.orchestration.dagster_home import prepare_dagster_home
from royalty_assets.settings import Settings
from royalty_assets.storage.database import DatabaseUrlError
from royalty_assets.storage.registry import open_registry
from royalty_assets_tests.databases import url_of

URL = "postgres://label:hunter2@db.example:5433/royalties"
DRIVERS_URL = "postgresql+psycopg2://label:hunter2@db.example:5433/royalties"


def written(home):
    text = (home / "dagster/dagster.yaml").read_text()
    assert "hunter2" not in text
    return yaml.safe_load(text)


def test_dagster_follows_the_registry_to_postgresql_and_back(tmp_path):
    on_sqlite = Settings(home=tmp_path, registry_url="")
    on_postgresql = Settings(home=tmp_path, registry_url=URL)
    for _ in range(2):
        assert prepare_dagster_home(on_sqlite) == {"DAGSTER_HOME": f"{tmp_path}/dagster"}
        before = written(tmp_path)
        assert "storage" not in before
        for _ in range(2):
            environment = prepare_dagster_home(on_postgresql)
            assert environment["ROYALTY_ASSETS_REGISTRY_URL"] == DRIVERS_URL
            told = {"postgres": {"postgres_url": {"env": "ROYALTY_ASSETS_REGISTRY_URL"}}}
            assert written(tmp_path) == before | {"storage": told}


def test_what_somebody_wrote_into_dagsters_settings_stays(tmp_path):
    own = "storage:\n  sqlite: {base_dir: /elsewhere}\nsensors: {use_threads: false}\n"
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster/dagster.yaml").write_text(own)
    prepare_dagster_home(Settings(home=tmp_path, registry_url=URL))
    assert (tmp_path / "dagster/dagster.yaml").read_text() == own


def test_settings_tell_no_password_and_neither_does_a_wrong_one(tmp_path):
    assert "hunter2" not in repr(Settings(home=tmp_path, registry_url=URL))
    with pytest.raises(DatabaseUrlError) as caught:
        prepare_dagster_home(Settings(home=tmp_path, registry_url="label:hunter2@db"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.on_databases("postgresql")
def test_dagsters_records_and_the_registry_share_a_database_without_meeting(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path, registry_url=url_of(tmp_path))
    for name, value in prepare_dagster_home(settings).items():
        monkeypatch.setenv(name, value)
    registry = open_registry(settings.registry)
    registry.append_leaf("note", "n", "0" * 64)
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("catalog"))
        assert instance.get_latest_materialization_event(dg.AssetKey("catalog")) is not None
    with registry.as_stored() as connection:
        inspector = sa.inspect(connection)
        theirs = set(inspector.get_table_names(schema="public"))
        ours = set(inspector.get_table_names(schema="royalty_assets"))
    assert {"event_logs", "runs", "alembic_version"} <= theirs
    assert {"batches", "log_leaves", "alembic_version"} <= ours
    registry.close()
    open_registry(settings.registry, migrates=False).close()
    assert list((tmp_path / "dagster").iterdir()) == [tmp_path / "dagster/dagster.yaml"]
