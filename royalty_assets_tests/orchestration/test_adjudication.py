"""After a decision: the sensor's requests, run for real, end in money paid."""

import warnings
from decimal import Decimal

import dagster as dg
import pytest

from royalty_assets.audit.keys import ensure_signing_key
from royalty_assets.definitions import build_defs
from royalty_assets.domain.adjudication import Action
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.adjudication import DecisionCursor, months_that_book
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.adjudicate import Ruling, rule_on
from royalty_assets.pipeline.closing import close
from royalty_assets.pipeline.month import blocked_because
from royalty_assets.pipeline.questions import questions
from royalty_assets_tests.databases import settings_of
from royalty_assets_tests.projects import inbox_context, run_month

MONTHS = ["2025-01-01", "2025-02-01", "2025-03-01"]
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"


@pytest.fixture(autouse=True)
def _no_dagster_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def context(tmp_path):
    context = inbox_context(tmp_path, start="2025-01-01", end="2025-04-01")
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\n"
    )
    rows = [f"{month},DE,,Flwrs Of Ada,Nobody,4,1.00,EUR\n" for month in MONTHS]
    (tmp_path / "inbox/report.csv").write_text(HEADER + "".join(rows))
    for month in MONTHS:
        run_month(context, Partition.parse(Cadence.MONTHLY, month))
    yield context
    context.registry.close()


def test_a_cursor_survives_being_stored():
    cursor = DecisionCursor(7, frozenset({"2025-01-01"}))
    assert DecisionCursor.parse(cursor.render()) == cursor
    assert DecisionCursor.parse(None) == DecisionCursor()


def test_a_decision_is_matched_posted_and_paid_by_what_the_sensor_requests(context):
    session = PipelineSession(settings_of(context.home), context.project)
    session._context = context
    definitions = build_defs(settings_of(context.home), context.project, session=session)
    sensor = definitions.get_sensor_def("decisions")
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor):
            return sensor(
                dg.build_sensor_context(
                    instance=instance,
                    cursor=cursor,
                    resources=definitions.resources,
                    definitions=definitions,
                )
            )

        def run(request):
            job = definitions.resolve_job_def(request.job_name)
            return job.execute_in_process(
                instance=instance, partition_key=request.partition_key, tags=request.tags
            )

        nothing = tick(None)
        assert not nothing.run_requests
        (question,) = questions(context)
        rule_on(context, question, Ruling(Action.ACCEPT, "Ann", "", "R1"))
        first = tick(nothing.cursor)
        (rematch,) = first.run_requests
        assert rematch.job_name == "reports_rematch"
        assert rematch.tags["dagster/asset_partition_range_start"] == MONTHS[0]
        assert rematch.tags["dagster/asset_partition_range_end"] == MONTHS[-1]
        # Until that run is through, the months wait.
        waiting = tick(first.cursor)
        assert not waiting.run_requests
        assert run(rematch).success
        ready = tick(waiting.cursor)
        assert [request.partition_key for request in ready.run_requests] == MONTHS
        for request in ready.run_requests:
            assert run(request).success
        assert not tick(ready.cursor).run_requests
    months = [Partition.parse(Cadence.MONTHLY, month) for month in MONTHS]
    assert [blocked_because(context, month) for month in months] == ["", "", ""]
    assert questions(context) == []


def test_what_touches_a_closed_month_is_booked_in_the_first_open_one(context):
    context.signer = ensure_signing_key(context.home)
    limits = context.project.closing.model_copy(update={"suspense_fraction_max": Decimal(1)})
    context.project = context.project.model_copy(update={"closing": limits})
    january, february, march = MONTHS
    close(context, Partition.parse(Cadence.MONTHLY, january), "Ann")
    for touched, booking in (
        ({january}, {february}),
        ({february}, {february}),
        ({january, march}, {february, march}),
        ({"2024-12-01", "2025-07-01"}, {february}),
    ):
        assert months_that_book(context, touched) == booking
