"""What shows how each line of a month's statements came about: rows, decisions, terms, arithmetic.

Gathered when a period is closed, from what is committed, and kept with the closing: a receipt of
a line is made from it without computing anything anew. Rows of reports are named one by one; plays
are named by the batch of their window, whose manifest is in the log.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import polars as pl

from royalty_assets.audit.receipts import StatementLine
from royalty_assets.domain.batches import Batch, Stage
from royalty_assets.domain.contracts import Contract
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.matching import MATCHER_VERSION
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statement_lines import REMAINDER_IN_WORDS
from royalty_assets.domain.statements import Statement
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS, USAGE_IDENTITY, RecordKind
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.month import expected_partition_keys
from royalty_assets.pipeline.payload_store import stored_payloads
from royalty_assets.pipeline.periods import ledger_in_force
from royalty_assets.pipeline.validate import VALIDATOR_VERSION
from royalty_assets.sources.rows import ChunkReader
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError
from royalty_assets.storage.lake import read_frame

LineKey = tuple[str, str, str, str, str, str]
"""Feed, territory, tier, use type, currency, recording; no currency where usage shares a pool."""
_KEY = ["feed", "territory", "tier", "use_type", "currency", "recording_id"]
_SOURCE = ["amount", "name", "row", "sha256", "text"]
_SOURCE_SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(_KEY, pl.String()),
    "units": pl.Int64(),
    "method": pl.String(),
    **dict.fromkeys(_SOURCE, pl.String()),
}
"""Matched usage of a feed with where it comes from; texts are empty where there is nothing."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the units of a ledger line come from.

    Attributes:
        sources: a JSON list of what a receipt names as sources.
        methods: how they were matched, in words.
    """

    sources: str
    methods: str


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool that claims share: its money, in atoms, and the units of all claims on it."""

    atoms: int
    units: int


class MonthEvidence:
    """The evidence of a month, by ledger line."""

    def __init__(self, context: PipelineContext, month: Partition) -> None:
        """Gather it from what is committed."""
        self._origins: dict[LineKey, _Origin] = {}
        for feed in context.project.feeds:
            keys = expected_partition_keys(context, feed, month)
            if keys:
                self._origins |= _origins(_sources_of(context, feed, keys))
        self._pools = _pools(ledger_in_force(context, month))
        self._allocation = {feed.name: feed.allocation.model for feed in context.project.feeds}

    def lines(
        self, statement: Statement, contracts: Mapping[str, Contract], catalog_version: str
    ) -> list[StatementLine]:
        """The lines of a statement with their evidence, in order.

        Args:
            statement: of the month.
            contracts: in force.
            catalog_version: that its recordings were matched and divided by.
        """
        money = {
            name: series_to_atoms(statement.lines[name])
            for name in ("receipts", "amount", "payee_amount")
        }
        return [
            self._line(
                row,
                {name: money[name][i] for name in money},
                statement.currency,
                statement.payee_id,
                contracts.get(row["contract_id"]),
                catalog_version,
            )
            for i, row in enumerate(statement.lines.iter_rows(named=True))
        ]

    def _line(
        self,
        row: Mapping[str, Any],
        atoms: Mapping[str, int],
        currency: str,
        payee_id: str,
        contract: Contract | None,
        catalog_version: str,
    ) -> StatementLine:
        own = (row["feed"], row["territory"], row["tier"], row["use_type"])
        priced = self._origins.get((*own, row["currency"], row["recording_id"]))
        shared = self._origins.get((*own, "", row["recording_id"]))
        origins = [origin for origin in (priced, shared) if origin and not row["corrects"]]
        sources = [source for origin in origins for source in json.loads(origin.sources)]
        by_unit = _of_units(row, atoms, payee_id, contract)
        steps = []
        if not row["corrects"] and not by_unit:
            steps = self._receipts_step(row, atoms, priced, shared, sources)
        if not steps:
            # What is booked is not the sum of these rows alone; they are named, and not added up.
            sources = [{n: t for n, t in source.items() if n != "amount"} for source in sources]
        fields = {name: _text(row[name], atoms.get(name)) for name in row if name != "payee_amount"}
        fields |= {
            "earned": f"{format_atoms(atoms['amount'])} {row['currency']}",
            "amount": format_atoms(atoms["payee_amount"]),
            "currency": currency,
        }
        return StatementLine(
            fields=fields,
            sources=sources,
            match={
                "methods": "; ".join(origin.methods for origin in origins),
                "catalog": catalog_version,
                "matcher": MATCHER_VERSION,
                "validator": VALIDATOR_VERSION,
            },
            contract={
                "id": row["contract_id"],
                "terms": row["terms"],
                "text": "" if contract is None else _as_agreed_with(contract, payee_id),
            },
            steps=by_unit or [*(steps or [_as_booked(row, atoms)]), *_division(row, atoms)],
        )

    def _receipts_step(
        self,
        row: Mapping[str, Any],
        atoms: Mapping[str, int],
        priced: _Origin | None,
        shared: _Origin | None,
        sources: list[dict[str, str]],
    ) -> list[dict[str, Any]]:
        """How the recording's receipts follow from what was reported; empty if not in one step."""
        receipts = atoms["receipts"]
        if priced is not None and shared is None:
            terms = [source["amount"] for source in sources if "amount" in source]
            result = format_atoms(receipts)
            if sum(map(_atoms, terms)) == receipts:
                words = f"what {row['feed']} reports for these rows"
                return [{"kind": "sum", "terms": terms, "result": result, "words": words}]
        if shared is not None and priced is None and self._allocation[row["feed"]] == "pro_rata":
            pool = self._pool_of(row)
            if pool is not None and 0 <= row["units"] <= pool.units:
                exact, rest = divmod(pool.atoms * row["units"], pool.units)
                if receipts == exact or (rest and receipts == exact + 1):
                    return [
                        {
                            "kind": "pool_share",
                            "pool": format_atoms(pool.atoms),
                            "units": str(row["units"]),
                            "all_units": str(pool.units),
                            "result": format_atoms(receipts),
                            "words": f"the part of {row['feed']}'s pool that {row['units']} of "
                            f"{pool.units} plays have",
                        }
                    ]
        return []

    def _pool_of(self, row: Mapping[str, Any]) -> _Pool | None:
        for territory in (row["territory"], WORLDWIDE):
            for tier in (row["tier"], ALL_TIERS):
                pool = self._pools.get((row["feed"], territory, tier, row["currency"]))
                if pool is not None:
                    return pool
        return None


def _as_booked(row: Mapping[str, Any], atoms: Mapping[str, int]) -> dict[str, Any]:
    result = format_atoms(atoms["receipts"])
    words = f"what the ledger has for the recording from {row['feed']}"
    if row["corrects"]:
        words = f"what corrects the books of {row['corrects']}"
    return {"kind": "sum", "terms": [result], "result": result, "words": words}


def _as_agreed_with(contract: Contract, payee_id: str) -> str:
    """A contract as one text, with what it agrees with one payee alone.

    Who else takes part, and for how much, is not for the reader of a receipt; which recordings it
    covers may be many, and the line names its own.
    """
    own = contract.model_copy(
        update={
            "recordings": (),
            "participants": tuple(p for p in contract.participants if p.payee == payee_id),
            "remainder_to": payee_id if contract.remainder_to == payee_id else None,
            "escalations": tuple(
                step.model_copy(
                    update={"percents": {p: of for p, of in step.percents.items() if p == payee_id}}
                )
                for step in contract.escalations
            ),
        }
    )
    return own.model_dump_json(exclude_defaults=True)


def _of_units(
    row: Mapping[str, Any], atoms: Mapping[str, int], payee_id: str, contract: Contract | None
) -> list[dict[str, Any]]:
    """How an amount per unit comes about, whatever the units brought in; empty if it is none."""
    units, amount = row["units"], atoms["amount"]
    is_agreed = contract is not None and any(
        p.payee == payee_id and p.per_unit is not None for p in contract.participants
    )
    if row["share_denominator"] or row["terms"] == REMAINDER_IN_WORDS or not is_agreed:
        return []
    if not units or amount % units:
        return []
    step = {
        "kind": "per_unit",
        "units": str(units),
        "rate": format_atoms(amount // units),
        "result": format_atoms(amount),
        "words": row["terms"],
    }
    return [step, *_conversion(row, atoms)]


def _division(row: Mapping[str, Any], atoms: Mapping[str, int]) -> list[dict[str, Any]]:
    """The payee's part of the receipts, and what it is in the currency of the statement."""
    receipts, amount = atoms["receipts"], atoms["amount"]
    numerator, denominator = row["share_numerator"], row["share_denominator"]
    share = {
        "kind": "share",
        "amount": format_atoms(receipts),
        "numerator": str(numerator),
        "denominator": str(denominator),
        "result": format_atoms(amount),
        "words": row["terms"],
    }
    if denominator and abs(amount * denominator - receipts * numerator) < denominator:
        steps = [share]
    else:
        # A remainder that bears amounts per unit, or an amount by terms of before.
        rest = [format_atoms(receipts - amount)]
        steps = [
            {
                "kind": "deduct",
                "amount": format_atoms(receipts),
                "deductions": rest,
                "result": format_atoms(amount),
                "words": f"{row['terms']}; the others have the rest",
            }
        ]
    return [*steps, *_conversion(row, atoms)]


def _conversion(row: Mapping[str, Any], atoms: Mapping[str, int]) -> list[dict[str, Any]]:
    if not row["rate"]:
        return []
    return [
        {
            "kind": "convert",
            "amount": format_atoms(atoms["amount"]),
            "rate": row["rate"],
            "result": format_atoms(atoms["payee_amount"]),
            "words": f"by {row['rate_source']} of {row['rate_date']}",
        }
    ]


def _text(value: Any, atoms: int | None) -> str:
    return str(value) if atoms is None else format_atoms(atoms)


def _atoms(text: str) -> int:
    whole, _, fraction = text.removeprefix("-").partition(".")
    magnitude = int(whole + fraction.ljust(18, "0"))
    return -magnitude if text.startswith("-") else magnitude


def _sources_of(context: PipelineContext, feed: Feed, keys: list[str]) -> pl.DataFrame:
    """Where the matched usage of these partitions comes from: ``_SOURCE_SCHEMA``."""
    found = pl.concat([pl.DataFrame(schema=_SOURCE_SCHEMA), *_found(context, feed, keys)])
    if feed.records is not RecordKind.REPORT_LINES:
        return found
    return found.drop("text").join(
        _row_texts(context, feed, keys, found), on=["sha256", "row"], how="left"
    ).with_columns(pl.col("text").fill_null("")).select(_SOURCE_SCHEMA.keys())  # fmt: skip


def _found(context: PipelineContext, feed: Feed, keys: list[str]) -> Iterator[pl.DataFrame]:
    """The sources of each validated batch of the partitions."""
    names = {
        report.source_sha256: report.name for report in context.registry.reports(feed.name, keys)
    }
    validated = {
        batch.sha256: batch
        for commit in context.registry.commits(Stage.VALIDATED, feed.name, keys)
        for batch in context.registry.batches_by_id(commit.batch_ids)
    }
    for commit in context.registry.commits(Stage.MATCHED, feed.name, keys):
        for batch in context.registry.batches_by_id(commit.batch_ids):
            usage = read_frame(context.lake, batch.objects[0]).filter(
                pl.col("recording_id").is_not_null()
            )
            for (sha256,), of_batch in usage.partition_by("batch_sha256", as_dict=True).items():
                source = validated[str(sha256)]
                if feed.records is RecordKind.REPORT_LINES:
                    yield _rows(context, source, of_batch, names)
                else:
                    yield _windows(source, of_batch)


def _row_texts(
    context: PipelineContext, feed: Feed, keys: list[str], found: pl.DataFrame
) -> pl.DataFrame:
    """sha256, row and text of report rows, as they stand in the files as received.

    A file that is no text, such as a spreadsheet, has none. Files are read a block at a time.
    """
    numbers = {
        str(sha256): rows["row"].cast(pl.Int64).unique()
        for (sha256,), rows in found.select("sha256", "row").partition_by("sha256", as_dict=True)
        .items()
    }  # fmt: skip
    objects = {
        stored.path: stored
        for commit in context.registry.commits(Stage.RAW, feed.name, keys)
        for batch in context.registry.batches_by_id(commit.batch_ids)
        for stored in batch.objects
    }
    texts = [
        pl.DataFrame(schema={name: _SOURCE_SCHEMA[name] for name in ("sha256", "row", "text")})
    ]
    for payload in stored_payloads(context.lake, objects.values()):
        wanted = numbers.pop(payload.sha256, None)  # the same bytes may be there under other names
        if wanted is None:
            continue
        with suppress(UnreadableFileError):
            for block in TextLines(BufferedReader(ChunkReader(payload.chunks))).blocks():
                told = block.texts
                here = wanted.filter(wanted.is_between(block.first, block.first + len(told) - 1))
                texts.append(
                    pl.DataFrame({"row": here, "text": told.gather(here - block.first)}).select(
                        pl.lit(payload.sha256).alias("sha256"),
                        pl.col("row").cast(pl.String),
                        "text",
                    )
                )
    return pl.concat(texts)


def _windows(source: Batch, usage: pl.DataFrame) -> pl.DataFrame:
    """Matched plays, named by the batch of their window."""
    return usage.select(
        *(pl.col(name).fill_null("") for name in _KEY),
        "units",
        "method",
        pl.lit("").alias("amount"),
        pl.lit(source.batch_id).alias("name"),
        pl.lit("0").alias("row"),
        pl.lit(source.sha256).alias("sha256"),
        pl.format("{} plays", pl.col("units")).alias("text"),
    )


def _rows(
    context: PipelineContext, source: Batch, usage: pl.DataFrame, names: Mapping[str, str]
) -> pl.DataFrame:
    """The report rows of matched usage."""
    columns = [name for name in USAGE_IDENTITY if name != "used_on"]
    wanted = [*columns, "used_at", "units", "amount", "source_sha256", "row_number"]
    lines = pl.concat([read_frame(context.lake, stored, wanted) for stored in source.objects])
    decided = usage.select(*USAGE_IDENTITY, "feed", "recording_id", "method")
    joined = lines.with_columns(pl.col("used_at").dt.date().alias("used_on")).join(
        decided, on=USAGE_IDENTITY, nulls_equal=True
    )
    is_priced = pl.col("currency").is_not_null()
    amounts = [
        format_atoms(atoms) if priced else ""
        for atoms, priced in zip(
            series_to_atoms(joined["amount"].fill_null(0)),
            joined.select(is_priced).to_series(),
            strict=True,
        )
    ]
    return joined.select(
        *(pl.col(name).fill_null("") for name in _KEY),
        "units",
        "method",
        pl.Series("amount", amounts, pl.String),
        pl.col("source_sha256").replace_strict(names, default="").alias("name"),
        pl.col("row_number").cast(pl.String).alias("row"),
        pl.col("source_sha256").alias("sha256"),
        pl.lit("").alias("text"),
    )


def _origins(found: pl.DataFrame) -> dict[LineKey, _Origin]:
    encoded = pl.struct(_SOURCE).struct.json_encode()
    # What a source does not tell, money of its own or a text, is not there, rather than empty.
    encoded = encoded.str.replace('"amount":"",', "", literal=True)
    encoded = encoded.str.replace(r',"text":""\}$', "}")
    by_key = (
        found.sort(*_KEY, "name", "sha256", pl.col("row").cast(pl.Int64), "method", "units")
        .with_columns(encoded.alias("source"))
        .group_by(_KEY, maintain_order=True)
        .agg(
            pl.format("[{}]", pl.col("source").str.join(",")).alias("sources"),
            pl.struct("method", "units").alias("matched"),
        )
    )
    told = (
        by_key.select(pl.int_range(pl.len()).alias("line"), "matched")
        .explode("matched")
        .unnest("matched")
        .group_by("line", "method")
        .agg(pl.col("units").sum())
        .sort("line", "method")
        .group_by("line", maintain_order=True)
        .agg(pl.format("{}: {} units", "method", "units").str.join("; ").alias("methods"))
    )
    return {
        tuple(key): _Origin(sources, methods)
        for key, sources, methods in zip(
            by_key.select(_KEY).rows(), by_key["sources"], told["methods"], strict=True
        )
    }


def _pools(ledger: pl.DataFrame) -> dict[tuple[str, str, str, str], _Pool]:
    """The pools of a month whose claims tell their units, by feed, territory, tier and currency."""
    brought = ledger.filter(
        (pl.col("account") == Account.RECEIVABLE)
        & (pl.col("use_type") == "")
        & (pl.col("currency") != NO_CURRENCY)
        & (pl.col("corrects") == "")
    )
    return {
        key: _Pool(atoms, units)
        for key, atoms, units in zip(
            brought.select("feed", "territory", "tier", "currency").rows(),
            series_to_atoms(brought["amount"]),
            brought["units"].to_list(),
            strict=True,
        )
        if units > 0
    }
