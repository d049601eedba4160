"""Accounting periods as the desk shows them: state, money, what stands against closing.

What may be closed, and what closing does, is ``pipeline.closing``'s; here its words are put beside
the pages where people decide about them, and its figures into rows and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from royalty_assets.domain.batches import Stage, combined_sha256
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import BALANCE_SCHEMA
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.adjustments import adjustments
from royalty_assets.pipeline.closing import Closing, closing_of, propose
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.drift import DRIFT_CHECK
from royalty_assets.pipeline.payouts import payout_frame
from royalty_assets.pipeline.periods import committed_months, passed_over_by
from royalty_assets.statements.pdf.figures import exact_text, period_name, small_sum_text

_MONEY_IN = ("received", "brought_forward")
_CLOSED_WITH = (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against closing a month.

    Attributes:
        words: what it is.
        address: the page where it is decided; empty where that is none of the desk's.
        page: what that page is called.
    """

    words: str
    address: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount for the eye, and exactly."""

    shown: str
    exact: str


@dataclass(frozen=True, slots=True)
class MoneyTable:
    """Where a month's money went, by currency.

    Attributes:
        columns: what it is called, and whether it came in; those of which there is something.
        rows: a currency and its amounts, in the order of the columns.
    """

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[tuple[str, Sequence[Amount]]]


@dataclass(frozen=True, slots=True)
class Month:
    """A month with a ledger.

    Attributes:
        label: ``2025-03``.
        name: ``March 2025``.
        closing: how it was closed; None if it is open.
        obstacles: what stands against closing it; none if it can be closed, or is.
        statements: how many there are.
        lines: of all statements.
        version: of what would be closed: another one whenever that is not the same any more.
        corrects: what it corrects of earlier months, in words.
        is_passed_over: whether it has no books of its own, since a later one was closed first.
    """

    label: str
    name: str
    closing: Closing | None
    obstacles: Sequence[Obstacle]
    money: MoneyTable
    statements: int
    lines: int
    version: str
    corrects: Sequence[str] = ()
    is_passed_over: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether a person may close it now."""
        return self.closing is None and not self.obstacles


def label_of(month: Partition) -> str:
    """``2025-03``, as addresses have it."""
    return month.key[:7]


def find_month(context: PipelineContext, label: str) -> Partition | None:
    """The month with a ledger that is called so, if there is one."""
    try:
        wanted = Partition.parse(Cadence.MONTHLY, f"{label}-01").key
    except ValueError:
        return None
    return next((m for m in committed_months(context) if m.key == wanted), None)


def look_at(context: PipelineContext, month: Partition) -> Month:
    """A month as it stands now."""
    proposal = propose(context, month)
    commits = [context.registry.commit(LEDGER_FEED, stage, month.key) for stage in _CLOSED_WITH]
    told = commits[-1].counts if commits[-1] is not None else {}
    label = label_of(month)
    return Month(
        label=label,
        name=period_name(label),
        closing=closing_of(context, month),
        obstacles=[_obstacle(context, month, reason) for reason in proposal.reasons],
        money=_money(context, month),
        statements=told.get("statements", 0),
        lines=told.get("lines", 0),
        version=combined_sha256(
            [f"{c.stage} {c.revision} {c.input_sha256}" for c in commits if c is not None]
        )[:16],
        corrects=[one.words for one in adjustments(context, month)],
        is_passed_over=passed_over_by(context, month) is not None,
    )


def _obstacle(context: PipelineContext, month: Partition, reason: str) -> Obstacle:
    ledger = context.registry.commit(LEDGER_FEED, Stage.LEDGER, month.key)
    if ledger is not None:
        drift = [*ledger.warnings.get(DRIFT_CHECK, ()), *ledger.checks.get(DRIFT_CHECK, ())]
        if any(finding in reason for finding in drift):
            return Obstacle(reason, "/drift", "Drift")
    if "is in suspense" in reason:
        return Obstacle(reason, "/", "Questions")
    earlier = next(
        (m for m in committed_months(context) if m.key < month.key and reason.startswith(m.key)),
        None,
    )
    if earlier is not None:
        return Obstacle(reason, f"#{label_of(earlier)}", period_name(label_of(earlier)))
    return Obstacle(reason)


def _money(context: PipelineContext, month: Partition) -> MoneyTable:
    balance = payout_frame(context, month, "balance", BALANCE_SCHEMA)
    atoms = {n: series_to_atoms(balance[n]) for n in BALANCE_SCHEMA if n != "currency"}
    # What came in stays, so that there is something that the rest is a part of.
    shown = [name for name in atoms if name == "received" or any(atoms[name])]
    return MoneyTable(
        [(name.replace("_", " "), name in _MONEY_IN) for name in shown],
        [
            (currency, [amount_of(atoms[name][i], currency) for name in shown])
            for i, currency in enumerate(balance["currency"])
        ],
    )


def amount_of(atoms: int, currency: str) -> Amount:
    """A sum for the eye; one of less than a cent has more decimals, so that it is not nothing."""
    return Amount(small_sum_text(atoms, currency), exact_text(atoms, currency))
