"""The charts of a statement, drawn as lines and rectangles: they are sharp at any size.

Each shows figures that also stand beside it as text. Widths are drawn by ratio of integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from royalty_assets.statements.pdf.sheet import GAIN, GREY, HAIRLINE, INK, LOSS, Sheet
from royalty_assets.statements.pdf.typeface import MEDIUM, REGULAR, width_of

_BAR_STEP = 17.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, its figure as text, and the figure."""

    name: str
    text: str
    atoms: int


class Scale:
    """Amounts onto a stretch of the page; nothing is always on it."""

    def __init__(self, amounts: Sequence[int], start: float, length: float) -> None:
        self._low = min(0, *amounts) if amounts else 0
        self._high = max(0, *amounts) if amounts else 0
        self._start = start
        self._length = length

    def at(self, amount: int) -> float:
        """Where an amount is."""
        span = self._high - self._low
        return self._start + (self._length * ((amount - self._low) / span) if span else 0)


def bars(sheet: Sheet, x: float, top: float, width: float, title: str, rows: Sequence[Bar]) -> None:
    """Horizontal bars below each other, name on the left and figure on the right."""
    sheet.text(x, top, title, font=MEDIUM, size=9.5)
    if not rows:
        sheet.text(x, top + _BAR_STEP, "Nothing was earned in this period.", size=8, color=GREY)
        return
    names = min(0.36 * width, max(width_of(row.name, REGULAR, 8) for row in rows) + 9)
    figures = max(width_of(row.text, REGULAR, 8) for row in rows) + 8
    scale = Scale([row.atoms for row in rows], x + names, width - names - figures)
    for row in rows:
        top += _BAR_STEP
        sheet.text(x, top, row.name, size=8, width=names - 6)
        sheet.text(x + width, top, row.text, size=8, right=True)
        _bar(sheet, scale, 0, row.atoms, top - 7.5, 9)


def waterfall_bar(sheet: Sheet, scale: Scale, before: int, after: int, top: float) -> None:
    """One step of a walk, from what there was to what there is."""
    _bar(sheet, scale, before, after, top - 7.5, 9)


def total_bar(sheet: Sheet, scale: Scale, amount: int, top: float) -> None:
    """Where a walk ends."""
    left, right = sorted((scale.at(0), scale.at(amount)))
    sheet.box(left, top - 7.5, max(right - left, 0.8), 9, INK)


def _bar(sheet: Sheet, scale: Scale, before: int, after: int, top: float, height: float) -> None:
    left, right = sorted((scale.at(before), scale.at(after)))
    # What is not nothing is seen, however small it is beside the others.
    least = 0.8 if before != after else 0.0
    sheet.box(left, top, max(right - left, least), height, GAIN if after >= before else LOSS)


def columns(sheet: Sheet, x: float, width: float, height: float, rows: Sequence[Bar]) -> None:
    """Upright bars beside each other from ``sheet.top`` on, with figure above and name below."""
    room = width / max(len(rows), 6)
    scale = Scale([row.atoms for row in rows], 0, height)
    top = sheet.top + 21
    zero = top + height - scale.at(0)
    # Figures that would run into each other stand in the table only.
    has_figures = all(width_of(row.text, REGULAR, 7) < room - 2 for row in rows)
    every = next(n for n in (1, 2, 3, 4, 6, 12, 24) if room * n > width_of("Mmm 00", REGULAR, 7))
    for number, row in enumerate(rows):
        end = top + height - scale.at(row.atoms)
        middle = x + room * number + room / 2
        thick = min(26.0, room * 0.6)
        upper, lower = sorted((zero, end))
        sheet.box(middle - thick / 2, upper, thick, max(lower - upper, 0.6), GAIN)
        if has_figures:
            half = width_of(row.text, REGULAR, 7) / 2
            sheet.text(middle - half, upper - 3.5, row.text, size=7)
        if number % every == 0:
            half = width_of(row.name, REGULAR, 7) / 2
            sheet.text(middle - half, top + height + 10, row.name, size=7, color=GREY)
    sheet.box(x, zero, width, 0.5, HAIRLINE)
    sheet.top = top + height + 16
