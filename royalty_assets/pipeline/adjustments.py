"""What a month corrects of earlier ones, for whom and why, in words.

The corrections themselves are lines of the month's ledger and payouts that point at the period
they correct (``month``, ``payouts``). Here they are only added up, and what has come or was decided
since is put beside them. What belongs elsewhere: comparing a month at two instants (``known``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import PAYOUT_LINE_SCHEMA
from royalty_assets.domain.terms import Period, Role
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.known import files_between
from royalty_assets.pipeline.month import expected_partition_keys
from royalty_assets.pipeline.payouts import payout_frame
from royalty_assets.pipeline.periods import closed_months, committed_months, ledger_in_force

_PAYEES_TOLD = 3
_FILES_TOLD = 5


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a month corrects of one earlier period.

    Attributes:
        period: that is corrected, ``2025-01``.
        received: currency → atoms that came in more, or less, than was booked.
        in_suspense: currency → atoms that wait more, or less, than was booked.
        earned: (payee, currency) → atoms that it has more, or less; only what is different.
        reasons: what has come, was decided or changed since, in words.
    """

    period: str
    received: dict[str, int]
    in_suspense: dict[str, int]
    earned: dict[tuple[str, str], int]
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """All of it in one sentence."""
        told = [f"{_signed(of)} {currency} came in" for currency, of in self.received.items()]
        told += [
            f"{_signed(of)} {currency} in suspense" for currency, of in self.in_suspense.items()
        ]
        most = sorted(self.earned.items(), key=lambda item: (-abs(item[1]), item[0]))
        told += [
            f"{payee} {_signed(of)} {currency}" for (payee, currency), of in most[:_PAYEES_TOLD]
        ]
        if len(most) > _PAYEES_TOLD:
            told.append(f"{len(most) - _PAYEES_TOLD:,} more payees")
        why = "; ".join(self.reasons) or "units of an earlier period move the steps of contracts"
        return f"corrects {self.period}: {', '.join(told) or 'no money moves'}. Since: {why}"


def _signed(atoms: int) -> str:
    return ("+" if atoms > 0 else "") + format_atoms(atoms)


def adjustments(context: PipelineContext, month: Partition) -> list[Adjustment]:
    """What a month's ledger and payouts in force correct of earlier periods, the earliest first."""
    ledger = ledger_in_force(context, month).filter(
        (pl.col("corrects") != "") & (pl.col("currency") != NO_CURRENCY)
    )
    lines = payout_frame(context, month, "payout_lines", PAYOUT_LINE_SCHEMA).filter(
        (pl.col("corrects") != "") & (pl.col("role") != Role.DEDUCTION)
    )
    found = []
    for period in sorted({*ledger["corrects"].unique(), *lines["corrects"].unique()}):
        of_ledger, of_lines = (
            frame.filter(pl.col("corrects") == period) for frame in (ledger, lines)
        )
        suspense = of_ledger.filter(pl.col("account") == Account.SUSPENSE)
        found.append(
            Adjustment(
                period,
                _sums(of_ledger.filter(pl.col("account") == Account.RECEIVABLE)),
                _sums(suspense.with_columns(-pl.col("amount"))),
                {
                    (str(payee), currency): atoms
                    for (payee,), frame in of_lines.partition_by(
                        "rights_holder_id", as_dict=True
                    ).items()
                    for currency, atoms in _sums(frame).items()
                },
                tuple(_reasons(context, month, period)),
            )
        )
    return found


def _sums(frame: pl.DataFrame) -> dict[str, int]:
    """Currency → atoms, where they are not nothing."""
    sums: dict[str, int] = {}
    for currency, atoms in zip(frame["currency"], series_to_atoms(frame["amount"]), strict=True):
        sums[currency] = sums.get(currency, 0) + atoms
    return {currency: atoms for currency, atoms in sorted(sums.items()) if atoms}


def _reasons(context: PipelineContext, month: Partition, period: str) -> Iterator[str]:
    """What is other of a period than when the last month before this one was closed.

    A month is closed only while its books are of all that is committed, so what it corrects of
    earlier periods has come after the closing before it.
    """
    since, until = _between_closings(context, month)
    corrected = Partition.parse(Cadence.MONTHLY, f"{period}-01")
    keys = {
        feed.name: {*expected_partition_keys(context, feed, corrected), corrected.key}
        for feed in context.project.feeds
    }
    yield from _deliveries(context, keys, since, until)
    pools: dict[str, None] = {}
    project_wide: dict[Stage, int] = {}
    for name, stage, key, revision, _ in context.registry.commits_between(since, until):
        if stage is Stage.POOL and key in keys.get(name, ()):
            pools[name] = None
        elif stage in {Stage.CATALOG, Stage.CONTRACTS}:
            project_wide[stage] = revision
    for name in pools:
        yield f"{name}: the pool was taken anew"
    yield from _decisions(context, keys, since, until)
    for stage, what in ((Stage.CATALOG, "the catalog"), (Stage.CONTRACTS, "contracts or rates")):
        if stage in project_wide:
            yield f"{what} changed (revision {project_wide[stage]})"


def _deliveries(
    context: PipelineContext, keys: Mapping[str, set[str]], since: datetime, until: datetime
) -> Iterator[str]:
    for feed in context.project.feeds:
        files = files_between(context, feed.name, keys[feed.name], since, until)
        if files and feed.records is RecordKind.REPORT_LINES:
            more = f" and {len(files) - _FILES_TOLD:,} more" if len(files) > _FILES_TOLD else ""
            yield f"{feed.name}: {', '.join(files[:_FILES_TOLD])}{more} came"
        elif files:
            yield f"{feed.name}: plays came"


def _decisions(
    context: PipelineContext, keys: Mapping[str, set[str]], since: datetime, until: datetime
) -> Iterator[str]:
    for decision in context.registry.adjudications():
        if not since < decision.decided_at <= until:
            continue
        touched = context.registry.partitions_with_subjects([decision.subject])
        if any(key in keys.get(feed, ()) for feed, key in touched):
            why = f" ({decision.why})" if decision.why else ""
            yield f"{decision.who} decided about {decision.subject}: {decision.action}{why}"


def _between_closings(context: PipelineContext, month: Partition) -> tuple[datetime, datetime]:
    """When the last month before this one was closed, and when this one was; now if it is open."""
    registry = context.registry
    closed = [each for each in closed_months(context) if each.key <= month.key]
    times = {
        each.key: registry.committed_at(commit)
        for each in closed
        if (commit := registry.commit(LEDGER_FEED, Stage.CLOSING, each.key)) is not None
    }
    until = times.pop(month.key, context.now())
    return max(times.values(), default=until), until


def where_booked(context: PipelineContext, month: Partition, line: pl.Expr) -> Iterator[str]:
    """Which later months correct something of a month, in words.

    Args:
        context: the project.
        month: that is settled.
        line: which lines of a ledger are meant.
    """
    period = Period(month.window.start.date()).label
    for each in committed_months(context):
        if each.key <= month.key:
            continue
        found = ledger_in_force(context, each).filter((pl.col("corrects") == period) & line)
        if found.is_empty():
            continue
        told = []
        for entry, words in (("reversal", "taken back"), ("rebooking", "booked")):
            of_entry = found.filter(pl.col("entry") == entry)
            if of_entry.is_empty():
                continue
            sign = 1 if entry == "reversal" else -1
            money = ", ".join(
                f"{format_atoms(sign * atoms)} {currency}"
                for currency, atoms in _sums(of_entry).items()
                if currency != NO_CURRENCY
            )
            units = abs(int(of_entry["units"].sum()))
            told.append(f"{units:,} units and {money or 'no money'} are {words}")
        yield f"{each.key[:7]} corrects {period} here: {', '.join(told)}."
