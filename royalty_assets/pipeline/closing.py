"""Closing an accounting period: when it may be, what that signs, and what a receipt is made from.

A person closes a month, once nothing of it is red, and no more is in suspense or held than
configuration allows. Its ledger, payouts and statements stay from then on as they are; what comes
later is corrected in the first open month. Each statement becomes a leaf of the log, and so does
the period, whose Merkle root is over all that it was closed with.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from royalty_assets.audit import receipts
from royalty_assets.audit.keys import RING_FOLDER, read_ring
from royalty_assets.audit.merkle import MemoryTree, leaf_hash, root
from royalty_assets.audit.notes import parse_note
from royalty_assets.audit.receipts import make_receipt
from royalty_assets.domain.batches import Commit, Stage, combined_sha256
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import BALANCE_SCHEMA, HELD_SCHEMA
from royalty_assets.domain.statements import Statement
from royalty_assets.domain.windows import Partition
from royalty_assets.logs import log_of
from royalty_assets.pipeline.catalog import catalog_in_force, simulated_splits
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.context import (
    LEDGER_FEED,
    PipelineContext,
    StageBlockedError,
    commit_month_batch,
)
from royalty_assets.pipeline.contracts import contracts_in_force
from royalty_assets.pipeline.evidence import MonthEvidence
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.month import blocked_because, passed_over_in_words
from royalty_assets.pipeline.payouts import payout_frame
from royalty_assets.pipeline.periods import (
    closed_months,
    closing_objects,
    closing_record,
    committed_months,
    is_closed,
    ledger_in_force,
    passed_over_by,
    period_of,
)
from royalty_assets.pipeline.statements import stated, statements
from royalty_assets.storage.lake import put_frame, read_frame

_log = log_of(__name__)

PERIOD_KIND = "period"
"""The kind of a closed period's leaf in the log."""
_STATEMENT_SCHEMA: dict[str, pl.DataType] = {
    "subject": pl.String(),
    "payee_id": pl.String(),
    "payee_currency": pl.String(),
    "header": pl.String(),
    "secret": pl.String(),
    "content_sha256": pl.String(),
}
_EVIDENCE_SCHEMA: dict[str, pl.DataType] = {
    "subject": pl.String(),
    "line_number": pl.Int64(),
    "evidence": pl.String(),
}
_RECORD_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(
    ("who", "why", "closed_at", "content"), pl.String()
)
_LINES_TOGETHER = 20_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """Whether a month can be closed.

    Attributes:
        reasons: what stands against it, in words; none if it can be closed.
        figures: by currency, in words: what it would be closed with.
    """

    month: str
    is_closed: bool
    reasons: tuple[str, ...]
    figures: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether a person may close it now."""
        return not self.reasons and not self.is_closed


def propose(context: PipelineContext, month: Partition) -> Proposal:
    """Look at a month: what stands against closing it."""
    if is_closed(context, month):
        return Proposal(month.key, is_closed=True, reasons=(), figures=_figures(context, month))
    if (closed := passed_over_by(context, month)) is not None:
        told = passed_over_in_words(month, closed)
        return Proposal(month.key, is_closed=False, reasons=(told,), figures=())
    reasons = []
    last_closed = max((each.key for each in closed_months(context)), default="")
    if earlier := [m.key for m in committed_months(context)
                   if last_closed < m.key < month.key]:  # fmt: skip
        reasons.append(f"{earlier[0]} comes first, and is still open")
    if blocked := blocked_because(context, month):
        reasons.append(blocked)
    else:
        reasons += _unstated(context, month)
    reasons += _made_up(context)
    reasons += _warned(context, month)
    reasons += _beyond_limits(context, month)
    return Proposal(month.key, False, tuple(reasons), _figures(context, month))


def _unstated(context: PipelineContext, month: Partition) -> list[str]:
    try:
        commit = stated(context, month)
    except StageBlockedError as error:
        return [str(error)]
    if commit is None:
        return ["the statements are not of the payouts in force; run the project, or materialise "
                "statements"]  # fmt: skip
    return [f"statements: {finding}" for found in commit.checks.values() for finding in found]


def _made_up(context: PipelineContext) -> list[str]:
    number = simulated_splits(context)
    if not number:
        return []
    return [
        f"the splits of {number:,} recordings are made up (missing_shares: simulated in "
        "feeds.yaml); give their shares, or set it to held, and run the project again"
    ]


def _warned(context: PipelineContext, month: Partition) -> list[str]:
    """What may pass in a month that is open, and not in one that is closed."""
    told = []
    for stage in (Stage.LEDGER, Stage.PAYOUTS):
        commit = context.registry.commit(LEDGER_FEED, stage, month.key)
        if commit is not None:
            told += [f for findings in commit.warnings.values() for f in findings[:1]]
    return told


def _beyond_limits(context: PipelineContext, month: Partition) -> list[str]:
    """What the month leaves unpaid, beyond what configuration allows.

    What it corrects of closed months counts where it adds to that. Where it takes from it, as a
    late decision does, it sets nothing of the month's own off.
    """
    limits = context.project.closing
    ledger = ledger_in_force(context, month).filter(pl.col("currency") != NO_CURRENCY)
    accounts = {of: ledger.filter(pl.col("account") == of) for of in Account}
    received = _left(accounts[Account.RECEIVABLE])
    suspense = accounts[Account.SUSPENSE].with_columns(-pl.col("amount"))
    held = payout_frame(context, month, "held", HELD_SCHEMA)
    told = []
    for left, limit, what in (
        (_left(suspense), limits.suspense_fraction_max, "is in suspense"),
        (_left(held), limits.held_fraction_max, "is held for want of terms"),
    ):
        for currency, atoms in sorted(left.items()):
            of = received.get(currency, 0)
            if atoms > of * Fraction(limit):
                told.append(
                    f"{format_atoms(atoms)} of {format_atoms(of)} {currency} {what}, and at "
                    f"most {_percent(limit)} may be (closing in feeds.yaml); decide about it at "
                    "the desk"
                )
    return told


def _left(lines: pl.DataFrame) -> dict[str, int]:
    """Currency → atoms of a month's own lines, and of what is more of each month it corrects."""
    sums: dict[tuple[str, str], int] = {}
    for currency, corrects, atoms in zip(
        lines["currency"], lines["corrects"], series_to_atoms(lines["amount"]), strict=True
    ):
        sums[currency, corrects] = sums.get((currency, corrects), 0) + atoms
    left: dict[str, int] = {}
    for (currency, corrects), atoms in sums.items():
        counted = max(atoms, 0) if corrects else abs(atoms)
        left[currency] = left.get(currency, 0) + counted
    return left


def _percent(fraction: Decimal) -> str:
    return f"{(fraction * 100).normalize():f} %"


def _figures(context: PipelineContext, month: Partition) -> tuple[str, ...]:
    balance = payout_frame(context, month, "balance", BALANCE_SCHEMA)
    names = [name for name in BALANCE_SCHEMA if name != "currency"]
    atoms = {name: series_to_atoms(balance[name]) for name in names}
    return tuple(
        f"{currency}: "
        + ", ".join(
            f"{name.replace('_', ' ')} {format_atoms(atoms[name][i])}"
            for name in names
            if atoms[name][i]
        )
        for i, currency in enumerate(balance["currency"])
    )


def close(context: PipelineContext, month: Partition, who: str, why: str = "") -> Commit:
    """Close a month, for good.

    Args:
        context: the project, with its key.
        month: all of whose stages are green.
        who: closes it.
        why: what there is to say about it.

    Raises:
        StageBlockedError: if it is closed already, or something stands against it.
    """
    if context.signer is None:
        raise StageBlockedError(
            "a closed period is signed, and this project has no key; `royalty-assets keys new` "
            "makes one"
        )
    _check_closable(context, month)
    for stage in (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS):
        # Whoever still works on the month is stopped, and what it did before is looked at again.
        context.registry.take_turn(LEDGER_FEED, stage, month.key)
    turn = context.registry.take_turn(LEDGER_FEED, Stage.CLOSING, month.key)
    _check_closable(context, month)
    logged = _LoggedStatements(context, month)
    content = _period_content(context, month, logged)
    at = context.now().isoformat(timespec="seconds")
    record = pl.DataFrame([(who, why, at, content)], schema=_RECORD_SCHEMA, orient="row")
    sha256 = combined_sha256([content, who, why, at])
    folder = f"{Stage.CLOSING}/{hive_folder(month)}"
    tables = {"record": record, "statements": logged.statements, "evidence": logged.evidence}
    objects = {name: put_frame(context.lake, folder, name, of) for name, of in tables.items()}
    batch = commit_month_batch(context, month, turn, sha256, objects)
    commit = Commit(
        feed=LEDGER_FEED,
        stage=Stage.CLOSING,
        partition_key=month.key,
        revision=turn.revision,
        input_sha256=sha256,
        batch_ids=(batch.batch_id,),
        counts={"statements": logged.statements.height, "lines": logged.evidence.height},
        checks={},
    )
    leaves = [
        *((receipts.STATEMENT_KIND, subject, sha)
          for subject, sha in logged.statements.select("subject", "content_sha256").rows()),
        (PERIOD_KIND, period_of(month).label, combined_sha256([content])),
    ]  # fmt: skip
    context.registry.commit_partition(commit, turn, leaves)
    _log.info("%s is closed by %s", month.key[:7], who, extra={"partition": month.key})
    sign_checkpoint(context)
    return commit


def _check_closable(context: PipelineContext, month: Partition) -> None:
    proposal = propose(context, month)
    if proposal.is_closed:
        raise StageBlockedError(f"{month.key} is closed; what comes late is corrected later")
    if proposal.reasons:
        told = "".join(f"\n  {reason}" for reason in proposal.reasons)
        raise StageBlockedError(f"{month.key} cannot be closed:{told}")


class _LoggedStatements:
    """A month's statements as they are logged: what is shown of each, and what shows its lines."""

    def __init__(self, context: PipelineContext, month: Partition) -> None:
        evidence = MonthEvidence(context, month)
        contracts, _ = contracts_in_force(context)
        version, _ = catalog_in_force(context)
        commit = context.registry.commit(LEDGER_FEED, Stage.STATEMENTS, month.key)
        revision = "0" if commit is None else str(commit.revision)
        told: list[tuple[str, ...]] = []
        pieces: list[pl.DataFrame] = []
        lines: list[tuple[str, int, str]] = []
        for statement in statements(context, month):
            shown = receipts.Statement(
                payee=statement.payee_id,
                period=statement.period,
                currency=statement.currency,
                revision=revision,
                header=_header(statement),
                lines=evidence.lines(statement, contracts.contracts, version),
                secret=secrets.token_bytes(receipts.SECRET_BYTES),
            )
            entries = receipts.line_entries(shown)
            told.append(
                (
                    shown.subject, shown.payee, shown.currency, json.dumps(shown.header),
                    shown.secret.hex(), receipts.content_sha256_of(shown, entries),
                )
            )  # fmt: skip
            lines += [
                (shown.subject, number, entry.decode())
                for number, entry in enumerate(entries, start=1)
            ]
            if len(lines) >= _LINES_TOGETHER:
                pieces.append(_evidence_frame(lines))
                lines = []
        self.statements = pl.DataFrame(told, schema=_STATEMENT_SCHEMA, orient="row")
        self.evidence = pl.concat([*pieces, _evidence_frame(lines)])


def _evidence_frame(lines: list[tuple[str, int, str]]) -> pl.DataFrame:
    return pl.DataFrame(lines, schema=_EVIDENCE_SCHEMA, orient="row")


def _header(statement: Statement) -> dict[str, Any]:
    """What a receipt shows of the statement as a whole."""
    movements = [
        {"what": movement, "reference": reference, "words": words, "amount": format_atoms(atoms)}
        for movement, reference, words, atoms in zip(
            statement.movements["movement"],
            statement.movements["reference"],
            statement.movements["explanation"],
            series_to_atoms(statement.movements["amount"]),
            strict=True,
        )
    ]
    return {"name": statement.payee_name, "movements": movements, "closing": "0"}


def _period_content(context: PipelineContext, month: Partition, logged: "_LoggedStatements") -> str:
    """What a closed period is: the batches that it was closed with, and the root over them all."""
    batches = {
        str(stage): batch.sha256
        for stage in (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS)
        if (commit := context.registry.commit(LEDGER_FEED, stage, month.key)) is not None
        for batch in context.registry.batches_by_id(commit.batch_ids)
    }
    parts = [*batches.values(), *logged.statements["content_sha256"]]
    tree = MemoryTree(leaf_hash(bytes.fromhex(part)) for part in parts)
    return json.dumps(
        {
            "period": period_of(month).label,
            "batches": batches,
            "statements": logged.statements.height,
            "root": root(tree, len(tree)).hex(),
            # By which its pools are shared also when something comes late.
            "allocation": {
                feed.name: feed.allocation.model_dump(mode="json") for feed in context.project.feeds
            },
        },
        sort_keys=True,
    )


@dataclass(frozen=True, slots=True)
class Closing:
    """How a month was closed; ``root`` is the Merkle root over its batches and statements."""

    who: str
    why: str
    closed_at: str
    root: str


def closing_of(context: PipelineContext, month: Partition) -> Closing | None:
    """How a month was closed; None if it is open."""
    record = closing_record(context, month)
    if record is None:
        return None
    return Closing(record["who"], record["why"], record["closed_at"], record["content"]["root"])


def receipt(
    context: PipelineContext, month: Partition, payee_id: str, currency: str, line_number: int
) -> str:
    """The receipt of one line of a statement of a closed month, as JSON.

    Raises:
        StageBlockedError: if the month is open, or there is no such line.
        royalty_assets.audit.receipts.ReceiptError: if it would not hold.
    """
    objects = closing_objects(context, month)
    if objects is None:
        raise StageBlockedError(
            f"{period_of(month).label} is not closed; receipts are of closed periods "
            "(`royalty-assets close`)"
        )
    told = read_frame(context.lake, objects[1]).filter(
        (pl.col("payee_id") == payee_id) & (pl.col("payee_currency") == currency)
    )
    if told.is_empty():
        raise StageBlockedError(
            f"there is no statement for {payee_id} in {currency} and {period_of(month).label}; "
            f"`royalty-assets statements` lists them"
        )
    row = told.row(0, named=True)
    path = context.lake.local_path(objects[2])
    evidence = (
        pl.scan_parquet(path)
        .filter(pl.col("subject") == row["subject"])
        .sort("line_number")
        .collect()
    )
    if not 1 <= line_number <= evidence.height:
        raise StageBlockedError(
            f"the statement of {payee_id} has the lines 1 to {evidence.height}, and no "
            f"{line_number}"
        )
    statement = _shown(row, evidence, period_of(month).label)
    leaves = context.registry.leaves_of(receipts.STATEMENT_KIND, row["subject"])
    leaf = next((one for one in leaves if one.content_sha256 == row["content_sha256"]), None)
    if leaf is None:
        raise receipts.ReceiptError(f"the log has no leaf of statement {row['subject']}")
    last = context.registry.last_checkpoint()
    if last is None or last.size <= leaf.index:
        raise StageBlockedError("the closing is not signed yet; run the project once more")
    proof = context.registry.inclusion_proof(leaf.index, last.size)
    ring = read_ring(context.home / RING_FOLDER)
    return make_receipt(
        statement, line_number - 1, leaf, proof, last.size, parse_note(last.note), ring.keys
    )


def _shown(row: dict[str, str], evidence: pl.DataFrame, period: str) -> receipts.Statement:
    return receipts.Statement(
        payee=row["payee_id"],
        period=period,
        currency=row["payee_currency"],
        revision=row["subject"].rpartition(".")[2],
        header=json.loads(row["header"]),
        lines=[receipts.line_of(entry) for entry in evidence["evidence"]],
        secret=bytes.fromhex(row["secret"]),
    )


def closing_differences(context: PipelineContext, month: Partition) -> Iterator[str]:
    """Where what is logged of a closed month is not what its objects and its books say."""
    objects = closing_objects(context, month)
    if objects is None:
        return
    told = read_frame(context.lake, objects[1])
    evidence = read_frame(context.lake, objects[2]).sort("subject", "line_number")
    by_subject = evidence.partition_by("subject", as_dict=True)
    lines = {(s.payee_id, s.currency): s for s in statements(context, month)}
    for row in told.iter_rows(named=True):
        of_it = by_subject.get((row["subject"],), evidence.clear())
        shown = _shown(row, of_it, period_of(month).label)
        if shown.content_sha256 != row["content_sha256"]:
            yield f"statement {row['subject']}: its evidence is not what was logged"
        leaves = context.registry.leaves_of(receipts.STATEMENT_KIND, row["subject"])
        if row["content_sha256"] not in {leaf.content_sha256 for leaf in leaves}:
            yield f"statement {row['subject']}: the log has no leaf of it"
        stands = lines.pop((row["payee_id"], row["payee_currency"]), None)
        if stands is None or _amounts(shown) != _amounts_stated(stands):
            yield f"statement {row['subject']}: its lines are not those of the statement in force"
    for payee_id, currency in sorted(lines):
        yield f"statement of {payee_id} in {currency}: it was not logged when the month was closed"
    content = read_frame(context.lake, objects[0])["content"][0]
    period = period_of(month).label
    leaves = context.registry.leaves_of(PERIOD_KIND, period)
    if combined_sha256([content]) not in {leaf.content_sha256 for leaf in leaves}:
        yield f"period {period}: the log has no leaf of it as it was closed"
    for stage, sha256 in json.loads(content)["batches"].items():
        commit = context.registry.commit(LEDGER_FEED, Stage(stage), month.key)
        batches = [] if commit is None else context.registry.batches_by_id(commit.batch_ids)
        if [batch.sha256 for batch in batches] != [sha256]:
            yield f"period {period}: its {stage} is not what it was closed with"


def _amounts(statement: receipts.Statement) -> list[str]:
    return [line.fields["amount"] for line in statement.lines]


def _amounts_stated(statement: Statement) -> list[str]:
    return [format_atoms(atoms) for atoms in series_to_atoms(statement.lines["payee_amount"])]
