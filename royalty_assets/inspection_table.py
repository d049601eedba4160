"""What ``royalty-assets inspect`` shows of a file. Nothing is read here.

Apart from ``console``, so that looking into a file does not wait for Dagster to load.
"""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from royalty_assets.domain.money import format_money
from royalty_assets.sources.inspection import Inspection

_FINDINGS_SHOWN = 5


def show_inspection(console: Console, found: Inspection) -> None:
    """What a file is, what it comes to, and what of it is refused."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", justify="right")
    facts.add_column(overflow="fold")
    known = found.template is not None
    kind = found.template or "not recognised"
    if found.generation:
        kind += f" ({found.generation})"
    facts.add_row("file", escape(found.name))
    facts.add_row("is", f"[{'green' if known else 'red'}]{escape(kind)}[/]")
    if found.refused is not None:
        facts.add_row("refused", escape(f"{found.refused[0]}: {found.refused[1]}"), style="red")
    if known:
        _add_figures(facts, found)
    console.print(facts)
    if found.rules:
        table = Table("rule", "rows", "first row", "value", "why", title="Refused rows")
        table.title_justify = "left"
        table.columns[0].overflow = "fold"
        for rule, number in found.rules.most_common():
            first = next((r for r in found.rejections if r.rule == rule), None)
            cells = ["", "", ""]
            if first is not None:
                cells = [str(first.row_number), first.value, first.reason]
            table.add_row(escape(rule), f"{number:,}", *map(escape, cells))
        console.print(table)
    if not known:
        console.print("`royalty-assets template suggest FILE` drafts a template for it.")


def _add_figures(facts: Table, found: Inspection) -> None:
    told = f"{found.rows_read:,} read = {found.lines:,} lines + {found.rejected:,} refused"
    facts.add_row("rows", told)
    if found.records != "report_lines":
        facts.add_row("rows are", found.records)
        return
    facts.add_row("units", f"{found.units:,}")
    for currency, atoms in sorted(found.money.items()):
        money = f"{format_money(atoms, currency)} {currency}"
        if shared := found.pools.get(currency, 0):
            money += f", {format_money(shared, currency)} of it shared by usage"
        facts.add_row("money", money)
    if not found.money and found.lines:
        facts.add_row("money", "none: the usage shares a pool that comes apart from it")
    if found.first_day is not None:
        facts.add_row("used", f"{found.first_day} to {found.last_day}")
    facts.add_row("text", found.encoding)
    for check, findings in found.findings.items():
        for finding in findings[:_FINDINGS_SHOWN]:
            facts.add_row(f"[yellow]{check.replace('_', ' ')}: no[/]", escape(finding))
    for word, number in found.notes.items():
        facts.add_row("noted", f"{word} on {number:,} lines")
