"""Commands of accounting periods: close them, send statements out, give receipts, compare."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from royalty_assets.cli.options import (
    Home,
    Month,
    chosen_months,
    complaints,
    console,
    month_of,
    told_errors,
)
from royalty_assets.settings import Settings, SettingsError, load_project

if TYPE_CHECKING:
    from royalty_assets.pipeline.context import PipelineContext

Payee = Annotated[str | None, typer.Option(help="A rights holder's id; all of them without it.")]


class Form(StrEnum):
    """How a statement is written down."""

    PDF = "pdf"
    CSV = "csv"
    PARQUET = "parquet"
    DSR = "dsr"


@contextmanager
def _open(home: Path) -> "Iterator[PipelineContext]":
    from royalty_assets.orchestration.session import PipelineSession

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        try:
            yield session.context
        finally:
            session.close()


def periods(home: Home = Path("data")) -> None:
    """Say of each month whether it is closed, can be closed, or what stands against it.

    And what it corrects of earlier ones: for whom, and what has come or was decided since.
    """
    from royalty_assets.pipeline.adjustments import adjustments
    from royalty_assets.pipeline.closing import closing_of, propose
    from royalty_assets.pipeline.periods import committed_months, passed_over_by

    with _open(home) as context:
        table = Table("month", "state", "what it holds and corrects, or what keeps it open")
        for month in committed_months(context):
            closing, proposal = closing_of(context, month), propose(context, month)
            told = list(proposal.reasons)
            state = "passed over" if passed_over_by(context, month) is not None else "open"
            if closing is not None:
                state = "[green]closed"
                told = [f"by {closing.who}, {closing.closed_at[:10]}; root {closing.root[:16]}…"]
            elif proposal.is_ready:
                state, told = "[yellow]can be closed", list(proposal.figures)
            told += [one.words for one in adjustments(context, month)]
            table.add_row(month.key[:7], state, escape("\n".join(told)))
        console.print(table if table.row_count else "No month has a ledger yet; run the project.")


def close_command(
    *,
    home: Home = Path("data"),
    month: Annotated[str, typer.Option(help="The accounting period, as 2025-03.")],
    who: Annotated[str, typer.Option(help="Who closes it.")] = "",
    why: Annotated[str, typer.Option(help="What there is to say about it.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it can be.")] = False,
) -> None:
    """Close an accounting period, for good.

    Nothing of it may be red, and no more in suspense or held than `closing` in feeds.yaml allows.
    Its ledger, payouts and statements then stay as they are, signed: what comes later is corrected
    in the first open month.
    """
    from royalty_assets.orchestration.run_lock import only_run_of
    from royalty_assets.pipeline.closing import close, closing_of, propose

    with _open(home) as context, only_run_of(home):
        period = month_of(month)
        if dry_run:
            proposal = propose(context, period)
            for line in proposal.reasons or proposal.figures:
                console.print(f"  • {line}", markup=False, highlight=False, soft_wrap=True)
            told = "can be closed" if proposal.is_ready else "cannot be closed"
            console.print(f"{month} is closed already" if proposal.is_closed else f"{month} {told}")
            raise typer.Exit(0 if proposal.is_ready else 1)
        commit = close(context, period, who or getpass.getuser(), why)
        closing = closing_of(context, period)
    root = "" if closing is None else closing.root
    console.print(
        f"{month} is closed: {commit.counts['statements']:,} statements of "
        f"{commit.counts['lines']:,} lines, root {root}",
        highlight=False,
        soft_wrap=True,
    )


def statements_command(
    home: Home = Path("data"),
    month: Month = None,
    payee: Payee = None,
    form: Annotated[
        list[Form] | None, typer.Option("--format", help="How; several may be given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to; HOME/statements without it.")
    ] = None,
    issued_by: Annotated[str, typer.Option(help="Who issues them, for the PDF and the DSR.")] = "",
    list_only: Annotated[bool, typer.Option("--list", help="Only list them.")] = False,
) -> None:
    """Write the statements of a month: for a payee to read (PDF), for spreadsheets and programs.

    `royalty-assets statements data --month 2025-03 --payee rh-0007 --format pdf --format csv`
    """
    from royalty_assets.pipeline.periods import committed_months
    from royalty_assets.pipeline.statements import statement_tables, statements
    from royalty_assets.statement_files import write_statement

    forms = [str(each) for each in form or [Form.PDF, Form.CSV]]
    with _open(home) as context:
        period = chosen_months(committed_months(context), month)[-1]
        if list_only:
            _list(statement_tables(context, period).statements.rows(named=True))
            return
        folder = (out or home / "statements") / period.key[:7]
        written = 0
        for statement in statements(context, period, payee):
            for path in write_statement(statement, folder, forms, issued_by):
                written += 1
                if payee is not None:
                    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
        if not written:
            raise SettingsError(
                f"there is no statement for {payee} in {period.key[:7]}; --list tells who has one"
            )
    console.print(f"{written:,} files are in {folder}", markup=False, soft_wrap=True)


_LISTED = ("name", "currency", "lines", "paid", "carried forward")


def _list(rows: list[dict[str, object]]) -> None:
    table = Table(Column("payee", overflow="fold"), *_LISTED)
    for row in rows:
        table.add_row(
            escape(str(row["payee_id"])),
            escape(str(row["payee_name"])),
            str(row["payee_currency"]),
            f"{row['lines']:,}",
            f"{row['amount_paid']:.2f}",
            f"{row['amount_carried_forward']:.2f}",
        )
    console.print(table)


def receipt_command(
    line: Annotated[str, typer.Argument(help="As 2025-03/PAYEE/EUR/17, the last for the line.")],
    home: Annotated[
        Path, typer.Option(envvar="ROYALTY_ASSETS_HOME", help="The project's folder.")
    ] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="The file to write; printed without it.")] = None,
    verifier: Annotated[
        bool, typer.Option("--verifier", help="Put verify_receipt.py beside the file.")
    ] = False,
) -> None:
    """Give a receipt for one line of a statement of a closed month.

    The payee checks it alone, offline, with one file of plain Python: verify_receipt.py.
    """
    from royalty_assets.audit.receipts import ReceiptError
    from royalty_assets.pipeline.closing import receipt
    from royalty_assets.statement_files import put_verifier

    with _open(home) as context:
        month, payee, currency, number = _parts(line)
        try:
            text = receipt(context, month_of(month), payee, currency, number)
        except ReceiptError as error:
            raise SettingsError(f"no receipt can be given: {error}; run verify") from None
        if out is None:
            typer.echo(text, nl=False)
            return
        out.write_text(text, encoding="utf-8")
        told = f"{out} is the receipt of line {number}"
        if verifier:
            program = put_verifier(out.parent)
            told += f"; check it with: python {program} {out}"
        complaints.print(told, markup=False, highlight=False, soft_wrap=True)


def _parts(line: str) -> tuple[str, str, str, int]:
    month, _, rest = line.partition("/")
    parts = rest.rsplit("/", 2)
    if len(parts) != 3 or not all(parts) or not parts[2].isdigit():
        raise SettingsError(
            f"{line!r} names no line; write it as 2025-03/PAYEE/EUR/17, "
            "`royalty-assets statements --list` tells the payees"
        )
    return month, parts[0], parts[1], int(parts[2])


def diff_command(
    *,
    home: Home = Path("data"),
    month: Annotated[str, typer.Option(help="The accounting period, as 2025-03.")],
    known: Annotated[
        tuple[datetime, datetime],
        typer.Option(help="Two instants, in UTC: as it was known then, and then."),
    ],
    payee: Payee = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: exact and whole.")] = False,
    limit: Annotated[int, typer.Option(help="Lines to show.")] = 20,
) -> None:
    """Say what is different of a month as it was known at two instants, for whom, and why.

    `royalty-assets diff data --month 2025-03 --known 2025-04-05 2025-04-20T12:00:00`
    """
    import polars as pl

    from royalty_assets.domain.money import format_atoms
    from royalty_assets.domain.money_columns import series_to_atoms
    from royalty_assets.pipeline.known import delta

    before, after = (
        each.replace(tzinfo=UTC) if each.tzinfo is None else each.astimezone(UTC) for each in known
    )
    with _open(home) as context:
        found = delta(context, month_of(month), before, after)
        lines = found.lines
        if payee is not None:
            lines = lines.filter(pl.col("rights_holder_id") == payee)
        amounts = ("amount_before", "amount_after", "difference")
        texts = lines.with_columns(
            pl.Series(name, map(format_atoms, series_to_atoms(lines[name])), pl.String)
            for name in amounts
        )
        if as_json:
            told = {"month": month, "reasons": list(found.reasons), "lines": texts.to_dicts()}
            typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
            return
        for reason in found.reasons:
            console.print(f"  • {reason}", markup=False, highlight=False, soft_wrap=True)
        table = Table("payee", "feed", "territory", "recording", "before", "after", "difference")
        for row in texts.head(limit).iter_rows(named=True):
            table.add_row(
                escape(row["rights_holder_id"]),
                row["feed"],
                row["territory"],
                escape(row["recording_id"]),
                *(f"{row[name]} {row['currency']}" for name in amounts),
            )
        console.print(table if lines.height else "Nothing is different of what payees earn.")
        if lines.height > limit:
            console.print(f"… and {lines.height - limit:,} more (--limit, --json)")


def close_and_check(home: Path) -> bool:
    """End the demo: close its months, verify them, and check one receipt as its payee would.

    Returns:
        Whether all of it holds.
    """
    from royalty_assets.audit.verify_receipt import verify
    from royalty_assets.console import VerifyProgress, show_verification
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.closing import close, propose, receipt
    from royalty_assets.pipeline.periods import committed_months, is_closed
    from royalty_assets.pipeline.statements import statement_tables
    from royalty_assets.pipeline.verify import verify_quickly

    session = PipelineSession(Settings(home=home), load_project(home))
    context = session.context
    for month in committed_months(context):
        if not is_closed(context, month):
            if reasons := propose(context, month).reasons:
                console.print(f"{month.key[:7]} stays open: {reasons[0]}", soft_wrap=True)
                session.close()
                return False
            commit = close(context, month, "the demo", "all green")
            console.print(
                f"\n{month.key[:7]} is closed and signed: {commit.counts['statements']:,} "
                f"statements of {commit.counts['lines']:,} lines",
                highlight=False,
            )
    with VerifyProgress(console) as progress:
        found = verify_quickly(context, told=progress.told)
    is_whole = show_verification(console, found)
    summary = statement_tables(context, month).statements.sort("lines", descending=True)
    payee, currency = summary.select("payee_id", "payee_currency").row(0)
    text = receipt(context, month, payee, currency, 1)
    console.print(f"\nReceipt of line 1 of {payee}'s statement, checked as the payee would:")
    for what, told in verify(text.encode()):
        console.print(f"  [green]✓[/] {what}: {escape(told)}", highlight=False, soft_wrap=True)
    console.print(
        f"\n`royalty-assets receipt {month.key[:7]}/{payee}/{currency}/1 --home {home}` gives it, "
        f"`royalty-assets statements {home} --payee {payee}` the statement.",
        highlight=False,
        soft_wrap=True,
    )
    session.close()
    return is_whole


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("periods")(periods)
    app.command("close")(close_command)
    app.command("statements")(statements_command)
    app.command("receipt")(receipt_command)
    app.command("diff")(diff_command)
