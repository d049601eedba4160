"""What the command line shows: progress while stages run, and the funnel at the end.

On a terminal progress is bars; elsewhere it is one line per partition, for logs. Figures are
computed in ``pipeline.funnel``; nothing is counted here.
"""

from collections.abc import Callable, Sequence

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
from royalty_assets.domain.contract_lint import Finding, Severity
from royalty_assets.domain.money import (
    ATOMS_PER_UNIT,
    format_atoms,
    format_money,
    minor_unit_decimals,
)
from royalty_assets.orchestration.metadata import top_payees
from royalty_assets.orchestration.runner import RunReport, StagePlan
from royalty_assets.pipeline.context import Outcome
from royalty_assets.pipeline.funnel import MONEY_COLUMNS, FeedFunnel, Funnel
from royalty_assets.pipeline.verify import Checked

PROBLEMS_SHOWN_MAX = 12
AMOUNT_DECIMALS_SHOWN = 6


class StageProgress:
    """Listens to outcomes and shows how far each stage is."""

    def __init__(self, console: Console, plans: Sequence[StagePlan]) -> None:
        self._console = console
        self._has_bars = console.is_terminal
        self._bars = Progress(
            TextColumn("{task.fields[name]:<12} {task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[yellow]{task.fields[note]}"),
            console=console,
            disable=not self._has_bars,
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
        if not self._has_bars:
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
        return (
            ("", stage)
            if stage in {Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS}
            else (name, stage)
        )


class VerifyProgress:
    """Listens to a verification and shows how far it is; on no terminal it is silent."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "VerifyProgress":
        self._bars.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._bars.__exit__(None, None, None)

    def told(self, what: str, done: int, of: int) -> None:
        """Take note of how far a check is."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=of)
        self._bars.update(self._tasks[what], completed=done + 1)


def show_verification(console: Console, found: Sequence[Checked]) -> bool:
    """What was checked, each difference in a line, and the verdict; whether nothing differs."""
    table = _table("What was checked", "", ["how many", "differences"])
    for checked in found:
        number = len(checked.differences)
        style = "[bold red]" if number else ""
        table.add_row(escape(checked.name), f"{checked.number:,}", f"{style}{number:,}")
    console.print(table)
    for notice in (notice for checked in found for notice in checked.notices):
        console.print(f"  note: {notice}", markup=False, highlight=False, soft_wrap=True)
    differences = [told for checked in found for told in checked.differences]
    for told in differences:
        console.print(f"  • {told}", markup=False, highlight=False, soft_wrap=True)
    number = len(differences)
    words = "1 difference" if number == 1 else f"{number:,} differences"
    console.print(f"\n{words}", style="bold red" if number else "bold green", highlight=False)
    return not differences


def show_report(console: Console, report: RunReport, funnel: Funnel, title: str) -> None:
    """The funnel, the money, the payees, and whether everything is accounted for."""
    console.print()
    console.print(_funnel_table(funnel.feeds, title))
    if funnel.money:
        console.print(_money_table(funnel))
    if not funnel.payouts.is_empty():
        console.print(_payee_table(funnel))
    _show_problems(console, [*report.problems, *funnel.notices, *report.waiting])
    _show_verdict(console, funnel, report.failed)


def _by_release(feed: FeedFunnel) -> int:
    return feed.lines_by_method["upc_title"] + feed.lines_by_method["title_artist_album"]


_FUNNEL_ROWS: tuple[tuple[str, Callable[[FeedFunnel], int]], ...] = (
    ("rows received", lambda feed: feed.received),
    ("  rejected", lambda feed: feed.rejected),
    ("  duplicates", lambda feed: feed.duplicates),
    ("  accepted", lambda feed: feed.accepted),
    ("  taking back earlier", lambda feed: feed.taken_back),
    ("    by a person's decision", lambda feed: feed.lines_by_method["rule"]),
    ("    by ISRC", lambda feed: feed.lines_by_method["isrc"]),
    ("    by release and title", _by_release),
    ("    by equal names", lambda feed: feed.lines_by_method["title_artist_equal"]),
    ("    by similar names", lambda feed: feed.lines_by_method["title_artist_similar"]),
    ("    exceptions", lambda feed: feed.lines_by_method["exception"]),
    ("units accepted", lambda feed: feed.units),
    ("  matched", lambda feed: feed.units_matched),
    ("  in suspense", lambda feed: feed.units_in_suspense),
)


_SHOWN_IF_ANY = {"taking back earlier", "by a person's decision", "by release and title"}


def _table(title: str, first_column: str, columns: Sequence[str], caption: str = "") -> Table:
    """A table whose figures stand under names; nothing in it is ever cut off."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption or None,
        caption_justify="left",
    )
    table.add_column(first_column, no_wrap=True)
    for name in columns:
        table.add_column(escape(name), justify="right", overflow="fold")
    return table


def _funnel_table(feeds: list[FeedFunnel], title: str) -> Table:
    total = ["all"] if len(feeds) > 1 else []
    table = _table(title, "", [*(feed.feed for feed in feeds), *total])
    for words, figure in _FUNNEL_ROWS:
        if words.strip() in _SHOWN_IF_ANY and not any(map(figure, feeds)):
            continue
        figures = [figure(feed) for feed in feeds]
        sums = [f"[bold]{sum(figures):,}"] if total else []
        if words == "units accepted":
            table.add_section()
        table.add_row(words, *(f"{number:,}" for number in figures), *sums)
    return table


def _money_table(funnel: Funnel) -> Table:
    currencies = sorted(funnel.money)
    caption = "Shown to 6 decimals; the books hold 18, and it is those that are checked."
    table = _table("Where the money went", "", currencies, caption)
    for name in MONEY_COLUMNS:
        words = name if name == "received" else f"  {name.replace('_', ' ')}"
        table.add_row(words, *(_amount(funnel.money[c][name], c) for c in currencies))
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
    table = _table("Top payees", "payee", ["currency", "paid"])
    for name, currency, atoms in top_payees(funnel.payouts, 3):
        table.add_row(escape(name), currency, _amount(atoms, currency))
    return table


def _show_problems(console: Console, problems: list[str]) -> None:
    if not problems:
        return
    console.print(f"\n[yellow]To look at ({len(problems)}):")
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
    console.print(f"\nNOT accounted for: {len(findings)} to look at", style="bold red")
    for finding in findings[:PROBLEMS_SHOWN_MAX]:
        console.print(f"  • {finding}", markup=False, highlight=False, soft_wrap=True)


_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def show_findings(console: Console, findings: Sequence[Finding], month: str) -> None:
    """What is found in contracts: each with the money it touches and what to do."""
    for finding in findings:
        money = ", ".join(
            f"{format_money(atoms, currency)} {currency}"
            for currency, atoms in sorted(finding.money.items())
            if atoms
        )
        console.print(
            f"{finding.severity} {finding.rule}", style=_SEVERITY_STYLES[finding.severity], end=" "
        )
        console.print(
            f"{finding.told}." + (f" Touches {money}." if money else ""),
            f"\n    {finding.to_do[:1].upper()}{finding.to_do[1:]}.",
            markup=False, emoji=False, highlight=False, soft_wrap=True, sep="",
        )  # fmt: skip
    count = {severity: sum(f.severity == severity for f in findings) for severity in Severity}
    told = ", ".join(f"{number} {name}{'s' * (number != 1)}" for name, number in count.items())
    console.print(f"contracts for {month}: {told}", highlight=False)
