"""Drawing on A4 sheets: text, tables that go on over pages, page numbers.

Measures are points. ``top`` runs down the page from its upper edge, as one reads; the library's
own y runs up. What is drawn is up to ``document`` and ``charts``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from io import BytesIO
from typing import Any, cast

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from royalty_assets.statements.pdf.typeface import (
    MEDIUM,
    REGULAR,
    fitting_size,
    legible,
    load_typeface,
    width_of,
    wrapped,
)

INK = HexColor("#17212b")
GREY = HexColor("#66727f")
HAIRLINE = HexColor("#d5dbe1")
PALE = HexColor("#f2f5f7")
GAIN = HexColor("#2a7f86")
LOSS = HexColor("#bd5b3a")

PAGE_WIDTH, PAGE_HEIGHT = A4
LEFT = 46.0
RIGHT = PAGE_WIDTH - 46.0
WIDTH = RIGHT - LEFT
_TOP = 74.0
_BOTTOM = PAGE_HEIGHT - 58.0
_TOTAL_PAGES = "total_pages"
_LEADING = 1.3
_PADDING = 3.2
_GAP = 8.0


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: at its head.
        width: in points.
        right: whether it is aligned at its right edge, as numbers are.
        lines_max: over how many lines a text may run.
    """

    title: str
    width: float
    right: bool = False
    lines_max: int = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and below it another that says more, smaller and grey."""

    text: str
    under: str = ""


Row = Sequence[Cell]


class Sheet:
    """The pages of one document.

    Args:
        title: the document's, for readers' windows and for people who cannot see it.
        author: who issues it.
        identity: what the file's identifier follows from.
        dated: the day that the file says it was made.
        running: what stands at the head of all pages but the first, left and right.
        footing: what stands at the foot of all pages.
    """

    def __init__(
        self,
        *,
        title: str,
        author: str,
        identity: str,
        dated: date,
        running: tuple[str, str],
        footing: str,
    ) -> None:
        load_typeface()
        self._out = BytesIO()
        self._canvas = Canvas(self._out, pagesize=A4, pageCompression=1, invariant=1, lang="en")
        # Date and identifier would be the machine's, or its environment's.
        self._canvas.setDateFormatter(lambda *_: f"D:{dated:%Y%m%d}000000Z")
        document = cast("Any", self._canvas)._doc  # noqa: SLF001 - there is no public way
        document.signature = sha256(identity.encode())
        self._canvas.setTitle(legible(title))
        self._canvas.setAuthor(legible(author))
        self._canvas.setCreator("royalty-assets")
        self._running = running
        self._footing = footing
        self._page = 1
        self.top = 46.0

    def finish(self) -> bytes:
        """The document; nothing can be drawn on it any more."""
        self._end_page()
        self._canvas.beginForm(_TOTAL_PAGES)
        self._canvas.setFillColor(GREY)
        self._canvas.setFont(REGULAR, 7.5)
        self._canvas.drawString(0, 0, str(self._page))
        self._canvas.endForm()
        self._canvas.save()
        return self._out.getvalue()

    @property
    def room(self) -> float:
        """What is left of the page."""
        return _BOTTOM - self.top

    def next_page(self) -> None:
        """Go on at the top of a new page."""
        self._end_page()
        self._canvas.showPage()
        self._page += 1
        self.top = 40.0
        left, right = self._running
        self.text(LEFT, self.top, left, size=8, color=GREY, width=WIDTH * 0.6)
        self.text(RIGHT, self.top, right, size=8, color=GREY, right=True, width=WIDTH * 0.38)
        self.rule(self.top + 6)
        self.top = _TOP

    def need(self, height: float) -> None:
        """Go on to the next page unless so much room is left."""
        if self.room < height:
            self.next_page()

    def _end_page(self) -> None:
        at = PAGE_HEIGHT - 34
        self.rule(at - 12)
        self.text(LEFT, at, self._footing, size=7.5, color=GREY, width=WIDTH * 0.75)
        last = f"Page {self._page} of "
        # Room for two digits: how many pages there are is known at the end.
        start = RIGHT - width_of(f"{last}99", REGULAR, 7.5)
        self.text(start, at, last, size=7.5, color=GREY)
        self._canvas.saveState()
        self._canvas.translate(start + width_of(last, REGULAR, 7.5), PAGE_HEIGHT - at)
        self._canvas.doForm(_TOTAL_PAGES)
        self._canvas.restoreState()

    # Strokes

    def text(
        self,
        x: float,
        top: float,
        text: str,
        *,
        font: str = REGULAR,
        size: float = 9,
        color: Color = INK,
        right: bool = False,
        width: float = WIDTH,
    ) -> float:
        """One line with its baseline at ``top``, cut where it is wider; how wide it became."""
        (line,) = wrapped(legible(text), font, size, width, 1)
        self._canvas.setFont(font, size)
        self._canvas.setFillColor(color)
        draw = self._canvas.drawRightString if right else self._canvas.drawString
        draw(x, PAGE_HEIGHT - top, line)
        return width_of(line, font, size)

    def paragraph(
        self,
        text: str,
        *,
        x: float = LEFT,
        width: float = WIDTH,
        font: str = REGULAR,
        size: float = 9,
        color: Color = INK,
        lines_max: int = 60,
    ) -> None:
        """Lines from ``self.top`` on, which is below them afterwards."""
        for line in wrapped(legible(text), font, size, width, lines_max):
            self.need(size * _LEADING)
            self.top += size * _LEADING
            self.text(x, self.top, line, font=font, size=size, color=color, width=width + 1)

    def heading(self, text: str, *, below: float = 60) -> None:
        """A heading, on the next page if nothing of what follows would fit below it."""
        self.need(below + 30)
        self.top += 8 if self.top == _TOP else 24
        self.text(LEFT, self.top, text, font=MEDIUM, size=13)
        self.top += 7

    def rule(self, top: float, *, x: float = LEFT, to: float = RIGHT, heavy: bool = False) -> None:
        """A line across."""
        self._canvas.setStrokeColor(INK if heavy else HAIRLINE)
        self._canvas.setLineWidth(0.8 if heavy else 0.5)
        self._canvas.line(x, PAGE_HEIGHT - top, to, PAGE_HEIGHT - top)

    def upright(self, x: float, top: float, bottom: float) -> None:
        """A thin line down."""
        self._canvas.setStrokeColor(HAIRLINE)
        self._canvas.setLineWidth(0.5)
        self._canvas.line(x, PAGE_HEIGHT - top, x, PAGE_HEIGHT - bottom)

    def box(self, x: float, top: float, width: float, height: float, color: Color) -> None:
        """A filled rectangle."""
        self._canvas.setFillColor(color)
        self._canvas.rect(x, PAGE_HEIGHT - top - height, width, height, stroke=0, fill=1)

    # Tables

    def table(
        self,
        columns: Sequence[Column],
        rows: Iterable[Row],
        *,
        totals: Sequence[Row] = (),
        size: float = 8,
    ) -> None:
        """Rows below each other, over as many pages as it takes; each page has the head again.

        Args:
            columns: as wide as the sheet together, or less.
            rows: a cell per column.
            totals: rows at the end, set off and stronger; kept with each other.
            size: of the letters.
        """
        self._table_head(columns)
        for row in rows:
            lines, height = _laid_out(columns, row, REGULAR, size)
            if self.room < height + 2:
                self.next_page()
                self._table_head(columns)
            self._table_row(columns, lines, height, REGULAR)
        laid_out = [_laid_out(columns, row, MEDIUM, size) for row in totals]
        if laid_out and self.room < sum(height for _, height in laid_out) + 6:
            self.next_page()
            self._table_head(columns)
        if laid_out:
            self.rule(self.top, heavy=True, to=LEFT + sum(column.width for column in columns))
        for lines, height in laid_out:
            self._table_row(columns, lines, height, MEDIUM)

    def _table_head(self, columns: Sequence[Column]) -> None:
        self.top += 16
        x = LEFT
        for column in columns:
            at = x + _text_width(columns, column) if column.right else x
            self.text(
                at, self.top, column.title, font=MEDIUM, size=7.2, color=GREY, right=column.right,
                width=_text_width(columns, column),
            )  # fmt: skip
            x += column.width
        self.top += 4.5
        self.rule(self.top, to=x)

    def _table_row(
        self, columns: Sequence[Column], cells: Sequence["_LaidOut"], height: float, font: str
    ) -> None:
        x = LEFT
        for column, cell in zip(columns, cells, strict=True):
            at = x + _text_width(columns, column) if column.right else x
            top = self.top + _PADDING
            for line in cell.main:
                top += cell.size * _LEADING
                baseline = top - cell.size * 0.25
                self.text(at, baseline, line, font=font, size=cell.size, right=column.right)
            for line in cell.under:
                top += cell.size_under * _LEADING
                baseline = top - cell.size_under * 0.25
                self.text(
                    at, baseline, line, size=cell.size_under, color=GREY, right=column.right
                )  # fmt: skip
            x += column.width
        self.top += height
        self.rule(self.top, to=x)


@dataclass(frozen=True, slots=True)
class _LaidOut:
    """The lines of a cell, and how large they are."""

    main: list[str]
    under: list[str]
    size: float
    size_under: float

    @property
    def height(self) -> float:
        return (len(self.main) * self.size + len(self.under) * self.size_under) * _LEADING


def _text_width(columns: Sequence[Column], column: Column) -> float:
    """A column's without the gap to the next."""
    return column.width if column is columns[-1] else column.width - _GAP


def _laid_out(
    columns: Sequence[Column], row: Row, font: str, size: float
) -> tuple[list[_LaidOut], float]:
    """Each cell of a row, and how high the row is."""
    cells = []
    for column, cell in zip(columns, row, strict=True):
        width = _text_width(columns, column)
        text, under = legible(cell.text), legible(cell.under)
        if column.right:
            # A number is never broken or cut: it would be another number.
            fitting = fitting_size(text, font, size, width)
            fitting_under = fitting_size(under, REGULAR, size - 1, width)
            cells.append(_LaidOut([text], [under] if under else [], fitting, fitting_under))
        else:
            main = wrapped(text, font, size, width, column.lines_max)
            below = wrapped(under, REGULAR, size - 1, width, column.lines_max) if under else []
            cells.append(_LaidOut(main, below, size, size - 1))
    return cells, max(cell.height for cell in cells) + 2 * _PADDING
