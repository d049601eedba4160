"""What the command line shows: progress while stages run, and the funnel at the end.

On a terminal progress is bars; elsewhere it is one line per partition, for logs. Figures are
computed in ``pipeline.funnel``; nothing is counted here.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from royalty_assets.domain.batches import Stage
from royalty_assets.domain.money import ATOMS_PER_UNIT, format_atoms, minor_unit_decimals
from royalty_assets.orchestration.metadata import top_payees
from royalty_assets.orchestration.runner import RunReport, StagePlan
from royalty_assets.pipeline.context import Outcome
from royalty_assets.pipeline.funnel import MONEY_COLUMNS, FeedFunnel, Funnel

PROBLEMS_SHOWN_MAX = 12
AMOUNT_DECIMALS_SHOWN = 6


class StageProgress:
    """Listens to outcomes and shows how far each stage is."""

    def __init__(self, console: Console, plans: Sequence[StagePlan]) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.fields[name]:<12} {task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[yellow]{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[tuple[str, Stage], TaskID] = {}
        for plan in plans:
            self._tasks[self._key(plan.name, plan.stage)] = self._bars.add_task(
                str(plan.stage), total=len(plan.partitions), name=plan.name, note="", start=False
            )

    def __enter__(self) -> "StageProgress":
        self._bars.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._bars.__exit__(None, None, None)

    def listen(self, name: str, stage: Stage, outcome: Outcome) -> None:
        """Take note of one partition."""
        state = "unchanged"
        if outcome.commit is None:
            state = f"failed: {outcome.problem}"
        elif not outcome.commit.is_green:
            state = "red"
        elif outcome.changed:
            state = "committed"
        if not self._console.is_terminal:
            self._console.print(
                f"{name} {stage} {outcome.partition_key} {state}", highlight=False, soft_wrap=True
            )
            return
        task = self._tasks.get(self._key(name, stage))
        if task is not None:
            self._bars.start_task(task)
            self._bars.advance(task)
            if state in {"unchanged", "red"} or outcome.commit is None:
                self._bars.update(task, note=state.partition(":")[0])

    @staticmethod
    def _key(name: str, stage: Stage) -> tuple[str, Stage]:
        return ("", stage) if stage in {Stage.LEDGER, Stage.PAYOUTS} else (name, stage)


def show_report(console: Console, report: RunReport, funnel: Funnel, title: str) -> None:
    """The funnel, the money, the payees, and whether everything is accounted for."""
    console.print()
    console.print(_rows_table(funnel.feeds, title))
    console.print(_matching_table(funnel.feeds))
    if funnel.money:
        console.print(_money_table(funnel))
    if not funnel.payouts.is_empty():
        console.print(_payee_table(funnel))
    _show_problems(console, [*report.problems, *funnel.notices, *report.waiting])
    _show_verdict(console, funnel, report.failed)


def _rows_table(feeds: list[FeedFunnel], title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("feed")
    for name in (
        "rows received", "rejected", "duplicates", "accepted", "units", "matched", "in suspense"
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for feed in feeds:
        table.add_row(feed.feed, *_row_figures(feed))
    if len(feeds) > 1:
        total = FeedFunnel(
            "all",
            *(
                sum(getattr(feed, name) for feed in feeds)
                for name in (
                    "received", "rejected", "duplicates", "accepted", "units", "units_in_suspense"
                )
            ),
        )  # fmt: skip
        table.add_section()
        table.add_row("all", *_row_figures(total), style="bold")
    return table


def _row_figures(feed: FeedFunnel) -> list[str]:
    matched = feed.units - feed.units_in_suspense
    figures = (
        feed.received, feed.rejected, feed.duplicates, feed.accepted, feed.units, matched,
        feed.units_in_suspense,
    )  # fmt: skip
    return [f"{figure:,}" for figure in figures]


_METHOD_WORDS = {
    "isrc": "by ISRC",
    "title_artist_equal": "by equal title and artist",
    "title_artist_similar": "by similar title and artist",
    "exception": "exceptions",
}


def _matching_table(feeds: list[FeedFunnel]) -> Table:
    table = Table(title="How accepted lines were matched", title_justify="left", title_style="bold")
    table.add_column("feed")
    for words in _METHOD_WORDS.values():
        table.add_column(words, justify="right")
    for feed in feeds:
        table.add_row(feed.feed, *(f"{feed.lines_by_method[name]:,}" for name in _METHOD_WORDS))
    return table


def _money_table(funnel: Funnel) -> Table:
    table = Table(
        title="Where the money went",
        caption="Shown to 6 decimals; the books hold 18, and it is those that are checked.",
        caption_justify="left",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("currency")
    for name in MONEY_COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    for currency, amounts in sorted(funnel.money.items()):
        shown = [_amount(amounts[name], currency) for name in MONEY_COLUMNS]
        table.add_row(currency, *shown)
    return table


def _amount(atoms: int, currency: str) -> str:
    """An amount cut to the decimals that are shown, the currency's own at least."""
    shown = ATOMS_PER_UNIT // 10**AMOUNT_DECIMALS_SHOWN
    cut = abs(atoms) // shown * shown
    units, _, fraction = format_atoms(cut).partition(".")
    fraction = fraction.ljust(minor_unit_decimals(currency), "0")
    text = f"{int(units):,}" + (f".{fraction}" if fraction else "")
    return f"-{text}" if atoms < 0 else text


def _payee_table(funnel: Funnel) -> Table:
    table = Table(title="Top payees", title_justify="left", title_style="bold")
    table.add_column("payee")
    table.add_column("currency")
    table.add_column("paid", justify="right")
    for name, currency, atoms in top_payees(funnel.payouts, 3):
        table.add_row(escape(name), currency, _amount(atoms, currency))
    return table


def _show_problems(console: Console, problems: list[str]) -> None:
    if not problems:
        return
    console.print(f"\n[yellow]{len(problems)} things need a look:")
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        console.print(f"  • {problem}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > PROBLEMS_SHOWN_MAX:
        console.print(f"  … and {len(problems) - PROBLEMS_SHOWN_MAX} more")


def _show_verdict(console: Console, funnel: Funnel, failed: list[str]) -> None:
    findings = [*failed, *funnel.findings]
    rows = sum(feed.received for feed in funnel.feeds)
    units = sum(feed.units for feed in funnel.feeds)
    currencies = ", ".join(sorted(funnel.money))
    if not findings:
        console.print(
            f"\naccounted for: all {rows:,} rows, all {units:,} units, all money in {currencies} "
            "to the last digit",
            style="bold green",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(f"\nNOT accounted for: {len(findings)} findings", style="bold red")
    for finding in findings[:PROBLEMS_SHOWN_MAX]:
        console.print(f"  • {finding}", markup=False, highlight=False, soft_wrap=True)
