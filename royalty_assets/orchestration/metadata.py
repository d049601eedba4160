"""What people read beside a partition in the UI: counts, rates, money, hashes and files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from royalty_assets.domain.batches import Batch, Commit, Stage
from royalty_assets.domain.ledger import LEDGER_SCHEMA
from royalty_assets.domain.matching import DECISION_SCHEMA
from royalty_assets.domain.money import format_money
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import PAYOUT_SCHEMA
from royalty_assets.domain.statement_lines import PAYEE_LINE_SCHEMA
from royalty_assets.domain.usage import POOL_SCHEMA, USAGE_LINE_SCHEMA
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.storage.lake import read_frame

OBJECTS_SHOWN_MAX = 24

_MATCHED_SCHEMA: dict[str, pl.DataType] = {
    **{n: t for n, t in USAGE_LINE_SCHEMA.items() if n in {"isrc", "title", "artist", "territory"}},
    "tier": pl.String(),
    "use_type": pl.String(),
    "used_on": pl.Date(),
    "currency": pl.String(),
    "lines": pl.Int64(),
    "units": pl.Int64(),
    "amount": USAGE_LINE_SCHEMA["amount"],
    **DECISION_SCHEMA,
    "feed": pl.String(),
    "batch_sha256": pl.String(),
}
_SCHEMAS: dict[Stage, dict[str, pl.DataType]] = {
    Stage.RAW: {
        "payload_name": pl.String(),
        "payload_sha256": pl.String(),
        "chunk": pl.Int32(),
        "body": pl.Binary(),
    },
    Stage.VALIDATED: USAGE_LINE_SCHEMA,
    Stage.MATCHED: _MATCHED_SCHEMA,
    Stage.POOL: POOL_SCHEMA,
    Stage.LEDGER: LEDGER_SCHEMA,
    Stage.PAYOUTS: PAYOUT_SCHEMA,
    Stage.STATEMENTS: PAYEE_LINE_SCHEMA,
}


def plain_markdown(text: str) -> str:
    """A text from outside as Markdown that shows just that: no markup, no link, no second line.

    The UI's own escaping is not relied on: what is shown elsewhere is the same Markdown.
    """
    in_one_line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    # CommonMark §2.4: any ASCII punctuation may stand behind a backslash. Entities are kept from
    # meaning anything by the ampersand's own.
    return _MARKUP.sub(_as_written, in_one_line)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts from outside; see ``plain_markdown``."""
    shown = (" | ".join(map(plain_markdown, row)) for row in rows)
    return "\n".join([" | ".join(columns), " | ".join("---" for _ in columns), *shown])


def _as_written(found: re.Match[str]) -> str:
    return _ENTITIES.get(found[0]) or f"\\{found[0]}"


_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#!|~&:@]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;", ":": "&#58;", "@": "&#64;"}


def column_schema(stage: Stage) -> Mapping[str, Any]:
    """The columns of a stage's table, for the asset's definition."""
    schema = _SCHEMAS.get(stage)
    if schema is None:
        return {}
    columns = [dg.TableColumn(name, type=str(dtype)) for name, dtype in schema.items()]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def commit_metadata(context: PipelineContext, commit: Commit) -> Mapping[str, Any]:
    """What a commit has to tell about its partition."""
    batches = context.registry.batches_by_id(commit.batch_ids)
    metadata: dict[str, Any] = dict(commit.counts)
    metadata["revision"] = commit.revision
    metadata |= _rates(commit)
    metadata["batches"] = dg.MetadataValue.md(_batch_table(context, batches))
    if commit.stage in {Stage.VALIDATED, Stage.MATCHED, Stage.LEDGER, Stage.POOL}:
        # A stage's table is the first object; listening beside matched usage is another one.
        rows = sum(stored.rows for batch in batches for stored in batch.objects[:1])
        metadata["dagster/partition_row_count"] = rows
    if commit.stage is Stage.PAYOUTS and batches:
        metadata |= _payout_tables(context, batches[0])
    return metadata


def _rates(commit: Commit) -> dict[str, float]:
    counts = commit.counts
    if commit.stage is Stage.VALIDATED and counts["received"]:
        return {"rejected_percent": round(100 * counts["rejected"] / counts["received"], 2)}
    if commit.stage is Stage.MATCHED:
        units = sum(number for name, number in counts.items() if name.startswith("units_"))
        if units:
            return {"matched_percent": round(100 - 100 * counts["units_exception"] / units, 2)}
    return {}


def _batch_table(context: PipelineContext, batches: list[Batch]) -> str:
    rows = [
        f"| {batch.batch_id} | `{batch.sha256[:16]}…` | {stored.rows:,} | "
        f"[{stored.path.rsplit('/', 1)[-1][:40]}]({context.lake.uri(stored)}) |"
        for batch in batches
        for stored in batch.objects
    ]
    more = (
        f"\n\n… and {len(rows) - OBJECTS_SHOWN_MAX} more" if len(rows) > OBJECTS_SHOWN_MAX else ""
    )
    table = "\n".join(rows[:OBJECTS_SHOWN_MAX])
    return f"| batch | SHA-256 | rows | object |\n|---|---|---:|---|\n{table}{more}"


def _payout_tables(context: PipelineContext, batch: Batch) -> dict[str, Any]:
    payouts = read_frame(context.lake, batch.objects[0])
    balance = read_frame(context.lake, batch.objects[1])
    return {
        "where_the_money_went": dg.MetadataValue.md(money_table(balance, "currency")),
        "top_payees": dg.MetadataValue.md(
            "\n".join(
                [
                    "| payee | currency | paid |",
                    "|---|---|---:|",
                    *(
                        f"| {plain_markdown(name)} | {currency} | {format_money(atoms, currency)} |"
                        for name, currency, atoms in top_payees(payouts, 10)
                    ),
                ]
            )
        ),
    }


def money_table(frame: pl.DataFrame, currency_column: str) -> str:
    """A Markdown table of amounts, a row a currency."""
    names = [name for name in frame.columns if name != currency_column]
    atoms = {name: series_to_atoms(frame[name]) for name in names}
    header = " | ".join(["currency", *(name.replace("_", " ") for name in names)])
    rows = [
        " | ".join([currency, *(format_money(atoms[name][i], currency) for name in names)])
        for i, currency in enumerate(frame[currency_column])
    ]
    rule = "|".join(["---", *["---:"] * len(names)])
    return "\n".join(f"| {row} |" for row in [header, rule, *rows])


def top_payees(payouts: pl.DataFrame, number: int) -> list[tuple[str, str, int]]:
    """(name, currency, atoms) of those who are paid most, currencies side by side."""
    ranked = payouts.sort("amount_paid", "rights_holder_id", descending=[True, False])
    best = (
        ranked.group_by("currency", maintain_order=True)
        .head(number)
        .sort("currency", "amount_paid", "rights_holder_id", descending=[False, True, False])
    )
    return list(
        zip(
            best["rights_holder_name"].to_list(),
            best["currency"].to_list(),
            series_to_atoms(best["amount_paid"]),
            strict=True,
        )
    )
