"""A small project whose months can be reported, run and closed one after another, in any order.

Two recordings: R1 is Ada's (60 %) and Bo's (40 %), R2 is Cy's alone. Reports are CSV rows of one
inbox, or what a test writes into the folders.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from royalty_assets.audit.keys import ensure_signing_key
from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import PAYOUT_LINE_SCHEMA
from royalty_assets.domain.statements import Statement
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.closing import close
from royalty_assets.pipeline.context import LEDGER_FEED, Outcome, PipelineContext
from royalty_assets.pipeline.payouts import payout_frame
from royalty_assets.pipeline.periods import committed_months
from royalty_assets.pipeline.statements import statements
from royalty_assets_tests.projects import inbox_context, run_month

PAYOUT_LINE = ("rights_holder_id", "recording_id", "units", "receipts", "amount")
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
ISRCS = {"R1": "USUM70600055", "R2": "USUM70600056"}
TITLES = {"R1": "Flowers", "R2": "Sun"}
RECORDINGS = "recording_id,isrc,title,artist\n" + "".join(
    f"{recording},{isrc},{TITLES[recording]},Ada\n" for recording, isrc in ISRCS.items()
)
SHARES = (
    "recording_id,rights_holder_id,rights_holder_name,share\n"
    "R1,ada,Ada Park,60\nR1,bo,Bo Kim,40\nR2,cy,Cy Lee,100\n"
)


def month(label: str) -> Partition:
    """The partition of ``2025-01``."""
    return Partition.parse(Cadence.MONTHLY, f"{label}-01")


JANUARY, FEBRUARY, MARCH, APRIL = (month(f"2025-0{number}") for number in range(1, 5))


def row(
    day: str, amount: str, recording: str = "R1", units: int = 10, currency: str = "EUR",
    territory: str = "DE",
) -> str:  # fmt: skip
    """A row of a report; of a recording that the catalog does not know, its name is the title."""
    isrc, title = ISRCS.get(recording, ""), TITLES.get(recording, recording)
    return f"{day},{territory},{isrc},{title},Ada,{units},{amount},{currency}\n"


def project(home: Path, **feed: object) -> PipelineContext:
    """The project, with a key and its catalog."""
    context = inbox_context(home, **feed)
    context.signer = ensure_signing_key(home)
    (home / "catalog/recordings.csv").write_text(RECORDINGS)
    (home / "catalog/shares.csv").write_text(SHARES)
    return context


def report(context: PipelineContext, name: str, *rows: str) -> Path:
    """Put a report into the inbox, or another one in its place."""
    path = context.home / "inbox" / name
    path.write_text(HEADER + "".join(rows))
    return path


def agree(context: PipelineContext, contracts: str, rates: str = "") -> None:
    """Write the contracts, and the rates."""
    for folder, name, text in (
        ("contracts", "deals.yaml", contracts),
        ("rates", "rates.csv", "date,currency,into,rate,source\n" + rates if rates else ""),
    ):
        path = context.home / folder / name
        path.parent.mkdir(exist_ok=True)
        if text:
            path.write_text(text)


def run(context: PipelineContext, *months: Partition) -> list[Outcome]:
    """Run months in the order given."""
    return [outcome for each in months for outcome in run_month(context, each)]


def run_and_close(context: PipelineContext, *months: Partition) -> None:
    """Run each month and close it."""
    for each in months:
        run(context, each)
        close(context, each, "Ann", "all green")


def statement(context: PipelineContext, of: Partition, payee: str, currency: str = "") -> Statement:
    """The one statement of a payee."""
    (found,) = [s for s in statements(context, of, payee) if currency in {"", s.currency}]
    return found


def movements(of: Statement) -> list[tuple[str, str]]:
    """(movement, amount) of a statement, in order."""
    return [
        (movement, format_atoms(atoms))
        for movement, atoms in zip(
            of.movements["movement"], series_to_atoms(of.movements["amount"]), strict=True
        )
    ]


def told(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """The rows of a frame, amounts as plain texts, sorted."""
    names = columns or tuple(frame.columns)
    texts = frame.with_columns(
        pl.Series(name, map(format_atoms, series_to_atoms(frame[name])), pl.String)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Decimal)
    )
    return sorted(texts.select(names).rows())


def earned(
    context: PipelineContext, months: Iterable[Partition] | None = None
) -> dict[tuple[str, str], int]:
    """(payee, currency) → atoms that it earned in all these months together."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for each in months or committed_months(context):
        lines = payout_frame(context, each, "payout_lines", PAYOUT_LINE_SCHEMA)
        for payee, currency, atoms in zip(
            lines["rights_holder_id"], lines["currency"], series_to_atoms(lines["amount"]),
            strict=True,
        ):  # fmt: skip
            sums[payee, currency] += atoms
    return {key: atoms for key, atoms in sums.items() if atoms}


def in_force(context: PipelineContext, of: Partition) -> list[Commit | None]:
    """The commits of a month's books, and of its closing."""
    stages = (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS, Stage.CLOSING)
    return [context.registry.commit(LEDGER_FEED, stage, of.key) for stage in stages]
