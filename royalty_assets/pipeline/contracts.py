"""The contracts stage: the files in ``contracts/`` and ``rates/`` become one versioned snapshot.

A contract that does not load holds the money of the recordings that it names. Where it cannot be
told which those are, the snapshot is red, and nothing is paid until the file is mended.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.contracts import (
    NO_CONTRACTS,
    Contract,
    ContractProblem,
    Contracts,
    Payee,
    RecoupmentAccount,
    build_contracts,
)
from royalty_assets.domain.rates import Rate, RateProblem, Rates, build_rates
from royalty_assets.pipeline.context import (
    CATALOG_PARTITION,
    Outcome,
    PipelineContext,
    StageBlockedError,
    begin,
    commit_batch,
    first_finding,
    standing,
)
from royalty_assets.sources.contract_files import (
    read_contract_folder,
    read_rate_folder,
)
from royalty_assets.storage.lake import put_frame, read_frame
from royalty_assets.storage.registry import DeadLetter

CONTRACTS_FEED = "contracts"
CONTRACTS_FOLDER = "contracts"
RATES_FOLDER = "rates"
READABLE_CHECK = "every_contract_can_be_told"
_VERSION = "1"
_SNAPSHOT_LABEL = "snapshot"
_ENTRY_SCHEMA: dict[str, pl.DataType] = {
    "part": pl.String(),
    "name": pl.String(),
    "content": pl.String(),
}
_RATE_SCHEMA: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "currency": pl.String(),
    "into": pl.String(),
    "rate": pl.String(),
    "source": pl.String(),
}


class _Read:
    """What the two folders hold, read once."""

    def __init__(self, home: Path) -> None:
        contract_files = read_contract_folder(home / CONTRACTS_FOLDER)
        rate_files = read_rate_folder(home / RATES_FOLDER)
        self.contracts, problems = build_contracts(contract_files.files, contract_files.problems)
        self.problems: list[ContractProblem] = [*contract_files.problems, *problems]
        self.rates, rate_problems = build_rates(rate_files.rows)
        self.rate_problems: list[RateProblem] = [*rate_files.problems, *rate_problems]
        self.sha256_by_name: Mapping[str, str] = {
            **contract_files.sha256_by_name,
            **rate_files.sha256_by_name,
        }

    @property
    def input_sha256(self) -> str:
        """A digest of the files."""
        named = sorted(self.sha256_by_name.items())
        return combined_sha256([_VERSION, *(f"{name}:{sha256}" for name, sha256 in named)])


def contracts_taken(context: PipelineContext) -> Commit | None:
    """The commit in force, if the folders hold nothing else than before."""
    input_sha256 = _Read(context.home).input_sha256
    return standing(context, CONTRACTS_FEED, Stage.CONTRACTS, CATALOG_PARTITION, input_sha256)


def take_contracts(context: PipelineContext) -> Outcome:
    """Read the folders and commit a snapshot, unless it is the one in force."""
    registry = context.registry
    turn = begin(
        context,
        CONTRACTS_FEED,
        Stage.CONTRACTS,
        CATALOG_PARTITION,
        lambda: contracts_taken(context),
    )
    if isinstance(turn, Commit):
        return Outcome(CATALOG_PARTITION, turn, changed=False)
    read = _Read(context.home)
    registry.add_dead_letters(turn, _letters(read))
    entries, rates = _entry_frame(read.contracts), _rate_frame(read.rates)
    counts = {
        "contracts": len(read.contracts.contracts),
        "payees": len(read.contracts.payees),
        "recoupment_accounts": len(read.contracts.accounts),
        "recordings_of_refused_contracts": len(read.contracts.refused),
        "rates": rates.height,
    }
    batch = commit_batch(
        context,
        Batch(
            feed=CONTRACTS_FEED,
            stage=Stage.CONTRACTS,
            partition_key=CATALOG_PARTITION,
            window_start=context.project.start,
            window_label=_SNAPSHOT_LABEL,
            revision=0,
            input_sha256=combined_sha256([_sha256_of(entries), _sha256_of(rates)]),
            objects=(
                put_frame(context.lake, CONTRACTS_FEED, "contracts", entries),
                put_frame(context.lake, CONTRACTS_FEED, "rates", rates),
            ),
            counts=counts,
        ),
        turn,
    )
    commit = Commit(
        feed=CONTRACTS_FEED,
        stage=Stage.CONTRACTS,
        partition_key=CATALOG_PARTITION,
        revision=turn.revision,
        input_sha256=read.input_sha256,
        batch_ids=(batch.batch_id,),
        counts=counts | {"problems": len(read.problems) + len(read.rate_problems)},
        checks={
            READABLE_CHECK: [
                f"{p.source}: {p.entry}: {p.reason}" for p in read.problems if p.recordings is None
            ]
        },
        warnings={"every_contract_loads": told} if (told := _told(read)) else {},
    )
    registry.commit_partition(commit, turn)
    return Outcome(CATALOG_PARTITION, commit)


def _told(read: _Read) -> list[str]:
    """What does not load and stops nothing else."""
    contracts = [
        f"{p.source}: {p.entry}: {p.reason}; the money of {len(p.recordings)} recordings is held"
        for p in read.problems
        if p.recordings is not None
    ]
    return contracts + [f"{p.source}:{p.row_number}: {p.reason}" for p in read.rate_problems]


def _letters(read: _Read) -> list[DeadLetter]:
    def sha256_of(source: str) -> str:
        return read.sha256_by_name.get(source, combined_sha256([source]))

    seen: dict[tuple[str, int, str], int] = {}
    letters = []
    for number, p in enumerate(read.problems, start=1):
        # A place in YAML has no row; problems are numbered so that each has a letter of its own.
        letters.append(
            DeadLetter(
                sha256_of(p.source), number, p.source, p.rule[:128], p.value,
                f"{p.entry}: {p.reason}", "",
            )
        )  # fmt: skip
    for rate in read.rate_problems:
        key = (rate.source, rate.row_number, rate.rule)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 1:
            letters.append(
                DeadLetter(
                    sha256_of(rate.source), rate.row_number, rate.source, rate.rule, rate.value,
                    rate.reason, "",
                )
            )  # fmt: skip
    return letters


def _sha256_of(frame: pl.DataFrame) -> str:
    return combined_sha256([frame.write_csv()])


def _entry_frame(contracts: Contracts) -> pl.DataFrame:
    rows = [
        (part, name, item.model_dump_json(exclude_defaults=True))
        for part, items in (
            ("payees", contracts.payees),
            ("accounts", contracts.accounts),
            ("contracts", contracts.contracts),
        )
        for name, item in items.items()
    ]
    rows += [("groups", name, json.dumps(list(of))) for name, of in contracts.groups.items()]
    rows += [("refused", recording, of) for recording, of in contracts.refused.items()]
    return pl.DataFrame(sorted(rows), schema=_ENTRY_SCHEMA, orient="row")


def _rate_frame(rates: Rates) -> pl.DataFrame:
    rows = [
        (rate.date, rate.currency, rate.into, f"{rate.rate:f}", rate.source)
        for of_pair in rates.by_pair.values()
        for rate in of_pair
    ]
    return pl.DataFrame(sorted(rows), schema=_RATE_SCHEMA, orient="row")


def contracts_version(context: PipelineContext) -> str:
    """The version of the snapshot in force; empty where none is taken.

    Raises:
        StageBlockedError: if it is red.
    """
    batch = _batch_in_force(context)
    return "" if batch is None else batch.content_sha256


def contracts_revision(context: PipelineContext) -> int:
    """Which revision of the snapshot is in force; -1 if none is."""
    commit = context.registry.commit(CONTRACTS_FEED, Stage.CONTRACTS, CATALOG_PARTITION)
    return -1 if commit is None else commit.revision


def contracts_in_force(context: PipelineContext) -> tuple[Contracts, Rates]:
    """The contracts and rates in force; none where no snapshot is taken.

    Raises:
        StageBlockedError: if the snapshot is red.
    """
    batch = _batch_in_force(context)
    if batch is None:
        return NO_CONTRACTS, Rates()
    entries, rates = (read_frame(context.lake, stored) for stored in batch.objects)
    return _contracts_of(entries), _rates_of(rates)


def rates_of_revision(context: PipelineContext, revision: int) -> Rates:
    """The rates of a revision of the snapshot; none where there was no such revision."""
    commit = context.registry.commit_of_revision(
        CONTRACTS_FEED, Stage.CONTRACTS, CATALOG_PARTITION, revision
    )
    if commit is None:
        return Rates()
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return _rates_of(read_frame(context.lake, batch.objects[1]))


def _batch_in_force(context: PipelineContext) -> Batch | None:
    commit = context.registry.commit(CONTRACTS_FEED, Stage.CONTRACTS, CATALOG_PARTITION)
    if commit is None:
        return None
    if not commit.is_green:
        raise StageBlockedError(
            f"the contracts are red: {first_finding(commit)}; mend the file, and materialise "
            "contracts"
        )
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return batch


def _contracts_of(entries: pl.DataFrame) -> Contracts:
    parts: dict[str, dict[str, Any]] = {
        part: {} for part in ("payees", "accounts", "contracts", "groups", "refused")
    }
    for part, name, content in entries.iter_rows():
        match part:
            case "payees":
                parts[part][name] = Payee.model_validate_json(content)
            case "accounts":
                parts[part][name] = RecoupmentAccount.model_validate_json(content)
            case "contracts":
                parts[part][name] = Contract.model_validate_json(content)
            case "groups":
                parts[part][name] = tuple(json.loads(content))
            case _:
                parts[part][name] = content
    return Contracts(**parts)


def _rates_of(frame: pl.DataFrame) -> Rates:
    by_pair: dict[tuple[str, str], list[Rate]] = {}
    for row in frame.sort("date").iter_rows(named=True):
        rate = Rate.model_validate(row)
        by_pair.setdefault((rate.currency, rate.into), []).append(rate)
    return Rates({pair: tuple(rates) for pair, rates in by_pair.items()})
