"""The checks of each stage: names that are true sentences when they pass, and what to do if not.

The findings come with each commit (the stage computes them); here is what they mean to people.
"""

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.usage import RecordKind

STAGE_CHECKS: dict[Stage, dict[str, str]] = {
    Stage.CONTRACTS: {
        "every_contract_can_be_told": "Of each contract that does not load it is known which "
        "recordings it is about. If red: mend what is named; until then nothing is paid.",
        "every_contract_loads": "Every contract and rate can be used. If not: the money of the "
        "recordings of a contract that does not load is held; `royalty-assets contracts lint` "
        "tells more.",
    },
    Stage.RAW: {
        "every_payload_is_kept_as_sent": "The bytes in the lake are those that were received, by "
        "their SHA-256. If red: the disk or the store is at fault; restore the object from a copy, "
        "or materialise the partition again.",
    },
    Stage.VALIDATED: {
        "every_row_is_accounted_for": "Invariant 1: rows received = accepted + rejected + "
        "duplicates, counted in the lake and the registry. If red: a defect; nothing downstream "
        "runs on it.",
        "no_event_is_counted_twice": "Invariant 2: no event id stands twice in a window. If red: a "
        "defect.",
        "every_rejection_is_recorded": "Invariant 3: each rejected row has a dead letter with row, "
        "rule and reason. If red: a defect.",
        "every_payload_is_readable": "No payload breaks off or is in an unknown layout. If red: "
        "have the sender deliver the named file again, or add a template for it.",
        "report_totals_agree": "Each report's lines come to what its footer says. If red: the "
        "file is not whole, or its template reads it wrongly.",
        "report_cross_sums_agree": "A DSR's lines come to what its summaries say. Warns, unless "
        "the feed's `checks` in feeds.yaml say otherwise: ask the sender.",
        "report_name_agrees": "A DSR's file name says what its HEAD says. Warns by default.",
        "every_message_is_sent_once": "No DDEX message came with two contents. If red: ask the "
        "sender which is right, and copy that one over the other in the inbox.",
        "every_pool_is_configured": "Reports that bring pools of their own may do so: the feed "
        "says `pools_in_reports: true`.",
        "rejects_are_within_limits": "Rejected rows are at most the feed's rejected_fraction_max. "
        "If red: the feed has probably changed its schema; `royalty-assets dead-letters` tells.",
    },
    Stage.MATCHED: {
        "every_unit_is_accounted_for": "Invariant 1: units in = matched + in suspense, counted in "
        "the lake. If red: a defect.",
        "every_decision_names_its_batch": "Invariant 6: each decision carries the SHA-256 of a "
        "batch of its input. If red: a defect.",
        "usage_agrees_with_catalog": "What usage calls an ISRC is what the catalog calls it, but "
        "for a few units (`drift` in feeds.yaml). If not: the service or the catalog has the wrong "
        "ISRC for the named titles.",
    },
    Stage.POOL: {
        "every_row_is_accounted_for": "Invariant 1 for the lines of the pool report.",
        "every_pool_line_is_accepted": "Part of a pool is not a pool. If red: have the named line "
        "corrected by the sender.",
    },
    Stage.LEDGER: {
        "every_expected_partition_is_in": "All partitions and pools of the month are committed and "
        "green. If red: materialise what is named, or wait for it.",
        "ledger_balances": "Double entry: per feed and currency the lines sum to zero.",
        "every_unit_is_accounted_for": "Invariant 1: units in = posted to recordings or suspense.",
        "ledger_balances_to_money_reported": "Receivables are what reports and pools say, to the "
        "last digit.",
        "catalog_drift_is_within_limits": "Since the month was last paid out, changes in the "
        "catalog move no more money to others than `drift` in feeds.yaml allows. If red: look at "
        "the named changes; mend the catalog, or accept it at the desk, under Drift.",
        "every_late_line_is_posted": "What has come for closed months is corrected in this one. If "
        "not: mend what is named; it is posted with the next run of the first open month.",
        "remittance_agrees": "Lines, control total and cash of each feed that asks for it agree. "
        "If red: record the payment in remittances/, or ask the sender for the difference.",
    },
    Stage.PAYOUTS: {
        "every_amount_is_accounted_for": "Invariant 1: money in = paid + withheld + held + in "
        "suspense + deducted + reserved + recouped + carried forward + residue, per currency, "
        "exactly.",
        "journal_balances": "Double entry: the two sides of each act sum to zero, per currency.",
        "every_split_is_whole": "What is split over a recording's rights holders is what the "
        "ledger owes on it.",
    },
    Stage.STATEMENTS: {
        "every_statement_is_whole": "Each statement's movements sum to zero, and its lines come to "
        "what was earned. If red: a defect; nothing is sent out.",
    },
}


_OF_REPORTS = frozenset(
    {
        "report_totals_agree",
        "report_cross_sums_agree",
        "report_name_agrees",
        "every_message_is_sent_once",
        "every_pool_is_configured",
    }
)


def checks_of(feed: Feed | None, stage: Stage) -> dict[str, str]:
    """The checks of a stage; telemetry is no report, and has no totals to agree with."""
    checks = STAGE_CHECKS.get(stage, {})
    if feed is not None and feed.records is RecordKind.PLAY_EVENTS:
        return {name: text for name, text in checks.items() if name not in _OF_REPORTS}
    return checks
