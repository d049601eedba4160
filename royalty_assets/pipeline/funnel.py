"""The funnel: from rows received to money paid, as figures for people.

Figures are read from the commits in force; that they agree is for ``invariants`` to say, which
``accounted_for`` asks about every month at once.
"""

from dataclasses import dataclass, field

import polars as pl

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.matching import METHODS
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import BALANCE_SCHEMA
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.adjustments import adjustments
from royalty_assets.pipeline.catalog import simulated_splits
from royalty_assets.pipeline.context import (
    CATALOG_FEED,
    LEDGER_FEED,
    PipelineContext,
)
from royalty_assets.pipeline.drift import DRIFT_CHECK, USAGE_CHECK
from royalty_assets.pipeline.ingest import INBOX_PARTITION
from royalty_assets.pipeline.month import corrections_waiting, expected_partition_keys, month_frames
from royalty_assets.pipeline.periods import committed_months, is_closed

MONEY_COLUMNS = [name for name in BALANCE_SCHEMA if name != "currency"]


@dataclass(slots=True)
class FeedFunnel:
    """One feed's rows and units, over all committed partitions."""

    feed: str
    received: int = 0
    rejected: int = 0
    duplicates: int = 0
    accepted: int = 0
    taken_back: int = 0
    units: int = 0
    units_matched: int = 0
    units_in_suspense: int = 0
    lines_by_method: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METHODS, 0))


@dataclass(frozen=True, slots=True)
class Funnel:
    """What the demo and ``run`` end with.

    Attributes:
        feeds: per feed.
        money: currency → column of ``payouts.BALANCE_SCHEMA`` → atoms, over all months.
        payouts: rights_holder_id, rights_holder_name, currency, amount_paid, over all months.
        findings: what is not accounted for; empty is the aim.
        notices: what was refused and is told, though nothing of it is missing.
    """

    feeds: list[FeedFunnel]
    money: dict[str, dict[str, int]]
    payouts: pl.DataFrame
    findings: list[str]
    notices: list[str]

    @property
    def is_accounted_for(self) -> bool:
        """Whether nothing is missing."""
        return not self.findings


def make_funnel(context: PipelineContext) -> Funnel:
    """The figures of everything that is committed."""
    months = committed_months(context)
    feeds = [_feed_funnel(context, feed.name) for feed in context.project.feeds]
    money: dict[str, dict[str, int]] = {}
    payouts = []
    findings = _gaps(context, months)
    ledger_units = 0
    for month in months:
        ledger, paid, balance = month_frames(context, month)
        findings += [f"{month.key}: {f}" for f in invariants.ledger_balances(ledger)]
        findings += [f"{month.key}: {f}" for f in invariants.money_is_accounted_for(balance)]
        ledger_units += int(ledger.filter(pl.col("account") != "receivable")["units"].sum())
        payouts.append(paid)
        for name in MONEY_COLUMNS:
            for currency, atoms in zip(
                balance["currency"].to_list(), series_to_atoms(balance[name]), strict=True
            ):
                sums = money.setdefault(currency, dict.fromkeys(MONEY_COLUMNS, 0))
                sums[name] += atoms
    for feed in feeds:
        rows = invariants.RowCount(feed.received, feed.accepted, feed.rejected, feed.duplicates)
        findings += [f"{feed.feed}: {f}" for f in invariants.rows_are_accounted_for(rows)]
    waiting = corrections_waiting(context)
    ledger_units += int(waiting.filter(pl.col("account") != "receivable")["units"].sum())
    units = sum(feed.units for feed in feeds)
    if units != ledger_units:
        findings.append(f"{units} units were accepted, but {ledger_units} are in the ledgers")
    return Funnel(feeds, money, _total_payouts(payouts), findings, _notices(context, waiting))


def _notices(context: PipelineContext, waiting: pl.DataFrame) -> list[str]:
    """Files and catalog rows that were refused, by name; and what is corrected, or waits to be."""
    corrected = [
        f"{period}: what has come since it was settled waits for the next month's ledger, which "
        "corrects it"
        for period in sorted(waiting["corrects"].unique())
    ] + [
        f"{month.key[:7]} {each.words}"
        for month in committed_months(context)
        if not is_closed(context, month)
        for each in adjustments(context, month)
    ]
    quarantined = [
        f"quarantined: {finding}"
        for commit in context.registry.commits(Stage.RAW, partition_keys=[INBOX_PARTITION])
        for findings in commit.checks.values()
        for finding in findings
    ]
    replaced = [
        f"{commit.feed} {commit.partition_key}: files that came again under their names, changed: "
        f"{commit.counts['payloads_replaced']}"
        for commit in context.registry.commits(Stage.RAW)
        if commit.counts.get("payloads_replaced")
    ]
    letters = context.registry.dead_letters(CATALOG_FEED, limit=1_000_000)
    rows = [
        f"catalog: {_place(letter['source'], letter['row_number'])}{letter['value']}: "
        f"{letter['reason']}"
        for letter in letters
    ]
    refused = [
        f"{feed.name}: {number:,} rows were refused; `royalty-assets dead-letters` tells each"
        for feed in context.project.feeds
        if (number := _feed_funnel(context, feed.name).rejected)
    ]
    agreed = [
        f"{feed.name}: usage that brings no money shares the {feed.pool.amount} "
        f"{feed.pool.currency} a month that feeds.yaml states; make sure that this is your deal"
        for feed in context.project.feeds
        if feed.pool is not None
    ]
    return [
        *corrected,
        *_open(context),
        *_warned(context),
        *quarantined,
        *replaced,
        *refused,
        *_made_up(context),
        *agreed,
        *rows,
    ]


def _open(context: PipelineContext) -> list[str]:
    """A word on what waits for people."""
    units = sum(
        commit.counts.get("units_exception", 0)
        for commit in context.registry.commits(Stage.MATCHED)
    )
    if not units:
        return []
    return [f"{units:,} units have no recording; `royalty-assets desk` asks, by the money at stake"]


def _warned(context: PipelineContext) -> list[str]:
    """What only warns of drift; what blocks is told where it does."""
    months = [
        f"ledger {commit.partition_key}: {told}; see Drift at the desk"
        for commit in context.registry.commits(Stage.LEDGER, LEDGER_FEED)
        for told in commit.warnings.get(DRIFT_CHECK, [])[:1]
    ]
    usage = [
        f"{commit.feed} {commit.partition_key}: {told}; see Drift at the desk"
        for commit in context.registry.commits(Stage.MATCHED)
        for told in commit.warnings.get(USAGE_CHECK, [])[:1]
    ]
    return months + usage


def _made_up(context: PipelineContext) -> list[str]:
    """A word on simulated splits: whoever pays by them must know."""
    number = simulated_splits(context)
    if not number:
        return []
    return [
        f"catalog: the splits of {number:,} recordings are made up (missing_shares: simulated in "
        "feeds.yaml); pay nobody by them"
    ]


def _place(source: str, row_number: int) -> str:
    """Where a catalog row stands; what is wrong with a whole recording stands nowhere."""
    return f"{source}, line {row_number}: " if row_number else ""


def _feed_funnel(context: PipelineContext, feed: str) -> FeedFunnel:
    funnel = FeedFunnel(feed)
    for commit in context.registry.commits(Stage.VALIDATED, feed):
        funnel.received += commit.counts["received"]
        funnel.rejected += commit.counts["rejected"]
        funnel.duplicates += commit.counts["duplicates"]
        funnel.accepted += commit.counts["accepted"]
        funnel.taken_back += commit.counts.get("taken_back", 0)
        funnel.units += commit.counts["units"]
    for commit in context.registry.commits(Stage.MATCHED, feed):
        funnel.units_in_suspense += commit.counts["units_exception"]
        for method in METHODS:
            if method != "exception":
                funnel.units_matched += commit.counts.get(f"units_{method}", 0)
            funnel.lines_by_method[method] += commit.counts.get(f"lines_{method}", 0)
    return funnel


def _gaps(context: PipelineContext, months: list[Partition]) -> list[str]:
    """Partitions that did not come through, and commits whose gate is shut."""
    gaps = []
    if not months:
        gaps.append("no month has a ledger yet")
    for stage in (
        Stage.RAW,
        Stage.VALIDATED,
        Stage.MATCHED,
        Stage.POOL,
        Stage.LEDGER,
        Stage.PAYOUTS,
    ):
        for commit in context.registry.commits(stage):
            # Files refused as a whole are told apart; they hold no rows that could be missed.
            if not commit.is_green and commit.partition_key != INBOX_PARTITION:
                gaps += [_shut(commit)]
    for month in months:
        if context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key) is None:
            gaps.append(f"{month.key} is not paid out")
        for feed in context.project.feeds:
            keys = expected_partition_keys(context, feed, month)
            there = {
                c.partition_key for c in context.registry.commits(Stage.MATCHED, feed.name, keys)
            }
            gaps += [f"{feed.name} {key} did not come through" for key in keys if key not in there]
    return gaps


def _shut(commit: Commit) -> str:
    names = ", ".join(name for name, findings in commit.checks.items() if findings)
    return f"{commit.feed}/{commit.stage} {commit.partition_key} is red: {names}"


def _total_payouts(frames: list[pl.DataFrame]) -> pl.DataFrame:
    columns = ["rights_holder_id", "rights_holder_name", "currency"]
    if not frames:
        return pl.DataFrame(
            schema={**dict.fromkeys(columns, pl.String), "amount_paid": BALANCE_SCHEMA["paid"]}
        )
    return (
        pl.concat([frame.select(*columns, "amount_paid") for frame in frames])
        .group_by("rights_holder_id", "currency")
        .agg(pl.col("rights_holder_name").last(), pl.col("amount_paid").sum())
        .sort("currency", "amount_paid", "rights_holder_id", descending=[False, True, False])
    )
