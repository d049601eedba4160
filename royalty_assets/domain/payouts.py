"""From recording payables to what each rights holder is paid in a period.

Each line is divided by the terms that cover it (``terms``), what each payee earned is settled
(``settlement``); then, and only here, amounts are rounded to what a bank can pay: once per
(currency, period), by largest remainder over the payees. What is too little to pay out is the
residue, a line of its own. Every act is in the journal, and the balance says where every atom went.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from operator import itemgetter
from typing import Any, NamedTuple

import polars as pl

from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.contracts import NO_CONTRACTS, Contracts, Payee
from royalty_assets.domain.journal import JOURNAL_SCHEMA, Book, Journal
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.money import (
    AMOUNT_DECIMALS,
    format_money,
    minor_unit_decimals,
    round_to_minor_units,
    split_exactly,
    to_atoms,
)
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series, series_to_atoms
from royalty_assets.domain.rates import RATE_WHOLE, Rate, Rates
from royalty_assets.domain.settlement import Earning, OfPayees, Settled, charged_by, settle
from royalty_assets.domain.splits import ATOMS, converted, to_amount_column, to_atom_column
from royalty_assets.domain.statements import STATEMENT_MOVEMENT_SCHEMA, Movement
from royalty_assets.domain.terms import (
    EARNING_SCHEMA,
    RECEIPT_COLUMNS,
    Period,
    Role,
    Terms,
)

PAYOUT_LINE_SCHEMA: dict[str, pl.DataType] = {
    **{name: dtype for name, dtype in EARNING_SCHEMA.items() if dtype != ATOMS},
    "receipts": AMOUNT_DTYPE,
    "amount": AMOUNT_DTYPE,
}
"""One party's exact part of one ledger line: ``terms.EARNING_SCHEMA``, as money. The parties of
role ``deduction`` are what a contract deducts, by name, and nobody who is paid."""

PAYOUT_SCHEMA: dict[str, pl.DataType] = {
    "rights_holder_id": pl.String(),
    "rights_holder_name": pl.String(),
    "currency": pl.String(),
    "brought_forward": AMOUNT_DTYPE,
    "earned": AMOUNT_DTYPE,
    "reserved": AMOUNT_DTYPE,
    "recouped": AMOUNT_DTYPE,
    "amount_exact": AMOUNT_DTYPE,
    "amount_withheld": AMOUNT_DTYPE,
    "amount_paid": AMOUNT_DTYPE,
    "amount_carried_forward": AMOUNT_DTYPE,
}
"""``amount_exact = brought_forward + earned - reserved - recouped``, before rounding; ``reserved``
is what is newly held less what is released. What is negative, or below the payee's minimum, is not
paid but carried forward."""

BALANCE_SCHEMA: dict[str, pl.DataType] = {
    "currency": pl.String(),
    "received": AMOUNT_DTYPE,
    "brought_forward": AMOUNT_DTYPE,
    "paid": AMOUNT_DTYPE,
    "withheld": AMOUNT_DTYPE,
    "held": AMOUNT_DTYPE,
    "in_suspense": AMOUNT_DTYPE,
    "deducted": AMOUNT_DTYPE,
    "reserved": AMOUNT_DTYPE,
    "recouped": AMOUNT_DTYPE,
    "exchanged": AMOUNT_DTYPE,
    "carried_forward": AMOUNT_DTYPE,
    "residue": AMOUNT_DTYPE,
}
"""Where every atom of a period's money went: ``received + brought_forward`` equals the sum of the
others. ``reserved`` is net of releases; ``exchanged`` is what was converted into other currencies,
less what came from them."""

PAYEE_MOVEMENT_SCHEMA: dict[str, pl.DataType] = {
    "payee_id": pl.String(),
    "currency": pl.String(),
    **STATEMENT_MOVEMENT_SCHEMA,
}
"""The walk from what was brought forward to what is paid, of each payee and currency."""

HELD_SCHEMA: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "currency": pl.String(),
    "recording_id": pl.String(),
    "reason": pl.String(),
    "corrects": pl.String(),
    "units": pl.Int64(),
    "amount": AMOUNT_DTYPE,
}
"""Money of recordings that no terms cover, and why; of a closed period, what changed of it."""

CONVERSION_SCHEMA: dict[str, pl.DataType] = {
    "currency": pl.String(),
    "into": pl.String(),
    "period": pl.String(),
    "rate": pl.String(),
    "rate_date": pl.Date(),
    "source": pl.String(),
}
"""The rates that were applied to earnings of a period."""

ROWS_AT_ONCE = 200_000
_ANY_PERIOD = Period(date(2000, 1, 1))
_SAFE_SUM_MAX = 10**37
_SUMS_WAITING_MAX = 1_000_000
_HELD_KEY = list(HELD_SCHEMA)[:-2]
_AMOUNTS = "^(payee_)?amount$"
_UNLISTED = Payee(payee="unlisted")
"""Who no contract file says anything about: nothing is withheld, no payment is too small."""


@dataclass(frozen=True, slots=True)
class Payouts:
    """A period's payouts.

    Attributes:
        payouts: ``PAYOUT_SCHEMA``.
        balance: ``BALANCE_SCHEMA``.
        movements: ``PAYEE_MOVEMENT_SCHEMA``.
        journal: ``journal.JOURNAL_SCHEMA``.
        accounts: ``accounts.ACCOUNT_SCHEMA``, at the period's end.
        held: ``HELD_SCHEMA``.
        conversions: ``CONVERSION_SCHEMA``.
        lines: ``PAYOUT_LINE_SCHEMA``; empty where they have been streamed away.
    """

    payouts: pl.DataFrame
    balance: pl.DataFrame
    movements: pl.DataFrame
    journal: pl.DataFrame
    accounts: pl.DataFrame
    held: pl.DataFrame
    conversions: pl.DataFrame
    lines: pl.DataFrame


def build_payouts(
    ledger: pl.DataFrame,
    shares: pl.DataFrame,
    *,
    contracts: Contracts = NO_CONTRACTS,
    rates: Rates | None = None,
    period: Period = _ANY_PERIOD,
    opening: Accounts | None = None,
) -> Payouts:
    """Split, settle, round and balance one period; see ``PayoutBuilder`` for streaming.

    Args:
        ledger: ``ledger.LEDGER_SCHEMA``.
        shares: ``catalog.SHARE_SCHEMA``; a recording without shares or contract has its money held.
        contracts: in force.
        rates: to convert by.
        period: the accounting month; any will do where neither contracts nor rates are given.
        opening: balances at its start.

    Raises:
        rates.NoRateError: if something is to be converted, and no rate is known.
    """
    builder = PayoutBuilder(shares, contracts, rates or Rates(), period, opening or Accounts())
    lines = [pl.DataFrame(schema=PAYOUT_LINE_SCHEMA), *builder.lines(ledger)]
    return builder.finish(ledger, pl.concat(lines))


@dataclass(frozen=True, slots=True)
class Divided:
    """A period's recording payables as divided.

    Attributes:
        lines: ``PAYOUT_LINE_SCHEMA``.
        held: ``HELD_SCHEMA``.
        reached: contract → units or atoms that its escalations had counted at the period's end.
    """

    lines: pl.DataFrame
    held: pl.DataFrame
    reached: Mapping[str, int] = field(default_factory=dict)


def divide_ledger(
    ledger: pl.DataFrame,
    shares: pl.DataFrame,
    *,
    contracts: Contracts = NO_CONTRACTS,
    rates: Rates | None = None,
    period: Period = _ANY_PERIOD,
    reached: Mapping[str, int] | None = None,
) -> Divided:
    """Divide a ledger's own recording payables as ``build_payouts`` does, without settling them.

    ``reached`` is what escalations count on from, by contract; the rest is ``build_payouts``'.
    """
    builder = PayoutBuilder(shares, contracts, rates or Rates(), period, Accounts())
    builder.count_from(reached or {})
    lines = pl.concat([pl.DataFrame(schema=PAYOUT_LINE_SCHEMA), *builder.lines(ledger)])
    return Divided(lines, builder.held(), builder.reached)


def nothing_paid(opening: Accounts) -> Payouts:
    """The payouts of a period in which nothing moves: the balances go on as they are."""
    return Payouts(
        payouts=pl.DataFrame(schema=PAYOUT_SCHEMA),
        balance=pl.DataFrame(schema=BALANCE_SCHEMA),
        movements=pl.DataFrame(schema=PAYEE_MOVEMENT_SCHEMA),
        journal=pl.DataFrame(schema=JOURNAL_SCHEMA),
        accounts=opening.to_frame(),
        held=pl.DataFrame(schema=HELD_SCHEMA),
        conversions=pl.DataFrame(schema=CONVERSION_SCHEMA),
        lines=pl.DataFrame(schema=PAYOUT_LINE_SCHEMA),
    )


_LINE_SUBJECT = [
    name for name in PAYOUT_LINE_SCHEMA if name not in {"corrects", "units", "receipts", "amount"}
]


def booked_lines(lines: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """``PAYOUT_LINE_SCHEMA`` of a period and what corrects it, a line a subject."""
    return (
        pl.concat([pl.DataFrame(schema=PAYOUT_LINE_SCHEMA), *lines])
        .group_by(_LINE_SUBJECT)
        .agg(pl.col("units", "receipts", "amount").sum())
        .filter((pl.col("units") != 0) | (pl.col("amount") != 0) | (pl.col("receipts") != 0))
        .with_columns(pl.lit("").alias("corrects"))
        .select(PAYOUT_LINE_SCHEMA.keys())
        .sort(_LINE_SUBJECT)
    )


def line_corrections(before: pl.DataFrame, now: pl.DataFrame, period: str) -> pl.DataFrame:
    """``PAYOUT_LINE_SCHEMA``: each line that is no longer so, reversed, and each as it is."""
    before, now = booked_lines([before]), booked_lines([now])
    same = [*_LINE_SUBJECT, "units", "receipts", "amount"]
    gone = before.join(now, on=same, how="anti").with_columns(
        -pl.col("units"), -pl.col("receipts"), -pl.col("amount")
    )
    new = now.join(before, on=same, how="anti")
    return pl.concat([gone, new]).with_columns(pl.lit(period).alias("corrects"))


class _EarningKey(NamedTuple):
    rights_holder_id: str
    role: str
    contract_id: str
    currency: str
    corrects: str


@dataclass(slots=True)
class _Sum:
    lines: int = 0
    atoms: int = 0
    payee_atoms: int = 0


@dataclass(slots=True)
class _Round:
    """What rounding and withholding made of what is payable to one payee, in atoms."""

    paid: int = 0
    withheld: dict[str, int] = field(default_factory=dict)


class PayoutBuilder:
    """Builds a period's payouts from slices of its ledger, so that memory does not follow size."""

    def __init__(
        self,
        shares: pl.DataFrame,
        contracts: Contracts,
        rates: Rates,
        period: Period,
        opening: Accounts,
    ) -> None:
        """Start a period; the arguments are those of ``build_payouts``."""
        self._contracts = contracts
        self._rates = rates
        self._period = period
        self._opening = opening
        self._terms = Terms(contracts, shares, rates, period, opening.reached)
        self._names = dict(
            shares.select("rights_holder_id", "rights_holder_name")
            .unique("rights_holder_id", keep="last")
            .rows()
        )
        self._sums: dict[tuple[str, ...], _Sum] = {}  # by the fields of _EarningKey
        self._waiting: list[pl.DataFrame] = []  # sums of slices, to be folded into those
        self._waiting_at_most = 0
        self._held: dict[tuple[str, ...], tuple[int, int]] = {}
        self._applied: dict[tuple[str, str, str], Rate] = {}
        self._rates_of_period: dict[str, Rates] = {}
        self._without_statement: set[str] = set()

    @property
    def reached(self) -> Mapping[str, int]:
        """Contract → units or atoms that its escalations have counted so far."""
        return self._terms.reached

    def count_from(self, reached: Mapping[str, int]) -> None:
        """Let escalations count on from here: of contracts that have any, and no others."""
        for contract_id, contract in self._contracts.contracts.items():
            if contract.escalations:
                self._terms.reached[contract_id] = reached.get(contract_id, 0)

    def lines(self, ledger: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """``PAYOUT_LINE_SCHEMA`` of a slice of the ledger, in its order, a piece at a time."""
        due = ledger.filter(
            (pl.col("account") == Account.RECORDING_PAYABLE) & (pl.col("currency") != NO_CURRENCY)
        )
        for rows in due.iter_slices(ROWS_AT_ONCE):
            yield self._line_slice(rows)

    def _line_slice(self, rows: pl.DataFrame) -> pl.DataFrame:
        receipts = to_atom_column(rows["amount"]) * pl.Series([-1], dtype=ATOMS)
        corrects = (
            pl.col("corrects") if "corrects" in rows.columns else pl.lit("").alias("corrects")
        )
        division = self._terms.divide(
            rows.with_columns(receipts.alias("receipts"), corrects).select(RECEIPT_COLUMNS)
        )
        self._add(division.earnings)
        self._hold(division.held)
        return division.earnings.with_columns(
            to_amount_column(division.earnings[name]) for name in ("receipts", "amount")
        ).select(PAYOUT_LINE_SCHEMA.keys())

    def correct(
        self,
        before: "Divided",
        now: "Divided",
        period: str,
        rates: Rates,
        *,
        has_statement: bool = True,
    ) -> pl.DataFrame:
        """Reverse and rebook what is different of an earlier period.

        Args:
            before: what is booked of the period.
            now: what it comes to by what is known now.
            period: that is corrected.
            rates: that the period is converted by, what is reversed and what is booked alike.
            has_statement: whether there is a statement of the period that this corrects.

        Returns:
            ``PAYOUT_LINE_SCHEMA``, to be written with the month's own lines.
        """
        self._rates_of_period[period] = rates
        if not has_statement:
            self._without_statement.add(period)
        lines = line_corrections(before.lines, now.lines, period)
        self._add(
            lines.with_columns(to_atom_column(lines[name]) for name in ("receipts", "amount"))
        )
        for held, factor in ((before.held, -1), (now.held, 1)):
            atoms = to_atom_column(held["amount"]) * pl.Series([factor], dtype=ATOMS)
            self._hold(
                held.with_columns(
                    pl.col("units") * factor,
                    atoms.alias("receipts"),
                    pl.lit(period).alias("corrects"),
                )
            )
        return lines

    def _hold(self, held: pl.DataFrame) -> None:
        for *of, units, atoms in held.select(*_HELD_KEY, "units", "receipts").iter_rows():
            known = self._held.get(tuple(of), (0, 0))
            self._held[tuple(of)] = (known[0] + units, known[1] + atoms)

    def _add(self, earnings: pl.DataFrame) -> None:
        if earnings.is_empty():
            return
        earnings = self._with_payee_amount(earnings)
        largest = max(map(int, earnings.select(pl.col(_AMOUNTS).abs().max()).row(0)))
        at_most = largest * earnings.height
        if self._waiting_at_most + at_most > _SAFE_SUM_MAX:
            self._fold()
        if at_most > _SAFE_SUM_MAX:
            self._add_sums(_summed_one_by_one(earnings))
            return
        sums = _summed(earnings, pl.len().cast(pl.Int64).alias("lines"))
        self._waiting.append(sums)
        self._waiting_at_most += at_most
        if sum(waiting.height for waiting in self._waiting) > _SUMS_WAITING_MAX:
            self._fold()

    def _fold(self) -> None:
        """Add up what has been summed column-wise; Python's integers have no end."""
        if self._waiting:
            self._add_sums(_summed(pl.concat(self._waiting), pl.col("lines").sum()).rows())
        self._waiting = []
        self._waiting_at_most = 0

    def _add_sums(self, sums: Iterable[tuple[Any, ...]]) -> None:
        for row in sums:
            of, (lines, atoms, payee_atoms) = row[:-3], row[-3:]
            total = self._sums.get(of)
            if total is None:
                total = self._sums[of] = _Sum()
            total.lines += lines
            total.atoms += atoms
            total.payee_atoms += payee_atoms

    def _with_payee_amount(self, earnings: pl.DataFrame) -> pl.DataFrame:
        """Earnings with ``payee_amount``, where any of them are converted."""
        converting = [p.payee for p in self._contracts.payees.values() if p.currency is not None]
        concerned = earnings.lazy().filter(
            pl.col("rights_holder_id").is_in(converting) & (pl.col("role") != Role.DEDUCTION)
        )
        asked = ["rights_holder_id", "currency", "corrects"]
        pairs = concerned.select(asked).unique().collect() if converting else earnings.clear()
        rates = [
            (*pair, rate.parts)
            for pair in pairs.select(asked).rows()
            if (rate := self._rate_of(*pair)) is not None
        ]
        if not rates:
            return earnings
        schema: dict[str, pl.DataType] = {**dict.fromkeys(asked, pl.String()), "parts": ATOMS}
        return (
            earnings.join(
                pl.DataFrame(rates, schema=schema, orient="row"), on=asked, how="left",
                maintain_order="left",
            )
            .with_columns(
                pl.when(pl.col("parts").is_null() | (pl.col("role") == Role.DEDUCTION))
                .then("amount")
                .otherwise(converted(pl.col("amount"), pl.col("parts"), RATE_WHOLE))
                .alias("payee_amount")
            )
        )  # fmt: skip

    def _rate_of(self, payee_id: str, currency: str, corrects: str) -> Rate | None:
        payee = self._contracts.payees.get(payee_id)
        if payee is None or payee.currency in {None, currency}:
            return None
        into = str(payee.currency)
        of_period = Period.parse(corrects) if corrects else self._period
        key = (currency, into, of_period.label)
        if key not in self._applied:
            rates = self._rates_of_period.get(corrects, self._rates)
            self._applied[key] = rates.within(currency, into, of_period.first, of_period.last)
        return self._applied[key]

    def finish(self, ledger: pl.DataFrame, lines: pl.DataFrame) -> Payouts:
        """Settle, round and balance, when every slice has been through ``lines``.

        Args:
            ledger: all of it; only receivables and suspense are read of it.
            lines: to be a part of the result.
        """
        self._fold()
        closing = self._closing()
        journal = Journal()
        settlements = self._settle(journal, closing)
        rounds = self._round(settlements)
        for settled in settlements:
            self._close(settled, rounds.get((settled.payee_id, settled.currency)), closing, journal)
        held = self.held()
        _hold(held, journal)
        entries = journal.to_frame()
        return Payouts(
            payouts=self._payout_frame(settlements),
            balance=_balance(ledger, entries),
            movements=_movement_frame(settlements),
            journal=entries,
            accounts=closing.to_frame(),
            held=held,
            conversions=self._conversion_frame(),
            lines=lines,
        )

    def _closing(self) -> Accounts:
        closing = Accounts(recouped=dict(self._opening.recouped))
        for account in self._contracts.accounts.values():
            key = (account.payee, account.account, account.currency)
            closing.charged[key] = charged_by(account, self._period)
        for contract_id, reached in self._terms.reached.items():
            contract = self._contracts.contracts.get(contract_id)
            if contract is not None and contract.escalations:
                by_units = contract.escalations[0].above_units is not None
            else:  # no longer counted, and kept as what it was
                by_units = contract_id in self._opening.units_reached
            (closing.units_reached if by_units else closing.amount_reached)[contract_id] = reached
        return closing

    def _settle(self, journal: Journal, closing: Accounts) -> list[Settled]:
        by_payee: dict[tuple[str, str], list[Earning]] = {key: [] for key in self._opening.payees()}
        for of, total in sorted(self._sums.items(), key=itemgetter(0)):
            key = _EarningKey(*of)
            if key.role == Role.DEDUCTION:
                journal.transfer(
                    "deduct", Book.RECORDING_PAYABLE, Book.DEDUCTION, key.currency, total.atoms,
                    reference=f"{key.contract_id}: {key.rights_holder_id}", corrects=key.corrects,
                )  # fmt: skip
                continue
            rate = self._rate_of(key.rights_holder_id, key.currency, key.corrects)
            into = key.currency if rate is None else rate.into
            _earn(journal, key, total, into)
            told = "" if rate is None else f"at {rate.rate:f} ({rate.source}, {rate.date})"
            by_payee.setdefault((key.rights_holder_id, into), []).append(
                Earning(
                    key.contract_id, key.role, key.currency, key.corrects, total.lines,
                    total.atoms, total.payee_atoms, told,
                    corrects_statement=key.corrects not in self._without_statement,
                )
            )  # fmt: skip
        of_payees = OfPayees.build(self._contracts, self._opening)
        return [
            settle(
                *payee_and_currency,
                earnings,
                self._contracts,
                of_payees,
                self._period,
                self._opening,
                closing,
            )
            for payee_and_currency, earnings in sorted(by_payee.items(), key=itemgetter(0))
        ]

    def _round(self, settlements: Iterable[Settled]) -> dict[tuple[str, str], _Round]:
        """Round what is to be paid, currency by currency, and withhold tax of it."""
        by_currency: dict[str, dict[str, int]] = {}
        for settled in settlements:
            payable = settled.payable
            minimum = to_atoms(self._payee(settled.payee_id).minimum_payment)
            if payable > 0 and payable >= minimum:
                by_currency.setdefault(settled.currency, {})[settled.payee_id] = payable
        rounds: dict[tuple[str, str], _Round] = {}
        for currency, payable_by_payee in by_currency.items():
            rounding = round_to_minor_units(payable_by_payee, currency)
            for payee_id, atoms in rounding.paid.items():
                rounds[payee_id, currency] = self._withhold(payee_id, currency, atoms)
        return rounds

    def _payee(self, payee_id: str) -> Payee:
        return self._contracts.payees.get(payee_id, _UNLISTED)

    def _withhold(self, payee_id: str, currency: str, atoms: int) -> _Round:
        minor_unit = 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))
        due = [
            (tax.reason, int(tax.percent * 10**6))
            for tax in self._payee(payee_id).withholding
            if tax.is_in_force(self._period.last)
        ]
        if not due:
            return _Round(atoms)
        kept = 100 * 10**6 - sum(parts for _, parts in due)
        weights = [("", kept), *((f"{i:03d}", parts) for i, (_, parts) in enumerate(due))]
        paid, *withheld = split_exactly(atoms // minor_unit, weights)
        reasons = [reason for reason, _ in due]
        taxes = {
            reason: units * minor_unit for reason, units in zip(reasons, withheld, strict=True)
        }
        return _Round(paid * minor_unit, taxes)

    def _close(
        self, settled: Settled, rounded: _Round | None, closing: Accounts, journal: Journal
    ) -> None:
        payable, currency, payee_id = settled.payable, settled.currency, settled.payee_id
        if rounded is None:
            told = "below zero, to be set off against what comes"
            if payable > 0:
                minimum = to_atoms(self._payee(payee_id).minimum_payment)
                told = f"below the minimum payment of {format_money(minimum, currency)} {currency}"
            settled.add(Movement.CARRIED_FORWARD, "", told, -payable)
            if payable:
                closing.carried_forward[payee_id, currency] = payable
        else:
            gross = rounded.paid + sum(rounded.withheld.values())
            told = "to whole minor units, by largest remainder over all payees"
            settled.add(Movement.ROUNDING, "", told, gross - payable)
            for reason, atoms in rounded.withheld.items():
                told = f"{reason} of {format_money(gross, currency)} {currency}"
                settled.add(Movement.WITHHELD, reason, told, -atoms)
            settled.add(Movement.PAID, "", "paid to the payee", -rounded.paid)
        _post(settled, journal)

    def held(self) -> pl.DataFrame:
        """``HELD_SCHEMA`` of what has been divided so far."""
        keys = sorted(key for key, of in self._held.items() if any(of))
        return pl.DataFrame(
            [
                *(pl.Series(n, [k[i] for k in keys], pl.String) for i, n in enumerate(_HELD_KEY)),
                pl.Series("units", [self._held[k][0] for k in keys], pl.Int64),
                atoms_to_series("amount", [self._held[k][1] for k in keys]),
            ]
        )

    def _payout_frame(self, settlements: list[Settled]) -> pl.DataFrame:
        amounts = {
            "brought_forward": [s.total(Movement.BROUGHT_FORWARD) for s in settlements],
            "earned": [s.total(Movement.EARNINGS, Movement.ADJUSTMENT) for s in settlements],
            "reserved": [
                -s.total(Movement.RESERVE_HELD, Movement.RESERVE_RELEASED) for s in settlements
            ],
            "recouped": [-s.total(Movement.RECOUPED) for s in settlements],
            "amount_withheld": [-s.total(Movement.WITHHELD) for s in settlements],
            "amount_paid": [-s.total(Movement.PAID) for s in settlements],
            "amount_carried_forward": [-s.total(Movement.CARRIED_FORWARD) for s in settlements],
        }
        amounts["amount_exact"] = [
            brought + earned - reserved - recouped
            for brought, earned, reserved, recouped in zip(
                *(amounts[n] for n in ("brought_forward", "earned", "reserved", "recouped")),
                strict=True,
            )
        ]
        ids = [s.payee_id for s in settlements]
        return pl.DataFrame(
            [
                pl.Series("rights_holder_id", ids, pl.String),
                pl.Series("rights_holder_name", [self._name(payee) for payee in ids], pl.String),
                pl.Series("currency", [s.currency for s in settlements], pl.String),
                *(atoms_to_series(name, atoms) for name, atoms in amounts.items()),
            ]
        ).select(PAYOUT_SCHEMA.keys())

    def _name(self, payee_id: str) -> str:
        return self._payee(payee_id).name or self._names.get(payee_id, payee_id)

    def _conversion_frame(self) -> pl.DataFrame:
        rows = [
            (currency, into, period, f"{rate.rate:f}", rate.date, rate.source)
            for (currency, into, period), rate in sorted(self._applied.items())
        ]
        return pl.DataFrame(rows, schema=CONVERSION_SCHEMA, orient="row")


def _summed(earnings: pl.DataFrame, lines: pl.Expr) -> pl.DataFrame:
    """The fields of ``_EarningKey``, ``lines``, and the sums of both amounts."""
    key = list(_EarningKey._fields)
    # Most of the key says the same in every row, and grouping by texts is what takes long.
    is_constant = earnings.select((pl.col(key) == pl.col(key).first()).all())
    varying = [name for name in key if not is_constant[name][0]] or key[:1]
    sums = earnings.group_by(varying).agg(lines, pl.col(_AMOUNTS).sum())
    return sums.select(
        *(name if name in varying else pl.lit(earnings[name][0]).alias(name) for name in key),
        "lines",
        "amount",
        _payee_amount_of(sums),
    )


def _summed_one_by_one(earnings: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The same of amounts so large that 128 bits might not hold their sum."""
    key = list(_EarningKey._fields)
    sums: dict[tuple[Any, ...], list[int]] = {}
    amounts = earnings.select(*key, "amount", _payee_amount_of(earnings))
    for *of, atoms, payee_atoms in amounts.iter_rows():
        total = sums.setdefault(tuple(of), [0, 0, 0])
        total[0] += 1
        total[1] += atoms
        total[2] += payee_atoms
    return [(*of, *total) for of, total in sums.items()]


def _payee_amount_of(earnings: pl.DataFrame) -> pl.Expr:
    """It is there only where something was converted."""
    name = "payee_amount" if "payee_amount" in earnings.columns else "amount"
    return pl.col(name).alias("payee_amount")


def _earn(journal: Journal, key: _EarningKey, total: _Sum, into: str) -> None:
    who = {"payee_id": key.rights_holder_id, "reference": key.contract_id}
    journal.transfer(
        "earn", Book.RECORDING_PAYABLE, Book.PAYEE_PAYABLE, key.currency, total.atoms,
        corrects=key.corrects, **who,
    )  # fmt: skip
    if into != key.currency:
        journal.transfer(
            "convert", Book.PAYEE_PAYABLE, Book.EXCHANGE, key.currency, total.atoms,
            corrects=key.corrects, **who,
        )  # fmt: skip
        journal.transfer(
            "convert", Book.EXCHANGE, Book.PAYEE_PAYABLE, into, total.payee_atoms,
            corrects=key.corrects, **who,
        )  # fmt: skip


_POSTINGS: Mapping[Movement, tuple[str, Book]] = {
    Movement.BROUGHT_FORWARD: ("bring forward", Book.BROUGHT_FORWARD),
    Movement.RESERVE_HELD: ("hold in reserve", Book.RESERVE),
    Movement.RESERVE_RELEASED: ("release", Book.RESERVE),
    Movement.RECOUPED: ("recoup", Book.RECOUPMENT),
    Movement.ROUNDING: ("round", Book.RESIDUE),
    Movement.WITHHELD: ("withhold", Book.WITHHOLDING),
    Movement.PAID: ("pay", Book.PAID),
    Movement.CARRIED_FORWARD: ("carry forward", Book.CARRIED_FORWARD),
}


def _post(settled: Settled, journal: Journal) -> None:
    """Enter a payee's movements; earnings have been entered as they were divided."""
    for moved in settled.movements:
        if moved.movement in _POSTINGS:
            act, account = _POSTINGS[moved.movement]
            journal.transfer(
                act, Book.PAYEE_PAYABLE, account, settled.currency, -moved.atoms,
                payee_id=settled.payee_id, reference=moved.reference,
            )  # fmt: skip


def _hold(held: pl.DataFrame, journal: Journal) -> None:
    for (currency, reason), atoms in zip(
        held.select("currency", "reason").rows(), series_to_atoms(held["amount"]), strict=True
    ):
        journal.transfer(
            "hold", Book.RECORDING_PAYABLE, Book.HELD, currency, atoms, reference=reason
        )


def _movement_frame(settlements: list[Settled]) -> pl.DataFrame:
    order = {movement: place for place, movement in enumerate(Movement)}
    rows = [
        (s.payee_id, s.currency, str(m.movement), m.reference, m.explanation, m.atoms)
        for s in settlements
        for m in sorted(s.movements, key=lambda m: order[m.movement])
    ]
    names = list(PAYEE_MOVEMENT_SCHEMA)[:-1]
    return pl.DataFrame(
        [
            *(pl.Series(n, [row[i] for row in rows], pl.String) for i, n in enumerate(names)),
            atoms_to_series("amount", [row[5] for row in rows]),
        ]
    )


_BALANCE_ACCOUNTS = {
    "paid": Book.PAID,
    "withheld": Book.WITHHOLDING,
    "held": Book.HELD,
    "deducted": Book.DEDUCTION,
    "reserved": Book.RESERVE,
    "recouped": Book.RECOUPMENT,
    "exchanged": Book.EXCHANGE,
    "carried_forward": Book.CARRIED_FORWARD,
    "residue": Book.RESIDUE,
}


def _balance(ledger: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    money = ledger.filter(pl.col("currency") != NO_CURRENCY)
    received = _atoms_by_currency(money.filter(pl.col("account") == Account.RECEIVABLE))
    suspense = _atoms_by_currency(money.filter(pl.col("account") == Account.SUSPENSE))
    brought = _atoms_by_currency(entries.filter(pl.col("account") == Book.BROUGHT_FORWARD))
    columns: dict[str, dict[str, int]] = {"received": received, "brought_forward": brought}
    columns["in_suspense"] = {currency: -atoms for currency, atoms in suspense.items()}
    for name, account in _BALANCE_ACCOUNTS.items():
        of_account = _atoms_by_currency(entries.filter(pl.col("account") == account))
        columns[name] = {currency: -atoms for currency, atoms in of_account.items()}
    currencies = sorted(set().union(*columns.values()))
    return pl.DataFrame(
        [
            pl.Series("currency", currencies, pl.String),
            *(
                atoms_to_series(name, [columns[name].get(currency, 0) for currency in currencies])
                for name in BALANCE_SCHEMA
                if name != "currency"
            ),
        ]
    )


def _atoms_by_currency(frame: pl.DataFrame) -> dict[str, int]:
    # Summed as Python integers, which have no end: the frames' own sums are 128 bits wide, and
    # what checks them must not overflow where they do.
    sums: dict[str, int] = {}
    atoms = series_to_atoms(frame["amount"])
    for currency, amount in zip(frame["currency"].to_list(), atoms, strict=True):
        sums[currency] = sums.get(currency, 0) + amount
    return sums
