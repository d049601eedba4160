"""The ledger of an accounting period: what each feed owes, and to which recording it is due.

Lines are double-entry: per feed and currency the amounts sum to zero. A *receivable* (positive)
is money that a feed's report or pool brings; it is matched by *recording payables* and by
*suspense* (negative) for usage that no recording could be found for. Who holds the recordings
is not asked here (``payouts``).
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import polars as pl

from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms
from royalty_assets.domain.pool_sharing import NO_TERMS, FeedSharing, with_recording_units
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS

NO_CURRENCY = "XXX"
"""ISO 4217's code for no currency: usage that no money has come for."""


class Account(StrEnum):
    """Where an amount stands."""

    RECEIVABLE = "receivable"
    RECORDING_PAYABLE = "recording_payable"
    SUSPENSE = "suspense"


LEDGER_SCHEMA: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "account": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "currency": pl.String(),
    "recording_id": pl.String(),
    "reason": pl.String(),
    "corrects": pl.String(),
    "entry": pl.String(),
    "units": pl.Int64(),
    "amount": AMOUNT_DTYPE,
}
"""``recording_id`` is set on recording payables, ``reason`` on suspense, both empty elsewhere.
``corrects`` is the closed period (``2025-03``) that a line corrects, empty on the month's own
lines; ``entry`` is an ``Entry``. ``units`` are the plays or sales that the line stands for. Sorted
by all columns but the last two, which that makes unique."""


class Entry(StrEnum):
    """How a line came into the ledger."""

    USAGE = "usage"
    REVERSAL = "reversal"
    REBOOKING = "rebooking"


MATCHED_USAGE_COLUMNS = [
    "feed",
    "territory",
    "tier",
    "use_type",
    "currency",
    "recording_id",
    "reason",
    "units",
    "amount",
]
"""What the ledger reads of matched usage; ``amount`` and ``currency`` null: shares a pool."""

_KEY = [name for name in LEDGER_SCHEMA if name not in {"units", "amount"}]
_SUBJECT = [name for name in _KEY if name not in {"corrects", "entry"}]
_LINE = [*_SUBJECT, "units", "amount"]
_POOL_KEY = ["territory", "tier"]
_FOLDED_ROWS_MAX = 250_000


def build_ledger(
    usage: Iterable[pl.DataFrame],
    pools: pl.DataFrame,
    sharing: Mapping[str, FeedSharing] | None = None,
) -> pl.DataFrame:
    """Post a period's matched usage and pools.

    Args:
        usage: frames of ``MATCHED_USAGE_COLUMNS``, any cut, any order.
        pools: ``feed`` and ``usage.POOL_SCHEMA`` columns.
        sharing: feed → how its pools are shared; pro rata where nothing is said.

    Returns:
        ``LEDGER_SCHEMA``; the same for the same usage and money, however it was cut or ordered.
    """
    claims = _sum_claims(usage)
    lines = [
        *_priced_lines(claims.filter(pl.col("currency") != "")),
        *_pool_lines(claims.filter(pl.col("currency") == ""), pools, sharing or {}),
    ]
    return (
        pl.concat([line.select(_LINE) for line in lines])
        .group_by(_SUBJECT)
        .agg(pl.col("units").sum(), pl.col("amount").sum())
        .with_columns(pl.lit("").alias("corrects"), pl.lit(str(Entry.USAGE)).alias("entry"))
        .select(LEDGER_SCHEMA.keys())
        .sort(_KEY)
    )


def booked(ledger: pl.DataFrame, later: Iterable[pl.DataFrame], period: str) -> pl.DataFrame:
    """What stands in the books of a period: its own lines, with what later ledgers correct.

    Args:
        ledger: of the period.
        later: ledgers of later periods.
        period: as ``2025-03``.

    Returns:
        ``LEDGER_SCHEMA``, as if all of it had been known in time; lines of nothing are left out.
    """
    corrections = [each.filter(pl.col("corrects") == period) for each in later]
    own = ledger.filter(pl.col("corrects") == "")
    return _netted(pl.concat([own, *corrections]))


def _netted(lines: pl.DataFrame) -> pl.DataFrame:
    return (
        lines.group_by(_SUBJECT)
        .agg(pl.col("units").sum(), pl.col("amount").sum())
        .filter((pl.col("units") != 0) | (pl.col("amount") != 0))
        .with_columns(pl.lit("").alias("corrects"), pl.lit(str(Entry.USAGE)).alias("entry"))
        .select(LEDGER_SCHEMA.keys())
        .sort(_KEY)
    )


def corrections(before: pl.DataFrame, now: pl.DataFrame, period: str) -> pl.DataFrame:
    """Reverse-and-rebook: what turns a closed period's books into what is known now.

    Args:
        before: what is booked, one line a subject.
        now: what the ledger of the period would be.
        period: that is corrected.

    Returns:
        ``LEDGER_SCHEMA``: each line that is no longer so, reversed, and each as it is now.
    """
    before, now = _netted(before), _netted(now)
    same = [*_SUBJECT, "units", "amount"]
    gone = before.join(now, on=same, how="anti").with_columns(
        -pl.col("units"), -pl.col("amount"), pl.lit(str(Entry.REVERSAL)).alias("entry")
    )
    new = now.join(before, on=same, how="anti").with_columns(
        pl.lit(str(Entry.REBOOKING)).alias("entry")
    )
    return pl.concat([gone, new]).with_columns(pl.lit(period).alias("corrects")).sort(_KEY)


def _sum_claims(usage: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Usage summed to what the ledger tells apart; folded frame by frame to stay small.

    Missing texts are empty, missing amounts zero: an empty ``currency`` means a claim on a pool.
    """
    key = [name for name in MATCHED_USAGE_COLUMNS if name not in {"units", "amount"}]
    pending = [pl.DataFrame(schema={name: LEDGER_SCHEMA[name] for name in MATCHED_USAGE_COLUMNS})]
    pending_rows = 0
    for frame in usage:
        part = frame.select(MATCHED_USAGE_COLUMNS).with_columns(
            pl.col("currency", "recording_id", "reason").fill_null(""),
            pl.col("amount").fill_null(0),
        )
        pending.append(part)
        pending_rows += part.height
        if pending_rows > _FOLDED_ROWS_MAX:
            pending = [_fold(pending, key)]
            pending_rows = 0
    return _fold(pending, key).sort(key)


def _fold(frames: list[pl.DataFrame], key: list[str]) -> pl.DataFrame:
    return pl.concat(frames).group_by(key).agg(pl.col("units").sum(), pl.col("amount").sum())


def _claim_account() -> pl.Expr:
    return (
        pl.when(pl.col("recording_id") == "")
        .then(pl.lit(str(Account.SUSPENSE)))
        .otherwise(pl.lit(str(Account.RECORDING_PAYABLE)))
        .alias("account")
    )


def _receivable(lines: pl.DataFrame) -> pl.DataFrame:
    """The same lines as money that a feed brings, whatever it is for."""
    return lines.with_columns(
        pl.lit(str(Account.RECEIVABLE)).alias("account"),
        pl.lit("").alias("recording_id"),
        pl.lit("").alias("reason"),
    )


def _priced_lines(claims: pl.DataFrame) -> list[pl.DataFrame]:
    payable = claims.with_columns(_claim_account(), -pl.col("amount"))
    return [_receivable(claims), payable]


def _pool_lines(
    claims: pl.DataFrame, pools: pl.DataFrame, sharing_of: Mapping[str, FeedSharing]
) -> list[pl.DataFrame]:
    """Let each claim share the narrowest pool that covers it, and post pools without claims."""
    due = pools_due(claims, pools)
    amounts = (
        due.group_by("feed", *_POOL_KEY, "currency")
        .agg(pl.col("amount").sum())
        .sort("feed", *_POOL_KEY, "currency")
    )
    terms: dict[str, pl.DataFrame] = {}
    for each in sharing_of.values():
        terms |= each.terms_by_pool(lambda frame: _with_pool(frame, amounts))
    claims = _with_pool(claims, amounts)
    lines = [_unpaid(claims.filter(pl.col("pool").is_null()).drop("pool"))]
    claims = with_recording_units(claims.filter(pl.col("pool").is_not_null()))
    by_pool = claims.partition_by("pool", as_dict=True, include_key=False)
    nobody = claims.clear().drop("pool")
    first_currency: dict[str, str] = {}
    for line in amounts.iter_slices(1):
        feed, territory, tier, currency = line.select("feed", *_POOL_KEY, "currency").row(0)
        pool = _pool_name(feed, territory, tier)
        # Units are told once, with the first currency, or a pool in two would double them.
        tell_units = first_currency.setdefault(pool, currency) == currency
        sharing = by_pool.get((pool,), nobody)
        if not tell_units:
            sharing = sharing.with_columns(shared_units=pl.col("units"), units=pl.lit(0, pl.Int64))
        else:
            sharing = sharing.with_columns(shared_units=pl.col("units"))
        by_model = sharing_of.get(feed, FeedSharing())
        lines += _share(line, sharing, by_model, terms.get(pool, NO_TERMS))
    return lines


def pools_due(claims: pl.DataFrame, pools: pl.DataFrame) -> pl.DataFrame:
    """The pools that a month owes: those reported, and those agreed that usage shares.

    An agreed pool is an arrangement for usage that no reported pool covers.

    Args:
        claims: ``feed``, ``territory``, ``tier`` of usage that brings no money of its own.
        pools: ``feed`` and ``usage.POOL_SCHEMA`` columns.
    """
    reported = pools.filter(~pl.col("is_agreed"))
    sharing = _with_pool(claims, reported).filter(pl.col("pool").is_null())["feed"].unique()
    return pools.filter(~pl.col("is_agreed") | pl.col("feed").is_in(sharing.to_list()))


def _pool_name(feed: str, territory: str, tier: str) -> str:
    return f"{feed}\t{territory}\t{tier}"


def _with_pool(claims: pl.DataFrame, amounts: pl.DataFrame) -> pl.DataFrame:
    """Claims with the name of the narrowest pool that covers each, null where none does."""
    names = amounts.select(pl.concat_str("feed", *_POOL_KEY, separator="\t").alias("pool"))[
        "pool"
    ].unique()
    everywhere, every_tier = pl.lit(WORLDWIDE), pl.lit(ALL_TIERS)
    covering = (
        pl.concat_str("feed", place, tier, separator="\t")
        for place in (pl.col("territory"), everywhere)
        for tier in (pl.col("tier"), every_tier)
    )
    there = [pl.when(name.is_in(names.to_list())).then(name) for name in covering]
    return claims.with_columns(pl.coalesce(there).alias("pool"))


def _unpaid(claims: pl.DataFrame) -> pl.DataFrame:
    return claims.with_columns(
        pl.lit(str(Account.SUSPENSE)).alias("account"),
        pl.lit(NO_CURRENCY).alias("currency"),
        pl.lit("").alias("recording_id"),
        pl.lit("no_money_reported").alias("reason"),
    )


def _share(
    pool: pl.DataFrame, sharing: pl.DataFrame, by_model: FeedSharing, terms: pl.DataFrame
) -> list[pl.DataFrame]:
    """One pool in one currency: what it brings, and each claim's part of it.

    Args:
        pool: one row of feed, territory, tier, currency and amount.
        sharing: the claims on it; ``shared_units`` are what they share it by, ``units`` what
            their lines tell, ``recording_units`` how often their recordings were used.
        by_model: how the feed's pools are shared.
        terms: who listened to what in this pool, as the model wants it.
    """
    (atoms,) = series_to_atoms(pool["amount"])
    currency = pool["currency"][0]
    brought = _receivable(
        pool.with_columns(
            pl.lit("").alias("use_type"),
            pl.lit(int(sharing["units"].sum()), pl.Int64).alias("units"),
        )
    )
    if not (sharing["shared_units"] > 0).any():
        unused = brought.with_columns(
            pl.lit(str(Account.SUSPENSE)).alias("account"),
            pl.lit("pool_without_usage").alias("reason"),
            pl.lit(0, pl.Int64).alias("units"),
            -pl.col("amount"),
        )
        return [brought, unused, _claimed(sharing, currency, [0] * sharing.height)]
    parts = by_model.allocate(atoms, sharing, terms)
    return [brought, _claimed(sharing, currency, [-part for part in parts])]


def _claimed(sharing: pl.DataFrame, currency: str, atoms: list[int]) -> pl.DataFrame:
    return sharing.with_columns(
        _claim_account(), pl.lit(currency).alias("currency"), atoms_to_series("amount", atoms)
    )
