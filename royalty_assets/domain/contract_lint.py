"""What in a set of contracts deserves a look before a month is paid, with the money it touches.

Every finding says what is wrong, how much usage money it touches, and what to do. *Errors* hold
money or stop a month; *warnings* are most likely mistakes; *notes* may be meant. What belongs
here: judging contracts, rates, shares and a catalog together. What makes a single contract
impossible is in ``contracts``; what the contracts cover is in ``contract_coverage``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import polars as pl

from royalty_assets.domain.contract_coverage import (
    ALL_TERRITORIES,
    ALL_USE_TYPES,
    Area,
    Coverage,
    Profile,
)
from royalty_assets.domain.contracts import Contract, ContractProblem, Contracts
from royalty_assets.domain.rates import NoRateError, RateProblem, Rates
from royalty_assets.domain.splits import ATOMS
from royalty_assets.domain.terms import Period
from royalty_assets.domain.territories import WORLDWIDE

USAGE_SCHEMA: dict[str, pl.DataType] = {
    "month": pl.String(),
    "corrects": pl.String(),
    "recording_id": pl.String(),
    "territory": pl.String(),
    "use_type": pl.String(),
    "currency": pl.String(),
    "receipts": ATOMS,
}
"""Recording payables of committed ledgers: ``month`` is the accounting month, as ``2025-03``;
``corrects`` the one that a line corrects, or empty; ``receipts`` are Int128 atoms."""

ENDS_SOON_DAYS = 60
_SHOWN = 6


class Severity(StrEnum):
    """What a finding does if nothing is done about it; the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that deserves a look.

    Attributes:
        rule: its kind, for programs.
        subject: the contract, payee, recording or file.
        told: what is the matter.
        to_do: what to do about it.
        money: currency → atoms of the usage that it touches.
    """

    severity: Severity
    rule: str
    subject: str
    told: str
    to_do: str
    money: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.

    Attributes:
        contracts: those that load.
        problems: what does not.
        rates, rate_problems: the same of exchange rates.
        shares: ``catalog.SHARE_SCHEMA``, of the recordings whose shares are whole.
        broken_shares: recording → what is wrong with its shares.
        recordings: of the catalog; None where there is no catalog yet.
        usage: ``USAGE_SCHEMA``; empty where no ledger is committed.
        month: that is to be paid.
    """

    contracts: Contracts
    problems: Sequence[ContractProblem]
    rates: Rates
    rate_problems: Sequence[RateProblem]
    shares: pl.DataFrame
    broken_shares: Mapping[str, str]
    recordings: Collection[str] | None
    usage: pl.DataFrame
    month: Period


class _Line(NamedTuple):
    """Usage that the same terms apply to, summed."""

    profile: Profile
    counting: tuple[str, ...]
    month: str
    corrects: str
    territory: str
    use_type: str
    currency: str
    receipts: int

    @property
    def on(self) -> date:
        return Period.parse(self.corrects or self.month).last


Money = dict[str, int]


def lint_contracts(subject: Subject) -> list[Finding]:
    """Every finding, errors first, and of each severity the largest amounts first.

    Amounts of different currencies are not added up; a finding stands by its largest.
    """
    linter = _Linter(subject)
    findings = [finding for rule in linter.rules() for finding in rule()]
    order = list(Severity)
    return sorted(
        findings,
        key=lambda f: (
            order.index(f.severity),
            -max(map(abs, f.money.values()), default=0),
            f.rule,
            f.subject,
            f.told,
        ),
    )


class _Linter:
    """One look at everything; each rule is a method that yields findings."""

    def __init__(self, subject: Subject) -> None:
        self._all = subject
        self._contracts = subject.contracts
        self._coverage = Coverage(subject.contracts)
        self._by_recording = _money_by(subject.usage, "recording_id")
        self._profiles = list(dict.fromkeys([*self._coverage.recordings, self._coverage.unnamed]))
        numbers = {profile: number for number, profile in enumerate(self._profiles)}
        ids = subject.usage["recording_id"].unique().to_list()
        of_ids = [numbers[self._coverage.profile(recording)] for recording in ids]
        known = pl.DataFrame({"recording_id": ids, "profile": of_ids}, strict=False)
        known = known.cast({"recording_id": pl.String, "profile": pl.Int64})
        self._usage = subject.usage.join(known, on="recording_id").filter(
            ~pl.col("recording_id").is_in(list(self._contracts.refused))
        )
        self._lines = list(self._summed())
        self._money_of_contract: dict[str, Money] = {}
        for line in self._lines:
            if len(line.counting) == 1:
                _add(self._money_of_contract.setdefault(line.counting[0], {}), line)

    def rules(self) -> list[Callable[[], Iterator[Finding]]]:
        """All of them."""
        return [
            self._refused,
            self._overlaps,
            self._gaps,
            self._without_terms,
            self._unlisted_payees,
            self._idle_entries,
            self._unknown_recordings,
            self._currencies_of_escalations,
            self._missing_rates,
            self._unusable_rates,
            self._ending,
        ]

    def _summed(self) -> Iterator[_Line]:
        key = ["profile", "month", "corrects", "territory", "use_type", "currency"]
        for number, month, corrects, territory, use_type, currency, receipts in (
            self._usage.group_by(key).agg(pl.col("receipts").sum()).sort(key).iter_rows()
        ):
            profile = self._profiles[number]
            on = Period.parse(corrects or month).last
            counting = self._coverage.counting(profile, territory, use_type, on)
            yield _Line(
                profile, counting, month, corrects, territory, use_type, currency, int(receipts)
            )

    # What does not load

    def _refused(self) -> Iterator[Finding]:
        by_entry: dict[tuple[str, str], list[ContractProblem]] = {}
        for problem in self._all.problems:
            by_entry.setdefault((problem.source, problem.entry), []).append(problem)
        for (source, entry), problems in by_entry.items():
            told = "; ".join(dict.fromkeys(f"{p.rule}: {p.reason}" for p in problems))
            recordings = {r for p in problems for r in p.recordings or ()}
            if any(p.recordings is None for p in problems):
                money = _total(self._by_recording.values())
                consequence = "since it cannot be told whose money waits for it, nothing is paid"
            else:
                money = _total(self._by_recording.get(r, {}) for r in recordings)
                consequence = f"the money of {_many(recordings, 'recording')} is held"
            yield Finding(
                Severity.ERROR, "does_not_load", f"{source}: {entry}",
                f"{source}: {entry}: {told}; {consequence}",
                f"mend it in {source}", money,
            )  # fmt: skip

    # Overlaps and gaps

    def _overlaps(self) -> Iterator[Finding]:
        known: dict[Area, tuple[set[str], Money]] = {}
        for profile, area in self._areas(lambda area: len(area.contracts) > 1):
            recordings, _ = known.setdefault(area, (set(), {}))
            recordings.update(self._coverage.recordings.get(profile, ()))
        for line in self._lines:
            if len(line.counting) > 1:
                area = self._area_of(line)
                _add(known.setdefault(area, (set(), {}))[1], line)
        for area, (recordings, money) in known.items():
            names = " and ".join(area.contracts)
            what = _many(recordings, "recording") if recordings else "every recording"
            yield Finding(
                Severity.ERROR, "overlap", names,
                f"{names} both cover {what} in {_area_in_words(area)}; which of them applies "
                "cannot be told, and the money is held",
                "end one before the other begins, or take territories, uses or recordings out of "
                "one of them",
                money,
            )  # fmt: skip

    def _gaps(self) -> Iterator[Finding]:
        touched: dict[tuple[tuple[str, ...], Area], Money] = {}
        for line in self._lines:
            if not line.counting and line.profile.naming:
                key = (line.profile.naming, self._area_of(line))
                _add(touched.setdefault(key, {}), line)
        for (naming, area), money in touched.items():
            yield self._gap(Severity.ERROR, naming, area, money)
        silent: dict[Area, tuple[set[str], set[str]]] = {}
        for profile, area in self._areas(lambda area: not area.contracts):
            if (profile.naming, area) in touched or not self._is_of_interest(profile, area):
                continue
            contracts, recordings = silent.setdefault(area, (set(), set()))
            contracts.update(profile.naming)
            recordings.update(self._coverage.recordings[profile])
        for area, (contracts, _) in silent.items():
            yield self._gap(Severity.NOTE, tuple(sorted(contracts)), area, {})

    def _gap(
        self, severity: Severity, naming: tuple[str, ...], area: Area, money: Money
    ) -> Finding:
        if severity == Severity.ERROR:
            then = "; what came from there is held"
        else:
            then = "; what would come from there would be held, and nothing has yet"
        return Finding(
            severity, "not_covered", _listed(naming),
            f"the recordings of {_listed(naming)} are not covered in {_area_in_words(area)}{then}",
            "widen the contract, or write another for what it leaves out (with every_recording: "
            "true, one for whatever no other covers)",
            money,
        )  # fmt: skip

    def _areas(self, wanted: Callable[[Area], bool]) -> Iterator[tuple[Profile, Area]]:
        for profile in self._profiles:
            for area in self._coverage.areas(profile):
                if wanted(area):
                    yield profile, area

    def _area_of(self, line: _Line) -> Area:
        for area in self._coverage.areas(line.profile):
            if area.contracts == line.counting and area.has(line.territory, line.use_type, line.on):
                return area
        period = Period.parse(line.corrects or line.month)
        place, use = frozenset({line.territory}), frozenset({line.use_type})
        return Area(line.counting, place, use, period.first, period.last)

    def _is_of_interest(self, profile: Profile, area: Area) -> bool:
        """A gap at the month, or in time between contracts; before and after there is no end."""
        if not profile.naming:
            return False
        between = area.first is not None and area.last is not None
        return between or area.is_at(self._all.month.last)

    # Recordings that nothing divides

    def _without_terms(self) -> Iterator[Finding]:
        shared = set(self._all.shares["recording_id"].unique().to_list())
        money: dict[str, Money] = {}
        for recording, line in self._by_shares(lambda recording: recording not in shared):
            _add(money.setdefault(recording, {}), line)
        broken = self._all.broken_shares
        idle: list[str] = []
        for recording in sorted({*money, *broken, *(self._all.recordings or ())}):
            its_money = money.get(recording, {})
            if self._coverage.profile(recording).naming or (
                recording in shared or recording in self._contracts.refused
            ):
                continue
            if recording in broken:
                yield Finding(
                    Severity.ERROR, "shares_not_whole", recording, broken[recording],
                    "mend its lines in the catalog's shares, or write a contract for it", its_money,
                )  # fmt: skip
            elif its_money:
                yield Finding(
                    Severity.ERROR, "no_terms", recording,
                    f"{recording} has neither a contract nor shares; its money is held",
                    "write a contract for it, or put its shares into the catalog", its_money,
                )  # fmt: skip
            elif not self._coverage.unnamed.contracts:
                idle.append(recording)
        if idle:
            yield Finding(
                Severity.WARNING, "no_terms", _many(idle, "recording"),
                f"{_listed(idle)}: neither a contract nor shares; no money has come for them yet",
                "write contracts for them, or put their shares into the catalog",
            )  # fmt: skip

    def _by_shares(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, _Line]]:
        """Usage that is divided by the catalog's shares, recording by recording."""
        unnamed = self._coverage.unnamed
        key = ["recording_id", "month", "corrects", "territory", "use_type", "currency"]
        rows = self._usage.filter(pl.col("profile") == self._profiles.index(unnamed))
        ids = [r for r in rows["recording_id"].unique().to_list() if wanted(r)]
        summed = rows.filter(pl.col("recording_id").is_in(ids)).group_by(key).agg(
            pl.col("receipts").sum()
        ).sort(key)  # fmt: skip
        for recording, *of, receipts in summed.iter_rows():
            month, corrects, territory, use_type, currency = of
            on = Period.parse(corrects or month).last
            if not self._coverage.counting(unnamed, territory, use_type, on):
                yield (
                    recording,
                    _Line(
                        unnamed, (), month, corrects, territory, use_type, currency, int(receipts)
                    ),
                )

    # Names that lead nowhere

    def _parties(self) -> dict[str, set[str]]:
        """Payee → the contracts, accounts and so on that refer to it."""
        parties: dict[str, set[str]] = {}
        for contract in self._contracts.contracts.values():
            for payee in _payees_of(contract):
                parties.setdefault(payee, set()).add(f"contract {contract.contract}")
        for account in self._contracts.accounts.values():
            parties.setdefault(account.payee, set()).add(f"account {account.account}")
        return parties

    def _unlisted_payees(self) -> Iterator[Finding]:
        if not self._contracts.payees:
            return
        parties = self._parties()
        for (holder,) in self._all.shares.select("rights_holder_id").unique().iter_rows():
            parties.setdefault(holder, set()).add("the catalog's shares")
        for payee in sorted(parties.keys() - self._contracts.payees.keys()):
            where = sorted(parties[payee])
            yield Finding(
                Severity.WARNING, "unlisted_payee", payee,
                f"{payee} is in {_listed(where)} and not among the payees; it would be paid in "
                "each currency, whatever the amount, and without withholding",
                f"list it (payees: - payee: {payee}), or mend the name",
                self._money_of_payee(payee),
            )  # fmt: skip

    def _money_of_payee(self, payee: str) -> Money:
        """The usage money that a payee has a part in."""
        return self._money_of_payees.get(payee, {})

    @cached_property
    def _money_of_payees(self) -> dict[str, Money]:
        money: dict[str, Money] = {}
        for contract in self._contracts.contracts.values():
            of_contract = self._money_of_contract.get(contract.contract, {})
            for payee in _payees_of(contract):
                money[payee] = _total([money.get(payee, {}), of_contract])
        holders: dict[str, set[str]] = {}
        for of_recording, holder in self._all.shares.select(
            "recording_id", "rights_holder_id"
        ).iter_rows():
            holders.setdefault(of_recording, set()).add(holder)
        for recording, line in self._by_shares(lambda recording: recording in holders):
            for holder in holders[recording]:
                _add(money.setdefault(holder, {}), line)
        return money

    def _idle_entries(self) -> Iterator[Finding]:
        in_use = {*self._parties(), *self._all.shares["rights_holder_id"].unique().to_list()}
        for payee in sorted(self._contracts.payees.keys() - in_use):
            yield Finding(
                Severity.NOTE, "idle_payee", payee,
                f"{payee} is listed as a payee, and no contract, account or share names it",
                "take it out, or mend the name where it is meant",
            )  # fmt: skip
        grouped = {group for c in self._contracts.contracts.values() for group in c.groups}
        for group in sorted(self._contracts.groups.keys() - grouped):
            yield Finding(
                Severity.NOTE, "idle_group", group, f"no contract covers the group {group}",
                "name it in a contract's groups, or take it out",
                _total(self._by_recording.get(r, {}) for r in self._contracts.groups[group]),
            )  # fmt: skip
        credited = {p.account for c in self._contracts.contracts.values() for p in c.participants}
        for account in self._contracts.accounts.values():
            if account.account not in credited and not account.group:
                yield Finding(
                    Severity.WARNING, "idle_account", account.account,
                    f"nothing is credited to {account.account}; its charges are never recouped",
                    f"give participants of contracts account: {account.account}",
                    self._money_of_payee(account.payee),
                )  # fmt: skip

    def _unknown_recordings(self) -> Iterator[Finding]:
        if self._all.recordings is None:
            return
        known = set(self._all.recordings)
        for contract in self._contracts.contracts.values():
            unknown = sorted(set(self._contracts.recordings_of(contract)) - known)
            if unknown:
                yield Finding(
                    Severity.WARNING, "unknown_recording", contract.contract,
                    f"{contract.contract} names {_listed(unknown)}; the catalog has no such "
                    f"recording{'' if len(unknown) == 1 else 's'}",
                    "mend the ids, or put the recordings into the catalog",
                    _total(self._by_recording.get(r, {}) for r in unknown),
                )  # fmt: skip

    # Currencies

    def _currencies_of_escalations(self) -> Iterator[Finding]:
        for contract in self._contracts.contracts.values():
            currency = next((e.currency for e in contract.escalations if e.currency), None)
            money = self._money_of_contract.get(contract.contract, {})
            if currency is not None and money and currency not in money:
                yield Finding(
                    Severity.WARNING, "escalation_never_reached", contract.contract,
                    f"the boundaries of {contract.contract} are amounts in {currency}, and what "
                    f"comes in is in {_listed(sorted(money))}: they are never reached",
                    "write the boundaries in a currency that comes in, or in units",
                    money,
                )  # fmt: skip

    def _missing_rates(self) -> Iterator[Finding]:
        missing: dict[tuple[str, str, str], tuple[set[str], Money, str]] = {}
        for line, payees, contract in self._paid_lines():
            for currency, into, period, who in self._conversions(line, payees, contract):
                try:
                    self._all.rates.within(currency, into, period.first, period.last)
                except NoRateError as error:
                    key = (currency, into, period.label)
                    known = missing.setdefault(key, (set(), {}, str(error)))
                    known[0].add(who)
                    _add(known[1], line)
        for (currency, into, label), (needing, money, told) in missing.items():
            yield Finding(
                Severity.ERROR, "no_rate", f"{currency} into {into}, {label}",
                f"{told.partition(';')[0]}; it is needed for {_listed(sorted(needing))}, and the "
                "month cannot be paid out without",
                "add a row date,currency,into,rate,source to a CSV file in rates/", money,
            )  # fmt: skip

    def _paid_lines(self) -> Iterator[tuple[_Line, Collection[str], Contract | None]]:
        """Usage with whom it is paid to, by contract or by shares."""
        for line in self._lines:
            if len(line.counting) == 1:
                contract = self._contracts.contracts[line.counting[0]]
                yield line, _payees_of(contract), contract
        converted = [p.payee for p in self._contracts.payees.values() if p.currency]
        shares = self._all.shares.filter(pl.col("rights_holder_id").is_in(converted))
        holders: dict[str, set[str]] = {}
        for of_recording, holder in shares.select("recording_id", "rights_holder_id").iter_rows():
            holders.setdefault(of_recording, set()).add(holder)
        for recording, line in self._by_shares(lambda recording: recording in holders):
            yield line, holders[recording], None

    def _conversions(
        self, line: _Line, payees: Collection[str], contract: Contract | None
    ) -> Iterator[tuple[str, str, Period, str]]:
        """(from, into, period, who needs it), as payouts will ask for."""
        of_period = Period.parse(line.corrects or line.month)
        for payee in payees:
            entry = self._contracts.payees.get(payee)
            if entry is not None and entry.currency not in {None, line.currency}:
                yield line.currency, str(entry.currency), of_period, payee
        for participant in contract.participants if contract else ():
            if participant.currency not in {None, line.currency} and contract is not None:
                who = f"the amount per unit of {contract.contract}"
                yield str(participant.currency), line.currency, Period.parse(line.month), who

    def _unusable_rates(self) -> Iterator[Finding]:
        for problem in self._all.rate_problems:
            place = f"{problem.source}:{problem.row_number}"
            yield Finding(
                Severity.WARNING, "unusable_rate", place, f"{place}: {problem.reason}",
                "mend the row; the rate does not count",
            )  # fmt: skip

    # Payees and time

    def _ending(self) -> Iterator[Finding]:
        month = self._all.month
        until = month.last + timedelta(days=ENDS_SOON_DAYS)
        for contract in self._contracts.contracts.values():
            if contract.valid_to is None or not month.first <= contract.valid_to <= until:
                continue
            next_day = contract.valid_to + timedelta(days=1)
            left = [
                recording
                for recording in set(self._contracts.recordings_of(contract))
                if not self._is_followed(recording, contract, next_day)
            ]
            if left or contract.every_recording:
                what = "everything" if contract.every_recording else _many(left, "recording")
                yield Finding(
                    Severity.WARNING, "ends_soon", contract.contract,
                    f"{contract.contract} ends on {contract.valid_to}, and no contract follows for "
                    f"{what}",
                    "extend it (valid_to), or write the one that follows",
                    self._money_of_contract.get(contract.contract, {}),
                )  # fmt: skip

    def _is_followed(self, recording: str, contract: Contract, on: date) -> bool:
        following = (
            self._contracts.contracts[c] for _, c in self._coverage.profile(recording).contracts
        )
        return any(each.is_in_force(on) and each != contract for each in following)


def _payees_of(contract: Contract) -> set[str]:
    payees = {participant.payee for participant in contract.participants}
    return payees | ({contract.remainder_to} if contract.remainder_to else set())


def _money_by(usage: pl.DataFrame, name: str) -> dict[str, Money]:
    money: dict[str, Money] = {}
    sums = usage.group_by(name, "currency").agg(pl.col("receipts").sum())
    for key, currency, receipts in sums.sort(name, "currency").iter_rows():
        money.setdefault(key, {})[currency] = int(receipts)
    return money


def _add(money: Money, line: _Line) -> None:
    money[line.currency] = money.get(line.currency, 0) + line.receipts


def _total(each: Iterable[Mapping[str, int]]) -> Money:
    total: Money = {}
    for money in each:
        for currency, atoms in money.items():
            total[currency] = total.get(currency, 0) + atoms
    return total


# Words


def _many(things: Collection[str], noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def _area_in_words(area: Area) -> str:
    parts = [_territories_in_words(area.territories), _uses_in_words(area.use_types)]
    return ", ".join([*parts, _days_in_words(area.first, area.last)])


def _territories_in_words(territories: frozenset[str]) -> str:
    codes, left = sorted(territories - {WORLDWIDE}), sorted(ALL_TERRITORIES - territories)
    if not left:
        return WORLDWIDE
    if not codes:
        return "lines that are told for the whole world"
    if len(codes) > len(left):
        told = f"{WORLDWIDE} {' '.join(f'-{code}' for code in left[:_SHOWN] if code != WORLDWIDE)}"
        return (
            told.strip() if len(left) <= _SHOWN else f"{WORLDWIDE} but for {len(left)} territories"
        )
    world = " and for the whole world" if WORLDWIDE in territories else ""
    return _listed(codes) + world


def _uses_in_words(use_types: frozenset[str]) -> str:
    left = sorted(ALL_USE_TYPES - use_types)
    if not left:
        return "all uses"
    return f"all uses but {_listed(left)}" if len(left) <= 3 else _listed(sorted(use_types))


def _days_in_words(first: date | None, last: date | None) -> str:
    if first is None and last is None:
        return "at all times"
    if first is None:
        return f"until {last:%Y-%m}"
    if last is None:
        return f"from {first:%Y-%m}"
    return f"in {first:%Y-%m}" if first.replace(day=1) == last.replace(day=1) else (
        f"from {first:%Y-%m} to {last:%Y-%m}"
    )  # fmt: skip
