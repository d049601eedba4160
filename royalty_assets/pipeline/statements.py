"""The statement stage: what each payee is told about a month, as tables and as files.

The tables of all payees are one batch; a payee's statement is read out of them, and its files are
written from it (``royalty_assets.statements``). Nothing is computed here that ``payouts`` has not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.batches import Commit, LakeObject, Stage, combined_sha256
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import atoms_to_series, series_to_atoms
from royalty_assets.domain.payouts import (
    CONVERSION_SCHEMA,
    PAYEE_MOVEMENT_SCHEMA,
    PAYOUT_LINE_SCHEMA,
    PAYOUT_SCHEMA,
)
from royalty_assets.domain.statement_lines import payee_lines
from royalty_assets.domain.statements import (
    RECOUPMENT_HISTORY_SCHEMA,
    RESERVE_SCHEMA,
    STATEMENT_LINE_SCHEMA,
    STATEMENT_MOVEMENT_SCHEMA,
    Movement,
    Statement,
)
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog
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
from royalty_assets.pipeline.contracts import contracts_in_force
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.payouts import closing_accounts, opening_accounts, payout_frame
from royalty_assets.pipeline.periods import is_closed, period_of
from royalty_assets.storage.lake import put_frame, read_frame

STATEMENT_VERSION = "2"
"""Changes whenever the same payouts may be told otherwise."""

TABLES = ("statements", "lines", "movements", "recoupment", "reserves")
"""The objects of a statement batch, in order."""

_PAYEE: dict[str, pl.DataType] = {"payee_id": pl.String(), "payee_currency": pl.String()}
SUMMARY_SCHEMA: dict[str, pl.DataType] = {
    **_PAYEE,
    "payee_name": pl.String(),
    "lines": pl.Int64(),
    "amount_paid": PAYOUT_SCHEMA["amount_paid"],
    "amount_carried_forward": PAYOUT_SCHEMA["amount_carried_forward"],
}
"""One row a statement, by payee and currency."""
_TOLD_SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "lines": STATEMENT_LINE_SCHEMA,
    "movements": STATEMENT_MOVEMENT_SCHEMA,
    "recoupment": RECOUPMENT_HISTORY_SCHEMA,
    "reserves": RESERVE_SCHEMA,
}
"""What a statement has, by table, without whose it is."""
_RECOUPMENT_SCHEMA = {**_PAYEE, **RECOUPMENT_HISTORY_SCHEMA}


@dataclass(frozen=True, slots=True)
class StatementTables:
    """The tables of a month, of all payees, each sorted by payee and currency."""

    statements: pl.DataFrame
    lines: pl.DataFrame
    movements: pl.DataFrame
    recoupment: pl.DataFrame
    reserves: pl.DataFrame


def stated(context: PipelineContext, month: Partition) -> Commit | None:
    """The statements in force, if they are those of the payouts in force.

    Raises:
        StageBlockedError: if the payouts are not committed, or are red.
    """
    green_input(context, LEDGER_FEED, Stage.PAYOUTS, month.key)
    if is_closed(context, month):
        return context.registry.commit(LEDGER_FEED, Stage.STATEMENTS, month.key)
    input_sha256 = statement_input_sha256(context, month)
    return standing(context, LEDGER_FEED, Stage.STATEMENTS, month.key, input_sha256)


def statement_input_sha256(context: PipelineContext, month: Partition) -> str:
    """Of what a month's statements would be made from.

    Raises:
        StageBlockedError: if the payouts are not committed, or are red.
    """
    _, (payouts,) = green_input(context, LEDGER_FEED, Stage.PAYOUTS, month.key)
    before = _before(context, month)
    history = "" if before is None else before.sha256
    return combined_sha256(
        [STATEMENT_VERSION, payouts.sha256, catalog_in_force(context)[0], history]
    )


def _before(context: PipelineContext, month: Partition) -> LakeObject | None:
    """The recoupment history up to the month before."""
    commits = context.registry.commits(Stage.STATEMENTS, LEDGER_FEED)
    before = [commit for commit in commits if commit.partition_key < month.key]
    if not before:
        return None
    newest = max(before, key=lambda commit: commit.partition_key)
    (batch,) = context.registry.batches_by_id(newest.batch_ids)
    return batch.objects[TABLES.index("recoupment")]


def state(context: PipelineContext, month: Partition) -> Outcome:
    """Make the statements of a month that is paid out.

    Raises:
        StageBlockedError: if the payouts are not committed, or are red.
    """
    turn = begin(context, LEDGER_FEED, Stage.STATEMENTS, month.key, lambda: stated(context, month))
    if isinstance(turn, Commit):
        return Outcome(month.key, turn, changed=False)
    tables = _tables(context, month)
    input_sha256 = statement_input_sha256(context, month)
    folder = f"{Stage.STATEMENTS}/{hive_folder(month)}"
    objects = {
        name: put_frame(context.lake, folder, name, getattr(tables, name)) for name in TABLES
    }
    batch = commit_month_batch(context, month, turn, input_sha256, objects)
    commit = Commit(
        feed=LEDGER_FEED,
        stage=Stage.STATEMENTS,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=input_sha256,
        batch_ids=(batch.batch_id,),
        counts={"statements": tables.statements.height, "lines": tables.lines.height},
        checks={"every_statement_is_whole": _differences(tables)},
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(month.key, commit)


def _tables(context: PipelineContext, month: Partition) -> StatementTables:
    contracts, _ = contracts_in_force(context)
    catalog = load_catalog(context, catalog_in_force(context)[1])
    period = period_of(month).label
    payouts = payout_frame(context, month, "payouts", PAYOUT_SCHEMA)
    lines = payee_lines(
        payout_frame(context, month, "payout_lines", PAYOUT_LINE_SCHEMA),
        catalog.recordings,
        contracts,
        payout_frame(context, month, "conversions", CONVERSION_SCHEMA),
        period,
    )
    movements = payout_frame(context, month, "movements", PAYEE_MOVEMENT_SCHEMA).rename(
        {"currency": "payee_currency"}
    )
    closing = closing_accounts(context, month)
    before = _before(context, month)
    history = pl.DataFrame(schema=_RECOUPMENT_SCHEMA)
    if before is not None:
        history = read_frame(context.lake, before)
    recouped = _recoupment(opening_accounts(context, month), closing, period)
    by_payee = list(_PAYEE)
    counted = lines.group_by(by_payee).agg(pl.len().cast(pl.Int64).alias("lines"))
    statements = (
        payouts.rename(
            {
                "rights_holder_id": "payee_id",
                "rights_holder_name": "payee_name",
                "currency": "payee_currency",
            }
        )
        .join(counted, on=by_payee, how="left")
        .with_columns(pl.col("lines").fill_null(0))
        .select(SUMMARY_SCHEMA.keys())
        .sort(by_payee)
    )
    return StatementTables(
        statements,
        lines,
        movements.sort(by_payee, maintain_order=True),
        pl.concat([history, recouped]).sort(*by_payee, "account", "period"),
        _reserves(closing),
    )


def _recoupment(opening: Accounts, closing: Accounts, period: str) -> pl.DataFrame:
    """What was charged and recouped in a period, of every account that has a balance."""
    rows: list[tuple[tuple[str, str, str, str], tuple[int, int, int, int]]] = []
    for payee_id, account, currency in sorted(closing.charged.keys() | closing.recouped.keys()):
        key = (payee_id, account, currency)
        charged_before = opening.charged.get(key, 0)
        recouped_before = opening.recouped.get(key, 0)
        charged = closing.charged.get(key, 0) - charged_before
        recouped = closing.recouped.get(key, 0) - recouped_before
        opened = charged_before - recouped_before
        if opened or charged or recouped:
            amounts = (opened, charged, recouped, opened + charged - recouped)
            rows.append(((payee_id, currency, account, period), amounts))
    names = ("opening", "charged", "recouped", "closing")
    return pl.DataFrame(
        [
            *(
                pl.Series(name, [key[i] for key, _ in rows], pl.String)
                for i, name in enumerate((*_PAYEE, "account", "period"))
            ),
            *(
                atoms_to_series(name, [amounts[i] for _, amounts in rows])
                for i, name in enumerate(names)
            ),
        ]
    )


def _reserves(closing: Accounts) -> pl.DataFrame:
    tranches = sorted(closing.reserves, key=lambda t: (t.payee_id, t.currency, t))
    return pl.DataFrame(
        [
            pl.Series("payee_id", [t.payee_id for t in tranches], pl.String),
            pl.Series("payee_currency", [t.currency for t in tranches], pl.String),
            pl.Series("contract_id", [t.contract_id for t in tranches], pl.String),
            pl.Series("held_in", [t.held_in for t in tranches], pl.String),
            pl.Series("release_in", [t.due_in for t in tranches], pl.String),
            atoms_to_series("amount", [t.atoms for t in tranches]),
        ]
    )


def _differences(tables: StatementTables) -> list[str]:
    """Statements whose movements do not sum to zero, or whose lines are not what was earned."""
    sums: dict[tuple[str, str], list[int]] = {}
    for payee_id, currency, movement, atoms in zip(
        tables.movements["payee_id"],
        tables.movements["payee_currency"],
        tables.movements["movement"],
        series_to_atoms(tables.movements["amount"]),
        strict=True,
    ):
        total = sums.setdefault((payee_id, currency), [0, 0])
        total[0] += atoms
        total[1] += atoms if movement in {Movement.EARNINGS, Movement.ADJUSTMENT} else 0
    for payee_id, currency, atoms in zip(
        tables.lines["payee_id"],
        tables.lines["payee_currency"],
        series_to_atoms(tables.lines["payee_amount"]),
        strict=True,
    ):
        sums.setdefault((payee_id, currency), [0, 0])[1] -= atoms
    return [
        f"{payee_id}, {currency}: the movements sum to {format_atoms(whole)}, and what was earned "
        f"is {format_atoms(earned)} more than the lines come to"
        for (payee_id, currency), (whole, earned) in sorted(sums.items())
        if whole or earned
    ]


def statement_tables(context: PipelineContext, month: Partition) -> StatementTables:
    """The tables in force of a month.

    Raises:
        StageBlockedError: if there are none.
    """
    return StatementTables(*(read_frame(context.lake, o) for o in _objects(context, month)))


def statement_list(context: PipelineContext, month: Partition) -> pl.DataFrame:
    """``SUMMARY_SCHEMA`` of a month, sorted by payee and currency.

    Raises:
        StageBlockedError: if there are no statements.
    """
    return read_frame(context.lake, _objects(context, month)[0])


def statement_of(
    context: PipelineContext, month: Partition, payee_id: str, currency: str
) -> Statement | None:
    """One statement, of whose month no more is read than that; None if there is none.

    Raises:
        StageBlockedError: if there are no statements.
    """
    is_its = (pl.col("payee_id") == payee_id) & (pl.col("payee_currency") == currency)
    found = StatementTables(
        *(
            pl.scan_parquet(context.lake.local_path(stored)).filter(is_its).collect()
            for stored in _objects(context, month)
        )
    )
    if found.statements.is_empty():
        return None
    tables = {
        name: getattr(found, name).select(schema.keys()) for name, schema in _TOLD_SCHEMAS.items()
    }
    name = found.statements["payee_name"][0]
    return Statement(payee_id, name, period_of(month).label, currency, **tables)


def _objects(context: PipelineContext, month: Partition) -> tuple[LakeObject, ...]:
    commit = context.registry.commit(LEDGER_FEED, Stage.STATEMENTS, month.key)
    if commit is None:
        raise StageBlockedError(
            f"there are no statements for {month.key}; run the project, or materialise statements"
        )
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return batch.objects


def statements(
    context: PipelineContext, month: Partition, payee_id: str | None = None
) -> Iterator[Statement]:
    """The statements of a month, or those of one payee.

    Raises:
        StageBlockedError: if there are none.
    """
    tables = statement_tables(context, month)
    period = period_of(month).label
    summary = tables.statements
    if payee_id is not None:
        summary = summary.filter(pl.col("payee_id") == payee_id)
    parts = {
        table: _Parts(getattr(tables, table), schema) for table, schema in _TOLD_SCHEMAS.items()
    }
    for payee, currency, name in summary.select(*_PAYEE, "payee_name").iter_rows():
        of_payee = {table: of_all.of(payee, currency) for table, of_all in parts.items()}
        yield Statement(payee, name, period, currency, **of_payee)


class _Parts:
    """A table of all payees, sorted by them, cut into that of each."""

    def __init__(self, table: pl.DataFrame, schema: dict[str, pl.DataType]) -> None:
        groups = (
            table.select(*_PAYEE, pl.int_range(pl.len()).alias("row"))
            .group_by(list(_PAYEE), maintain_order=True)
            .agg(pl.col("row").first(), pl.len().alias("rows"))
        )
        self._places = {(payee, of): (row, rows) for payee, of, row, rows in groups.iter_rows()}
        self._table = table.select(schema.keys())

    def of(self, payee_id: str, currency: str) -> pl.DataFrame:
        """The rows of one payee in one currency."""
        return self._table.slice(*self._places.get((payee_id, currency), (0, 0)))
