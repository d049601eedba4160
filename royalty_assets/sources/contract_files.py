"""Contract and rate files: a folder becomes what ``build_contracts`` and ``build_rates`` take.

A folder of contracts has YAML files, which can say everything, and three kinds of tables for what
people keep in spreadsheets: payees, contracts of plain percentages, and groups. What belongs here:
finding the files and putting their content into one form. Whether an entry makes sense is the
domain's to say.

Nothing is left out in silence: what cannot be read for sure is a problem, with the recordings
whose money has to wait for it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from royalty_assets.domain.contracts import ContractProblem, recordings_named
from royalty_assets.domain.rates import RateProblem
from royalty_assets.sources.delimited import readable
from royalty_assets.sources.plain_yaml import PlainYamlError, RepeatedKey, read_plain_yaml
from royalty_assets.sources.small_tables import Columns, Table, TableRow, read_table

_YAML = frozenset({".yaml", ".yml"})
_TABLES = frozenset({".csv", ".tsv"})
_NOT_READ = re.compile(
    r"\.(json|xlsx?|xlsm|ods|(csv|tsv|ya?ml)\.(gz|zip|bak|old|tmp))$", re.IGNORECASE
)
"""Files that may well be meant to be read, and are not; scans, letters and the like are."""
_PARTS = frozenset({"payees", "accounts", "contracts"})

_PAYEES = Columns(
    needed=("payee",),
    optional=("name", "currency", "minimum_payment", "withholding_percent", "withholding_reason"),
    numbers=frozenset({"minimum_payment", "withholding_percent"}),
)
_CONTRACTS = Columns(
    needed=("contract", "payee", "percent"),
    optional=(
        *("recording", "group", "title", "of", "territories", "use_types"),
        *("valid_from", "valid_to", "remainder_to"),
    ),
    numbers=frozenset({"percent"}),
)
_GROUPS = Columns(needed=("group", "recording"))
_RATES = Columns(
    needed=("date", "currency", "into", "rate", "source"),
    numbers=frozenset({"rate"}),
    takes_others=True,
)
_COLUMNS = {"payees": _PAYEES, "contracts": _CONTRACTS, "groups": _GROUPS}
_TERMS = ("title", "territories", "use_types", "valid_from", "valid_to", "remainder_to")
"""Columns of a contract, which all its rows have to agree about."""


@dataclass(frozen=True, slots=True)
class ContractFiles:
    """What a folder of contracts holds.

    Attributes:
        files: (name, content) for ``build_contracts``; every value in it is text.
        problems: what could not be read; ``build_contracts`` is to be given them too.
        sha256_by_name: of every file that was read or should have been.
    """

    files: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    problems: list[ContractProblem] = field(default_factory=list)
    sha256_by_name: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateFiles:
    """What a folder of exchange rates holds.

    Attributes:
        rows: (file, row number, fields) for ``build_rates``.
        problems: lines and files that could not be read.
        sha256_by_name: of every file that was read or should have been.
    """

    rows: list[tuple[str, int, Mapping[str, str]]] = field(default_factory=list)
    problems: list[RateProblem] = field(default_factory=list)
    sha256_by_name: dict[str, str] = field(default_factory=dict)


def read_contract_folder(folder: Path) -> ContractFiles:
    """Read ``*.yaml``, ``payees*.csv``, ``contracts*.csv`` and ``groups*.csv``, in order of name.

    A folder that is not there holds nothing. Names begin with the folder's.
    """
    read = ContractFiles()
    for name, path in _files(folder):
        kind = _kind(path)
        content = _bytes(path)
        if isinstance(content, str):
            read.problems.append(_of_file(name, "file:unreadable", content))
            continue
        read.sha256_by_name[name] = hashlib.sha256(content).hexdigest()
        if path.parent != folder:
            reason = "files in subfolders are not read; move it up into the folder"
            read.problems.append(_of_file(name, "file:in_subfolder", reason))
        elif kind == "yaml":
            _read_yaml(name, content, read)
        elif kind in _COLUMNS:
            table = read_table(content, _COLUMNS[kind])
            _tell_lines(name, table, read.problems)
            part = _READERS[kind](name, table.rows, read.problems)
            read.files.append((name, {kind: part}))
        else:
            reason = (
                "this is none of the files that are read: *.yaml, and payees*.csv, contracts*.csv "
                "and groups*.csv (or .tsv); rename it, or take it out of the folder"
            )
            read.problems.append(_of_file(name, "file:unknown", reason))
    return read


def read_rate_folder(folder: Path) -> RateFiles:
    """Read every ``*.csv`` and ``*.tsv``, in order of name; a folder that is not there is empty."""
    read = RateFiles()
    for name, path in _files(folder):
        content = _bytes(path)
        if isinstance(content, str):
            read.problems.append(RateProblem(name, 0, "file:unreadable", "", content))
            continue
        read.sha256_by_name[name] = hashlib.sha256(content).hexdigest()
        if path.suffix.lower() not in _TABLES or path.parent != folder:
            reason = "rates are read from *.csv and *.tsv, and not from subfolders"
            read.problems.append(RateProblem(name, 0, "file:unknown", "", reason))
            continue
        table = read_table(content, _RATES)
        read.problems.extend(
            RateProblem(name, p.number, p.rule, p.value, p.reason) for p in table.problems
        )
        for row in table.rows:
            currencies = {at: row.fields[at].upper() for at in ("currency", "into")}
            read.rows.append((name, row.number, {**row.fields, **currencies}))
    return read


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that are read or look as if they should be, by the name they are told by."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        inside = path.relative_to(folder)
        if any(part.startswith((".", "~$")) for part in inside.parts) or not path.is_file():
            continue
        if path.suffix.lower() in _YAML | _TABLES or _NOT_READ.search(path.name):
            yield readable(f"{folder.name}/{inside.as_posix()}"), path


def _kind(path: Path) -> str:
    if path.suffix.lower() in _YAML:
        return "yaml"
    name = path.name.lower()
    is_table = path.suffix.lower() in _TABLES
    return next((kind for kind in _COLUMNS if is_table and name.startswith(kind)), "")


def _bytes(path: Path) -> bytes | str:
    """A file's content, or why there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        return f"the file cannot be read: {error.strerror or error}"


def _of_file(name: str, rule: str, reason: str) -> ContractProblem:
    return ContractProblem(name, "file", rule, "", reason, None)


# YAML


def _read_yaml(name: str, content: bytes, read: ContractFiles) -> None:
    try:
        parts, repeated = read_plain_yaml(content)
    except PlainYamlError as error:
        read.problems.append(_of_file(name, "file:yaml", str(error)))
        return
    refused: dict[str, set[int]] = {}
    if at_top := [key for key in repeated if not key.path]:
        # The lists under the first of them are lost, and with them what they name.
        read.problems.extend(_repeated(name, key, None) for key in at_top)
        return
    for key in repeated:
        part, at = (*key.path, None, None)[:2]
        entry = None
        if part in _PARTS and isinstance(at, int):
            entry = parts[str(part)][at]
            refused.setdefault(str(part), set()).add(at)
        read.problems.append(_repeated(name, key, entry))
    kept = {
        part: [entry for at, entry in enumerate(entries) if at not in refused[part]]
        if part in refused
        else entries
        for part, entries in parts.items()
    }
    read.files.append((name, kept))


def _repeated(name: str, key: RepeatedKey, entry: Any) -> ContractProblem:
    """A key that stands twice: which of its values is meant would be a guess."""
    lines = " and ".join(map(str, key.lines))
    reason = f"{key.key} stands twice, on lines {lines}; keep one"
    part, at = (*key.path, None, None)[:2]
    if not isinstance(entry, Mapping):
        place = ".".join(map(str, key.path)) or "file"
        return ContractProblem(name, place, "yaml:repeated_key", key.key, reason, None)
    # The name itself may be what stands twice.
    own_key = str(part).removesuffix("s")
    known = str(entry.get(own_key) or "") if key.key != own_key else ""
    is_certain = not (len(key.path) == 2 and key.key in {"recordings", "groups"})
    recordings = recordings_named(str(part), entry) if is_certain else None
    told = known or f"{part} {int(str(at)) + 1}"
    return ContractProblem(name, told, "yaml:repeated_key", key.key, reason, recordings)


# Tables


def _tell_lines(name: str, table: Table, problems: list[ContractProblem]) -> None:
    for problem in table.problems:
        entry = f"line {problem.number}" if problem.number else "file"
        problems.append(
            ContractProblem(name, entry, problem.rule, problem.value, problem.reason, None)
        )


def _filled(fields: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: fields[name] for name in names if fields.get(name)}


def _read_payees(
    _: str, rows: list[TableRow], _problems: list[ContractProblem]
) -> list[dict[str, Any]]:
    payees = []
    for row in rows:
        payee: dict[str, Any] = _filled(row.fields, ("payee", "name", "currency"))
        payee |= _filled(row.fields, ("minimum_payment",))
        if "currency" in payee:
            payee["currency"] = payee["currency"].upper()
        tax = _filled(row.fields, ("withholding_percent", "withholding_reason"))
        if tax:
            # Half of it is for the model to refuse by name.
            named = {name.removeprefix("withholding_"): text for name, text in tax.items()}
            payee["withholding"] = [named]
        payees.append(payee)
    return payees


def _read_groups(
    name: str, rows: list[TableRow], problems: list[ContractProblem]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        group, recording = row.fields["group"], row.fields["recording"]
        if group and recording:
            groups.setdefault(group, []).append(recording)
        else:
            reason = "a line of groups has both a group and a recording"
            problems.append(
                ContractProblem(
                    name, f"line {row.number}", "groups:empty", group or recording, reason, None
                )
            )
    return {group: list(dict.fromkeys(recordings)) for group, recordings in groups.items()}


def _read_contracts(
    name: str, rows: list[TableRow], problems: list[ContractProblem]
) -> list[dict[str, Any]]:
    by_contract: dict[str, list[TableRow]] = {}
    for row in rows:
        by_contract.setdefault(row.fields["contract"], []).append(row)
    contracts = []
    for contract, of_contract in by_contract.items():
        if told := _conflict(contract, of_contract):
            rule, value, reason = told
            covered = _recordings(of_contract)
            has_groups = any(row.fields.get("group") for row in of_contract)
            recordings = None if has_groups or not covered else tuple(covered)
            entry = contract or f"line {of_contract[0].number}"
            problems.append(ContractProblem(name, entry, rule, value, reason, recordings))
        else:
            contracts.append(_contract(contract, of_contract))
    return contracts


def _recordings(rows: Iterable[TableRow]) -> list[str]:
    texts = (row.fields.get("recording", "") for row in rows)
    return list(dict.fromkeys(filter(None, texts)))


def _conflict(contract: str, rows: list[TableRow]) -> tuple[str, str, str] | None:
    """Why rows are not one contract: rule, value and reason."""
    if not contract:
        lines = ", ".join(str(row.number) for row in rows)
        return "contracts:unnamed", "", f"line {lines}: the cell of the contract is empty"
    for term in _TERMS:
        first = rows[0]
        for row in rows[1:]:
            before, after = first.fields.get(term, ""), row.fields.get(term, "")
            if before != after:
                reason = (
                    f"its lines disagree about {term}: line {first.number} says "
                    f"{before or 'nothing'}, line {row.number} says {after or 'nothing'}; every "
                    "line of a contract repeats its terms"
                )
                return "contracts:conflicting", after, reason
    parties: dict[tuple[str, str], dict[tuple[str, str, str], int]] = {}
    for row in rows:
        covered = (row.fields.get("recording", ""), row.fields.get("group", ""))
        party = (row.fields["payee"], row.fields["percent"], row.fields.get("of", ""))
        known = parties.setdefault(covered, {})
        if party in known:
            reason = f"line {row.number} repeats line {known[party]}; keep one"
            return "contracts:repeated", row.fields["payee"], reason
        known[party] = row.number
    (one, first_parties), *others = parties.items()
    for other, its_parties in others:
        if its_parties.keys() != first_parties.keys():
            names = [recording or group or "nothing" for recording, group in (one, other)]
            lines = ", ".join(map(str, [*first_parties.values(), *its_parties.values()]))
            reason = (
                f"its participants differ between {names[0]} and {names[1]} (lines {lines}); make "
                "them two contracts"
            )
            return "contracts:conflicting", names[1], reason
    return None


def _contract(contract: str, rows: list[TableRow]) -> dict[str, Any]:
    fields = rows[0].fields
    parties = dict.fromkeys(
        (row.fields["payee"], row.fields["percent"], row.fields.get("of", "")) for row in rows
    )
    made: dict[str, Any] = {"contract": contract, **_filled(fields, _TERMS)}
    if "use_types" in made:
        made["use_types"] = [text.strip() for text in made["use_types"].split("|")]
    groups = (row.fields.get("group", "") for row in rows)
    made |= {"recordings": _recordings(rows), "groups": list(dict.fromkeys(filter(None, groups)))}
    made["participants"] = [
        {"payee": payee, "percent": percent} | ({"of": of} if of else {})
        for payee, percent, of in parties
    ]
    return made


_READERS = {"payees": _read_payees, "contracts": _read_contracts, "groups": _read_groups}
