"""The definitions: what exists, how it hangs together, and what runs of it leave on record.

Runs go through a real Dagster instance with SQLite storage, over the simulated services.
"""

import importlib
import json
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
import pytest

from royalty_assets import definitions as definitions_module
from royalty_assets.definitions import build_defs
from royalty_assets.domain.batches import Stage
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.settings import Settings
from royalty_assets_tests.databases import settings_of
from royalty_assets_tests.projects import SMALL, demo_context, demo_project

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RANGE = ("2025-03-01-00:00", "2025-03-01-01:00")


@pytest.fixture(autouse=True)
def _no_dagster_warnings():
    """Dagster warns of its own betas while it loads; what we do is tested, not that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def running_project(home):
    """Definitions over the simulated services, and an instance to run them in."""
    with demo_context(home) as (context, services), dg.instance_for_test() as instance:
        session = PipelineSession(settings_of(home), context.project)
        session._context = context
        yield build_defs(session.settings, context.project, session=session), instance, services


def run(definitions, instance, *keys, partition=None, span=None, tags=None):
    job = definitions.resolve_implicit_global_asset_job_def()
    if span:
        tags = {
            "dagster/asset_partition_range_start": span[0],
            "dagster/asset_partition_range_end": span[1],
        }
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
        partition_key=partition,
        tags=tags,
        run_config=QUIET,
        raise_on_error=False,
    )


def reason(failure):
    error = failure.step_failure_data.error
    return (error.cause or error).message


def specs(definitions):
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_assets_are_these_and_no_others(snapshot):
    """An accidental rename, lost owner or lost dependency becomes a difference here."""
    definitions = build_defs(Settings(), demo_project(SMALL, "http://127.0.0.1:1"))
    described = {
        key: {
            "group": spec.group_name,
            "owners": list(spec.owners),
            "kinds": sorted(spec.kinds),
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "partitions": type(spec.partitions_def).__name__ if spec.partitions_def else None,
            "columns": [c.name for c in spec.metadata["dagster/column_schema"].columns]
            if "dagster/column_schema" in spec.metadata
            else None,
        }
        for key, spec in sorted(specs(definitions).items())
    }
    assert json.dumps(described, indent=1) == snapshot


def test_every_asset_says_what_it_is_and_whose():
    definitions = build_defs(Settings(), demo_project(SMALL, "http://127.0.0.1:1"))
    for key, spec in specs(definitions).items():
        assert spec.description, key
        assert spec.owners, key
        assert spec.kinds, key


def test_every_stage_but_the_catalog_has_blocking_checks_that_say_what_to_do():
    definitions = build_defs(Settings(), demo_project(SMALL, "http://127.0.0.1:1"))
    graph = definitions.resolve_asset_graph()
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert checked == set(specs(definitions)) - {"catalog"}
    # Nothing comes after these: they warn, and hold nobody up.
    told_only = {"closing", "deliveries", "unfinished"}
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.blocking is (key.asset_key.to_user_string() not in told_only)
        assert spec.description


def test_a_range_is_told_partition_by_partition_and_a_month_in_one_run(tmp_path):
    with running_project(tmp_path) as (definitions, instance, _):
        assert run(definitions, instance, "catalog").success
        for feed in ("sonora", "vinylia"):
            for stage in ("raw", "validated", "matched"):
                assert run(definitions, instance, f"{feed}/{stage}", span=RANGE).success
        month = {"partition": "2025-03-01"}
        chain = [f"mercado/{stage}" for stage in ("raw", "validated", "matched")]
        assert run(definitions, instance, *chain, **month).success
        pools = ["sonora/pool", "vinylia/pool"]
        assert run(definitions, instance, *pools, "ledger", "payouts", **month).success

        key = dg.AssetKey(["sonora", "validated"])
        assert instance.get_materialized_partitions(key) == set(RANGE)
        for partition in RANGE:
            (record,) = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=5
            ).records
            metadata = record.asset_materialization.metadata
            assert metadata["received"].value > metadata["accepted"].value > 0
            assert metadata["dagster/partition_row_count"].value == metadata["accepted"].value
        checks = instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(key, "every_row_is_accounted_for")], partition_keys=list(RANGE)
        )
        assert {check.partition_key for check in checks} == set(RANGE)
        assert all(check.is_current for check in checks)

        paid = instance.get_latest_materialization_event(dg.AssetKey("payouts"))
        metadata = paid.asset_materialization.metadata
        assert "| EUR |" in metadata["where_the_money_went"].value


def test_one_partition_goes_through_its_whole_chain_in_one_run(tmp_path):
    with running_project(tmp_path) as (definitions, instance, _):
        run(definitions, instance, "catalog")
        chain = [f"sonora/{stage}" for stage in ("raw", "validated", "matched")]
        assert run(definitions, instance, *chain, partition=RANGE[0]).success
        for key in chain:
            there = instance.get_materialized_partitions(dg.AssetKey(key.split("/")))
            assert there == {RANGE[0]}


def test_a_partition_that_fails_is_named_and_its_siblings_are_materialised(tmp_path):
    with running_project(tmp_path) as (definitions, instance, services):
        services.clock.now = datetime(2025, 3, 1, 1, 0, tzinfo=UTC)
        result = run(definitions, instance, "sonora/raw", span=RANGE)
        assert not result.success
        assert instance.get_materialized_partitions(dg.AssetKey(["sonora", "raw"])) == {RANGE[0]}
        (failure,) = result.filter_events(lambda event: event.is_step_failure)
        assert "2025-03-01-01:00" in reason(failure)


def test_a_red_gate_stops_a_later_run_too(tmp_path):
    """Dagster alone would run it: the partition is materialised, only its check is red."""
    with running_project(tmp_path) as (definitions, instance, _):
        run(definitions, instance, "catalog")
        run(definitions, instance, "ledger", partition="2025-03-01")
        result = run(definitions, instance, "payouts", partition="2025-03-01")
        assert not result.success
        (failure,) = result.filter_events(lambda event: event.is_step_failure)
        assert "ledger/ledger is red" in reason(failure)
        assert instance.get_materialized_partitions(dg.AssetKey("payouts")) == set()
        red = instance.event_log_storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(dg.AssetKey("ledger"), "every_expected_partition_is_in")],
            partition_keys=["2025-03-01"],
        )
        assert [check.latest_execution_status.value for check in red] == ["FAILED"]


def test_running_again_materialises_again_and_commits_nothing(tmp_path):
    with running_project(tmp_path) as (definitions, instance, _):
        for _ in range(2):
            assert run(definitions, instance, "sonora/raw", span=RANGE).success
        session = definitions.resources["session"]
        commits = session.context.registry.commits(Stage.RAW, "sonora")
        assert [commit.revision for commit in commits] == [0, 0]


def test_loading_reads_nothing_until_it_is_asked(monkeypatch, tmp_path):
    """Importing the code location opens no file, no socket and no environment."""
    monkeypatch.setenv("ROYALTY_ASSETS_HOME", str(tmp_path / "nowhere"))
    importlib.reload(definitions_module)
    assert not (tmp_path / "nowhere").exists()
