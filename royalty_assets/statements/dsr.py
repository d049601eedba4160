"""A statement as a DDEX DSR flat file, for a payee whose own system reads such.

The form is that of Part 9, Financial Reporting to Record Companies, single-record variant
(``FinancialReportingToRecordCompaniesProfileSRB`` 1.0): one SY10 per service, tier, use type,
territory, currency and rate, and one SR08 per line of the statement. Part 9 is made for what a
service tells a label; here the statement's sender stands for the service. What each cell holds:

==============================  =====================================================
Cell                            From the statement's line
==============================  =====================================================
SalesTransactionId              the statement's id and the line's number
TotalUsages, Returns, NetUsage  ``units``; negative ones are returns
RightSharePercentage            the share times 100, cut to 18 decimals; 100 for an
                                amount per unit, which is the CalculatedUnitPrice
AllocatedRevenue                ``receipts``
AllocatedNetRevenue             ``amount`` and, in accounting currency, ``payee_amount``
SalesTransactionDate            the first day of the period, or of the one corrected
==============================  =====================================================

Movements other than earnings and adjustments have no place in a DSR; the other files have them.
Exchanging such messages with others needs DDEX's free implementation licence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from royalty_assets.domain.money import ATOMS_PER_UNIT, format_atoms, parse_amount, to_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import STATEMENT_LINE_SCHEMA, Statement
from royalty_assets.domain.territories import WORLDWIDE

_SERVICE = "RoyaltyStatement"
_PRICES = (
    "WholesalePriceInCurrencyOfTransaction WholesalePriceInCurrencyOfAccounting "
    "SuggestedConsumerPriceInCurrencyOfTransaction SuggestedConsumerPriceInCurrencyOfAccounting "
    "PriceType PriceRangeType PriceConsumerPaidExcSalesTaxInCurrencyOfTransaction "
    "PriceConsumerPaidExcSalesTaxInCurrencyOfAccounting DeductionType "
    "DeductionsInCurrencyOfTransaction DeductionsInCurrencyOfAccounting"
)

HEAD_CELLS = (
    "MessageVersion Profile ProfileVersion MessageId MessageCreatedDateTime FileNumber "
    "NumberOfFiles UsageStartDate UsageEndDate SenderPartyId SenderName ServiceDescription "
    "RecipientPartyId RecipientName RepresentedRepertoire"
).split()
SUMMARY_CELLS = (
    "SummaryRecordId DistributionChannelName DistributionChannelDPID CommercialModel UseType "
    "ReportingPeriodStartDate ReportingPeriodEndDate SubscriberType Subscribers ActiveSubscribers "
    "PromotionalActivity Territory ServiceDescription OfferType Quality Usages AllocatedUsages "
    "Returns MusicUsageRatio CurrencyOfTransaction CurrencyOfAccounting ExchangeRate "
    "ExchangeRateSource DateOfCurrencyExchange GrossRevenueInCurrencyOfTransaction "
    "GrossRevenueInCurrencyOfAccounting CalculationType CalculationValue DeductionType "
    "DeductionsInCurrencyOfTransaction DeductionsInCurrencyOfAccounting "
    "NetRevenueInCurrencyOfTransaction NetRevenueInCurrencyOfAccounting "
    "AllocatedRevenueInCurrencyOfTransaction AllocatedRevenueInCurrencyOfAccounting "
    "AllocatedNetRevenueInCurrencyOfTransaction AllocatedNetRevenueInCurrencyOfAccounting "
    "RightsControllerMarketShare SubscriptionFeeInCurrencyOfTransaction "
    "SubscriptionFeeInCurrencyOfAccounting UsageIndependentFeeType "
    "UsageIndependentFeeInCurrencyOfTransaction UsageIndependentFeeInCurrencyOfAccounting "
    "FinalTotalAmountInCurrencyOfTransaction FinalTotalAmountInCurrencyOfAccounting"
).split()
SALE_CELLS = (
    "SalesTransactionId ReleaseGRid ReleaseICPN DspReleaseId LabelReleaseId ProprietaryReleaseId "
    "ReleaseContextReleaseGRid ReleaseType ReleaseTitle ReleaseSubTitle ReleaseDisplayArtistName "
    "ReleaseDisplayArtistPartyId ResourceISRC ResourceISAN DspResourceId LabelResourceId "
    "ProprietaryResourceId ResourceContextReleaseGRid ResourceType ResourceTitle ResourceSubTitle "
    "ResourceDisplayArtistName ResourceDisplayArtistPartyId SummaryRecordId SalesTransactionDate "
    f"TotalUsages Returns NetUsage {_PRICES} RightSharePercentage "
    "CalculatedUnitPriceInCurrencyOfTransaction CalculatedUnitPriceInCurrencyOfAccounting "
    "AllocatedRevenueInCurrencyOfTransaction AllocatedRevenueInCurrencyOfAccounting "
    "AllocatedNetRevenueInCurrencyOfTransaction AllocatedNetRevenueInCurrencyOfAccounting "
    "CopyrightObligationWithDSP"
).split()
FOOT_CELLS = ("NumberOfLinesInReport", "NumberOfSummaryRecords")


@dataclass(frozen=True, slots=True)
class Party:
    """Who sends or receives: a DDEX party id (``PADPIDA…``) and a name."""

    party_id: str
    name: str


@dataclass(slots=True)
class _Summary:
    """What the lines of one SY10 come to, in atoms."""

    summary_id: str
    feed: str
    tier: str
    use_type: str
    territory: str
    currency: str
    rate: str
    rate_source: str
    rate_date: str
    total: int = 0
    returns: int = 0
    receipts: int = 0
    amount: int = 0
    payee_amount: int = 0
    records: list[dict[str, str]] = field(default_factory=list)


def write_dsr(
    statement: Statement, sender: Party, recipient: Party, *, service_pays_composers: bool = True
) -> bytes:
    """The statement's lines as one DSR file, UTF-8 with LF.

    A statement is of a closed period and never changes, so the message's id is the statement's,
    and it is dated the day after the period: the same statement is the same message, however often
    it is sent. Tabs and line ends in names, which the form has no way to write, become spaces.

    Args:
        statement: whose lines are told.
        sender: who pays.
        recipient: who is paid.
        service_pays_composers: the cell CopyrightObligationWithDSP.

    Raises:
        ValueError: for a party without an id, which would make no valid message.
    """
    for who, party in (("sender", sender), ("recipient", recipient)):
        if not party.party_id.strip():
            raise ValueError(f"the {who} has no DDEX party id; write one like PADPIDA2014120301Y")
    first, last = _days(statement.period)
    summaries = _summaries(statement, obligation="true" if service_pays_composers else "false")
    head = {
        "MessageVersion": "dsrf/4.0/23/4.0",
        "Profile": "FinancialReportingToRecordCompaniesProfileSRB",
        "ProfileVersion": "1.0",
        "MessageId": statement.statement_id,
        "MessageCreatedDateTime": f"{last + timedelta(days=1)}T00:00:00Z",
        "FileNumber": "1",
        "NumberOfFiles": "1",
        "UsageStartDate": min([str(first), *(_sold_on(s) for s in summaries)]),
        "UsageEndDate": str(last),
        "SenderPartyId": sender.party_id,
        "SenderName": sender.name,
        "ServiceDescription": _SERVICE,
        "RecipientPartyId": recipient.party_id,
        "RecipientName": recipient.name,
    }
    lines = [_record("SRHE", HEAD_CELLS, head)]
    lines += [
        _record("SY10", SUMMARY_CELLS, _summary_cells(summary, statement.currency, first, last))
        for summary in summaries
    ]
    lines += [
        _record("SR08", SALE_CELLS, cells) for summary in summaries for cells in summary.records
    ]
    counts = (str(len(lines) + 1), str(len(summaries)))
    lines.append(_record("SRFO", FOOT_CELLS, dict(zip(FOOT_CELLS, counts, strict=True))))
    return "".join(f"{line}\n" for line in lines).encode()


def dsr_file_name(statement: Statement, sender: Party, recipient: Party) -> str:
    """As DSR Part 1 names files: recipient, sender, service, period, territory, part, instant."""
    _, last = _days(statement.period)
    created = f"{last + timedelta(days=1):%Y%m%d}T000000"
    parts = (
        "DSR", recipient.party_id[:100], sender.party_id[:60], _SERVICE, statement.period,
        WORLDWIDE, "1of1", created,
    )  # fmt: skip
    return "_".join(parts) + ".tsv"


def _days(period: str) -> tuple[date, date]:
    first = date.fromisoformat(f"{period}-01")
    after = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return first, after - timedelta(days=1)


def _sold_on(summary: _Summary) -> str:
    days = (record["SalesTransactionDate"] for record in summary.records)
    return min(days, default="9999-12-31")


def _summaries(statement: Statement, obligation: str) -> list[_Summary]:
    """The lines by what an SY10 says of them; one without lines where there are none at all."""
    summaries: dict[tuple[str, ...], _Summary] = {}
    for line in _lines(statement):
        key = tuple(
            line[name]
            for name in (
                "feed", "tier", "use_type", "territory", "currency", "rate", "rate_source",
                "rate_date",
            )
        )  # fmt: skip
        summary = summaries.setdefault(key, _Summary(f"S{len(summaries) + 1}", *key))
        units = line["units"]
        summary.total += max(units, 0)
        summary.returns += max(-units, 0)
        for name in ("receipts", "amount", "payee_amount"):
            setattr(summary, name, getattr(summary, name) + line[name])
        summary.records.append(_sale_cells(statement, line, summary.summary_id, obligation))
    if not summaries:  # a report of no sales has a summary nevertheless (DSR Part 1)
        nothing = _Summary("S1", "", "", "", WORLDWIDE, statement.currency, "", "", "")
        return [nothing]
    return list(summaries.values())


def _lines(statement: Statement) -> Iterator[Mapping[str, Any]]:
    """The lines with amounts in atoms."""
    atoms = {
        name: series_to_atoms(statement.lines[name])
        for name in ("receipts", "amount", "payee_amount")
    }
    texts = [name for name in STATEMENT_LINE_SCHEMA if name not in atoms]
    for row, *amounts in zip(
        statement.lines.select(texts).iter_rows(), *atoms.values(), strict=True
    ):
        yield dict(zip(texts, row, strict=True)) | dict(zip(atoms, amounts, strict=True))


def _sale_cells(
    statement: Statement, line: Mapping[str, Any], summary_id: str, obligation: str
) -> dict[str, str]:
    units = line["units"]
    share = _cut(100 * ATOMS_PER_UNIT * line["share_numerator"], line["share_denominator"] or 1)
    return {
        "SalesTransactionId": f"{statement.statement_id}/{line['line_number']}",
        "DspReleaseId": line["recording_id"],
        "ResourceISRC": line["isrc"],
        "DspResourceId": line["recording_id"],
        "ResourceTitle": _escaped(line["title"]),
        "ResourceDisplayArtistName": _escaped(line["artist"]),
        "SummaryRecordId": summary_id,
        "SalesTransactionDate": f"{line['corrects'] or statement.period}-01",
        "TotalUsages": str(max(units, 0)),
        "Returns": str(max(-units, 0)),
        "NetUsage": str(units),
        "RightSharePercentage": format_atoms(share) if line["share_denominator"] else "100",
        "CalculatedUnitPriceInCurrencyOfTransaction": _per_unit(line["amount"], units),
        "CalculatedUnitPriceInCurrencyOfAccounting": _per_unit(line["payee_amount"], units),
        "AllocatedRevenueInCurrencyOfTransaction": format_atoms(line["receipts"]),
        "AllocatedRevenueInCurrencyOfAccounting": _converted(line["receipts"], line["rate"]),
        "AllocatedNetRevenueInCurrencyOfTransaction": format_atoms(line["amount"]),
        "AllocatedNetRevenueInCurrencyOfAccounting": format_atoms(line["payee_amount"]),
        "CopyrightObligationWithDSP": obligation,
    }


def _summary_cells(summary: _Summary, currency: str, first: date, last: date) -> dict[str, str]:
    receipts = format_atoms(summary.receipts)
    receipts_converted = _converted(summary.receipts, summary.rate)
    amount = format_atoms(summary.amount)
    payee_amount = format_atoms(summary.payee_amount)
    return {
        "SummaryRecordId": summary.summary_id,
        "DistributionChannelName": summary.feed,
        "CommercialModel": "Unknown",
        "UseType": summary.use_type or "Unknown",
        "ReportingPeriodStartDate": str(first),
        "ReportingPeriodEndDate": str(last),
        "Territory": summary.territory,
        "ServiceDescription": f"{summary.feed} {summary.tier}".strip(),
        "Usages": str(summary.total),
        "AllocatedUsages": str(summary.total - summary.returns),
        "Returns": str(summary.returns),
        "MusicUsageRatio": "1",
        "CurrencyOfTransaction": summary.currency,
        "CurrencyOfAccounting": currency,
        "ExchangeRate": summary.rate or "1",
        "ExchangeRateSource": summary.rate_source,
        "DateOfCurrencyExchange": summary.rate_date,
        "DeductionsInCurrencyOfTransaction": "0",
        "DeductionsInCurrencyOfAccounting": "0",
        "NetRevenueInCurrencyOfTransaction": receipts,
        "NetRevenueInCurrencyOfAccounting": receipts_converted,
        "AllocatedRevenueInCurrencyOfTransaction": receipts,
        "AllocatedRevenueInCurrencyOfAccounting": receipts_converted,
        "AllocatedNetRevenueInCurrencyOfTransaction": amount,
        "AllocatedNetRevenueInCurrencyOfAccounting": payee_amount,
        "SubscriptionFeeInCurrencyOfAccounting": "0",
        "FinalTotalAmountInCurrencyOfTransaction": amount,
        "FinalTotalAmountInCurrencyOfAccounting": payee_amount,
    }


def _cut(numerator: int, denominator: int) -> int:
    """The quotient without its fraction, towards zero."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def _per_unit(atoms: int, units: int) -> str:
    return format_atoms(_cut(atoms, units)) if units else "0"


def _converted(atoms: int, rate: str) -> str:
    rate_atoms = to_atoms(parse_amount(rate)) if rate else ATOMS_PER_UNIT
    return format_atoms(_cut(atoms * rate_atoms, ATOMS_PER_UNIT))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _record(record_type: str, names: tuple[str, ...] | list[str], cells: Mapping[str, str]) -> str:
    # Whatever breaks a line for some reader (form feeds, U+2028, ...) is white space to split().
    texts = [" ".join(cells.get(name, "").replace("\x00", "").split()) for name in names]
    return "\t".join([record_type, *texts])
