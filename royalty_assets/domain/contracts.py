"""Contracts: who is paid what share of a recording's receipts, and on which terms.

A contract covers recordings for territories, use types and months, and divides what comes in
for them. What belongs here: contracts as data, and what makes one impossible. What they make of a
ledger is in ``terms`` (which contract covers a line) and ``payouts`` (what is paid); what in a
set of contracts deserves a look, with the money at stake, is in ``contract_lint``.

A recording that no contract names is divided by the catalog's plain shares.
"""

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from royalty_assets.domain.catalog import SHARE_DECIMALS
from royalty_assets.domain.feeds import ConfiguredAmount
from royalty_assets.domain.money import AmountError, parse_amount
from royalty_assets.domain.remittances import Day
from royalty_assets.domain.territories import WORLDWIDE, TerritorySet
from royalty_assets.domain.usage import Currency, UseType


def _percent(value: Any) -> Decimal:
    try:
        percent = parse_amount(str(value).strip().removesuffix("%"))
    except AmountError as error:
        raise ValueError(str(error)) from None
    if not 0 <= percent <= 100 or percent * 10**SHARE_DECIMALS % 1:
        raise ValueError("a percentage is from 0 to 100, of at most 6 decimals")
    return percent


def _territories(text: str) -> str:
    TerritorySet.parse(text)
    return text


def _first_of_month(day: date) -> date:
    if day.day != 1:
        raise ValueError(
            f"{day}: terms begin with a month, since accounting periods are months; "
            f"write {day.replace(day=1)} or the month after"
        )
    return day


def _last_of_month(day: date) -> date:
    if day.day != calendar.monthrange(day.year, day.month)[1]:
        raise ValueError(f"{day}: terms end with a month, since accounting periods are months")
    return day


def _positive(amount: Decimal) -> Decimal:
    if amount <= 0:
        raise ValueError("the amount must be above 0")
    return amount


def _at_least_one(items: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not by a length in the schema: that counts entries that are wrong as not there.
    if not items:
        raise ValueError("give at least one")
    return items


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
Percent = Annotated[Decimal, BeforeValidator(_percent)]
Territories = Annotated[str, AfterValidator(_territories)]
PositiveAmount = Annotated[ConfiguredAmount, AfterValidator(_positive)]
ValidFrom = Annotated[Day, AfterValidator(_first_of_month)]
ValidTo = Annotated[Day, AfterValidator(_last_of_month)]


class _Agreed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Withholding(_Agreed):
    """Tax that is kept back from what is paid to a payee, while it is in force."""

    percent: Percent
    reason: Name
    valid_from: ValidFrom | None = None
    valid_to: ValidTo | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        return self

    def is_in_force(self, on: date) -> bool:
        """Whether it applies to payments for a period that ends on this day."""
        return _is_within(on, self.valid_from, self.valid_to)


class Payee(_Agreed):
    """How a rights holder is paid.

    Attributes:
        payee: the rights holder's id, as in shares and contracts.
        currency: what is earned is converted into; each currency is paid as it comes without.
        minimum_payment: less than this, in the currency of payment, is carried forward.
    """

    payee: Name
    name: str = ""
    currency: Currency | None = None
    minimum_payment: Annotated[ConfiguredAmount, Field(ge=0)] = Decimal(0)
    withholding: tuple[Withholding, ...] = ()

    @model_validator(mode="after")
    def _is_left_something_by_taxes(self) -> Self:
        for begun in self.withholding:
            on = begun.valid_from or date.min
            at_once = [tax for tax in self.withholding if tax.is_in_force(on)]
            if sum(tax.percent for tax in at_once) > 100:
                raise ValueError("more than 100 % is withheld at one time")
            if len({tax.reason for tax in at_once}) != len(at_once):
                raise ValueError(f"{begun.reason} is withheld twice at one time")
        return self


class Charge(_Agreed):
    """An advance that was paid to a payee, or a cost, to be recouped from what is earned.

    Attributes:
        percent: the part of the amount that the payee's earnings bear.
    """

    kind: Literal["advance", "cost"] = "advance"
    amount: PositiveAmount
    on: Day
    percent: Percent = Decimal(100)
    reference: str = ""


class RecoupmentAccount(_Agreed):
    """Charges that are recouped from one payee's earnings before any are paid.

    Attributes:
        account: its name, which participants of contracts refer to.
        currency: of the charges; the payee is paid in it.
        group, order: accounts of one payee in a group are cross-collateralised: what one has left
            over recoups the others, the one of the lowest order first.
    """

    account: Name
    payee: Name
    currency: Currency
    charges: tuple[Charge, ...] = ()
    group: str = ""
    order: int = 0


class Participant(_Agreed):
    """One payee's part of what a contract covers: a percentage, or an amount per unit.

    Attributes:
        of: what the percentage is of: receipts after the contract's deductions, or before.
        per_unit, currency: what each unit pays, whatever it brings in.
        account: the recoupment account that this is credited to first.
    """

    payee: Name
    percent: Percent | None = None
    of: Literal["net_receipts", "gross_receipts"] = "net_receipts"
    per_unit: PositiveAmount | None = None
    currency: Currency | None = None
    account: str = ""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if (self.percent is None) == (self.per_unit is None):
            raise ValueError("give either percent or per_unit")
        if (self.per_unit is None) != (self.currency is None):
            raise ValueError("an amount per unit needs its currency, and only it does")
        return self


class Deduction(_Agreed):
    """What is kept of gross receipts before net receipts are divided."""

    name: Name
    percent: Percent


class Escalation(_Agreed):
    """Other percentages for what lies above a boundary of units or receipts since the start.

    A line that crosses the boundary is divided at it.
    """

    above_units: Annotated[int, Field(gt=0)] | None = None
    above_amount: PositiveAmount | None = None
    currency: Currency | None = None
    percents: dict[Name, Percent]

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if (self.above_units is None) == (self.above_amount is None):
            raise ValueError("give either above_units or above_amount")
        if (self.above_amount is None) != (self.currency is None):
            raise ValueError("above_amount needs its currency, and only it does")
        return self


class Release(_Agreed):
    """A part of a reserve, and how many months after it was held it is released."""

    after_months: Annotated[int, Field(ge=1, le=120)]
    percent: Percent


class Reserve(_Agreed):
    """A part of earnings that is held back against returns, and when it is released."""

    percent: Percent
    release: Annotated[tuple[Release, ...], AfterValidator(_at_least_one)]

    @model_validator(mode="after")
    def _releases_all(self) -> Self:
        months = [release.after_months for release in self.release]
        if len(set(months)) != len(months):
            raise ValueError("two releases are after as many months; write them as one")
        released = sum(release.percent for release in self.release)
        if released != 100:
            raise ValueError(f"the releases sum to {released} %, not 100 %")
        return self


class Contract(_Agreed):
    """What is paid to whom for some recordings, somewhere, for some uses, for some months.

    Attributes:
        recordings, groups, every_recording: what it covers; the nearest contract applies: one
            that names the recording, before one of its group, before one for every recording.
        territories: as ``Worldwide -US``.
        use_types: DSR's; empty for all.
        remainder_to: who gets what the participants do not.
        reserve: of the participants' earnings, not of the remainder.
    """

    contract: Name
    title: str = ""
    recordings: tuple[Name, ...] = ()
    groups: tuple[Name, ...] = ()
    every_recording: bool = False
    territories: Territories = WORLDWIDE
    use_types: tuple[UseType, ...] = ()
    valid_from: ValidFrom | None = None
    valid_to: ValidTo | None = None
    deductions: tuple[Deduction, ...] = ()
    participants: Annotated[tuple[Participant, ...], AfterValidator(_at_least_one)]
    remainder_to: Name | None = None
    escalations: tuple[Escalation, ...] = ()
    reserve: Reserve | None = None

    @field_validator("deductions")
    @classmethod
    def _names_are_unique(cls, deductions: tuple[Deduction, ...]) -> tuple[Deduction, ...]:
        if len({deduction.name for deduction in deductions}) != len(deductions):
            raise ValueError("two deductions have one name")
        return deductions

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if sum(map(bool, (self.recordings, self.groups, self.every_recording))) != 1:
            raise ValueError("give one of recordings, groups and every_recording")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        keys = [
            (participant.payee, participant.percent is None) for participant in self.participants
        ]
        if len(set(keys)) != len(keys):
            raise ValueError(
                "a payee takes part twice; it may with one percentage and one amount per unit"
            )
        accounts = {(participant.payee, participant.account) for participant in self.participants}
        if len(accounts) != len({payee for payee, _ in accounts}):
            raise ValueError("a payee's percentage and amount per unit need the same account")
        deducted = sum(deduction.percent for deduction in self.deductions)
        if deducted > 100:
            raise ValueError(f"the deductions sum to {deducted} % of receipts")
        if any(p.per_unit is not None for p in self.participants) and not self.remainder_to:
            raise ValueError("amounts per unit need a remainder_to, who bears them")
        self._boundaries_are_in_order()
        for step in range(len(self.escalations) + 1):
            self._pays_all_and_no_more(step)
        return self

    def _boundaries_are_in_order(self) -> None:
        kinds = {(e.above_units is None, e.currency) for e in self.escalations}
        if len(kinds) > 1:
            raise ValueError("escalations go by units or by amounts of one currency, not by both")
        boundaries = [e.above_units or e.above_amount or 0 for e in self.escalations]
        if boundaries != sorted(set(boundaries)):
            raise ValueError("escalations must be in order of their boundaries")
        by_percent = {p.payee for p in self.participants if p.percent is not None}
        for escalation in self.escalations:
            if strangers := sorted(set(escalation.percents) - by_percent):
                raise ValueError(f"no percentage to escalate: {', '.join(strangers)}")

    def _pays_all_and_no_more(self, step: int) -> None:
        paid = sum((fraction for _, fraction in self.fractions(step)), Fraction(0))
        percent = f"{float(paid * 100):.6f}".rstrip("0").rstrip(".")
        where = f" above boundary {step}" if step else ""
        if paid > 1:
            raise ValueError(f"it would pay {percent} % of receipts{where}")
        if paid < 1 and not self.remainder_to:
            raise ValueError(
                f"it pays {percent} % of receipts{where}; say with remainder_to who gets the rest"
            )

    def percents(self, step: int) -> dict[str, Decimal]:
        """Payee → percentage, above the boundary of this number; 0 is below the first."""
        percents = {p.payee: p.percent for p in self.participants if p.percent is not None}
        for escalation in self.escalations[:step]:
            percents |= escalation.percents
        return percents

    def fractions(self, step: int) -> list[tuple[str, Fraction]]:
        """The parts of gross receipts: of each deduction, then of each participant."""
        deducted = [
            (deduction.name, Fraction(deduction.percent) / 100) for deduction in self.deductions
        ]
        net = 1 - sum((fraction for _, fraction in deducted), Fraction(0))
        percents = self.percents(step)
        shared = [
            (p.payee, Fraction(percents[p.payee]) / 100 * (net if p.of == "net_receipts" else 1))
            for p in self.participants
            if p.percent is not None
        ]
        return [*deducted, *shared]

    def is_in_force(self, on: date) -> bool:
        """Whether it covers a period that ends on this day."""
        return _is_within(on, self.valid_from, self.valid_to)


def _is_within(on: date, valid_from: date | None, valid_to: date | None) -> bool:
    return (valid_from is None or valid_from <= on) and (valid_to is None or on <= valid_to)


_PARTS: dict[str, tuple[type[_Agreed], str]] = {
    "payees": (Payee, "payee"),
    "accounts": (RecoupmentAccount, "account"),
    "contracts": (Contract, "contract"),
}
_GROUPS = "groups"


@dataclass(frozen=True, slots=True)
class ContractProblem:
    """What is wrong with one entry of a contract file.

    Attributes:
        recordings: that money is held of for it; None if it cannot be told which those are.
    """

    source: str
    entry: str
    rule: str
    value: str
    reason: str
    recordings: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Contracts:
    """A consistent set: every name that is referred to is there.

    Attributes:
        payees: by id; who is not listed is paid in each currency, whatever the amount.
        accounts: by name.
        contracts: by id.
        groups: group → recordings.
        refused: recording → the contract that names it and does not load.
    """

    payees: Mapping[str, Payee]
    accounts: Mapping[str, RecoupmentAccount]
    contracts: Mapping[str, Contract]
    groups: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]

    def recordings_of(self, contract: Contract) -> tuple[str, ...]:
        """The recordings that it names, by itself or by groups."""
        grouped = [name for group in contract.groups for name in self.groups.get(group, ())]
        return (*contract.recordings, *grouped)


NO_CONTRACTS = Contracts({}, {}, {}, {}, {})


def build_contracts(
    files: Iterable[tuple[str, Mapping[str, Any]]],
    unread: Iterable[ContractProblem] = (),
) -> tuple[Contracts, list[ContractProblem]]:
    """Build the set from files as read, and say what in them could not be used.

    Args:
        files: (name, content); a content has ``payees``, ``accounts``, ``groups``, ``contracts``.
        unread: what reading the files left out; its recordings are refused too, and it is not
            told again.
    """
    problems: list[ContractProblem] = []
    parts: dict[str, dict[str, Any]] = {name: {} for name in _PARTS}
    groups: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for source, content in files:
        if unknown := sorted(set(map(str, content)) - {*_PARTS, _GROUPS}):
            known = ", ".join([*_PARTS, _GROUPS])
            reason = f"a contract file has {known}; this is none of them"
            problems += [
                ContractProblem(source, name, "file:unknown_part", name, reason, None)
                for name in unknown
            ]
        _read_groups(source, content.get(_GROUPS) or {}, groups, problems)
        for part, (model, key) in _PARTS.items():
            _read_part(source, part, model, key, content.get(part) or [], parts[part], problems)
    contracts = Contracts(parts["payees"], parts["accounts"], parts["contracts"], groups, refused)
    problems += _dangling(contracts, parts["contracts"])
    for problem in (*unread, *problems):
        for recording in problem.recordings or ():
            refused.setdefault(recording, problem.entry)
    return contracts, problems


def _read_groups(
    source: str, read: Any, groups: dict[str, tuple[str, ...]], problems: list[ContractProblem]
) -> None:
    if not isinstance(read, Mapping):
        reason = "groups are names with lists of recordings"
        problems.append(ContractProblem(source, _GROUPS, "groups:type", "", reason, None))
        return
    for name, recordings in read.items():
        if not isinstance(recordings, list) or str(name) in groups:
            reason = "a group is a list of recordings, under a name that no other has"
            problems.append(ContractProblem(source, str(name), "groups:list", "", reason, None))
        else:
            groups[str(name)] = tuple(map(str, recordings))


def _read_part(
    source: str,
    part: str,
    model: type[_Agreed],
    key: str,
    entries: Any,
    read: dict[str, Any],
    problems: list[ContractProblem],
) -> None:
    if not isinstance(entries, list):
        reason = f"{part} is a list of entries, each beginning with `- {key}:`"
        problems.append(ContractProblem(source, part, f"{part}:type", "", reason, None))
        return
    for number, entry in enumerate(entries, start=1):
        name = str(entry.get(key, "")) if isinstance(entry, Mapping) else ""
        name = name or f"{part} {number}"
        try:
            item = model.model_validate(entry)
        except ValidationError as error:
            recordings = recordings_named(part, entry)
            errors = error.errors(include_url=False)
            for found in errors:
                # A list is not too short for having an item that is refused by itself.
                if found["type"] == "too_short" and len(errors) > 1:
                    continue
                place = ".".join(map(str, found["loc"])) or "entry"
                value = "" if isinstance(found["input"], Mapping) else str(found["input"])[:200]
                reason = found["msg"].removeprefix("Value error, ")
                rule = f"{part}:{place}"
                problems.append(ContractProblem(source, name, rule, value, reason, recordings))
            continue
        if name in read:
            reason = f"{part} {name} is there twice; the first one counts"
            recordings = recordings_named(part, entry)
            problems.append(
                ContractProblem(source, name, f"{part}:repeated", name, reason, recordings)
            )
        else:
            read[name] = item


def recordings_named(part: str, entry: Any) -> tuple[str, ...] | None:
    """The recordings of an entry that does not load; None if they cannot be told."""
    if part != "contracts":
        return None
    recordings = entry.get("recordings") if isinstance(entry, Mapping) else None
    return tuple(map(str, recordings)) if isinstance(recordings, list) and recordings else None


def _dangling(contracts: Contracts, read: dict[str, Contract]) -> list[ContractProblem]:
    """Contracts that refer to what is not there; they are taken out of ``read``."""
    problems = []
    for name, contract in list(read.items()):
        reasons = [
            ("groups:unknown", group, f"no group {group} is defined")
            for group in contract.groups
            if group not in contracts.groups
        ]
        for participant in contract.participants:
            account = contracts.accounts.get(participant.account)
            if not participant.account:
                continue
            if account is None:
                told = f"no account {participant.account} is defined"
                reasons.append(("account:unknown", participant.account, told))
            elif account.payee != participant.payee:
                told = f"account {account.account} is {account.payee}'s, not {participant.payee}'s"
                reasons.append(("account:of_another", participant.account, told))
        if reasons:
            del read[name]
            known = [group for group in contract.groups if group in contracts.groups]
            recordings = (*contract.recordings, *(r for g in known for r in contracts.groups[g]))
            held = (
                None
                if contract.every_recording or len(known) < len(contract.groups)
                else recordings
            )
            problems += [
                ContractProblem("contracts", name, f"contracts:{rule}", value, reason, held)
                for rule, value, reason in reasons
            ]
    for account in contracts.accounts.values():
        payee = contracts.payees.get(account.payee)
        if payee is not None and payee.currency not in {None, account.currency}:
            reason = (
                f"{account.payee} is paid in {payee.currency}; what is recouped must be in that "
                "currency too"
            )
            problems.append(
                ContractProblem(
                    "contracts",
                    account.account,
                    "accounts:currency",
                    account.currency,
                    reason,
                    None,
                )
            )
    return problems
