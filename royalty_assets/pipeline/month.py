"""The ledger stage: an accounting period over all feeds, and what is in force of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl
from pydantic import TypeAdapter

from royalty_assets.domain import invariants
from royalty_assets.domain.allocation import Allocation, AllocationModel
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.canonical import ledger_sha256
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.ledger import (
    LEDGER_SCHEMA,
    MATCHED_USAGE_COLUMNS,
    NO_CURRENCY,
    Account,
    build_ledger,
    corrections,
    pools_due,
)
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import BALANCE_SCHEMA, PAYOUT_SCHEMA
from royalty_assets.domain.usage import POOL_SCHEMA
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.catalog import catalog_in_force
from royalty_assets.pipeline.context import (
    LEDGER_FEED,
    Outcome,
    PipelineContext,
    StageBlockedError,
    begin,
    commit_month_batch,
    first_finding,
    green_input,
    standing,
)
from royalty_assets.pipeline.drift import (
    DRIFT_CHECK,
    catalog_drift,
    drift_is_accepted,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.listening import allocation_sha256, sharing_of_feeds
from royalty_assets.pipeline.match import matched_input_sha256, rules_of, rules_touching
from royalty_assets.pipeline.payouts import paid_out, payout_frame
from royalty_assets.pipeline.periods import (
    books_of,
    closed_months,
    closing_record,
    committed_months,
    is_closed,
    is_first_open,
    ledger_in_force,
    passed_over_by,
    period_of,
    settled_by,
    settled_months,
)
from royalty_assets.pipeline.pool import stated_pool_sha256
from royalty_assets.pipeline.remittances import remittance_findings, remittances_sha256
from royalty_assets.storage.lake import put_frame, read_frame
from royalty_assets.storage.registry import Turn

LEDGER_VERSION = "2"
"""Changes whenever the same usage and money may be posted or paid otherwise."""


@dataclass(frozen=True, slots=True)
class _MonthInput:
    """What of a month is committed, and what is wanting."""

    matched: list[Batch]
    pools: list[Batch]
    wanting: list[str]


def posted(context: PipelineContext, month: Partition) -> Commit | None:
    """The ledger in force, if there is nothing to post anew."""
    if is_closed(context, month):
        return context.registry.commit(LEDGER_FEED, Stage.LEDGER, month.key)
    return standing(context, LEDGER_FEED, Stage.LEDGER, month.key, posting_sha256(context, month))


def posting_sha256(context: PipelineContext, month: Partition) -> str:
    """Of what a month's ledger would be posted from, with what it would correct."""
    if passed_over_by(context, month) is not None:
        return combined_sha256([LEDGER_VERSION, "passed over"])
    late = late_periods(context, month)
    return _posting_sha256(context, _month_input(context, month), late)


def _ledger_input_sha256(context: PipelineContext, wanted: _MonthInput) -> str:
    remittances = remittances_sha256(context)
    allocation = allocation_sha256(context)
    return combined_sha256(
        [
            LEDGER_VERSION,
            context.project.drift.model_dump_json(),
            *([remittances] if remittances else []),
            *([allocation] if allocation else []),
            *(["drift accepted"] if drift_is_accepted(context) else []),
            *(batch.sha256 for batch in wanted.matched),
            *(batch.sha256 for batch in wanted.pools),
            *wanted.wanting,
        ]
    )


def wanting(context: PipelineContext, month: Partition) -> list[str]:
    """What a month's ledger still needs, in words; empty if it can be posted whole."""
    return _month_input(context, month).wanting


def post_ledger(context: PipelineContext, month: Partition) -> Outcome:
    """Post a month's ledger from every green matched partition and pool.

    What is wanting, or red, shuts the gate: the ledger shows what is there, and is not paid.
    """
    turn = begin(context, LEDGER_FEED, Stage.LEDGER, month.key, lambda: posted(context, month))
    if isinstance(turn, Commit):
        return Outcome(month.key, turn, changed=False)
    if (closed := passed_over_by(context, month)) is not None:
        return _post_nothing(context, month, turn, closed)
    wanted = _month_input(context, month)
    late = late_periods(context, month)
    input_sha256 = _posting_sha256(context, wanted, late)
    own = _ledger_of(context, wanted)
    ledger = pl.concat(
        [own, *(_corrections(context, each, month) for each in late if each.is_whole)]
    )
    recount = _recount(context, wanted, _pools(context, wanted.pools))
    stored = put_frame(context.lake, f"{Stage.LEDGER}/{hive_folder(month)}", "ledger", ledger)
    committed = commit_month_batch(context, month, turn, input_sha256, {"ledger": stored})
    drift = catalog_drift(context, month, own)
    blocks = context.project.drift.severity == "block"
    claims = own.filter(pl.col("account") != Account.RECEIVABLE)
    units = int(claims["units"].sum())
    unpaid, noted = remittance_findings(context, month, recount.by_feed)
    in_suspense = int(claims.filter(pl.col("account") == Account.SUSPENSE)["units"].sum())
    commit = Commit(
        feed=LEDGER_FEED,
        stage=Stage.LEDGER,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=input_sha256,
        batch_ids=(committed.batch_id,),
        counts={
            "lines": ledger.height,
            "units": units,
            "units_in_suspense": in_suspense,
            "lines_that_correct": ledger.height - own.height,
        },
        checks={
            "every_expected_partition_is_in": wanted.wanting,
            "ledger_balances": invariants.ledger_balances(ledger),
            "every_unit_is_accounted_for": invariants.units_are_accounted_for(
                recount.units, units - in_suspense, in_suspense
            ),
            "ledger_balances_to_money_reported": _money_differences(recount.atoms, own),
            "remittance_agrees": unpaid,
            DRIFT_CHECK: drift if blocks else [],
        },
        warnings=({"remittance_agrees": noted} if noted else {})
        | ({} if blocks or not drift else {DRIFT_CHECK: drift})
        | _late_warnings(late),
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(month.key, commit)


def _post_nothing(
    context: PipelineContext, month: Partition, turn: Turn, closed: Partition
) -> Outcome:
    """The ledger of a month that was passed over: empty, and green, and it says so."""
    folder = f"{Stage.LEDGER}/{hive_folder(month)}"
    stored = put_frame(context.lake, folder, "ledger", pl.DataFrame(schema=LEDGER_SCHEMA))
    input_sha256 = posting_sha256(context, month)
    batch = commit_month_batch(context, month, turn, input_sha256, {"ledger": stored})
    commit = Commit(
        feed=LEDGER_FEED,
        stage=Stage.LEDGER,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=input_sha256,
        batch_ids=(batch.batch_id,),
        counts={"lines": 0, "units": 0, "units_in_suspense": 0, "lines_that_correct": 0},
        checks={},
        warnings={"every_late_line_is_posted": [passed_over_in_words(month, closed)]},
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(month.key, commit)


def passed_over_in_words(month: Partition, closed: Partition) -> str:
    """Where what comes for a month is booked that was passed over by a closed one."""
    return (
        f"{month.key[:7]} has no books of its own: {closed.key[:7]} was closed before anything "
        f"came for it. What comes is booked in the first open month, and says that it is of "
        f"{month.key[:7]}"
    )


def ledger_by(
    context: PipelineContext, month: Partition, models: Mapping[str, AllocationModel]
) -> pl.DataFrame:
    """The ledger that a month would have by these models; nothing is committed.

    Args:
        context: the project.
        month: of which.
        models: feed → model, of all feeds.
    """
    wanted = _month_input(context, month)
    sharing = sharing_of_feeds(context, wanted.matched, models)
    return build_ledger(_usage(context, wanted.matched), _pools(context, wanted.pools), sharing)


@dataclass(frozen=True, slots=True)
class LatePeriod:
    """A settled period whose input is other than what is booked of it.

    Attributes:
        is_closed: whether it has books of its own; without, it was passed over.
    """

    month: Partition
    is_closed: bool
    wanted: _MonthInput
    input_sha256: str

    @property
    def is_whole(self) -> bool:
        """Whether what has come since can be posted."""
        return not self.wanted.wanting


def late_periods(context: PipelineContext, month: Partition) -> list[LatePeriod]:
    """Settled periods that a month corrects: it is the first open one after them."""
    if not is_first_open(context, month):
        return []
    late = []
    for each in settled_months(context, month):
        has_books = is_closed(context, each)
        commit = context.registry.commit(LEDGER_FEED, Stage.LEDGER, each.key)
        wanted = _month_input(context, each)
        input_sha256 = _posting_sha256(context, wanted, [])
        if not has_books or (commit is not None and commit.input_sha256 != input_sha256):
            late.append(LatePeriod(each, has_books, wanted, input_sha256))
    return late


def _posting_sha256(context: PipelineContext, wanted: _MonthInput, late: list[LatePeriod]) -> str:
    own = _ledger_input_sha256(context, wanted)
    if not late:
        return own
    return combined_sha256([own, *(f"{each.month.key}:{each.input_sha256}" for each in late)])


def _late_warnings(late: list[LatePeriod]) -> dict[str, list[str]]:
    told = [
        f"{each.month.key} is {'closed' if each.is_closed else 'passed over'}, and what has come "
        f"for it since cannot be posted: {each.wanted.wanting[0]}"
        for each in late
        if not each.is_whole
    ]
    return {"every_late_line_is_posted": told} if told else {}


def _ledger_of(
    context: PipelineContext,
    wanted: _MonthInput,
    models: Mapping[str, AllocationModel] | None = None,
) -> pl.DataFrame:
    sharing = sharing_of_feeds(context, wanted.matched, models)
    return build_ledger(_usage(context, wanted.matched), _pools(context, wanted.pools), sharing)


def _models_of_settled(
    context: PipelineContext, settled: Partition, month: Partition
) -> Mapping[str, AllocationModel]:
    """The models that a settled month is shared by; today's only for feeds that it did not have."""
    models: dict[str, AllocationModel] = {
        feed.name: feed.allocation for feed in context.project.feeds
    }
    model_of: TypeAdapter[AllocationModel] = TypeAdapter(Allocation)
    for closed in reversed(settled_by(context, settled, month)):
        record = closing_record(context, closed)
        then = {} if record is None else record["content"].get("allocation", {})
        models |= {name: model_of.validate_python(model) for name, model in then.items()}
    return models


def _corrections(context: PipelineContext, late: LatePeriod, month: Partition) -> pl.DataFrame:
    """What turns the books of a settled period into what is known now."""
    return corrections(
        books_of(context, late.month, month),
        _ledger_of(context, late.wanted, _models_of_settled(context, late.month, month)),
        period_of(late.month).label,
    )


def corrections_waiting(context: PipelineContext) -> pl.DataFrame:
    """``LEDGER_SCHEMA`` of what settled periods wait to be corrected by.

    Empty as soon as a month after them has a ledger, which has it.
    """
    nothing = pl.DataFrame(schema=LEDGER_SCHEMA)
    closed = closed_months(context)
    if not closed or any(each.key > closed[-1].key for each in committed_months(context)):
        return nothing
    next_one = period_of(closed[-1]).plus(1).first
    month = Partition.parse(Cadence.MONTHLY, next_one.isoformat())
    late = [each for each in late_periods(context, month) if each.is_whole]
    return pl.concat([nothing, *(_corrections(context, each, month) for each in late)])


def blocked_because(context: PipelineContext, month: Partition) -> str:
    """What keeps a month from being paid, in words; empty if nothing does."""
    try:
        ledger, _ = green_input(context, LEDGER_FEED, Stage.LEDGER, month.key)
        if posted(context, month) != ledger:
            return (
                "the ledger is not of what is committed, and decided at the desk, by now; run the "
                "project again"
            )
        if paid_out(context, month) is None:
            return "the payouts are not of the ledger in force; run the month again"
    except StageBlockedError as error:
        return str(error)
    return ""


def _month_input(context: PipelineContext, month: Partition) -> _MonthInput:
    matched: list[Batch] = []
    pools: list[Batch] = []
    wanting: list[str] = []
    if month.window.end > context.now():
        wanting.append(f"{month.key} has not ended; what it holds so far is not paid out")
    for feed in context.project.feeds:
        keys = expected_partition_keys(context, feed, month)
        for key, commit, problem in _matched_of(context, feed, keys):
            if problem:
                wanting.append(f"{feed.name}/{problem} for {key}")
            elif commit is not None:
                matched += context.registry.batches_by_id(commit.batch_ids)
        if feed.has_pool and keys:
            pool = context.registry.commit(feed.name, Stage.POOL, month.key)
            if pool is None:
                wanting.append(f"{feed.name}/pool is not committed for {month.key}")
            elif not pool.is_green:
                wanting.append(f"{feed.name}/pool is red for {month.key}: {first_finding(pool)}")
            elif feed.pools_in_reports and pool.input_sha256 != stated_pool_sha256(
                context, feed, month
            ):
                wanting.append(f"{feed.name}/pool is of other reports for {month.key}")
            else:
                pools += context.registry.batches_by_id(pool.batch_ids)
    return _MonthInput(matched, pools, wanting)


def _matched_of(
    context: PipelineContext, feed: Feed, keys: list[str]
) -> Iterator[tuple[str, Commit | None, str]]:
    """Each partition's matched commit, or what keeps it from being posted.

    A commit that was made of other lines than are validated now, or with another catalog, is not
    posted: what it was made of may have been corrected, or be red since.
    """
    matched = {c.partition_key: c for c in context.registry.commits(Stage.MATCHED, feed.name, keys)}
    validated = {
        c.partition_key: c for c in context.registry.commits(Stage.VALIDATED, feed.name, keys)
    }
    version = catalog_in_force(context)[0] if matched else ""
    rules = rules_of(context)
    for key in keys:
        commit, lines = matched.get(key), validated.get(key)
        if lines is not None and not lines.is_green:
            yield key, None, f"validated is red, {first_finding(lines)},"
        elif commit is None or lines is None:
            yield key, None, "matched is not committed"
        elif not commit.is_green:
            yield key, None, f"matched is red, {first_finding(commit)},"
        elif commit.input_sha256 != matched_input_sha256(
            feed,
            version,
            context.registry.batches_by_id(lines.batch_ids),
            rules_touching(context, rules, commit.batch_ids),
        ):
            yield key, None, "matched is of other lines, catalog or decisions than are in force,"
        else:
            yield key, commit, ""


def expected_partition_keys(context: PipelineContext, feed: Feed, month: Partition) -> list[str]:
    """The partitions of a feed that a month's ledger needs.

    An inbox promises nothing: expected is what has been delivered.
    """
    keys = [partition.key for partition in feed.partitions(month, context.now())]
    if not isinstance(feed.source, InboxSource):
        return keys
    delivered = context.registry.commits(Stage.RAW, feed.name)
    in_month = {
        commit.partition_key
        for commit in delivered
        if commit.batch_ids
        and Partition.parse(feed.cadence, commit.partition_key).month.key == month.key
    }
    return sorted(in_month)


def _usage(context: PipelineContext, batches: list[Batch]) -> Iterator[pl.DataFrame]:
    for batch in batches:
        yield read_frame(context.lake, batch.objects[0], MATCHED_USAGE_COLUMNS)


def _pools(context: PipelineContext, batches: list[Batch]) -> pl.DataFrame:
    frames = [
        read_frame(context.lake, batch.objects[0]).with_columns(pl.lit(batch.feed).alias("feed"))
        for batch in batches
    ]
    if not frames:
        return pl.DataFrame(schema={**POOL_SCHEMA, "feed": pl.String()})
    return pl.concat(frames)


@dataclass(slots=True)
class _Recount:
    """What a month's input comes to, summed again from the objects: the ledger's yardstick."""

    units: int = 0
    by_feed: dict[tuple[str, str], int] = field(default_factory=dict)
    claims: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def atoms(self) -> dict[str, int]:
        """Currency → atoms, over all feeds."""
        sums: dict[str, int] = {}
        for (_, currency), atoms in self.by_feed.items():
            sums[currency] = sums.get(currency, 0) + atoms
        return sums

    def add_money(self, frame: pl.DataFrame) -> None:
        """Add the amounts of rows that have one, by feed and currency."""
        priced = frame.filter(pl.col("amount").is_not_null())
        for feed, currency, atoms in zip(
            priced["feed"].to_list(),
            priced["currency"].to_list(),
            series_to_atoms(priced["amount"]),
            strict=True,
        ):
            self.by_feed[feed, currency] = self.by_feed.get((feed, currency), 0) + atoms


def _recount(context: PipelineContext, wanted: _MonthInput, pools: pl.DataFrame) -> _Recount:
    recount = _Recount()
    for usage in _usage(context, wanted.matched):
        recount.units += int(usage["units"].sum())
        recount.add_money(usage)
        unpriced = usage.filter(pl.col("currency").is_null())
        recount.claims |= set(unpriced.select("feed", "territory", "tier").unique().rows())
    # What was agreed rather than reported is due only where usage shares it.
    claims = pl.DataFrame(
        sorted(recount.claims),
        schema=dict.fromkeys(("feed", "territory", "tier"), pl.String),
        orient="row",
    )
    recount.add_money(pools_due(claims, pools))
    return recount


def _money_differences(reported: dict[str, int], ledger: pl.DataFrame) -> list[str]:
    """Money as reported against the ledger's receivables."""
    receivable = ledger.filter(
        (pl.col("account") == Account.RECEIVABLE) & (pl.col("currency") != NO_CURRENCY)
    )
    sums = receivable.group_by("currency").agg(pl.col("amount").sum())
    posted = dict(zip(sums["currency"].to_list(), series_to_atoms(sums["amount"]), strict=True))
    return [
        f"{currency}: {format_atoms(reported.get(currency, 0))} was reported, but "
        f"{format_atoms(posted.get(currency, 0))} is receivable"
        for currency in sorted(reported.keys() | posted.keys())
        if reported.get(currency, 0) != posted.get(currency, 0)
    ]


def month_frames(
    context: PipelineContext, month: Partition
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(ledger, payouts, balance) in force for a month; payouts are empty where not yet made."""
    return (
        ledger_in_force(context, month),
        payout_frame(context, month, "payouts", PAYOUT_SCHEMA),
        payout_frame(context, month, "balance", BALANCE_SCHEMA),
    )


def ledger_hash(context: PipelineContext, months: list[Partition]) -> str:
    """The canonical hash over the ledgers and payouts of these months."""
    return ledger_sha256(
        {f"{month.window.start:%Y-%m}": month_frames(context, month) for month in months}
    )
