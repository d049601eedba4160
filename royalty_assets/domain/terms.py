"""Which terms apply to a line of the ledger, and what they divide it into.

Contracts and the catalog's plain shares become *terms*: parties with integer weights. Each row of
recording payables gets the terms that cover it, is divided at the boundaries of escalations, and
is divided among the parties exactly (``splits``). What no terms cover is held, with the reason.
What belongs here: choosing and applying terms. What does not: what a payee's earnings come to
(``payouts``).
"""

import calendar
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from math import lcm
from typing import NamedTuple

import polars as pl

from royalty_assets.domain.catalog import SHARE_WHOLE
from royalty_assets.domain.contracts import Contract, Contracts
from royalty_assets.domain.money import split_exactly, to_atoms
from royalty_assets.domain.rates import Rates, convert
from royalty_assets.domain.splits import ATOMS, divide
from royalty_assets.domain.territories import TerritorySet


class Role(StrEnum):
    """As what somebody gets a part."""

    HOLDER = "holder"
    PARTICIPANT = "participant"
    REMAINDER = "remainder"
    DEDUCTION = "deduction"


class Held(StrEnum):
    """Why money of a recording is held."""

    NO_SHARES = "no_shares"
    CONTRACT_REFUSED = "contract_refused"
    CONTRACTS_OVERLAP = "contracts_overlap"
    NOT_COVERED = "not_covered_by_contract"


RECEIPT_COLUMNS = [
    "feed",
    "territory",
    "tier",
    "use_type",
    "currency",
    "recording_id",
    "corrects",
    "units",
    "receipts",
]
"""A row of recording payables; ``receipts`` are Int128 atoms, ``corrects`` a period or empty."""

EARNING_SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(RECEIPT_COLUMNS[:7], pl.String()),
    "units": pl.Int64(),
    "receipts": ATOMS,
    "contract_id": pl.String(),
    "step": pl.Int16(),
    "rights_holder_id": pl.String(),
    "role": pl.String(),
    "share_numerator": pl.Int64(),
    "share_denominator": pl.Int64(),
    "amount": ATOMS,
}
"""A party's part of a row: ``amount`` in Int128 atoms. ``step`` is the number of boundaries of
escalations that lie below. A denominator of 0 marks an amount per unit, and a remainder that bears
such amounts."""


_TERMS_KEY = ["contract_id", "step", "currency", "corrects"]
"""What parties follow from: amounts per unit are converted at the rate of the row's own period."""


class Party(NamedTuple):
    """Who gets how much: a weight of the terms' whole, or atoms for each unit."""

    rights_holder_id: str
    role: Role
    weight: int
    unit_atoms: int | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """An accounting month."""

    first: date

    @property
    def last(self) -> date:
        """Its last day."""
        days = calendar.monthrange(self.first.year, self.first.month)[1]
        return self.first.replace(day=days)

    @property
    def label(self) -> str:
        """As ``2025-03``."""
        return f"{self.first:%Y-%m}"

    @classmethod
    def parse(cls, label: str) -> "Period":
        """Read ``2025-03``."""
        return cls(date.fromisoformat(f"{label}-01"))

    def plus(self, months: int) -> "Period":
        """The period so many months later."""
        count = self.first.year * 12 + self.first.month - 1 + months
        return Period(date(count // 12, count % 12 + 1, 1))


@dataclass(frozen=True, slots=True)
class Division:
    """What terms made of rows.

    Attributes:
        earnings: ``EARNING_SCHEMA``; the amounts of a row's parties sum to its receipts.
        held: ``RECEIPT_COLUMNS`` and ``reason``.
    """

    earnings: pl.DataFrame
    held: pl.DataFrame


class Terms:
    """Contracts and shares, ready to divide rows of one period after another.

    Counters of escalations go on from row to row: rows are to come in the ledger's order, and
    each once.
    """

    def __init__(
        self,
        contracts: Contracts,
        shares: pl.DataFrame,
        rates: Rates,
        period: Period,
        reached: Mapping[str, int] | None = None,
    ) -> None:
        """Compile the terms.

        Args:
            contracts: in force.
            shares: ``catalog.SHARE_SCHEMA``.
            rates: for amounts per unit in other currencies than what comes in.
            period: that the rows are of, where they do not correct another.
            reached: contract → units or atoms that its escalations count from.
        """
        self.period = period
        self.reached = dict(reached or {})
        self._contracts = contracts
        self._rates = rates
        self._cover = _coverage(contracts)
        self._everywhere = [c for c in contracts.contracts.values() if c.every_recording]
        self._scopes: dict[tuple[str, str, str, str], bool] = {}
        self._share_tables = _share_tables(shares)

    def divide(self, rows: pl.DataFrame) -> Division:
        """Divide rows of ``RECEIPT_COLUMNS``; the same rows in another cut come out the same.

        Raises:
            rates.NoRateError: if an amount per unit cannot be told in a row's currency.
        """
        if not self._contracts.contracts and not self._contracts.refused:
            return self._by_shares(rows)
        chosen = self._choose(rows)
        by_contract = chosen.filter(pl.col("contract_id").is_not_null() & (pl.col("reason") == ""))
        by_share = chosen.filter(pl.col("contract_id").is_null() & (pl.col("reason") == ""))
        shared = self._by_shares(by_share.select(RECEIPT_COLUMNS))
        contracted = self._by_contracts(by_contract.select(*RECEIPT_COLUMNS, "contract_id"))
        held = chosen.filter(pl.col("reason") != "").select(*RECEIPT_COLUMNS, "reason")
        return Division(pl.concat([shared.earnings, contracted]), pl.concat([held, shared.held]))

    def _by_shares(self, rows: pl.DataFrame) -> Division:
        earnings = [_nothing()]
        for table in self._share_tables:
            of_table = rows.join(table.frame, on="recording_id", maintain_order="left")
            of_table = of_table.with_columns(
                pl.lit("").alias("contract_id"), pl.lit(0, pl.Int16).alias("step")
            )
            earnings += _parts(of_table, table.parties)
        held = rows
        for table in self._share_tables:
            held = held.join(table.frame, on="recording_id", how="anti", maintain_order="left")
        reason = pl.lit(str(Held.NO_SHARES)).alias("reason")
        return Division(pl.concat(earnings), held.with_columns(reason))

    def _choose(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with the id of the contract that applies, or the reason why money is held."""
        numbered = rows.with_row_index("row")
        candidates = numbered.select(
            "row", "recording_id", "territory", "use_type", "corrects"
        ).join(self._cover, on="recording_id")
        applying = self._in_scope(candidates)
        nearest = (
            applying.filter(pl.col("level") == pl.col("level").min().over("row"))
            .group_by("row")
            .agg(pl.col("contract_id").min(), pl.len().alias("contracts"))
        )
        named = candidates.select("row").unique().with_columns(pl.lit(value=True).alias("named"))
        chosen = numbered.join(nearest, on="row", how="left", maintain_order="left").join(
            named, on="row", how="left", maintain_order="left"
        )
        for contract in self._everywhere:
            chosen = self._choose_for_every_recording(chosen, contract)
        is_refused = pl.col("recording_id").is_in(list(self._contracts.refused))
        return chosen.with_columns(
            pl.when(is_refused)
            .then(pl.lit(str(Held.CONTRACT_REFUSED)))
            .when(pl.col("contracts") > 1)
            .then(pl.lit(str(Held.CONTRACTS_OVERLAP)))
            .when(pl.col("named") & pl.col("contract_id").is_null())
            .then(pl.lit(str(Held.NOT_COVERED)))
            .otherwise(pl.lit(""))
            .alias("reason")
        )

    def _choose_for_every_recording(self, chosen: pl.DataFrame, contract: Contract) -> pl.DataFrame:
        """Rows that no nearer contract covers go to one for every recording; two overlap."""
        everywhere = {c.contract for c in self._everywhere}
        candidates = chosen.filter(
            pl.col("contract_id").is_null() | pl.col("contract_id").is_in(list(everywhere))
        ).select("row", "territory", "use_type", "corrects")
        covered = self._in_scope(
            candidates.with_columns(pl.lit(contract.contract).alias("contract_id"))
        ).select("row", pl.lit(contract.contract).alias("everywhere"))
        return (
            chosen.join(covered, on="row", how="left", maintain_order="left")
            .with_columns(
                pl.coalesce("contract_id", "everywhere").alias("contract_id"),
                pl.col("contracts").fill_null(0)
                + pl.col("everywhere").is_not_null().cast(pl.UInt32),
            )
            .drop("everywhere")
        )

    def _in_scope(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates whose contract covers their territory, use type and period."""
        asked = ["contract_id", "territory", "use_type", "corrects"]
        questions = candidates.select(asked).unique()
        answers = [self._covers(*question) for question in questions.rows()]
        covered = questions.filter(pl.Series(answers, dtype=pl.Boolean))
        return candidates.join(covered, on=asked, how="semi")

    def _covers(self, contract_id: str, territory: str, use_type: str, corrects: str) -> bool:
        contract = self._contracts.contracts[contract_id]
        question = (contract_id, territory, use_type, corrects)
        if question not in self._scopes:
            of_period = Period.parse(corrects) if corrects else self.period
            self._scopes[question] = (
                contract.is_in_force(of_period.last)
                and (not contract.use_types or use_type in contract.use_types)
                and territory in TerritorySet.parse(contract.territories)
            )
        return self._scopes[question]

    def _by_contracts(self, rows: pl.DataFrame) -> pl.DataFrame:
        stepped = self._escalated(rows)
        used = stepped.select(_TERMS_KEY).unique(maintain_order=True)
        earnings = [_nothing()]
        for table in self._contract_tables(used.rows()):
            of_table = stepped.join(table.frame, on=_TERMS_KEY, maintain_order="left")
            earnings += _parts(of_table, table.parties)
        return pl.concat(earnings)

    def _contract_tables(self, used: Sequence[tuple[str, int, str, str]]) -> list["_Table"]:
        by_count: dict[int, list[tuple[tuple[str, int, str, str], list[Party], int]]] = {}
        for key in used:
            contract_id, step, currency, corrects = key
            contract = self._contracts.contracts[contract_id]
            of_period = Period.parse(corrects) if corrects else self.period
            parties, whole = parties_of(contract, step, currency, self._rates, of_period)
            by_count.setdefault(len(parties), []).append((key, parties, whole))
        return [_contract_table(count, terms) for count, terms in sorted(by_count.items())]

    def _escalated(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with their step, those that cross a boundary divided at it."""
        escalating = [c.contract for c in self._contracts.contracts.values() if c.escalations]
        plain = rows.filter(~pl.col("contract_id").is_in(escalating))
        pieces = [plain.with_columns(pl.lit(0, pl.Int16).alias("step"))]
        for contract_id in escalating:
            of_contract = rows.filter(pl.col("contract_id") == contract_id)
            if not of_contract.is_empty():
                pieces.append(self._stepped(self._contracts.contracts[contract_id], of_contract))
        return pl.concat(pieces)

    def _stepped(self, contract: Contract, rows: pl.DataFrame) -> pl.DataFrame:
        by_units = contract.escalations[0].above_units is not None
        boundaries = [
            e.above_units or to_atoms(e.above_amount or Decimal(0)) for e in contract.escalations
        ]
        counted = (
            pl.col("units").cast(ATOMS)
            if by_units
            else (
                pl.when(pl.col("currency") == contract.escalations[0].currency)
                .then(pl.col("receipts"))
                .otherwise(pl.lit(0, ATOMS))
            )
        )
        opening = self.reached.get(contract.contract, 0)
        counted_rows = rows.with_columns(counted.alias("counted")).with_columns(
            (pl.col("counted").cum_sum() + pl.lit(opening, ATOMS)).alias("after")
        )
        if not rows.is_empty():
            self.reached[contract.contract] = int(counted_rows["after"][-1])
        before = pl.col("after") - pl.col("counted")
        low, high = pl.min_horizontal(before, "after"), pl.max_horizontal(before, "after")
        bounds = [pl.lit(boundary, ATOMS) for boundary in boundaries]
        stepped = counted_rows.with_columns(
            pl.sum_horizontal((bound <= low).cast(pl.Int16) for bound in bounds).alias("step"),
            pl.sum_horizontal((bound < high).cast(pl.Int16) for bound in bounds).alias("last_step"),
        )
        crosses = pl.col("last_step") > pl.col("step")
        within = stepped.filter(~crosses).select(*rows.columns, pl.col("step").cast(pl.Int16))
        divided = [
            piece
            for row in stepped.filter(crosses).iter_rows(named=True)
            for piece in _at_boundaries(row, boundaries, by_units=by_units)
        ]
        schema: dict[str, pl.DataType] = {**rows.schema, "step": pl.Int16()}
        pieces = pl.DataFrame(
            [{name: piece[name] for name in schema} for piece in divided], schema=schema
        )
        return pl.concat([within, pieces])


def _at_boundaries(
    row: Mapping[str, object], boundaries: Sequence[int], *, by_units: bool
) -> Iterator[dict[str, object]]:
    """A row's pieces, one for each step that it reaches into."""
    counted, after = int(str(row["counted"])), int(str(row["after"]))
    low, high = sorted((after - counted, after))
    cuts = [low, *(boundary for boundary in boundaries if low < boundary < high), high]
    first = sum(boundary <= low for boundary in boundaries)
    sizes = [(f"{first + i:03d}", upper - lower) for i, (lower, upper) in enumerate(pairwise(cuts))]
    sign = 1 if counted >= 0 else -1
    exact = [sign * size for _, size in sizes]
    other = "receipts" if by_units else "units"
    divided = split_exactly(int(str(row[other])), sizes)
    for (step, _), counted_part, other_part in zip(sizes, exact, divided, strict=True):
        same = "units" if by_units else "receipts"
        yield {**row, same: counted_part, other: other_part, "step": int(step)}


def parties_of(
    contract: Contract, step: int, currency: str, rates: Rates, period: Period
) -> tuple[list[Party], int]:
    """The parties of a contract above a boundary, in the order of their tie keys, and the whole.

    Args:
        contract: whose parties they are.
        step: the number of boundaries that lie below.
        currency: of what comes in.
        rates: for amounts per unit in another currency.
        period: whose rate applies; of rows that correct a period, that one.

    Raises:
        rates.NoRateError: if an amount per unit cannot be told in the currency.
    """
    fractions = contract.fractions(step)
    whole = lcm(*(fraction.denominator for _, fraction in fractions))
    weights = [fraction.numerator * (whole // fraction.denominator) for _, fraction in fractions]
    deductions = len(contract.deductions)
    roles = [Role.DEDUCTION] * deductions + [Role.PARTICIPANT] * (len(fractions) - deductions)
    parties = [
        Party(name, role, weight)
        for (name, _), role, weight in zip(fractions, roles, weights, strict=True)
    ]
    if contract.remainder_to is not None:
        rest = whole - sum(weights)
        parties.append(Party(contract.remainder_to, Role.REMAINDER, rest))
    for participant in contract.participants:
        if participant.per_unit is not None and participant.currency is not None:
            atoms = to_atoms(participant.per_unit)
            if participant.currency != currency:
                rate = rates.within(participant.currency, currency, period.first, period.last)
                atoms = convert(atoms, rate)
            parties.append(Party(participant.payee, Role.PARTICIPANT, 0, atoms))
    return sorted(parties, key=lambda p: (p.rights_holder_id, p.role, p.unit_atoms or 0)), whole


@dataclass(frozen=True, slots=True)
class _Table:
    """Terms of one number of parties, a row each: ``holder_i``, ``role_i``, ``weight_i``."""

    parties: int
    frame: pl.DataFrame


def _coverage(contracts: Contracts) -> pl.DataFrame:
    """Which contract names which recording, and how nearly: 0 by itself, 1 by a group."""
    rows = []
    for contract in contracts.contracts.values():
        rows += [(recording, contract.contract, 0) for recording in set(contract.recordings)]
        grouped = {r for group in contract.groups for r in contracts.groups.get(group, ())}
        rows += [(recording, contract.contract, 1) for recording in grouped]
    schema = {"recording_id": pl.String, "contract_id": pl.String, "level": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row").sort(pl.all())


def _share_tables(shares: pl.DataFrame) -> list[_Table]:
    by_recording = (
        shares.sort("recording_id", "rights_holder_id")
        .group_by("recording_id", maintain_order=True)
        .agg("rights_holder_id", "share_parts")
        .with_columns(pl.col("share_parts").list.len().alias("parties"))
    )
    tables = []
    for (parties,), terms in sorted(by_recording.partition_by("parties", as_dict=True).items()):
        count = int(str(parties))
        frame = terms.select(
            "recording_id",
            *(pl.col("rights_holder_id").list.get(i).alias(f"holder_{i}") for i in range(count)),
            *(pl.lit(str(Role.HOLDER)).alias(f"role_{i}") for i in range(count)),
            *(pl.col("share_parts").list.get(i).alias(f"weight_{i}") for i in range(count)),
            pl.lit(SHARE_WHOLE, pl.Int64).alias("whole"),
        )
        tables.append(_Table(count, frame))
    return tables


def _contract_table(
    count: int, terms: Sequence[tuple[tuple[str, int, str, str], list[Party], int]]
) -> _Table:
    columns = [
        pl.Series("contract_id", [key[0] for key, _, _ in terms], pl.String),
        pl.Series("step", [key[1] for key, _, _ in terms], pl.Int16),
        pl.Series("currency", [key[2] for key, _, _ in terms], pl.String),
        pl.Series("corrects", [key[3] for key, _, _ in terms], pl.String),
        pl.Series("whole", [whole for _, _, whole in terms], pl.Int64),
    ]
    for i in range(count):
        of_all = [parties[i] for _, parties, _ in terms]
        columns += [
            pl.Series(f"holder_{i}", [p.rights_holder_id for p in of_all], pl.String),
            pl.Series(f"role_{i}", [str(p.role) for p in of_all], pl.String),
            pl.Series(f"weight_{i}", [p.weight for p in of_all], pl.Int64),
            pl.Series(f"unit_{i}", [p.unit_atoms for p in of_all], ATOMS),
        ]
    return _Table(count, pl.DataFrame(columns))


def _parts(rows: pl.DataFrame, parties: int) -> list[pl.DataFrame]:
    """Rows with their terms beside them, as the earnings of each party in turn."""
    if rows.is_empty():
        return []
    weights = [f"weight_{i}" for i in range(parties)]
    amounts = [f"amount_{i}" for i in range(parties)]
    divided = divide(rows, "receipts", weights, "whole", amounts)
    if f"unit_{0}" in rows.columns and any(rows[f"unit_{i}"].count() for i in range(parties)):
        divided = _with_amounts_per_unit(divided, parties)
    per_unit = [_is_no_share(i, parties, rows.columns) for i in range(parties)]
    return [
        divided.select(
            *RECEIPT_COLUMNS,
            "contract_id",
            "step",
            pl.col(f"holder_{i}").alias("rights_holder_id"),
            pl.col(f"role_{i}").alias("role"),
            pl.col(weights[i]).alias("share_numerator"),
            pl.when(per_unit[i]).then(0).otherwise(pl.col("whole")).alias("share_denominator"),
            pl.col(amounts[i]).alias("amount"),
        )
        for i in range(parties)
    ]


def _is_no_share(party: int, parties: int, columns: list[str]) -> pl.Expr:
    """Whether a party gets an amount per unit, or a remainder that bears such amounts."""
    if "unit_0" not in columns:
        return pl.lit(value=False)
    bears = pl.any_horizontal(pl.col(f"unit_{i}").is_not_null() for i in range(parties))
    is_remainder = pl.col(f"role_{party}") == Role.REMAINDER
    return pl.col(f"unit_{party}").is_not_null() | (is_remainder & bears)


def _with_amounts_per_unit(divided: pl.DataFrame, parties: int) -> pl.DataFrame:
    """Pay the amounts per unit, and let whoever gets the remainder bear them."""
    units = pl.col("units").cast(ATOMS)
    due = [(units * pl.col(f"unit_{i}")).fill_null(0) for i in range(parties)]
    return divided.with_columns(pl.sum_horizontal(due).alias("due")).with_columns(
        (
            pl.col(f"amount_{i}")
            + due[i]
            - pl.when(pl.col(f"role_{i}") == Role.REMAINDER)
            .then(pl.col("due"))
            .otherwise(pl.lit(0, ATOMS))
        ).alias(f"amount_{i}")
        for i in range(parties)
    )


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema=EARNING_SCHEMA)
