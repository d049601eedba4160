"""The payout stage: a month's green ledger, divided, settled and rounded.

A month starts from the balances that the month before it ended with, so its payouts follow from
that month's as well; when those change, these are made anew.
"""

from collections.abc import Iterator
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
)
from royalty_assets.domain.rates import NoRateError, Rates
from royalty_assets.domain.windows import Partition
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
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.periods import (
    books_of,
    closed_months,
    committed_months,
    is_closed,
    period_of,
)
from royalty_assets.storage.lake import put_frame, read_frame, read_table
from royalty_assets.storage.parquet import write_frames
from royalty_assets.storage.registry import Turn

PAYOUT_VERSION = "2"
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
    # The balances of a closed month were made without an open one's before it, and stay so.
    if not is_closed(context, month) and (
        after := [each.key[:7] for each in closed_months(context) if each.key > month.key]
    ):
        raise StageBlockedError(
            f"{month.key[:7]} comes before {after[0]}, which is closed, and cannot be paid out any "
            "more; report what it brings with dates of an open month"
        )
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
        StageBlockedError: if the ledger is not committed, or is red, or the contracts are; or if a
            later month is closed.
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
        payouts, lines = _build(context, month, source, ledger)
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
            "contracts_revision": contracts_revision(context),
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
        # What it corrects of closed months comes below, as it was divided then and is now.
        for frame in builder.lines(ledger.filter(pl.col("corrects") == "")):
            rows += frame.height
            yield frame
        for closed in _periods_corrected(context, month, ledger):
            before, now = _corrected(context, closed, month, contracts, rates, ledger)
            frame = builder.correct(before, now, period_of(closed).label)
            rows += frame.height
            yield frame

    def write(path: Path) -> None:
        write_frames(path, counted())

    stored = context.lake.put(_folder(month), "payout_lines", 0, write)
    nothing = pl.DataFrame(schema=PAYOUT_LINE_SCHEMA)
    return builder.finish(ledger, nothing), replace(stored, rows=rows)


def _periods_corrected(
    context: PipelineContext, month: Partition, ledger: pl.DataFrame
) -> list[Partition]:
    """Closed periods that a month's payouts correct.

    Those that its ledger corrects; and those that contracts have been changed for since, if this
    is the first open month after them.
    """
    in_ledger = set(ledger["corrects"].unique())
    closed = [each for each in closed_months(context) if each.key < month.key]
    is_first_open = bool(closed) and not any(
        closed[-1].key < each.key < month.key for each in committed_months(context)
    )
    are_changed = is_first_open and contracts_revision(context) != _counted(
        context, closed[-1], "contracts_revision"
    )
    return [each for each in closed if are_changed or period_of(each).label in in_ledger]


def _counted(context: PipelineContext, month: Partition, name: str) -> int:
    """A count of a month's payouts in force; -1 where there is none."""
    commit = context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key)
    return -1 if commit is None else commit.counts.get(name, -1)


def _corrected(
    context: PipelineContext,
    closed: Partition,
    month: Partition,
    contracts: Contracts,
    rates: Rates,
    ledger: pl.DataFrame,
) -> tuple[Divided, Divided]:
    """A closed period as it is booked, and as it comes out by what is known now.

    Contracts are dated, so those in force now say what applied then. Plain shares are not: those
    of when the period was closed apply, and of today only for recordings that it did not know.
    """
    period = period_of(closed).label
    months = [closed, *(m for m in committed_months(context) if closed.key < m.key < month.key)]

    def booked_of(table: str, schema: dict[str, pl.DataType]) -> list[pl.DataFrame]:
        frames = [payout_frame(context, each, table, schema) for each in months]
        own = frames[0].filter(pl.col("corrects") == "")
        return [own, *(frame.filter(pl.col("corrects") == period) for frame in frames[1:])]

    before = Divided(
        booked_lines(booked_of("payout_lines", PAYOUT_LINE_SCHEMA)),
        pl.concat(booked_of("held", HELD_SCHEMA)),
    )
    # With what this month's ledger corrects.
    own = booked(books_of(context, closed, month), [ledger], period)
    _, today = shares_in_force(context)
    then = shares_of_revision(context, _counted(context, closed, "catalog_revision"))
    shares = pl.concat([then, today.join(then, on="recording_id", how="anti")])
    now = divide_ledger(
        own,
        shares,
        contracts=contracts,
        rates=rates,
        period=period_of(closed),
        opening=opening_accounts(context, closed),
    )
    return before, now


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
