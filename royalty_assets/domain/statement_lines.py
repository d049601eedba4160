"""The lines of every payee's statement, from a period's payout lines.

What belongs here: names, words and conversions beside each exact amount, and the numbering. The
amounts themselves are ``terms``' and are only carried over.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import polars as pl

from royalty_assets.domain.contracts import Contract, Contracts, Participant
from royalty_assets.domain.rates import RATE_WHOLE
from royalty_assets.domain.splits import ATOMS, converted, to_amount_column, to_atom_column
from royalty_assets.domain.statements import STATEMENT_LINE_SCHEMA
from royalty_assets.domain.terms import Role

PAYEE_LINE_SCHEMA: dict[str, pl.DataType] = {
    "payee_id": pl.String(),
    "payee_currency": pl.String(),
    **STATEMENT_LINE_SCHEMA,
}
"""Statement lines of all payees, sorted by payee, currency and line number."""

REMAINDER_IN_WORDS = "what the participants do not get"
_TERM = ["contract_id", "step", "rights_holder_id", "role", "share_numerator", "share_denominator"]
_ORDER = [
    "feed",
    "currency",
    "territory",
    "tier",
    "use_type",
    "recording_id",
    "contract_id",
    "terms",
    "corrects",
    "share_numerator",
    "share_denominator",
    "units",
    "receipts",
    "amount",
]


def payee_lines(
    lines: pl.DataFrame,
    recordings: pl.DataFrame,
    contracts: Contracts,
    conversions: pl.DataFrame,
    period: str,
) -> pl.DataFrame:
    """``PAYEE_LINE_SCHEMA`` of a period.

    Args:
        lines: ``payouts.PAYOUT_LINE_SCHEMA``; what contracts deduct is left out.
        recordings: ``catalog.RECORDING_SCHEMA``; what it lacks is named by its id alone.
        contracts: that the lines were made by.
        conversions: ``payouts.CONVERSION_SCHEMA``.
        period: the accounting month, ``2025-03``.
    """
    of_payees = lines.filter(pl.col("role") != Role.DEDUCTION)
    worded = of_payees.join(_terms_in_words(of_payees, contracts), on=_TERM, nulls_equal=True)
    named = worded.join(
        recordings.select("recording_id", "isrc", "title", "artist"), on="recording_id", how="left"
    ).with_columns(pl.col("isrc", "title", "artist").fill_null(""))
    told = _converted(named, contracts, conversions, period)
    key = ["payee_id", "payee_currency"]
    # A reversal and what is booked instead stay two lines: each is its share to the atom, and
    # their sum may be an atom off.
    return (
        told.sort(*key, *_ORDER)
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(key).alias("line_number"))
        .select(PAYEE_LINE_SCHEMA.keys())
    )


def _converted(
    lines: pl.DataFrame, contracts: Contracts, conversions: pl.DataFrame, period: str
) -> pl.DataFrame:
    """Lines with what they come to in the currency that their payee is paid in."""
    paid_in = pl.DataFrame(
        [
            (payee.payee, payee.currency)
            for payee in contracts.payees.values()
            if payee.currency is not None
        ],
        schema={"rights_holder_id": pl.String, "into": pl.String},
        orient="row",
    )
    parts = [int(Decimal(rate) * RATE_WHOLE) for rate in conversions["rate"]]
    rates = conversions.select(
        "currency", "into", pl.col("period"), "rate",
        pl.col("rate_date").cast(pl.String), pl.col("source").alias("rate_source"),
    ).with_columns(pl.Series("parts", parts, ATOMS))  # fmt: skip
    joined = (
        lines.join(paid_in, on="rights_holder_id", how="left")
        .with_columns(
            pl.when(pl.col("corrects") == "")
            .then(pl.lit(period))
            .otherwise("corrects")
            .alias("period")
        )
        .join(rates, on=["currency", "into", "period"], how="left")
    )
    atoms = joined.with_columns(to_atom_column(joined["amount"]).alias("atoms")).select(
        pl.when(pl.col("parts").is_null())
        .then("atoms")
        .otherwise(converted(pl.col("atoms"), pl.col("parts"), RATE_WHOLE))
        .alias("payee_amount")
    )["payee_amount"]
    return joined.with_columns(
        to_amount_column(atoms),
        pl.coalesce("into", "currency").alias("payee_currency"),
        pl.col("rate", "rate_date", "rate_source").fill_null(""),
        pl.col("rights_holder_id").alias("payee_id"),
    )


def _terms_in_words(lines: pl.DataFrame, contracts: Contracts) -> pl.DataFrame:
    distinct = lines.select(_TERM).unique()
    return distinct.with_columns(
        pl.Series("terms", [_in_words(contracts.contracts, *row) for row in distinct.rows()],
                  pl.String)
    )  # fmt: skip


def _in_words(
    contracts: Mapping[str, Contract],
    contract_id: str,
    step: int,
    payee_id: str,
    role: str,
    numerator: int,
    denominator: int,
) -> str:
    if role == Role.REMAINDER:
        return REMAINDER_IN_WORDS
    contract = contracts.get(contract_id)
    participant = _participant(contract, step, payee_id, numerator, denominator)
    if contract is None or participant is None:
        # By plain shares; or a line is taken back that terms of before were applied to.
        if not denominator:
            return "an amount per unit, as was agreed before"
        of_receipts = f"{_percent(Fraction(numerator, denominator) * 100)} of receipts"
        return of_receipts if role == Role.HOLDER else f"{of_receipts}, as was agreed before"
    if participant.per_unit is not None:
        return f"{participant.per_unit.normalize():f} {participant.currency} a unit"
    percent = _percent(Fraction(contract.percents(step)[payee_id]))
    words = f"{percent} of {participant.of.replace('_', ' ')}"
    if contract.deductions and participant.of == "net_receipts":
        deducted = ", ".join(
            f"{_percent(Fraction(d.percent))} {d.name}" for d in contract.deductions
        )
        words += f" (after {deducted})"
    if step:
        boundary = contract.escalations[step - 1]
        above = (
            f"{boundary.above_units:,} units"
            if boundary.above_units is not None
            else f"{boundary.above_amount} {boundary.currency}"
        )
        words += f", above {above}"
    return words


def _participant(
    contract: Contract | None, step: int, payee_id: str, numerator: int, denominator: int
) -> Participant | None:
    """Who of a contract has this part of receipts, or an amount per unit; None if nobody has."""
    if contract is None or step > len(contract.escalations):
        return None
    for participant in contract.participants:
        if participant.payee != payee_id or (participant.per_unit is None) != bool(denominator):
            continue
        if not denominator:
            return participant
        shared = contract.fractions(step)[len(contract.deductions) :]
        if (payee_id, Fraction(numerator, denominator)) in shared:
            return participant
    return None


def _percent(percent: Fraction) -> str:
    text = f"{float(percent):.6f}".rstrip("0").rstrip(".")
    return f"{text} %"
