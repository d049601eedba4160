"""What changed in the catalog since a month was paid, as a finding before it is paid again."""

from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.adjudication import State, standings
from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.drift import (
    Change,
    compare_catalogs,
    drift_findings,
    money_moved,
)
from royalty_assets.domain.money import to_atoms
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.catalog import catalog_in_force, catalog_revision, load_catalog
from royalty_assets.pipeline.context import (
    CATALOG_FEED,
    CATALOG_PARTITION,
    LEDGER_FEED,
    PipelineContext,
)
from royalty_assets.pipeline.payouts import ledger_divided, payout_object
from royalty_assets.storage.lake import read_frame

DRIFT_CHECK = "catalog_drift_is_within_limits"
USAGE_CHECK = "usage_agrees_with_catalog"


def catalog_subject(context: PipelineContext) -> str:
    """What a decision about the catalog in force is a decision about."""
    return f"catalog:{catalog_in_force(context)[0]}"


def drift_is_accepted(context: PipelineContext) -> bool:
    """Whether a person has accepted what the catalog in force moves."""
    if context.registry.commit(CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION) is None:
        return False
    subject = catalog_subject(context)
    decided = standings(context.registry.adjudications(subject), context.now().date())
    return subject in decided and decided[subject].state is State.RESOLVED


def catalog_drift(context: PipelineContext, month: Partition, ledger: pl.DataFrame) -> list[str]:
    """What changes in the catalog move of the money that was paid for a month, in words.

    Args:
        context: the project.
        month: that is posted anew.
        ledger: as it is now.
    """
    paid = context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key)
    if paid is None or drift_is_accepted(context):
        return []
    changes = changes_since(context, paid)
    if not changes:
        return []
    lines = payout_object(context, paid, "payout_lines")
    if lines is None:
        return []
    before = read_frame(context.lake, lines)
    now = ledger_divided(context, month, ledger).lines
    moved = money_moved(sorted({change.recording_id for change in changes}), before, now)
    limits = context.project.drift.money_moved_max
    return drift_findings(changes, moved, {c: to_atoms(limit) for c, limit in limits.items()})


@dataclass(frozen=True, slots=True)
class MonthDrift:
    """What stands between a month's last payout and the catalog in force.

    Attributes:
        month: its key.
        told: what moves more money than is allowed, in words.
        is_blocked: whether that keeps the month from being paid.
        changes: all that changed, whether it moves money or not.
    """

    month: str
    told: list[str]
    is_blocked: bool
    changes: list[Change]


def drift_by_month(context: PipelineContext) -> list[MonthDrift]:
    """Each posted month's drift, the newest month first."""
    found = []
    for ledger in context.registry.commits(Stage.LEDGER, LEDGER_FEED):
        paid = context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, ledger.partition_key)
        blocking = ledger.checks.get(DRIFT_CHECK, [])
        told = list(blocking or ledger.warnings.get(DRIFT_CHECK, []))
        changes = [] if paid is None else changes_since(context, paid)
        found.append(MonthDrift(ledger.partition_key, told, bool(blocking), changes))
    return found[::-1]


def disagreements_by_partition(context: PipelineContext) -> list[tuple[str, str, list[str]]]:
    """(feed, partition, findings) where usage calls ISRCs otherwise than the catalog."""
    return [
        (commit.feed, commit.partition_key, list(told))
        for commit in context.registry.commits(Stage.MATCHED)
        if (told := commit.checks.get(USAGE_CHECK) or commit.warnings.get(USAGE_CHECK))
    ]


def changes_since(context: PipelineContext, paid: Commit) -> list[Change]:
    """What is different in the catalog from when a month was paid."""
    revision = paid.counts.get("catalog_revision")
    if revision is None or revision == catalog_revision(context):
        return []
    then = context.registry.commit_of_revision(
        CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION, revision
    )
    if then is None:
        return []
    (batch,) = context.registry.batches_by_id(then.batch_ids)
    _, now = catalog_in_force(context)
    if batch.batch_id == now.batch_id:
        return []
    return compare_catalogs(load_catalog(context, batch), load_catalog(context, now))
