"""The assets: one chain per feed from one factory, and the catalog, ledger and payouts.

``<feed>/raw → <feed>/validated → <feed>/matched`` have the feed's cadence; ``<feed>/pool``,
``ledger`` and ``payouts`` are monthly. Bodies look up partitions, call the stage and report.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import partial

import dagster as dg

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Feed, HttpSource, Project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.logs import bound
from royalty_assets.orchestration.metadata import column_schema
from royalty_assets.orchestration.partitions import (
    feed_partitions,
    month_partitions,
    partitions_of_run,
)
from royalty_assets.orchestration.reporting import Result, report_outcomes
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.attempts import StageCall, attempted, with_second_try
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.checks import checks_of
from royalty_assets.pipeline.context import (
    CATALOG_FEED,
    CATALOG_PARTITION,
    LEDGER_FEED,
    Outcome,
    PipelineContext,
)
from royalty_assets.pipeline.contracts import CONTRACTS_FEED, take_contracts
from royalty_assets.pipeline.failures import failure_of
from royalty_assets.pipeline.ingest import ingest
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.month import post_ledger
from royalty_assets.pipeline.payouts import pay_out
from royalty_assets.pipeline.pool import take_pool
from royalty_assets.pipeline.statements import state
from royalty_assets.pipeline.validate import validate

CATALOG_KEY = dg.AssetKey(["catalog"])
LEDGER_KEY = dg.AssetKey(["ledger"])
CONTRACTS_KEY = dg.AssetKey(["contracts"])
PAYOUTS_KEY = dg.AssetKey(["payouts"])
STATEMENTS_KEY = dg.AssetKey(["statements"])

# Neighbouring stages take ranges of different sizes, so that a backfill runs them apart and one
# red partition does not hold its siblings.
_PARTITIONS_PER_RUN = {Stage.RAW: 24, Stage.VALIDATED: 16, Stage.MATCHED: 12}


def stage_key(feed: Feed, stage: Stage) -> dg.AssetKey:
    """The key of a feed's asset."""
    return dg.AssetKey([feed.name, str(stage)])


def project_assets(project: Project) -> list[dg.AssetsDefinition]:
    """Every asset of the project."""
    months = month_partitions(project)
    assets = [_catalog_asset(project), _contracts_asset()]
    for feed in project.feeds:
        assets += _feed_assets(feed)
        if feed.has_pool:
            assets.append(_pool_asset(feed, months))
    return [
        *assets,
        _ledger_asset(project, months),
        _payouts_asset(months),
        _statements_asset(months),
    ]


def _feed_assets(feed: Feed) -> list[dg.AssetsDefinition]:
    partitions = feed_partitions(feed)
    spoken = feed.source.dialect if isinstance(feed.source, HttpSource) else "inbox"

    def raw(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _in_loop(ingest(context, feed, wanted))

    def validated(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(
            feed.name, Stage.VALIDATED, wanted, lambda partition: validate(context, feed, partition)
        )

    def matched(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(
            feed.name, Stage.MATCHED, wanted, lambda partition: match(context, feed, partition)
        )

    about = feed.description or feed.name
    return [
        _stage_asset(
            feed, Stage.RAW, partitions, raw, deps=[], kinds={"parquet", spoken.split("_")[0]},
            description=f"{about}\n\nWhat the source delivered, byte for byte, with the SHA-256 of "
            "each payload.",
        ),
        _stage_asset(
            feed, Stage.VALIDATED, partitions, validated, deps=[stage_key(feed, Stage.RAW)],
            kinds={"parquet", "pydantic"},
            description="Canonical usage lines in event-time windows, each event once. What no "
            "model accepts is in the dead letters.",
        ),
        _stage_asset(
            feed, Stage.MATCHED, partitions, matched,
            deps=[stage_key(feed, Stage.VALIDATED), CATALOG_KEY], kinds={"parquet", "polars"},
            description="Usage per recording, with each decision: method, score, runner-up, and "
            "the SHA-256 of the batch that it was made on.",
        ),
    ]  # fmt: skip


def _stage_asset(
    feed: Feed,
    stage: Stage,
    partitions: dg.TimeWindowPartitionsDefinition,
    call: StageCall,
    *,
    deps: list[dg.AssetKey],
    kinds: set[str],
    description: str,
) -> dg.AssetsDefinition:
    key = stage_key(feed, stage)
    spec = dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        group_name=feed.name,
        owners=[feed.owner],
        kinds=kinds,
        metadata=column_schema(stage),
        tags={"feed": feed.name, "layer": str(stage)},
        skippable=True,
    )
    per_run = _PARTITIONS_PER_RUN[stage]
    return _asset(feed, stage, spec, partitions, feed.cadence, per_run, call)


def _pool_asset(feed: Feed, months: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    def pool(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(
            feed.name,
            Stage.POOL,
            wanted,
            lambda month: asyncio.run(take_pool(context, feed, month)),
        )

    spec = dg.AssetSpec(
        stage_key(feed, Stage.POOL),
        deps=[stage_key(feed, Stage.VALIDATED)] if feed.pools_in_reports else [],
        description="The money that the feed's usage of the month shares, by territory and tier.",
        group_name=feed.name,
        owners=[feed.owner],
        kinds={"parquet"},
        metadata=column_schema(Stage.POOL),
        tags={"feed": feed.name, "layer": str(Stage.POOL)},
        skippable=True,
    )
    return _asset(feed, Stage.POOL, spec, months, Cadence.MONTHLY, None, pool)


def _ledger_asset(
    project: Project, months: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    def ledger(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(LEDGER_FEED, Stage.LEDGER, wanted, lambda month: post_ledger(context, month))

    matched = [stage_key(feed, Stage.MATCHED) for feed in project.feeds]
    pools = [stage_key(feed, Stage.POOL) for feed in project.feeds if feed.has_pool]
    spec = dg.AssetSpec(
        LEDGER_KEY,
        deps=[*matched, *pools],
        description="Double-entry lines of the month: what each feed owes, to which recording it "
        "is due, and what is in suspense. Balanced per feed and currency.",
        group_name=str(Stage.LEDGER),
        owners=["team:royalties"],
        kinds={"parquet"},
        metadata=column_schema(Stage.LEDGER),
        skippable=True,
    )
    return _asset(None, Stage.LEDGER, spec, months, Cadence.MONTHLY, None, ledger)


def _payouts_asset(months: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    def payouts(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(LEDGER_FEED, Stage.PAYOUTS, wanted, lambda month: pay_out(context, month))

    spec = dg.AssetSpec(
        PAYOUTS_KEY,
        deps=[LEDGER_KEY, CATALOG_KEY, CONTRACTS_KEY],
        description="What each rights holder is paid for the month, rounded once per currency by "
        "largest remainder, and where every other amount is: held, in suspense, carried forward, "
        "residue.",
        group_name=str(Stage.PAYOUTS),
        owners=["team:royalties"],
        kinds={"parquet"},
        metadata=column_schema(Stage.PAYOUTS),
        skippable=True,
    )
    return _asset(None, Stage.PAYOUTS, spec, months, Cadence.MONTHLY, None, payouts)


def _statements_asset(months: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    def statements(context: PipelineContext, wanted: list[Partition]) -> Iterable[Outcome]:
        return _each(LEDGER_FEED, Stage.STATEMENTS, wanted, lambda month: state(context, month))

    spec = dg.AssetSpec(
        STATEMENTS_KEY,
        deps=[PAYOUTS_KEY, CATALOG_KEY, CONTRACTS_KEY],
        description="What each payee is told about the month: every line with its exact fraction, "
        "and the walk from what was brought forward to what is paid. `royalty-assets statements` "
        "writes them as PDF, CSV, Parquet and DSR.",
        group_name=str(Stage.LEDGER),
        owners=["team:royalties"],
        kinds={"parquet"},
        metadata=column_schema(Stage.STATEMENTS),
        skippable=True,
    )
    return _asset(None, Stage.STATEMENTS, spec, months, Cadence.MONTHLY, None, statements)


def _catalog_asset(project: Project) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        CATALOG_KEY,
        description="The master catalog: recordings, shares and rights from the files in "
        f"`{project.catalog.folder}/`, as one versioned snapshot. Rows that contradict the rules "
        "are in the dead letters.",
        group_name=str(Stage.CATALOG),
        owners=["team:label-ops"],
        kinds={"parquet", "csv"},
        skippable=True,
    )

    @dg.multi_asset(name="catalog", specs=[spec])
    def catalog(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[Result]:
        with bound(run_id=context.run_id):
            outcome = attempted(
                CATALOG_FEED,
                Stage.CATALOG,
                CATALOG_PARTITION,
                lambda: take_catalog(session.context),
            )
        yield from report_outcomes(context, session, CATALOG_KEY, None, Stage.CATALOG, [outcome])
        _sign(session)

    return catalog


def _contracts_asset() -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        CONTRACTS_KEY,
        description="Contracts, payees, recoupment accounts and exchange rates from the files in "
        "`contracts/` and `rates/`, as one versioned snapshot.",
        group_name=str(Stage.CATALOG),
        owners=["team:royalties"],
        kinds={"parquet", "yaml"},
        skippable=True,
    )

    @dg.multi_asset(
        name="contracts",
        specs=[spec],
        check_specs=[
            dg.AssetCheckSpec(name, asset=spec.key, description=description, blocking=True)
            for name, description in checks_of(None, Stage.CONTRACTS).items()
        ],
    )
    def contracts(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[Result]:
        with bound(run_id=context.run_id):
            outcome = attempted(
                CONTRACTS_FEED,
                Stage.CONTRACTS,
                CATALOG_PARTITION,
                lambda: take_contracts(session.context),
            )
        yield from report_outcomes(
            context, session, CONTRACTS_KEY, None, Stage.CONTRACTS, [outcome]
        )

    return contracts


def _asset(
    feed: Feed | None,
    stage: Stage,
    spec: dg.AssetSpec,
    partitions: dg.TimeWindowPartitionsDefinition,
    cadence: Cadence,
    partitions_per_run: int | None,
    call: StageCall,
) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # Backfill policies have been beta for years; the tests hold what we use of them.
        warnings.simplefilter("ignore", dg.BetaWarning)
        policy = (
            dg.BackfillPolicy.single_run()
            if partitions_per_run is None
            else dg.BackfillPolicy.multi_run(partitions_per_run)
        )

    @dg.multi_asset(
        name="__".join(spec.key.path),
        specs=[spec],
        partitions_def=partitions,
        backfill_policy=policy,
        check_specs=[
            partitioned_check(spec.key, name, description, partitions)
            for name, description in checks_of(feed, stage).items()
        ],
    )
    def stage_asset(
        context: dg.AssetExecutionContext, session: dg.ResourceParam[PipelineSession]
    ) -> Iterator[Result]:
        wanted = partitions_of_run(context, cadence)
        with bound(run_id=context.run_id):
            outcomes = with_second_try(session.context, wanted, call)
            yield from report_outcomes(context, session, spec.key, feed, stage, outcomes)
            _sign(session)

    return stage_asset


def _sign(session: PipelineSession) -> None:
    """Sign what has been committed.

    Raises:
        dagster.Failure: if it cannot be; what is committed stays, and the next run signs it.
    """
    try:
        sign_checkpoint(session.context)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        raise dg.Failure(
            f"what is committed is not signed yet: {failure.problem}", allow_retries=False
        ) from error


def partitioned_check(
    key: dg.AssetKey,
    name: str,
    description: str,
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    blocking: bool = True,
) -> dg.AssetCheckSpec:
    """A check that has a result of its own for each partition."""
    with warnings.catch_warnings():
        # Checks by partition are a preview of Dagster's; the tests hold what we use of them.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name,
            asset=key,
            description=description,
            blocking=blocking,
            partitions_def=partitions,
        )


def _each(
    name: str, stage: Stage, partitions: Iterable[Partition], call: Callable[[Partition], Outcome]
) -> Iterator[Outcome]:
    """Call a stage on each partition; one that cannot commit is told, and the others go on."""
    for partition in partitions:
        yield attempted(name, stage, partition.key, partial(call, partition))


def _in_loop(outcomes: AsyncGenerator[Outcome, None]) -> Iterator[Outcome]:
    """An async generator's outcomes, each as soon as it is there."""

    async def following() -> Outcome | None:
        return await anext(outcomes, None)

    with asyncio.Runner() as runner:
        while (outcome := runner.run(following())) is not None:
            yield outcome
