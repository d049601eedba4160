"""What ``royalty-assets what-if`` shows: who gains and who loses, as tables, JSON and a drawing.

Figures are computed in ``pipeline.what_if``; nothing is counted here.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape as escape_xml

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from royalty_assets.domain.money import (
    AMOUNT_DECIMALS,
    format_atoms,
    format_money,
    minor_unit_decimals,
)
from royalty_assets.pipeline.what_if import Change, WhatIf, by_currency

_BAR_CELLS = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_what_if(console: Console, found: WhatIf, limit: int) -> None:
    """The largest gains and losses by recording and rights holder, per currency."""
    now = ", ".join(f"{feed} ({model.model})" for feed, model in found.feeds.items())
    console.print(
        f"[bold]{escape(found.month[:7])}[/]: {escape(now)} by [bold]{found.model.model}[/] "
        f"{escape(_parameters(found))}".rstrip(),
        highlight=False,
        soft_wrap=True,
    )
    recordings, holders = by_currency(found.recordings), by_currency(found.rights_holders)
    for currency, (before, after) in sorted(found.totals.items()):
        gained = sum(max(change.difference, 0) for change in recordings[currency])
        console.print(
            f"\n{_rounded(gained, currency)} of {_rounded(before, currency)} {currency} changes "
            f"hands; the sum {'is the same' if before == after else 'DIFFERS'}",
            highlight=False,
        )
        for title, changes in (("recording", recordings), ("rights holder", holders)):
            console.print(_table(title, changes[currency], limit))
    for feed in found.left_out:
        console.print(
            f"{escape(feed)} stays as it is: its reports do not say who listened.",
            highlight=False,
            soft_wrap=True,
        )


def _parameters(found: WhatIf) -> str:
    parameters = found.model.model_dump(exclude={"model"})
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _table(title: str, changes: list[Change], limit: int) -> Table:
    table = Table(title_justify="left")
    table.add_column(title, overflow="fold")
    has_artists = title == "recording"
    if has_artists:
        table.add_column("artist", overflow="fold")
        table.add_column("plays", justify="right", no_wrap=True)
    for name in ("now", "then", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", min_width=2 * _BAR_CELLS + 1, no_wrap=True)
    shown = largest(changes, limit)
    longest = max((abs(change.difference) for change in shown), default=0)
    for change in shown:
        of_recording = [escape(change.artist), f"{change.units:,}"] if has_artists else []
        currency = change.currency
        sign = "+" if change.difference > 0 else ""
        table.add_row(
            escape(change.name or change.key),
            *of_recording,
            _rounded(change.before, currency),
            _rounded(change.after, currency),
            sign + _rounded(change.difference, currency),
            _bar(change.difference, longest),
            end_section=change.difference > 0 and change is _last_gain(shown),
        )
    return table


def _last_gain(shown: Sequence[Change]) -> Change:
    return [change for change in shown if change.difference > 0][-1]


def largest(changes: Sequence[Change], limit: int) -> list[Change]:
    """The largest gains and the largest losses, largest gain first, so many of each at most."""
    ordered = sorted(changes, key=lambda change: (-change.difference, change.key))
    gains = [change for change in ordered if change.difference > 0]
    losses = [change for change in ordered if change.difference < 0]
    return gains[:limit] + losses[max(len(losses) - limit, 0) :]


def _rounded(atoms: int, currency: str) -> str:
    """An amount for people, to the currency's own decimals."""
    minor_unit = 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))
    units = (2 * abs(atoms) + minor_unit) // (2 * minor_unit)
    return format_money((units if atoms >= 0 else -units) * minor_unit, currency)


def _bar(difference: int, longest: int) -> str:
    """A bar to the right for a gain, to the left for a loss, around a middle."""
    eighths = abs(difference) * _BAR_CELLS * 8 // longest if longest else 0
    cells, rest = divmod(eighths, 8)
    if difference < 0:
        # Eighths grow from the left only; a loss is rounded to whole cells.
        full = "█" * max(cells + (rest >= 4), 1)
        return f"[red]{full.rjust(_BAR_CELLS)}[/]│"
    full = "█" * cells + (_EIGHTHS[rest] if rest else "")
    return f"{' ' * _BAR_CELLS}│[green]{full or '▏'}[/]"


def what_if_json(found: WhatIf) -> dict[str, Any]:
    """All of it, exact: amounts as texts of up to 18 decimals."""

    def told(change: Change) -> dict[str, Any]:
        return {
            "currency": change.currency,
            "key": change.key,
            "name": change.name,
            **({"artist": change.artist, "units": change.units} if change.units else {}),
            "before": format_atoms(change.before),
            "after": format_atoms(change.after),
            "change": format_atoms(change.difference),
        }

    return {
        "month": found.month,
        "model": found.model.model_dump(mode="json"),
        "feeds": {name: model.model_dump(mode="json") for name, model in found.feeds.items()},
        "left_out": found.left_out,
        "totals": {
            currency: {"before": format_atoms(before), "after": format_atoms(after)}
            for currency, (before, after) in found.totals.items()
        },
        "recordings": [told(change) for change in found.recordings],
        "rights_holders": [told(change) for change in found.rights_holders],
    }


_ROW, _HEAD, _NAMES, _BARS, _AMOUNTS = 26, 50, 350, 300, 110
_NAME_CELLS = 42
_GAIN, _LOSS, _INK = "#2f7d5b", "#b4462f", "#222"


def what_if_svg(title: str, changes: Sequence[Change], limit: int) -> str:
    """A drawing of the largest gains and losses, per currency one below the other."""
    width = _NAMES + _BARS + _AMOUNTS
    body: list[str] = []
    y = _HEAD
    for currency, own in sorted(by_currency(list(changes)).items()):
        shown = largest(own, limit)
        longest = max((abs(change.difference) for change in shown), default=1)
        body.append(_text(16, y, currency, "start", weight="bold"))
        for change in shown:
            y += _ROW
            body += _drawn(change, longest, y)
        y += _ROW + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" '
            f'height="{y}" font-family="system-ui, sans-serif" font-size="13" role="img">',
            f"<title>{escape_xml(title)}</title>",
            f'<rect width="{width}" height="{y}" fill="#fff"/>',
            _text(16, 22, title, "start", size=15),
            *body,
            "</svg>\n",
        ]
    )


def _drawn(change: Change, longest: int, y: int) -> list[str]:
    name = change.name or change.key
    by = f" · {change.artist}" if change.artist else ""
    label = name + by
    if cell_len(label) > _NAME_CELLS:
        label = set_cell_size(label, _NAME_CELLS - 1).rstrip() + "…"
    middle = _NAMES + _BARS // 2
    length = Decimal(abs(change.difference) * (_BARS // 2 - 8) * 10 // longest) / 10
    left = middle if change.difference > 0 else middle - length
    colour = _GAIN if change.difference > 0 else _LOSS
    sign = "+" if change.difference > 0 else ""
    amount = sign + _rounded(change.difference, change.currency)
    return [
        _text(_NAMES - 10, y + 4, label, "end"),
        f'<rect x="{left}" y="{y - 8}" width="{length}" height="16" fill="{colour}"/>',
        f'<path d="M{middle} {y - 13}v26" stroke="{_INK}" stroke-width="1"/>',
        _text(_NAMES + _BARS + _AMOUNTS - 16, y + 4, amount, "end"),
    ]


def _text(x: int, y: int, text: str, anchor: str, *, size: int = 13, weight: str = "normal") -> str:
    # XML has no place for control characters, not even escaped.
    plain = "".join(c if c.isprintable() else " " for c in text)
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{_INK}">{escape_xml(plain)}</text>'
    )
