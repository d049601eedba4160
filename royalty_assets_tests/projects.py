"""Small projects for tests: the demo's feeds at any size, and the stages run in order."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from royalty_assets.demo import demo_feeds
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Feed, Project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import Outcome, PipelineContext
from royalty_assets.pipeline.contracts import take_contracts
from royalty_assets.pipeline.ingest import ingest
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.month import ledger_hash, post_ledger
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.statements import state
from royalty_assets.pipeline.validate import validate
from royalty_assets.simulator.faults import FaultPlan
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.simulator.server import SimulatedServices, serve
from royalty_assets.simulator.world import write_catalog
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.storage.registry import open_registry
from royalty_assets_tests.databases import url_of
from royalty_assets_tests.lakes import LakeOver, lake_of

SMALL = Scenario(events=4_000, recordings=300, hours=2)
MARCH = Partition.parse(Cadence.MONTHLY, "2025-03-01")


def demo_project(scenario: Scenario, url: str) -> Project:
    """The demo's feeds, spoken to at ``url``, a small page at a time."""
    content = demo_feeds(scenario)
    for feed in content["feeds"]:
        for source in filter(None, (feed["source"], feed.get("pool_source"))):
            source["url"] = source["url"].replace("http://127.0.0.1:8765}", "}")
            source["url"] = url + source["url"].partition("}")[2]
            source |= {"requests_per_second": 2_000, "page_size": 120}
    return Project.model_validate(content)


class FullLake(LakeOver):
    """A lake whose disk is full: what is put there is written to /dev/full."""

    def put(self, folder, label, rows, write):  # noqa: ARG002
        write(Path("/dev/full"))
        raise AssertionError("a full disk has taken something")


@contextmanager
def demo_context(
    home: Path, scenario: Scenario = SMALL, faults: FaultPlan | None = None
) -> Iterator[tuple[PipelineContext, SimulatedServices]]:
    """An open project of the demo's services, with the services."""
    services = SimulatedServices(scenario, faults=faults)
    write_catalog(services.world, home / "catalog")
    with serve(services) as url:
        registry = open_registry(url_of(home))
        yield (
            PipelineContext(
                project=demo_project(scenario, url),
                home=home,
                lake=lake_of(home),
                registry=registry,
                templates=bundled_templates(),
            ),
            services,
        )
        registry.close()


def inbox_context(home: Path, **feed) -> PipelineContext:
    """An open project with one inbox, for files that a test writes."""
    content = {
        "name": "reports",
        "records": "report_lines",
        "cadence": "monthly",
        "start": "2020-01-01",
        "source": {"dialect": "inbox", "folder": "inbox"},
    } | feed
    for folder in ("inbox", "catalog"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    return PipelineContext(
        project=Project.model_validate({"feeds": [content]}),
        home=home,
        lake=lake_of(home),
        registry=open_registry(url_of(home)),
        templates=bundled_templates(),
    )


def take_in(context: PipelineContext, feed: Feed, partitions: list[Partition]) -> list[Outcome]:
    """The raw stage over some partitions."""

    async def all_of_them() -> list[Outcome]:
        return [outcome async for outcome in ingest(context, feed, partitions)]

    return asyncio.run(all_of_them())


def run_feed(context: PipelineContext, feed: Feed, partitions: list[Partition]) -> list[Outcome]:
    """A feed's chain over some partitions."""
    outcomes = take_in(context, feed, partitions)
    for stage in (validate, match):
        outcomes += [stage(context, feed, partition) for partition in partitions]
    return outcomes


def run_month(context: PipelineContext, month: Partition = MARCH) -> list[Outcome]:
    """Everything from the catalog to the payouts of one month."""
    outcomes = [take_catalog(context), take_contracts(context)]
    for feed in context.project.feeds:
        outcomes += run_feed(context, feed, feed.partitions(month, context.now()))
        if feed.has_pool:
            outcomes.append(asyncio.run(take_pool(context, feed, month)))
    return [*outcomes, *(stage(context, month) for stage in (post_ledger, pay_out, state))]


def month_hash(context: PipelineContext, month: Partition = MARCH) -> str:
    """The canonical hash of one month."""
    return ledger_hash(context, [month])


def counts(context: PipelineContext, stage: Stage, feed: str) -> dict[str, int]:
    """A feed's counts in force, summed over partitions."""
    total: dict[str, int] = {}
    for commit in context.registry.commits(stage, feed):
        for name, number in commit.counts.items():
            total[name] = total.get(name, 0) + number
    return total
