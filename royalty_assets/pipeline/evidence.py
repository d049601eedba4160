"""What shows how each line of a month's statements came about: rows, decisions, terms, arithmetic.

Gathered when a period is closed, from what is committed, and kept with the closing: a receipt of
a line is made from it without computing anything anew. Rows of reports are named one by one; plays
are named by the batch of their window, whose manifest is in the log.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from royalty_assets.audit.receipts import StatementLine
from royalty_assets.domain.batches import Batch, Stage
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.ledger import NO_CURRENCY, Account
from royalty_assets.domain.matching import MATCHER_VERSION
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Statement
from royalty_assets.domain.territories import WORLDWIDE
from royalty_assets.domain.usage import ALL_TIERS, USAGE_IDENTITY, RecordKind
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.month import expected_partition_keys
from royalty_assets.pipeline.periods import ledger_in_force
from royalty_assets.pipeline.validate import VALIDATOR_VERSION
from royalty_assets.storage.lake import read_frame

LineKey = tuple[str, str, str, str, str, str]
"""Feed, territory, tier, use type, currency, recording; no currency where usage shares a pool."""
_KEY = ["feed", "territory", "tier", "use_type", "currency", "recording_id"]
_SOURCE = ["amount", "name", "row", "sha256", "text"]


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
                self._origins |= _origins(_found(context, feed, keys))
        self._pools = _pools(ledger_in_force(context, month))
        self._allocation = {feed.name: feed.allocation.model for feed in context.project.feeds}

    def lines(
        self, statement: Statement, contracts: Mapping[str, str], catalog_version: str
    ) -> list[StatementLine]:
        """The lines of a statement with their evidence, in order.

        Args:
            statement: of the month.
            contracts: contract → its terms as one text.
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
                {
                    "id": row["contract_id"],
                    "terms": row["terms"],
                    "text": contracts.get(row["contract_id"], ""),
                },
                catalog_version,
            )
            for i, row in enumerate(statement.lines.iter_rows(named=True))
        ]

    def _line(
        self,
        row: Mapping[str, Any],
        atoms: Mapping[str, int],
        currency: str,
        contract: Mapping[str, str],
        catalog_version: str,
    ) -> StatementLine:
        own = (row["feed"], row["territory"], row["tier"], row["use_type"])
        priced = self._origins.get((*own, row["currency"], row["recording_id"]))
        shared = self._origins.get((*own, "", row["recording_id"]))
        origins = [origin for origin in (priced, shared) if origin and not row["corrects"]]
        sources = [source for origin in origins for source in json.loads(origin.sources)]
        steps = [] if row["corrects"] else self._receipts_step(row, atoms, priced, shared, sources)
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
            contract=contract,
            steps=[*(steps or [_as_booked(row, atoms)]), *_division(row, atoms)],
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
        words = f"what corrects the statement of {row['corrects']}"
    return {"kind": "sum", "terms": [result], "result": result, "words": words}


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
        # An amount per unit, or a remainder that bears such amounts, or divided at a boundary.
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
    if row["rate"]:
        steps.append(
            {
                "kind": "convert",
                "amount": format_atoms(amount),
                "rate": row["rate"],
                "result": format_atoms(atoms["payee_amount"]),
                "words": f"by {row['rate_source']} of {row['rate_date']}",
            }
        )
    return steps


def _text(value: Any, atoms: int | None) -> str:
    return str(value) if atoms is None else format_atoms(atoms)


def _atoms(text: str) -> int:
    whole, _, fraction = text.removeprefix("-").partition(".")
    magnitude = int(whole + fraction.ljust(18, "0"))
    return -magnitude if text.startswith("-") else magnitude


def _found(
    context: PipelineContext, feed: Feed, keys: list[str]
) -> Iterable[tuple[Batch, pl.DataFrame, Mapping[str, str]]]:
    """Each validated batch of the partitions, with its matched usage and the names of files."""
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
                    yield source, _rows(context, source, of_batch, names), names
                else:
                    yield source, _windows(source, of_batch), names


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
        pl.format("{} units", pl.col("units")).alias("text"),
    )


def _origins(
    found: Iterable[tuple[Batch, pl.DataFrame, Mapping[str, str]]],
) -> dict[LineKey, _Origin]:
    frames = [frame for _, frame, _ in found]
    if not frames:
        return {}
    encoded = pl.struct(_SOURCE).struct.json_encode()
    # Without money of its own a source has no amount, rather than an empty one.
    encoded = encoded.str.replace('"amount":"",', "", literal=True)
    by_key = (
        pl.concat(frames)
        .sort(*_KEY, "name", "sha256", pl.col("row").cast(pl.Int64), "method", "units")
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
