"""A month as it was known at two instants: what is different of it, for whom, and why.

The registry keeps every revision of every partition with the time of its commit, and the lake keeps
the objects; so the books of a month can be read as of any instant. What later months correct of a
closed month is a part of what is known of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.money_columns import AMOUNT_DTYPE
from royalty_assets.domain.payouts import PAYOUT_LINE_SCHEMA
from royalty_assets.domain.terms import Role
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.month import expected_partition_keys
from royalty_assets.pipeline.payouts import payout_object
from royalty_assets.pipeline.periods import committed_months, period_of
from royalty_assets.storage.lake import read_table

_SUBJECT = ["rights_holder_id", "currency", "feed", "territory", "use_type", "recording_id"]
DELTA_SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(_SUBJECT, pl.String()),
    "units_before": pl.Int64(),
    "units_after": pl.Int64(),
    "amount_before": AMOUNT_DTYPE,
    "amount_after": AMOUNT_DTYPE,
    "difference": AMOUNT_DTYPE,
}
"""What a payee earns with a recording, as known before and after; only what is different."""

_IN_WORDS = {
    Stage.RAW: "deliveries taken",
    Stage.VALIDATED: "partitions validated anew",
    Stage.MATCHED: "partitions matched anew",
    Stage.POOL: "pools taken",
    Stage.LEDGER: "ledgers posted",
    Stage.PAYOUTS: "payouts made",
}
_PROJECT_WIDE = {Stage.CATALOG: "the catalog changed", Stage.CONTRACTS: "the contracts changed"}


@dataclass(frozen=True, slots=True)
class Delta:
    """What is different of a month between two instants.

    Attributes:
        lines: ``DELTA_SCHEMA``, largest difference first.
        reasons: what was committed and decided between, in words, in order of time.
    """

    month: str
    before: datetime
    after: datetime
    lines: pl.DataFrame
    reasons: tuple[str, ...]

    @property
    def by_payee(self) -> pl.DataFrame:
        """rights_holder_id, currency and the sums of amounts and difference."""
        return (
            self.lines.group_by("rights_holder_id", "currency")
            .agg(pl.col("amount_before", "amount_after", "difference").sum())
            .sort("currency", "rights_holder_id")
        )


def delta(context: PipelineContext, month: Partition, before: datetime, after: datetime) -> Delta:
    """Compare a month as it was known at two instants."""
    earned = [_earned(context, month, instant) for instant in (before, after)]
    both = earned[0].join(earned[1], on=_SUBJECT, how="full", coalesce=True, suffix="_after")
    lines = (
        both.select(
            *_SUBJECT,
            pl.col("units").fill_null(0).alias("units_before"),
            pl.col("units_after").fill_null(0),
            pl.col("amount").fill_null(0).alias("amount_before"),
            pl.col("amount_after").fill_null(0),
        )
        .with_columns((pl.col("amount_after") - pl.col("amount_before")).alias("difference"))
        .filter((pl.col("difference") != 0) | (pl.col("units_after") != pl.col("units_before")))
        .select(DELTA_SCHEMA.keys())
        .sort(pl.col("difference").cast(pl.Float64).abs(), *_SUBJECT,
              descending=[True, *[False] * len(_SUBJECT)])
    )  # fmt: skip
    return Delta(month.key, before, after, lines, tuple(_reasons(context, month, before, after)))


def _earned(context: PipelineContext, month: Partition, instant: datetime) -> pl.DataFrame:
    """What each payee earned with each recording, as it was known at an instant."""
    period = period_of(month).label
    frames = [pl.DataFrame(schema=PAYOUT_LINE_SCHEMA)]
    for each in committed_months(context):
        if each.key < month.key:
            continue
        commit = context.registry.commit_as_of(Stage.PAYOUTS, LEDGER_FEED, each.key, instant)
        lines = None if commit is None else _lines(context, commit)
        if lines is not None:
            corrects = "" if each.key == month.key else period
            frames.append(lines.filter(pl.col("corrects") == corrects))
    return (
        pl.concat(frames)
        .filter(pl.col("role") != Role.DEDUCTION)
        .group_by(_SUBJECT)
        .agg(pl.col("units", "amount").sum())
    )


def _lines(context: PipelineContext, commit: Commit) -> pl.DataFrame | None:
    stored = payout_object(context, commit, "payout_lines")
    return None if stored is None else read_table(context.lake, stored, PAYOUT_LINE_SCHEMA)


def files_between(
    context: PipelineContext, feed: str, keys: Iterable[str], before: datetime, after: datetime
) -> list[str]:
    """The names of the files that came for these partitions between two instants, each once."""
    found = {
        delivery.name: None
        for key in sorted(keys)
        for delivery in context.registry.deliveries(feed, key)
        if before < delivery.received_at <= after
    }
    return list(found)


def _reasons(
    context: PipelineContext, month: Partition, before: datetime, after: datetime
) -> Iterator[str]:
    keys = {
        feed.name: {*expected_partition_keys(context, feed, month), month.key}
        for feed in context.project.feeds
    }
    later = {each.key for each in committed_months(context) if each.key >= month.key}
    keys[LEDGER_FEED] = later
    counted: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], datetime] = {}
    for feed, stage, key, revision, at in context.registry.commits_between(before, after):
        if stage in _PROJECT_WIDE:
            told = (_PROJECT_WIDE[stage], f"revision {revision}")
        elif stage in _IN_WORDS and key in keys.get(feed, ()):
            told = (feed, _IN_WORDS[stage])
        else:
            continue
        counted[told] += 1
        first.setdefault(told, at)
    decided = [
        (decision.decided_at, f"{decision.who} decided about {decision.subject}: "
         f"{decision.action} ({decision.why or 'no reason given'})")
        for decision in context.registry.adjudications()
        if before < decision.decided_at <= after
    ]  # fmt: skip
    named = {
        feed.name: ", ".join(files_between(context, feed.name, keys[feed.name], before, after))
        for feed in context.project.feeds
        if feed.records is RecordKind.REPORT_LINES
    }
    taken = _IN_WORDS[Stage.RAW]
    events = [
        *((at, (f"{name}: {counted[name, what]} {what}" if name in keys else f"{name}, {what}")
           + (f" ({named[name]})" if what == taken and named.get(name) else ""))
          for (name, what), at in first.items()),
        *decided,
    ]  # fmt: skip
    for at, words in sorted(events):
        yield f"{at:%Y-%m-%d %H:%M} UTC  {words}"
