"""From what a payee earned in a period to what is payable: reserves, recoupment, balances.

The order is fixed, and each step is a movement that says what it did: what was brought forward,
what was earned, what is held in reserve of it and what is released, what is recouped of advances
and costs. What is left is payable. Rounding, minimum payments and withholding come after, since
rounding is one act over all payees (``payouts``).

Whole atoms are moved, so nothing is rounded here but a reserve's percentage, which is cut to
atoms in the payee's favour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from royalty_assets.domain.accounts import Accounts, Tranche
from royalty_assets.domain.catalog import SHARE_WHOLE
from royalty_assets.domain.contracts import Contracts, RecoupmentAccount
from royalty_assets.domain.money import format_money, split_exactly, to_atoms
from royalty_assets.domain.statements import Movement
from royalty_assets.domain.terms import Period, Role


class Earning(NamedTuple):
    """What a payee earned under one contract in one currency, in a period.

    Attributes:
        atoms: in the currency that came in.
        payee_atoms: in the currency that the payee is paid in.
        converted_at: the rate in words; empty where nothing was converted.
        corrects_statement: whether there is a statement of the period that it corrects; there is
            none of a month that nothing had come for when a later one was closed.
    """

    contract_id: str
    role: str
    currency: str
    corrects: str
    lines: int
    atoms: int
    payee_atoms: int
    converted_at: str = ""
    corrects_statement: bool = True


class Moved(NamedTuple):
    """One movement of a payee's balance, in atoms; positive adds to what is due to the payee."""

    movement: Movement
    reference: str
    explanation: str
    atoms: int


@dataclass(slots=True)
class Settled:
    """A payee's period before rounding.

    Attributes:
        movements: whose sum is ``payable``.
        earned: of which ``adjusted`` corrects earlier periods.
    """

    payee_id: str
    currency: str
    movements: list[Moved] = field(default_factory=list)

    @property
    def payable(self) -> int:
        """What is due to the payee, negative if more was paid than earned."""
        return sum(moved.atoms for moved in self.movements)

    def total(self, *kinds: Movement) -> int:
        """The sum of the movements of some kinds."""
        return sum(moved.atoms for moved in self.movements if moved.movement in kinds)

    def add(self, movement: Movement, reference: str, explanation: str, atoms: int) -> None:
        """Add a movement, unless it moves nothing."""
        if atoms:
            self.movements.append(Moved(movement, reference, explanation, atoms))


@dataclass(frozen=True, slots=True)
class OfPayees:
    """What is looked up for each payee in turn, by (payee, currency).

    Attributes:
        accounts: recoupment accounts, in the order in which they recoup.
        reserves: held at the start of the period.
    """

    accounts: Mapping[tuple[str, str], Sequence[RecoupmentAccount]]
    reserves: Mapping[tuple[str, str], Sequence[Tranche]]

    @classmethod
    def build(cls, contracts: Contracts, opening: Accounts) -> "OfPayees":
        """Sort accounts and reserves by whose they are."""
        accounts: dict[tuple[str, str], list[RecoupmentAccount]] = {}
        for account in sorted(
            contracts.accounts.values(), key=lambda a: (a.group, a.order, a.account)
        ):
            accounts.setdefault((account.payee, account.currency), []).append(account)
        reserves: dict[tuple[str, str], list[Tranche]] = {}
        for tranche in sorted(opening.reserves):
            reserves.setdefault((tranche.payee_id, tranche.currency), []).append(tranche)
        return cls(accounts, reserves)


def settle(
    payee_id: str,
    currency: str,
    earnings: Sequence[Earning],
    contracts: Contracts,
    of_payees: OfPayees,
    period: Period,
    opening: Accounts,
    closing: Accounts,
) -> Settled:
    """Settle one payee in one currency.

    Args:
        payee_id: the rights holder.
        currency: that it is paid in; all that is moved is in it.
        earnings: of the period.
        contracts: in force.
        of_payees: made of the contracts and the opening balances.
        period: the accounting month.
        opening: balances at its start.
        closing: balances at its end, which reserves and what is recouped are added to.
    """
    settled = Settled(payee_id, currency)
    settled.add(
        Movement.BROUGHT_FORWARD,
        "",
        "what was due and not paid at the end of the period before",
        opening.carried_forward.get((payee_id, currency), 0),
    )
    _add_earnings(settled, earnings)
    available = _by_account(payee_id, earnings, contracts)
    for contract_id, atoms in _hold_reserves(settled, earnings, contracts, period, closing).items():
        account = _account_of(contracts, contract_id, payee_id)
        available[account] = available.get(account, 0) - atoms
    reserves = of_payees.reserves.get((payee_id, currency), ())
    for tranche in _release(settled, reserves, period, closing):
        account = _account_of(contracts, tranche.contract_id, payee_id)
        available[account] = available.get(account, 0) + tranche.atoms
    accounts = of_payees.accounts.get((payee_id, currency), ())
    _recoup(settled, available, accounts, period, opening, closing)
    return settled


def _add_earnings(settled: Settled, earnings: Sequence[Earning]) -> None:
    groups: dict[tuple[str, str], list[Earning]] = {}
    for earning in earnings:
        groups.setdefault((earning.corrects, earning.currency), []).append(earning)
    for (corrects, currency), group in sorted(groups.items()):
        lines = sum(earning.lines for earning in group)
        atoms = sum(earning.atoms for earning in group)
        due = sum(earning.payee_atoms for earning in group)
        told = f"{lines:,} lines come to {format_money(atoms, currency)} {currency}"
        if lines == 1:
            told = f"1 line comes to {format_money(atoms, currency)} {currency}"
        if group[0].converted_at:
            told += f", converted line by line {group[0].converted_at}"
        if corrects and group[0].corrects_statement:
            told += f"; they correct the statement of {corrects}"
        elif corrects:
            told += f"; they are of {corrects}, which there was no statement of"
        kind = Movement.ADJUSTMENT if corrects else Movement.EARNINGS
        settled.add(kind, corrects or currency, told, due)


def _account_of(contracts: Contracts, contract_id: str, payee_id: str) -> str:
    """The recoupment account that a payee's earnings under a contract are credited to first."""
    contract = contracts.contracts.get(contract_id)
    for participant in contract.participants if contract else ():
        if participant.payee == payee_id and participant.account:
            return participant.account
    return ""


def _by_account(payee_id: str, earnings: Iterable[Earning], contracts: Contracts) -> dict[str, int]:
    available: dict[str, int] = {}
    for earning in earnings:
        is_participant = earning.role == Role.PARTICIPANT
        account = _account_of(contracts, earning.contract_id, payee_id) if is_participant else ""
        available[account] = available.get(account, 0) + earning.payee_atoms
    return available


def _hold_reserves(
    settled: Settled,
    earnings: Sequence[Earning],
    contracts: Contracts,
    period: Period,
    closing: Accounts,
) -> dict[str, int]:
    by_contract: dict[str, int] = {}
    for earning in earnings:
        if earning.role == Role.PARTICIPANT:
            known = by_contract.get(earning.contract_id, 0)
            by_contract[earning.contract_id] = known + earning.payee_atoms
    held_of: dict[str, int] = {}
    for contract_id, earned in sorted(by_contract.items()):
        contract = contracts.contracts.get(contract_id)
        if contract is None or contract.reserve is None or earned <= 0:
            continue
        reserve = contract.reserve
        held = earned * int(reserve.percent * SHARE_WHOLE // 100) // SHARE_WHOLE
        months = [(f"{r.after_months:03d}", int(r.percent * SHARE_WHOLE)) for r in reserve.release]
        for (after, _), atoms in zip(months, split_exactly(held, months), strict=True):
            due_in = period.plus(int(after)).label
            tranche = Tranche(
                settled.payee_id, contract_id, settled.currency, period.label, due_in, atoms
            )
            closing.reserves.append(tranche)
        told = (
            f"{reserve.percent.normalize():f} % of "
            f"{format_money(earned, settled.currency)} is held against returns"
        )
        settled.add(Movement.RESERVE_HELD, contract_id, told, -held)
        held_of[contract_id] = held
    return held_of


def _release(
    settled: Settled, reserves: Iterable[Tranche], period: Period, closing: Accounts
) -> list[Tranche]:
    released = []
    for tranche in reserves:
        if tranche.due_in > period.label:
            closing.reserves.append(tranche)
            continue
        told = f"held in {tranche.held_in}, released as agreed"
        settled.add(Movement.RESERVE_RELEASED, tranche.contract_id, told, tranche.atoms)
        released.append(tranche)
    return released


def _recoup(
    settled: Settled,
    available: Mapping[str, int],
    accounts: Sequence[RecoupmentAccount],
    period: Period,
    opening: Accounts,
    closing: Accounts,
) -> None:
    """Recoup each account from its own earnings, then the others of its group from the rest."""
    left = dict(available)
    open_charges: dict[str, int] = {}
    for account in accounts:
        key = (settled.payee_id, account.account, settled.currency)
        charged = charged_by(account, period)
        closing.charged[key] = charged
        closing.recouped[key] = opening.recouped.get(key, 0)
        open_charges[account.account] = max(charged - closing.recouped[key], 0)
    for account in accounts:
        _recoup_from(settled, account.account, account.account, left, open_charges, closing)
    for source in accounts:
        for target in accounts:
            if source.group and source.group == target.group and source != target:
                _recoup_from(settled, source.account, target.account, left, open_charges, closing)


def _recoup_from(
    settled: Settled,
    source: str,
    target: str,
    left: dict[str, int],
    open_charges: dict[str, int],
    closing: Accounts,
) -> None:
    atoms = min(max(left.get(source, 0), 0), open_charges[target])
    if not atoms:
        return
    left[source] -= atoms
    open_charges[target] -= atoms
    closing.recouped[settled.payee_id, target, settled.currency] += atoms
    remaining = format_money(open_charges[target], settled.currency)
    told = f"recouped of {target}; {remaining} is left to recoup"
    if source != target:
        told += f" (from what {source} had left over)"
    settled.add(Movement.RECOUPED, target, told, -atoms)


def charged_by(account: RecoupmentAccount, period: Period) -> int:
    """What has been charged to an account by the end of a period, in atoms.

    A charge's part that the payee bears is cut to atoms in the payee's favour.
    """
    return sum(
        to_atoms(charge.amount) * int(charge.percent * SHARE_WHOLE // 100) // SHARE_WHOLE
        for charge in account.charges
        if charge.on <= period.last
    )
