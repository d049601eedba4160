"""A month's ledger against the one that another allocation model would give; nothing is committed.

Both are of the same usage and the same money. Plays by listener are read where a feed keeps them,
and counted again from the validated lines where it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from royalty_assets.domain.allocation import AllocationModel
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.ledger import LEDGER_SCHEMA, NO_CURRENCY, Account
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.terms import Role
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog, shares_in_force
from royalty_assets.pipeline.context import PipelineContext, StageBlockedError
from royalty_assets.pipeline.contracts import contracts_in_force
from royalty_assets.pipeline.month import ledger_by, posted
from royalty_assets.pipeline.payouts import ledger_divided
from royalty_assets.storage.lake import read_table

IN_SUSPENSE = "in suspense"
HELD = "held, without shares"
DEDUCTED = "deducted by contracts"


class Change(NamedTuple):
    """What one recording or rights holder has by both models, in one currency.

    Attributes:
        key: of the recording or rights holder; ``IN_SUSPENSE`` or ``HELD`` for what has neither.
        name: title, or the rights holder's name.
        artist: of a recording; empty for others.
        units: plays that it is for; of a recording, 0 for others.
        before: atoms by the ledger in force.
        after: atoms by the other model.
    """

    currency: str
    key: str
    name: str
    artist: str
    units: int
    before: int
    after: int

    @property
    def difference(self) -> int:
        """Atoms gained, negative if lost."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Two models on the same usage.

    Attributes:
        month: key of the accounting period.
        model: the other model.
        feeds: feed → the model that it is shared by now, for those that are compared.
        left_out: feeds that share pools and cannot be shared by the other model.
        recordings, rights_holders: largest gain first, losses last, by currency.
    """

    month: str
    model: AllocationModel
    feeds: Mapping[str, AllocationModel]
    left_out: list[str]
    recordings: list[Change]
    rights_holders: list[Change]

    @property
    def totals(self) -> dict[str, tuple[int, int]]:
        """Currency → atoms by the ledger in force, and by the other model."""
        return {
            currency: (sum(c.before for c in changes), sum(c.after for c in changes))
            for currency, changes in by_currency(self.recordings).items()
        }


def by_currency(changes: list[Change]) -> dict[str, list[Change]]:
    """The changes of each currency, in their order."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.currency, []).append(change)
    return found


def what_if(
    context: PipelineContext, month: Partition, model: AllocationModel, feed: str | None = None
) -> WhatIf:
    """Compare a month's ledger with what another model would make of it.

    Args:
        context: the project.
        month: whose ledger is in force.
        model: the other one.
        feed: only this feed; else all that share pools and that the model can share.

    Raises:
        StageBlockedError: if there is no ledger of what is committed by now, or no feed that the
            model could share.
    """
    commit = posted(context, month)
    if commit is None:
        raise StageBlockedError(
            f"the ledger of {month.key} is not of what is committed by now, or there is none; run "
            "the project first"
        )
    feeds, left_out = _feeds_to_compare(context, model, feed)
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    models: dict[str, AllocationModel] = {
        each.name: model if each.name in feeds else each.allocation
        for each in context.project.feeds
    }
    before, after = (
        ledger.filter(_is_claim() & pl.col("feed").is_in(list(feeds)))
        for ledger in (
            read_table(context.lake, batch.objects[0], LEDGER_SCHEMA),
            ledger_by(context, month, models),
        )
    )
    return WhatIf(
        month.key,
        model,
        feeds,
        left_out,
        _changes_of_recordings(context, _claimed(before), _claimed(after)),
        _changes_of_holders(context, month, before, after),
    )


def _feeds_to_compare(
    context: PipelineContext, model: AllocationModel, only: str | None
) -> tuple[Mapping[str, AllocationModel], list[str]]:
    def can_be_shared(feed: Feed) -> bool:
        return not model.needs_listening or feed.records is RecordKind.PLAY_EVENTS

    sharing = [feed for feed in context.project.feeds if feed.has_pool]
    if only is not None:
        names = ", ".join(feed.name for feed in sharing) or "none"
        sharing = [feed for feed in sharing if feed.name == only]
        if not sharing:
            raise StageBlockedError(f"no feed {only!r} shares a pool; those that do: {names}")
    compared = {feed.name: feed.allocation for feed in sharing if can_be_shared(feed)}
    left_out = [feed.name for feed in sharing if not can_be_shared(feed)]
    if not compared:
        raise StageBlockedError(
            f"{model.model} has to know who listened to what, which only telemetry says; "
            f"{', '.join(left_out) or 'no feed'} shares a pool by reports. pro_rata and "
            "stream_threshold can share those"
        )
    return compared, left_out


def _is_claim() -> pl.Expr:
    """Lines of the month's own that say whom money is due to, or that it is not known."""
    is_own = (pl.col("corrects") == "") & (pl.col("currency") != NO_CURRENCY)
    return is_own & (pl.col("account") != Account.RECEIVABLE)


def _claimed(claims: pl.DataFrame) -> pl.DataFrame:
    """What each recording, or suspense, has, with ``units``."""
    return claims.group_by("currency", "recording_id").agg(
        pl.col("units").sum(), (-pl.col("amount").sum()).alias("amount")
    )


def _changes_of_recordings(
    context: PipelineContext, before: pl.DataFrame, after: pl.DataFrame
) -> list[Change]:
    _, batch = catalog_in_force(context)
    known = load_catalog(context, batch).recordings.select("recording_id", "title", "artist")
    key = ["currency", "recording_id"]
    both = (
        before.join(after.select(*key, after="amount"), on=key, how="full", coalesce=True)
        .join(known, on="recording_id", how="left")
        .with_columns(
            pl.col("amount", "after").fill_null(0),
            pl.col("units").fill_null(0),
            pl.col("title", "artist").fill_null(""),
        )
    )
    changes = [
        Change(currency, recording or IN_SUSPENSE, title, artist, units, atoms, atoms_after)
        for (currency, recording, title, artist, units), atoms, atoms_after in zip(
            both.select(*key, "title", "artist", "units").iter_rows(),
            series_to_atoms(both["amount"]),
            series_to_atoms(both["after"]),
            strict=True,
        )
    ]
    return _largest_gain_first(changes)


def _changes_of_holders(
    context: PipelineContext, month: Partition, before: pl.DataFrame, after: pl.DataFrame
) -> list[Change]:
    """The same by rights holder: each ledger divided by the contracts and shares in force."""
    _, shares = shares_in_force(context)
    contracts, _ = contracts_in_force(context)
    names = dict(shares.select("rights_holder_id", "rights_holder_name").rows())
    names |= {payee.payee: payee.name for payee in contracts.payees.values() if payee.name}
    due: dict[tuple[str, str], list[int]] = {}
    for side, ledger in enumerate((before, after)):
        divided = ledger_divided(context, month, ledger)
        lines = divided.lines.with_columns(
            pl.when(pl.col("role") == Role.DEDUCTION)
            .then(pl.lit(DEDUCTED))
            .otherwise("rights_holder_id")
            .alias("key")
        )
        suspense = ledger.filter(pl.col("account") == Account.SUSPENSE)
        for frame, sign in (
            (lines.select("currency", "key", "amount"), 1),
            (divided.held.select("currency", pl.lit(HELD).alias("key"), "amount"), 1),
            (suspense.select("currency", pl.lit(IN_SUSPENSE).alias("key"), "amount"), -1),
        ):
            sums = frame.group_by("currency", "key").agg(pl.col("amount").sum())
            for key, atoms in zip(
                sums.select("currency", "key").rows(), series_to_atoms(sums["amount"]), strict=True
            ):
                due.setdefault(key, [0, 0])[side] += sign * atoms
    nobody = {IN_SUSPENSE, HELD, DEDUCTED}
    return _largest_gain_first(
        [
            Change(currency, key, "" if key in nobody else names.get(key, key), "", 0, *amounts)
            for (currency, key), amounts in due.items()
        ]
    )


def _largest_gain_first(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: (change.currency, -change.difference, change.key))
