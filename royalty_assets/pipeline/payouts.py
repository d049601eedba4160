"""The payout stage: a month's green ledger, divided, settled and rounded.

A month starts from the balances that the month before it ended with, so its payouts follow from
that month's as well; when those change, these are made anew.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.accounts import ACCOUNT_SCHEMA, Accounts
from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage, combined_sha256
from royalty_assets.domain.contracts import Contracts
from royalty_assets.domain.ledger import NO_CURRENCY, Account, booked
from royalty_assets.domain.payouts import (
    HELD_SCHEMA,
    PAYOUT_LINE_SCHEMA,
    Divided,
    PayoutBuilder,
    Payouts,
    booked_lines,
    divide_ledger,
    nothing_paid,
)
from royalty_assets.domain.rates import NoRateError, Rates, standing_rates
from royalty_assets.domain.terms import Held
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.catalog import (
    catalog_in_force,
    catalog_revision,
    shares_in_force,
    shares_of_revision,
)
from royalty_assets.pipeline.context import (
    LEDGER_FEED,
    Outcome,
    PipelineContext,
    StageBlockedError,
    begin,
    commit_month_batch,
    green_input,
    standing,
)
from royalty_assets.pipeline.contracts import (
    contracts_in_force,
    contracts_revision,
    contracts_version,
    rates_of_revision,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.periods import (
    books_of,
    committed_months,
    is_closed,
    is_first_open,
    passed_over_by,
    period_of,
    settled_by,
    settled_months,
)
from royalty_assets.storage.lake import put_frame, read_frame, read_table
from royalty_assets.storage.parquet import write_frames
from royalty_assets.storage.registry import Turn

PAYOUT_VERSION = "3"
"""Changes whenever the same ledger may be paid otherwise."""

TABLES = (
    "payouts",
    "balance",
    "payout_lines",
    "movements",
    "journal",
    "accounts",
    "held",
    "conversions",
)
"""The objects of a payout batch, in order; batches of before contracts have the first three."""

_REVISION = "contracts_revision"
"""The count that says by which contracts and rates a month is paid."""


@dataclass(frozen=True, slots=True)
class _Input:
    """What a month is paid from."""

    ledger: Batch
    catalog_version: str
    contracts_version: str
    opening: LakeObject | None

    @property
    def sha256(self) -> str:
        opening = "" if self.opening is None else self.opening.sha256
        parts = [self.ledger.sha256, self.catalog_version, self.contracts_version, opening]
        return combined_sha256([PAYOUT_VERSION, *parts])


def _input(context: PipelineContext, month: Partition) -> _Input:
    _, (ledger,) = green_input(context, LEDGER_FEED, Stage.LEDGER, month.key)
    opening = _opening_object(context, month)
    return _Input(ledger, catalog_in_force(context)[0], contracts_version(context), opening)


def _opening_object(context: PipelineContext, month: Partition) -> LakeObject | None:
    """The balances of the last month before that is paid out; None if they are all nothing."""
    commits = context.registry.commits(Stage.PAYOUTS, LEDGER_FEED)
    before = [commit for commit in commits if commit.partition_key < month.key]
    if not before:
        return None
    stored = payout_object(context, max(before, key=lambda c: c.partition_key), "accounts")
    return stored if stored is not None and stored.rows else None


def payout_object(context: PipelineContext, commit: Commit, table: str) -> LakeObject | None:
    """An object of a payout commit; None where the batch is of before there was such a table."""
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    number = TABLES.index(table)
    return batch.objects[number] if number < len(batch.objects) else None


def payout_frame(
    context: PipelineContext, month: Partition, table: str, schema: dict[str, pl.DataType]
) -> pl.DataFrame:
    """A table of the payouts in force, of this schema; empty where the month is not paid out.

    Columns that an older table lacks are amounts of nothing, or empty texts.
    """
    commit = context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key)
    stored = None if commit is None else payout_object(context, commit, table)
    if stored is None:
        return pl.DataFrame(schema=schema)
    return read_table(context.lake, stored, schema)


def paid_out(context: PipelineContext, month: Partition) -> Commit | None:
    """The payouts in force, if there is nothing to pay out anew.

    Raises:
        StageBlockedError: if the ledger is not committed, or is red, or the contracts are.
    """
    if is_closed(context, month):
        return context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key)
    input_sha256 = payout_input_sha256(context, month)
    return standing(context, LEDGER_FEED, Stage.PAYOUTS, month.key, input_sha256)


def payout_input_sha256(context: PipelineContext, month: Partition) -> str:
    """Of what a month would be paid from.

    Raises:
        StageBlockedError: if the ledger is not committed, or is red, or the contracts are.
    """
    return _input(context, month).sha256


def pay_out(context: PipelineContext, month: Partition) -> Outcome:
    """Divide, settle and round a month's green ledger.

    Raises:
        StageBlockedError: if the ledger is not committed, or is red, or the contracts are; or if
            a rate is wanting.
    """
    turn = begin(context, LEDGER_FEED, Stage.PAYOUTS, month.key, lambda: paid_out(context, month))
    if isinstance(turn, Commit):
        return Outcome(month.key, turn, changed=False)
    source = _input(context, month)
    ledger = read_frame(context.lake, source.ledger.objects[0])
    try:
        if passed_over_by(context, month) is None:
            payouts, lines = _build(context, month, source, ledger)
        else:
            # Balances went on without it.
            payouts = nothing_paid(_opening(context, source.opening))
            lines = put_frame(context.lake, _folder(month), "payout_lines", payouts.lines)
    except NoRateError as error:
        raise StageBlockedError(f"{month.key} cannot be paid out: {error}") from error
    batch = _commit_tables(context, month, turn, source.sha256, payouts, lines)
    commit = Commit(
        feed=LEDGER_FEED,
        stage=Stage.PAYOUTS,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=source.sha256,
        batch_ids=(batch.batch_id,),
        counts={
            "payees": payouts.payouts["rights_holder_id"].n_unique(),
            "lines": lines.rows,
            # What the catalog was when this was paid; drift is told against it.
            "catalog_revision": catalog_revision(context),
            _REVISION: contracts_revision(context),
        },
        checks={
            "every_amount_is_accounted_for": invariants.money_is_accounted_for(payouts.balance),
            "journal_balances": invariants.journal_balances(payouts.journal),
            "every_split_is_whole": _split_differences(context, ledger, payouts, lines),
        },
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(month.key, commit)


def _build(
    context: PipelineContext, month: Partition, source: _Input, ledger: pl.DataFrame
) -> tuple[Payouts, LakeObject]:
    """The payouts of a month; their lines go to the lake as they are made."""
    _, shares = shares_in_force(context)
    opening = _opening(context, source.opening)
    contracts, rates = contracts_in_force(context)
    builder = PayoutBuilder(shares, contracts, rates, period_of(month), opening)
    rows = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal rows
        yield pl.DataFrame(schema=PAYOUT_LINE_SCHEMA)
        # Earlier periods come first: what escalations count on from is what those come to now.
        for frame in (
            *_corrections(context, month, builder, contracts, rates, ledger),
            *builder.lines(ledger.filter(pl.col("corrects") == "")),
        ):
            rows += frame.height
            yield frame

    def write(path: Path) -> None:
        write_frames(path, counted())

    stored = context.lake.put(_folder(month), "payout_lines", 0, write)
    nothing = pl.DataFrame(schema=PAYOUT_LINE_SCHEMA)
    return builder.finish(ledger, nothing), replace(stored, rows=rows)


def _corrections(
    context: PipelineContext,
    month: Partition,
    builder: PayoutBuilder,
    contracts: Contracts,
    rates: Rates,
    ledger: pl.DataFrame,
) -> Iterator[pl.DataFrame]:
    """What a month's payouts correct of each settled period, the earliest first."""
    periods = _periods_corrected(context, month, contracts, ledger)
    reached: Mapping[str, int] | None = None
    for settled in periods:
        label = period_of(settled).label
        rates_then = _rates_of_settled(context, settled, month, rates)
        before = _as_booked(context, settled, month)
        now = divide_ledger(
            # With what this month's ledger corrects.
            booked(books_of(context, settled, month), [ledger], label),
            _shares_of_settled(context, settled, month),
            contracts=contracts,
            rates=rates_then,
            period=period_of(settled),
            reached=opening_accounts(context, settled).reached if reached is None else reached,
        )
        reached = now.reached
        yield builder.correct(
            before, now, label, rates_then, has_statement=is_closed(context, settled)
        )
    if reached is not None:
        builder.count_from(reached)


def _periods_corrected(
    context: PipelineContext, month: Partition, contracts: Contracts, ledger: pl.DataFrame
) -> list[Partition]:
    """Settled periods that a month's payouts look at again.

    Those that its ledger corrects. If this is the first open month after them, also all of them
    where contracts have been changed since, and those that hold money of recordings that shares
    are known for by now. What a contract with escalations counts in one of them moves where those
    after it begin, so that they follow.
    """
    settled = settled_months(context, month)
    labels = set(ledger["corrects"].unique()) - {""}
    if is_first_open(context, month):
        closed = max(each.key for each in settled if is_closed(context, each))
        revision = contracts_revision(context)
        if revision != _counted(context, Partition.parse(Cadence.MONTHLY, closed), _REVISION):
            return settled
        labels |= _labels_with_new_shares(context, settled, month)
    if not labels:
        return []
    if not any(contract.escalations for contract in contracts.contracts.values()):
        return [each for each in settled if period_of(each).label in labels]
    first = min(labels | _labels_ever_corrected(context, month))
    return [each for each in settled if period_of(each).label >= first]


def _labels_ever_corrected(context: PipelineContext, month: Partition) -> set[str]:
    """The periods that payouts of months before this one have corrected."""
    found: set[str] = set()
    for each in committed_months(context):
        if each.key < month.key:
            lines = payout_frame(context, each, "payout_lines", PAYOUT_LINE_SCHEMA)
            held = payout_frame(context, each, "held", HELD_SCHEMA)
            found |= {*lines["corrects"].unique(), *held["corrects"].unique()}
    return found - {""}


def _labels_with_new_shares(
    context: PipelineContext, settled: list[Partition], month: Partition
) -> set[str]:
    """The periods that hold money for want of shares that the catalog has by now."""
    _, today = shares_in_force(context)
    known = today["recording_id"].unique().to_list()
    found = set()
    for each in settled:
        held = pl.concat(_booked_of(context, each, month, "held", HELD_SCHEMA)).filter(
            (pl.col("reason") == Held.NO_SHARES) & pl.col("recording_id").is_in(known)
        )
        left = held.group_by("recording_id", "currency").agg(pl.col("amount", "units").sum())
        if left.filter((pl.col("amount") != 0) | (pl.col("units") != 0)).height:
            found.add(period_of(each).label)
    return found


def _counted(context: PipelineContext, month: Partition, name: str) -> int:
    """A count of a month's payouts in force; -1 where there is none."""
    commit = context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key)
    return -1 if commit is None else commit.counts.get(name, -1)


def _booked_of(
    context: PipelineContext,
    settled: Partition,
    month: Partition,
    table: str,
    schema: dict[str, pl.DataType],
) -> list[pl.DataFrame]:
    """A table of a settled period, and what the months before this one have corrected of it."""
    period = period_of(settled).label
    later = [
        payout_frame(context, each, table, schema).filter(pl.col("corrects") == period)
        for each in committed_months(context)
        if settled.key < each.key < month.key
    ]
    own = payout_frame(context, settled, table, schema).filter(pl.col("corrects") == "")
    return [own, *later]


def _as_booked(context: PipelineContext, settled: Partition, month: Partition) -> Divided:
    """A settled period as it is booked before a month corrects it."""
    return Divided(
        booked_lines(_booked_of(context, settled, month, "payout_lines", PAYOUT_LINE_SCHEMA)),
        pl.concat(_booked_of(context, settled, month, "held", HELD_SCHEMA)),
    )


def _shares_of_settled(
    context: PipelineContext, settled: Partition, month: Partition
) -> pl.DataFrame:
    """Plain shares have no dates: a recording's are those that it was first settled by.

    Those of today apply only to recordings that no closing until then knew any of.
    """
    revisions = [
        _counted(context, each, "catalog_revision") for each in settled_by(context, settled, month)
    ]
    _, today = shares_in_force(context)
    shares = pl.DataFrame(schema=today.schema)
    for then in (*(shares_of_revision(context, each) for each in _distinct(revisions)), today):
        unknown = then.join(shares, on="recording_id", how="anti")
        shares = pl.concat([shares, unknown.select(shares.columns)])
    return shares


def _rates_of_settled(
    context: PipelineContext, settled: Partition, month: Partition, today: Rates
) -> Rates:
    """The rates that a settled period is converted by: of each pair, those it was closed with."""
    revisions = [_counted(context, each, _REVISION) for each in settled_by(context, settled, month)]
    snapshots = [rates_of_revision(context, each) for each in _distinct(revisions)]
    period = period_of(settled)
    return standing_rates([*snapshots, today], period.first, period.last)


def _distinct(revisions: list[int]) -> list[int]:
    return list(dict.fromkeys(revisions))


def _opening(context: PipelineContext, stored: LakeObject | None) -> Accounts:
    return Accounts() if stored is None else Accounts.from_frame(read_frame(context.lake, stored))


def _folder(month: Partition) -> str:
    return f"{Stage.PAYOUTS}/{hive_folder(month)}"


def _commit_tables(
    context: PipelineContext,
    month: Partition,
    turn: Turn,
    input_sha256: str,
    payouts: Payouts,
    lines: LakeObject,
) -> Batch:
    objects = {
        table: lines
        if table == "payout_lines"
        else put_frame(context.lake, _folder(month), table, getattr(payouts, table))
        for table in TABLES
    }
    return commit_month_batch(context, month, turn, input_sha256, objects)


def _split_differences(
    context: PipelineContext, ledger: pl.DataFrame, payouts: Payouts, lines: LakeObject
) -> list[str]:
    """Recordings whose parts, as written, are not what the ledger owes on them."""
    key = ["currency", "recording_id"]
    owed = (
        ledger.filter(
            (pl.col("account") == Account.RECORDING_PAYABLE) & (pl.col("currency") != NO_CURRENCY)
        )
        .group_by(key)
        .agg((-pl.col("amount").sum()).alias("owed"))
    )
    divided = (
        pl.scan_parquet(context.lake.local_path(lines))
        .group_by(key)
        .agg(pl.col("amount").sum())
        .collect(engine="streaming")
    )
    held = payouts.held.group_by(key).agg(pl.col("amount").sum())
    accounted = pl.concat([divided, held]).group_by(key).agg(pl.col("amount").sum())
    both = owed.join(accounted, on=key, how="full", coalesce=True).with_columns(
        pl.col("owed", "amount").fill_null(0)
    )
    wrong = both.filter(pl.col("owed") != pl.col("amount")).sort(key)
    return [
        f"{recording_id}: {due} {currency} is owed, but {amount} is divided or held"
        for currency, recording_id, due, amount in wrong.head(5)
        .select(*key, "owed", "amount")
        .iter_rows()
    ]


def ledger_divided(context: PipelineContext, month: Partition, ledger: pl.DataFrame) -> Divided:
    """A ledger's own recording payables by the terms in force; nothing is committed.

    Raises:
        StageBlockedError: if the contracts are red, or a rate is wanting.
    """
    contracts, rates = contracts_in_force(context)
    _, shares = shares_in_force(context)
    try:
        return divide_ledger(
            ledger, shares, contracts=contracts, rates=rates, period=period_of(month)
        )
    except NoRateError as error:
        raise StageBlockedError(f"{month.key} cannot be paid out: {error}") from error


def opening_accounts(context: PipelineContext, month: Partition) -> Accounts:
    """The balances that a month starts from."""
    return _opening(context, _opening_object(context, month))


def closing_accounts(context: PipelineContext, month: Partition) -> Accounts:
    """The balances that a month ended with; none where it is not paid out."""
    return Accounts.from_frame(payout_frame(context, month, "accounts", ACCOUNT_SCHEMA))
