"""The proposal to close a month: an asset that says what stands against it, and its schedule."""

from datetime import UTC, datetime
from html import unescape

import dagster as dg

from royalty_assets.audit.keys import ensure_signing_key
from royalty_assets.definitions import build_defs
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.closing import close
from royalty_assets_tests.databases import settings_of
from royalty_assets_tests.projects import MARCH, inbox_context, run_month

REPORT = (
    "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
    "2025-03-04,DE,USUM70600055,Song,A,3,9.00,EUR\n"
)
NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)


def closable_month(home):
    context = inbox_context(home)
    (home / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Song,A\n"
    )
    (home / "catalog/shares.csv").write_text("recording_id,rights_holder_id,share\nR1,P1,100\n")
    (home / "inbox/report.csv").write_text(REPORT)
    context.signer = ensure_signing_key(home)
    run_month(context)
    return context


def definitions_of(context):
    session = PipelineSession(settings_of(context.home), context.project)
    session._context = context
    return build_defs(session.settings, context.project, session=session), session


def proposed(definitions, instance):
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("closing")], partition_key=MARCH.key
    )
    (told,) = result.asset_materializations_for_node("closing")
    (check,) = result.get_asset_check_evaluations()
    return {name: value.value for name, value in told.metadata.items()}, check


def test_the_asset_says_what_a_month_would_be_closed_with_and_by_whom_it_was(tmp_path):
    context = closable_month(tmp_path)
    definitions, _ = definitions_of(context)
    with dg.instance_for_test() as instance:
        told, check = proposed(definitions, instance)
        assert check.passed
        assert told["state"] == "can be closed"
        assert "EUR: received 9, paid 9" in unescape(told["money"])
        close(context, MARCH, "ada")
        told, check = proposed(definitions, instance)
        assert check.passed
        assert told["state"] == "closed"
        assert told["closed_by"] == "ada"
        assert len(told["root"]) == 64


def test_the_asset_warns_of_what_stands_against_closing(tmp_path):
    context = closable_month(tmp_path)
    (tmp_path / "inbox/more.csv").write_text(
        REPORT.replace("USUM70600055,Song", "USUM70600099,Other")
    )
    definitions, _ = definitions_of(context)
    run_month(context)
    with dg.instance_for_test() as instance:
        told, check = proposed(definitions, instance)
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert told["state"] == "open"
    assert "9 of 18 EUR is in suspense" in check.metadata["against"].value


def test_the_schedule_proposes_the_last_month_until_it_is_closed(tmp_path):
    context = closable_month(tmp_path)
    definitions, session = definitions_of(context)
    schedule = definitions.get_repository_def().get_schedule_def("closing_daily")

    def tick():
        with dg.build_schedule_context(
            scheduled_execution_time=NOON, resources={"session": session}
        ) as scheduled:
            return schedule(scheduled)

    request = tick()
    assert (request.partition_key, request.run_key) == (MARCH.key, "closing:2025-03-01:2025-04-06")
    close(context, MARCH, "ada")
    assert isinstance(tick(), dg.SkipReason)
