"""The one list of everything: a project's configuration → Dagster definitions.

Dagster loads ``defs``; nothing is read before it is called.
"""

import dagster as dg

from royalty_assets.domain.feeds import Project
from royalty_assets.orchestration.adjudication import decisions_sensor, rematch_job
from royalty_assets.orchestration.assets import project_assets
from royalty_assets.orchestration.closing import closing_asset, closing_job, closing_schedule
from royalty_assets.orchestration.deliveries import (
    deliveries_asset,
    deliveries_job,
    deliveries_schedule,
)
from royalty_assets.orchestration.partitions import feed_partitions, month_partitions
from royalty_assets.orchestration.schedules import month_end_job, month_end_schedule
from royalty_assets.orchestration.sensors import chain_job, delivery_sensor
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.orchestration.unfinished import (
    unfinished_asset,
    unfinished_job,
    unfinished_schedule,
)
from royalty_assets.settings import Settings, configure_logs_as_set, load_project


def build_defs(
    settings: Settings, project: Project | None = None, *, session: PipelineSession | None = None
) -> dg.Definitions:
    """Everything that a project consists of.

    Args:
        settings: where things are.
        project: the configuration; read from the home's feeds.yaml if not given.
        session: the resource that assets use; tests and the command line pass their own.
    """
    project = project or load_project(settings.home)
    months = month_partitions(project)
    # The decisions' sensor and the definitions have to mean the very same jobs.
    after_decisions = [*map(rematch_job, project.feeds), month_end_job(project)]
    return dg.Definitions(
        assets=[
            *project_assets(project),
            closing_asset(months),
            deliveries_asset(project),
            unfinished_asset(),
        ],
        jobs=[
            *map(chain_job, project.feeds),
            *after_decisions,
            deliveries_job(),
            closing_job(),
            unfinished_job(),
        ],
        sensors=[
            *(delivery_sensor(feed, feed_partitions(feed)) for feed in project.feeds),
            decisions_sensor(project, after_decisions),
        ],
        schedules=[
            month_end_schedule(months),
            deliveries_schedule(),
            closing_schedule(months),
            unfinished_schedule(),
        ],
        resources={"session": session or PipelineSession(settings, project)},
        # A process per step would pay the imports again for each of them.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the project in ``ROYALTY_ASSETS_HOME``."""
    configure_logs_as_set()
    return build_defs(Settings())
