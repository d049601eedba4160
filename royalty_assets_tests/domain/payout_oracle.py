"""What a period's payouts must be, worked out slowly from the contracts as written.

None of the code under test is used: contracts are the plain content of a contract file, money is
atoms, every proportion is a fraction, every division is largest remainder by its definition. What
is told here is the rule book of ``docs/how-to/write-contracts.md`` in Python.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MINOR_UNITS = {"EUR": 10**16, "USD": 10**16, "JPY": 10**18, "KWD": 10**15}
ATOM = 10**18


@dataclass(frozen=True)
class Line:
    """One recording payable of the ledger."""

    recording: str
    territory: str
    use_type: str
    currency: str
    units: int
    receipts: int
    corrects: str = ""


@dataclass
class Balances:
    """What goes over from a month to the next."""

    carried: dict[tuple[str, str], int] = field(default_factory=dict)
    reserves: list[tuple[str, str, str, str, str, int]] = field(default_factory=list)
    recouped: dict[str, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)


@dataclass
class Expected:
    """Figures in atoms, by (payee, currency), by currency, or by what they are of."""

    payouts: dict[tuple[str, str], dict[str, int]]
    balance: dict[str, dict[str, int]]
    held: dict[tuple[str, str, str], tuple[int, int]]
    lines: dict[tuple[str, str, str, str, str, int], tuple[int, int]]
    after: Balances


def month_after(month: str, months: int) -> str:
    year, number = map(int, month.split("-"))
    count = year * 12 + number - 1 + months
    return f"{count // 12}-{count % 12 + 1:02d}"


def largest_remainder(total: int, shares: Sequence[tuple[Any, Fraction]]) -> list[int]:
    """Shares that sum to 1, of a total: floors of its size, then one each to the largest rests."""
    exact = [abs(total) * share for _, share in shares]
    parts = [int(part) for part in exact]
    order = sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], shares[i][0]))
    for i in order[: abs(total) - sum(parts)]:
        parts[i] += 1
    return parts if total >= 0 else [-part for part in parts]


def percent_of(text: Any) -> Fraction:
    return Fraction(str(text)) / 100


def atoms_of(text: Any) -> int:
    atoms = Fraction(str(text)) * ATOM
    assert atoms.denominator == 1
    return int(atoms)


def within(entry: Mapping[str, Any], month: str) -> bool:
    first, last = entry.get("valid_from", "0000-01"), entry.get("valid_to", "9999-12")
    return bool(first[:7] <= month <= last[:7])


def cut(exact: Fraction) -> int:
    return int(abs(exact)) * (1 if exact >= 0 else -1)


class Oracle:
    """The rule book, applied to one month after another."""

    def __init__(
        self,
        content: Mapping[str, Any],
        splits: Mapping[str, Mapping[str, Fraction]],
        rates: Iterable[tuple[str, str, str, str]],
    ) -> None:
        self.payees = {p["payee"]: p for p in content.get("payees", [])}
        self.accounts = {a["account"]: a for a in content.get("accounts", [])}
        self.contracts = {c["contract"]: c for c in content.get("contracts", [])}
        self.groups = content.get("groups", {})
        self.splits = splits
        self.rates = list(rates)

    # Which terms apply.

    def contract_of(self, line: Line, month: str) -> str | None:
        """A contract's id; None for the plain shares.

        Raises:
            LookupError: with the reason why the money is held.
        """
        by_nearness = [
            [n for n, c in self.contracts.items() if line.recording in c.get("recordings", [])],
            [
                n
                for n, c in self.contracts.items()
                if any(line.recording in self.groups[g] for g in c.get("groups", []))
            ],
            [n for n, c in self.contracts.items() if c.get("every_recording")],
        ]
        for names in by_nearness:
            covering = [n for n in names if self.covers(n, line, line.corrects or month)]
            if len(covering) > 1:
                raise LookupError("contracts_overlap")
            if covering:
                return covering[0]
        if by_nearness[0] or by_nearness[1]:
            raise LookupError("not_covered_by_contract")
        if line.recording not in self.splits:
            raise LookupError("no_shares")
        return None

    def covers(self, name: str, line: Line, month: str) -> bool:
        contract = self.contracts[name]
        words = contract.get("territories", "Worldwide").split()
        excluded = {word[1:] for word in words if word.startswith("-")}
        if "Worldwide" in words:
            there = (
                not excluded if line.territory == "Worldwide" else line.territory not in excluded
            )
        else:
            there = line.territory in set(words) - excluded
        return (
            there
            and (not contract.get("use_types") or line.use_type in contract["use_types"])
            and within(contract, month)
        )

    def rate(self, currency: str, into: str, month: str) -> Fraction:
        dated = sorted(r for r in self.rates if r[1:3] == (currency, into) and r[0][:7] == month)
        return Fraction(dated[-1][3])

    # What they divide a line into.

    def pieces(self, name: str, line: Line, reached: dict[str, int]) -> list[tuple[int, int, int]]:
        """(step, units, receipts) of a line, a piece for each step that it lies in."""
        escalations = self.contracts[name].get("escalations", [])
        if not escalations:
            return [(0, line.units, line.receipts)]
        by_units = "above_units" in escalations[0]
        if by_units:
            bounds = [e["above_units"] for e in escalations]
            size = line.units
        else:
            bounds = [atoms_of(e["above_amount"]) for e in escalations]
            size = line.receipts if line.currency == escalations[0]["currency"] else 0
        start = reached.get(name, 0)
        reached[name] = start + size
        low, high = min(start, start + size), max(start, start + size)
        lower = [-(10**40), *bounds]
        upper = [*bounds, 10**40]
        overlaps = [
            (step, max(0, min(high, b) - max(low, a)))
            for step, (a, b) in enumerate(zip(lower, upper, strict=True))
        ]
        overlaps = [(step, part) for step, part in overlaps if part]
        if not overlaps:
            return [(sum(bound <= low for bound in bounds), line.units, line.receipts)]
        shares = [(step, Fraction(part, abs(size))) for step, part in overlaps]
        units = largest_remainder(line.units, shares)
        receipts = largest_remainder(line.receipts, shares)
        return [(s, u, r) for (s, _), u, r in zip(overlaps, units, receipts, strict=True)]

    def parts(
        self, name: str, step: int, currency: str, month: str
    ) -> list[tuple[tuple[str, str, int], Fraction, int | None]]:
        """((party, role, tie), share of gross receipts, atoms per unit) of everyone."""
        contract = self.contracts[name]
        deductions = [(d["name"], percent_of(d["percent"])) for d in contract.get("deductions", [])]
        net = 1 - sum((share for _, share in deductions), Fraction(0))
        found: list[tuple[tuple[str, str, int], Fraction, int | None]] = [
            ((deduction, "deduction", 0), share, None) for deduction, share in deductions
        ]
        for p in contract["participants"]:
            if "per_unit" in p:
                atoms = atoms_of(p["per_unit"])
                if p["currency"] != currency:
                    atoms = cut(atoms * self.rate(p["currency"], currency, month))
                found.append(((p["payee"], "participant", atoms), Fraction(0), atoms))
                continue
            percent = p["percent"]
            for escalation in contract.get("escalations", [])[:step]:
                percent = escalation["percents"].get(p["payee"], percent)
            base = net if p.get("of", "net_receipts") == "net_receipts" else Fraction(1)
            found.append(((p["payee"], "participant", 0), percent_of(percent) * base, None))
        if "remainder_to" in contract:
            rest = 1 - sum((share for _, share, _ in found), Fraction(0))
            found.append(((contract["remainder_to"], "remainder", 0), rest, None))
        return found

    def divide(
        self, line: Line, month: str, reached: dict[str, int]
    ) -> list[tuple[str, int, str, str, int]]:
        """(contract, step, party, role, atoms) of everyone's part of a line."""
        name = self.contract_of(line, month)
        if name is None:
            shares = [((h, "holder", 0), s) for h, s in self.splits[line.recording].items()]
            parts = largest_remainder(line.receipts, shares)
            return [("", 0, key[0], key[1], p) for (key, _), p in zip(shares, parts, strict=True)]
        divided = []
        for step, units, receipts in self.pieces(name, line, reached):
            terms = self.parts(name, step, line.currency, line.corrects or month)
            parts = largest_remainder(receipts, [(key, share) for key, share, _ in terms])
            due = sum(units * (per_unit or 0) for _, _, per_unit in terms)
            for (key, _, per_unit), part in zip(terms, parts, strict=True):
                borne = due if key[1] == "remainder" else 0
                atoms = part + units * (per_unit or 0) - borne
                divided.append((name, step, key[0], key[1], atoms))
        return divided

    # A month.

    def month(self, month: str, lines: Sequence[Line], before: Balances) -> Expected:
        after = Balances(recouped=dict(before.recouped), reached=dict(before.reached))
        held: dict[tuple[str, str, str], tuple[int, int]] = {}
        told: dict[tuple[str, str, str, str, str, int], tuple[int, int]] = {}
        earned: dict[tuple[str, str], list[tuple[str, str, int]]] = defaultdict(list)
        balance: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for key in before.carried:
            earned[key] = []
        for payee, _, currency, *_ in before.reserves:
            earned[payee, currency] = []
        for line in lines:
            balance[line.currency]["received"] += line.receipts
            try:
                divided = self.divide(line, month, after.reached)
            except LookupError as reason:
                key = (line.currency, line.recording, str(reason))
                units, atoms = held.get(key, (0, 0))
                held[key] = (units + line.units, atoms + line.receipts)
                balance[line.currency]["held"] += line.receipts
                continue
            for contract, step, party, role, atoms in divided:
                of = (contract, party, role, line.currency, line.corrects, step)
                count, total = told.get(of, (0, 0))
                told[of] = (count + 1, total + atoms)
                if role == "deduction":
                    balance[line.currency]["deducted"] += atoms
                    continue
                into = self.payees.get(party, {}).get("currency") or line.currency
                due = atoms
                if into != line.currency:
                    rate = self.rate(line.currency, into, line.corrects or month)
                    due = cut(atoms * rate)
                    balance[line.currency]["exchanged"] += atoms
                    balance[into]["exchanged"] -= due
                earned[party, into].append((contract, role, due))
        payouts = {
            key: self.settle(*key, earnings, month, before, after)
            for key, earnings in sorted(earned.items())
        }
        self.round(payouts, month, after)
        for (_, currency), figures in payouts.items():
            for name in ("brought_forward", "reserved", "recouped"):
                balance[currency][name] += figures[name]
            balance[currency]["paid"] += figures["amount_paid"]
            balance[currency]["withheld"] += figures["amount_withheld"]
            balance[currency]["carried_forward"] += figures["amount_carried_forward"]
            balance[currency]["residue"] += figures["amount_exact"] - sum(
                figures[f"amount_{name}"] for name in ("paid", "withheld", "carried_forward")
            )
        return Expected(payouts, balance, held, told, after)

    def account_of(self, contract: str, payee: str) -> str:
        for p in self.contracts.get(contract, {}).get("participants", []):
            if p["payee"] == payee and p.get("account"):
                return str(p["account"])
        return ""

    def settle(
        self,
        payee: str,
        currency: str,
        earnings: list[tuple[str, str, int]],
        month: str,
        before: Balances,
        after: Balances,
    ) -> dict[str, int]:
        brought = before.carried.get((payee, currency), 0)
        by_account: dict[str, int] = defaultdict(int)
        by_contract: dict[str, int] = defaultdict(int)
        for contract, role, atoms in earnings:
            is_participant = role == "participant"
            by_account[self.account_of(contract, payee) if is_participant else ""] += atoms
            if is_participant:
                by_contract[contract] += atoms
        reserved = 0
        for contract, atoms in by_contract.items():
            terms = self.contracts.get(contract, {}).get("reserve")
            if not terms or atoms <= 0:
                continue
            hold = int(atoms * percent_of(terms["percent"]))
            shares = [(r["after_months"], percent_of(r["percent"])) for r in terms["release"]]
            for (months, _), part in zip(shares, largest_remainder(hold, shares), strict=True):
                due_in = month_after(month, months)
                after.reserves.append((payee, contract, currency, month, due_in, part))
            by_account[self.account_of(contract, payee)] -= hold
            reserved += hold
        for tranche in before.reserves:
            if (tranche[0], tranche[2]) != (payee, currency):
                continue
            if tranche[4] <= month:
                reserved -= tranche[5]
                by_account[self.account_of(tranche[1], payee)] += tranche[5]
            else:
                after.reserves.append(tranche)
        mine = sorted(
            (a.get("group", ""), a.get("order", 0), a["account"])
            for a in self.accounts.values()
            if (a["payee"], a["currency"]) == (payee, currency)
        )
        recouped = 0
        sources = [(a, a) for a in mine]
        sources += [(a, b) for a in mine for b in mine if a != b and a[0] and a[0] == b[0]]
        for (_, _, source), (_, _, target) in sources:
            still = self.charged(target, month) - after.recouped.get(target, 0)
            taken = max(0, min(by_account[source], still))
            by_account[source] -= taken
            after.recouped[target] = after.recouped.get(target, 0) + taken
            recouped += taken
        total = sum(atoms for _, _, atoms in earnings)
        return {
            "brought_forward": brought,
            "earned": total,
            "reserved": reserved,
            "recouped": recouped,
            "amount_exact": brought + total - reserved - recouped,
            "amount_withheld": 0,
            "amount_paid": 0,
            "amount_carried_forward": 0,
        }

    def charged(self, account: str, month: str) -> int:
        return sum(
            int(atoms_of(charge["amount"]) * percent_of(charge.get("percent", 100)))
            for charge in self.accounts[account].get("charges", [])
            if charge["on"][:7] <= month
        )

    def round(
        self, payouts: dict[tuple[str, str], dict[str, int]], month: str, after: Balances
    ) -> None:
        """Fill in what is paid, withheld and carried forward."""
        for currency in {currency for _, currency in payouts}:
            unit = MINOR_UNITS[currency]
            due = {}
            for (payee, of), figures in payouts.items():
                if of != currency:
                    continue
                exact = figures["amount_exact"]
                if exact > 0 and exact >= atoms_of(self.payees.get(payee, {}).get(
                    "minimum_payment", 0
                )):  # fmt: skip
                    due[payee] = exact
                elif exact:
                    figures["amount_carried_forward"] = exact
                    after.carried[payee, currency] = exact
            total = sum(due.values())
            shares = [(payee, Fraction(atoms, total)) for payee, atoms in sorted(due.items())]
            # Of the whole units there are, everyone's floor and then the largest rests.
            floors = {payee: atoms // unit for payee, atoms in due.items()}
            spare = total // unit - sum(floors.values())
            for payee, _ in sorted(shares, key=lambda s: (-(due[s[0]] % unit), s[0]))[:spare]:
                floors[payee] += 1
            for payee, units in floors.items():
                taxes = [
                    percent_of(tax["percent"])
                    for tax in self.payees.get(payee, {}).get("withholding", [])
                    if within(tax, month)
                ]
                kept = 1 - sum(taxes, Fraction(0))
                paid, *withheld = largest_remainder(units, list(enumerate([kept, *taxes])))
                payouts[payee, currency]["amount_paid"] = paid * unit
                payouts[payee, currency]["amount_withheld"] = sum(withheld) * unit
