"""What stands on a statement's PDF, section by section.

The first page is for who only wants to know what is paid and why it is that much; what follows is
for who wants to check it. The explanations are the statement's own.
"""

from datetime import date, timedelta
from typing import Any

import polars as pl

from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Movement, Statement, movement_atoms
from royalty_assets.statements.pdf.charts import (
    Bar,
    Scale,
    bars,
    columns,
    total_bar,
    waterfall_bar,
)
from royalty_assets.statements.pdf.figures import (
    MOVEMENT_NAMES,
    Slice,
    Step,
    count_text,
    exact_text,
    largest,
    largest_lines,
    line_steps,
    line_text,
    paid_atoms,
    period_name,
    period_short,
    slices,
    small_sum_text,
    sum_text,
    territory_name,
    walk,
    with_atoms,
)
from royalty_assets.statements.pdf.sheet import (
    GAIN,
    GREY,
    LEFT,
    PALE,
    RIGHT,
    WIDTH,
    Cell,
    Column,
    Sheet,
)
from royalty_assets.statements.pdf.typeface import (
    MEDIUM,
    REGULAR,
    fitting_size,
    legible,
    width_of,
    wrapped,
)

LINES_SHOWN_MAX = 500
"""Lines in the PDF, the largest; some thirty pages would be printed by nobody."""
_CORRECTIONS_SHOWN_MAX = 20
_STEPS_MAX = 12
_HISTORY_SHOWN_MAX = 24
_BARS_MAX = 8
_RECORDINGS_MAX = 5
_HALF_A_PAGE = 330.0
_EXACT_TAIL = 94.0
"""How wide a point and 18 decimals are, in the size of the text."""


def statement_pdf(statement: Statement, *, issued_by: str = "") -> bytes:
    """The statement as a PDF on A4; the same statement gives the same bytes.

    Args:
        statement: that holds (``statement_differences`` finds nothing).
        issued_by: who pays, as it is to stand on the page.
    """
    name = period_name(statement.period)
    sheet = Sheet(
        title=f"Royalty statement {name}, {statement.payee_name}",
        author=issued_by,
        identity=statement.statement_id,
        dated=_after(statement.period),
        running=(statement.payee_name, f"Royalty statement, {name}"),
        footing=" · ".join(filter(None, (issued_by, f"Statement {statement.statement_id}"))),
    )
    _who_and_when(sheet, statement, issued_by)
    _paid(sheet, statement)
    _walk(sheet, statement)
    _charts(sheet, statement)
    _top_recordings(sheet, statement)
    sheet.next_page()
    _recoupment(sheet, statement)
    _reserves(sheet, statement)
    _adjustments(sheet, statement)
    _lines(sheet, statement)
    _how_computed(sheet, statement)
    return sheet.finish()


def _after(period: str) -> date:
    """The first day after the period."""
    first = date.fromisoformat(f"{period}-01")
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)


# Page one


def _who_and_when(sheet: Sheet, statement: Statement, issued_by: str) -> None:
    sheet.text(LEFT, sheet.top, "ROYALTY STATEMENT", font=MEDIUM, size=8.5, color=GAIN)
    sheet.text(
        RIGHT, sheet.top, period_name(statement.period), font=MEDIUM, size=8.5, right=True
    )  # fmt: skip
    sheet.top += 8
    for line in wrapped(legible(statement.payee_name), MEDIUM, 20, WIDTH, 2):
        sheet.top += 24
        sheet.text(LEFT, sheet.top, line, font=MEDIUM, size=20)
    about = [f"Payee {statement.payee_id}", f"Statement {statement.statement_id}"]
    if issued_by:
        about.append(f"Issued by {issued_by}")
    sheet.top += 5
    sheet.paragraph(" · ".join(about), size=8.5, color=GREY, lines_max=2)
    sheet.top += 14


def _paid(sheet: Sheet, statement: Statement) -> None:
    """The one figure, and three that stand behind it."""
    paid = paid_atoms(statement)
    why_not = "" if paid else _carried_because(statement)
    height = 80.0 if why_not else 66.0
    top = sheet.top
    sheet.box(LEFT, top, WIDTH, height, PALE)
    sheet.box(LEFT, top, 3, height, GAIN)
    sheet.text(LEFT + 16, top + 19, f"Paid for {period_name(statement.period)}", color=GREY)
    figure = sum_text(paid, statement.currency)
    size = fitting_size(figure, MEDIUM, 32, WIDTH * 0.5)
    width = sheet.text(LEFT + 16, top + 51, figure, font=MEDIUM, size=size)
    sheet.text(LEFT + 16 + width + 6, top + 51, statement.currency, size=13, color=GREY)
    if why_not:
        sheet.text(LEFT + 16, top + 68, why_not, size=8, color=GREY, width=WIDTH - 28)
    facts = (
        ("Earned", movement_atoms(statement, Movement.EARNINGS)),
        ("Still to be recouped", _to_recoup(statement)),
        ("Reserves held", sum(series_to_atoms(statement.reserves["amount"]))),
        ("Carried forward", -movement_atoms(statement, Movement.CARRIED_FORWARD)),
    )
    figures = [sum_text(atoms, statement.currency) for _, atoms in facts]
    wide = max(60.0, *(width_of(text, REGULAR, 8) for text in figures))
    for number, ((name, _), text) in enumerate(zip(facts, figures, strict=True)):
        at = top + 17 + 13.4 * number
        sheet.text(RIGHT - 24 - wide, at, name, size=8, color=GREY, right=True)
        sheet.text(RIGHT - 12, at, text, size=8, right=True)
    sheet.top = top + height


def _carried_because(statement: Statement) -> str:
    """Why the balance is carried forward, in the statement's own words."""
    carried = statement.movements.filter(pl.col("movement") == Movement.CARRIED_FORWARD)
    return " ".join(carried["explanation"])


def _to_recoup(statement: Statement) -> int:
    """What the accounts are open with at the end: the last closing of each."""
    last = dict(
        zip(
            statement.recoupment["account"],
            series_to_atoms(statement.recoupment["closing"]),
            strict=True,
        )
    )
    return sum(last.values())


def _walk(sheet: Sheet, statement: Statement) -> None:
    steps = walk(statement, _STEPS_MAX)
    paid = paid_atoms(statement)
    sheet.heading("From brought forward to paid")
    reached = [0]
    for step in steps:
        reached.append(reached[-1] + step.atoms)
    texts = [small_sum_text(step.atoms, statement.currency) for step in steps]
    figures = max(width_of(text, MEDIUM, 9) for text in [*texts, sum_text(paid, "KWD")])
    # Points stand below each other, also where a figure of less than a cent has more decimals.
    tails = [text.partition(".")[2] for text in [*texts, sum_text(paid, statement.currency)]]
    tail = max(width_of(f".{text}", MEDIUM, 9) if text else 0 for text in tails)
    names = 178.0
    point = LEFT + names + max(figures, 60)
    scale = Scale([*reached, paid], point + 14, RIGHT - point - 14)
    first = sheet.top
    for step, text, before, after in zip(steps, texts, reached, reached[1:], strict=False):
        sheet.top += 16.5
        width = sheet.text(LEFT, sheet.top, step.name, width=names)
        if step.reference:
            sheet.text(
                LEFT + width + 5, sheet.top, step.reference, size=7.5, color=GREY,
                width=names - width - 5,
            )  # fmt: skip
        _pointed(sheet, point, tail, text)
        waterfall_bar(sheet, scale, before, after, sheet.top)
    sheet.top += 5
    sheet.rule(sheet.top, heavy=True, to=point)
    sheet.top += 14
    sheet.text(LEFT, sheet.top, f"Paid, {statement.currency}", font=MEDIUM)
    _pointed(sheet, point, tail, sum_text(paid, statement.currency), font=MEDIUM)
    total_bar(sheet, scale, paid, sheet.top)
    sheet.upright(scale.at(0), first + 6, sheet.top + 5)
    sheet.top += 6


def _pointed(sheet: Sheet, right: float, tail: float, text: str, font: str = REGULAR) -> None:
    """A figure whose decimal point is ``tail`` left of ``right``."""
    whole, point, decimals = text.partition(".")
    sheet.text(right - tail, sheet.top, whole, font=font, right=True)
    if point:
        sheet.text(right - tail, sheet.top, f".{decimals}", font=font)


def _charts(sheet: Sheet, statement: Statement) -> None:
    services = largest(slices(statement, "feed"), _BARS_MAX, "other services")
    territories = [
        Slice((territory_name(part.name[0]),), part.units, part.atoms)
        for part in slices(statement, "territory")
    ]
    territories = largest(territories, _BARS_MAX, "other territories")
    gap = 30.0
    half = (WIDTH - gap) / 2
    sheet.need(20 + 17 * (1 + max(len(services), len(territories))))
    top = sheet.top + 24
    for x, title, parts in (
        (LEFT, "By service", services),
        (LEFT + half + gap, "By territory", territories),
    ):
        rows = [
            Bar(legible(part.name[0]), sum_text(part.atoms, statement.currency), part.atoms)
            for part in parts
        ]
        bars(sheet, x, top, half, title, rows)
    sheet.top = top + 17 * max(len(services), len(territories), 1) + 4


def _top_recordings(sheet: Sheet, statement: Statement) -> None:
    recordings = slices(statement, "recording_id", "title", "artist", "isrc")
    if not recordings:
        return
    # Two lines a row at most, the head, the heading and the sum.
    fitting = int((sheet.room - 72) // 27)
    if fitting < 1:
        return
    shown = recordings[: min(_RECORDINGS_MAX, fitting)]
    sheet.heading("Top recordings", below=70)
    rest = len(recordings) - len(shown)
    sheet.table(
        [
            Column("Recording", WIDTH - 250, lines_max=1),
            Column("ISRC", 90),
            Column("Units", 70, right=True),
            Column(f"Amount {statement.currency}", 90, right=True),
        ],
        [
            (
                Cell(part.name[1], part.name[2]),
                Cell(part.name[3]),
                Cell(count_text(part.units)),
                Cell(sum_text(part.atoms, statement.currency)),
            )
            for part in shown
        ],
        totals=[
            (
                Cell(f"All {len(recordings):,} recordings" if rest else "All recordings"),
                Cell(""),
                Cell(count_text(sum(part.units for part in recordings))),
                Cell(sum_text(sum(part.atoms for part in recordings), statement.currency)),
            )
        ],
    )


# What stands behind it


def _recoupment(sheet: Sheet, statement: Statement) -> None:
    history = statement.recoupment
    if history.is_empty():
        return
    currency = statement.currency
    sheet.heading("Recoupment")
    sheet.paragraph(
        "Advances and costs that were paid ahead, and what earnings have been set against them "
        "since. What is open at the end of a period is the opening balance of the next.",
        color=GREY,
    )
    for account in history["account"].unique(maintain_order=True):
        rows = history.filter(pl.col("account") == account)[-_HISTORY_SHOWN_MAX:]
        closing = series_to_atoms(rows["closing"])
        sheet.need(170)
        sheet.top += 18
        sheet.text(LEFT, sheet.top, f"Account {account}", font=MEDIUM, size=9.5)
        sheet.text(
            RIGHT, sheet.top, f"Still to be recouped: {sum_text(closing[-1], currency)} {currency}",
            right=True,
        )  # fmt: skip
        columns(
            sheet, LEFT, WIDTH, 58,
            [
                Bar(period_short(period), sum_text(atoms, currency), atoms)
                for period, atoms in zip(rows["period"], closing, strict=True)
            ],
        )  # fmt: skip
        figures = [
            [sum_text(atoms, currency) for atoms in series_to_atoms(rows[name])]
            for name in ("opening", "charged", "recouped", "closing")
        ]
        sheet.table(
            [
                Column("Period", WIDTH - 4 * 100),
                *(
                    Column(f"{name} {currency}", 100, right=True)
                    for name in ("Opening", "Charged", "Recouped", "Closing")
                ),
            ],
            [
                (Cell(period_name(period)), *map(Cell, texts))
                for period, *texts in zip(rows["period"], *figures, strict=True)
            ],
        )


def _reserves(sheet: Sheet, statement: Statement) -> None:
    if statement.reserves.is_empty():
        return
    atoms = series_to_atoms(statement.reserves["amount"])
    sheet.heading("Reserves", below=90)
    sheet.paragraph(
        "Held back for returns and for what services may still correct, and released in the "
        "period named.",
        color=GREY,
    )
    sheet.table(
        [
            Column("Contract", WIDTH - 330),
            Column("Held in", 110),
            Column("Released in", 110),
            Column(f"Amount {statement.currency}", 110, right=True),
        ],
        [
            (
                Cell(contract or "All"),
                Cell(period_name(held)),
                Cell(period_name(released)),
                Cell(sum_text(amount, statement.currency)),
            )
            for (contract, held, released), amount in zip(
                statement.reserves.select("contract_id", "held_in", "release_in").iter_rows(),
                atoms,
                strict=True,
            )
        ],
        totals=[
            (
                Cell("Held at the end of the period"),
                Cell(""),
                Cell(""),
                Cell(sum_text(sum(atoms), statement.currency)),
            )
        ],
    )


def _corrections(statement: Statement) -> pl.DataFrame:
    return statement.lines.filter(pl.col("corrects") != "")


def _adjustments(sheet: Sheet, statement: Statement) -> None:
    movements = statement.movements.filter(pl.col("movement") == Movement.ADJUSTMENT)
    if movements.is_empty():
        return
    currency = statement.currency
    atoms = series_to_atoms(movements["amount"])
    sheet.heading("Adjustments", below=90)
    sheet.paragraph(
        "Statements that have been issued are not changed. What turned out otherwise afterwards "
        "is made good here.",
        color=GREY,
    )
    sheet.table(
        [
            Column("Corrects", 90),
            Column("Why", WIDTH - 190, lines_max=3),
            Column(f"Amount {currency}", 100, right=True),
        ],
        [
            (
                Cell(period_name(reference)),
                Cell(explanation),
                Cell(small_sum_text(amount, currency)),
            )
            for (reference, explanation), amount in zip(
                movements.select("reference", "explanation").iter_rows(), atoms, strict=True
            )
        ],
        totals=[(Cell("All adjustments"), Cell(""), Cell(small_sum_text(sum(atoms), currency)))],
    )
    corrections = _corrections(statement)
    if corrections.is_empty():
        return
    shown = largest_lines(corrections, _CORRECTIONS_SHOWN_MAX)
    sheet.top += 10
    sheet.table(
        [
            Column("Line", 36, right=True),
            Column("Recording", WIDTH - 316, lines_max=1),
            Column("Service, territory", 110),
            Column("Corrects", 60),
            Column("Units", 50, right=True),
            Column(currency, 60, right=True),
        ],
        [
            (
                Cell(str(line["line_number"])),
                Cell(line["title"], line["artist"]),
                Cell(line["feed"], territory_name(line["territory"])),
                Cell(period_short(line["corrects"])),
                Cell(count_text(line["units"])),
                Cell(line_text(line["payee_atoms"], currency)),
            )
            for line in with_atoms(shown)
        ],
    )
    if shown.height < corrections.height:
        sheet.top += 3
        sheet.paragraph(
            f"The {shown.height} largest of {corrections.height:,} correcting lines; all are in "
            "the CSV.",
            size=8,
            color=GREY,
        )


def _lines(sheet: Sheet, statement: Statement) -> None:
    if statement.lines.is_empty():
        return
    currency = statement.currency
    shown = largest_lines(statement.lines, LINES_SHOWN_MAX)
    rest = statement.lines.height - shown.height
    sheet.heading("Lines", below=_HALF_A_PAGE)
    told = "Each line is one recording in one territory of one service, under one set of terms."
    if rest:
        told += (
            f" These are the {shown.height:,} largest of {statement.lines.height:,} lines; the "
            "CSV has all of them. The sums at the end are of all."
        )
    sheet.paragraph(told, color=GREY)
    of_all = sum(series_to_atoms(statement.lines["payee_amount"]))
    of_shown = sum(series_to_atoms(shown["payee_amount"]))
    units = int(statement.lines["units"].sum())
    totals = []
    if rest:
        others = units - int(shown["units"].sum())
        totals.append(
            _total_row(f"{rest:,} other lines", others, line_text(of_all - of_shown, currency))
        )
    totals.append(_total_row("Sum of all lines", units, line_text(of_all, currency)))
    sheet.table(
        [
            Column("No.", 26, right=True),
            Column("Recording", WIDTH - 380),
            Column("Service, territory", 98),
            Column("Terms", 78, lines_max=3),
            Column("Units", 50, right=True),
            Column("Receipts", 68, right=True),
            Column(f"Amount {currency}", 60, right=True),
        ],
        map(_line_row, with_atoms(shown), [currency] * shown.height),
        totals=totals,
        size=7.6,
    )


def _total_row(name: str, units: int, amount: str) -> tuple[Cell, ...]:
    return (
        Cell(""), Cell(name), Cell(""), Cell(""), Cell(count_text(units)), Cell(""), Cell(amount),
    )  # fmt: skip


def _line_row(line: dict[str, Any], currency: str) -> tuple[Cell, ...]:
    kind = ", ".join(filter(None, (line["tier"], line["use_type"])))
    artist_isrc = " · ".join(filter(None, (line["artist"], line["isrc"])))
    terms = " · ".join(filter(None, (line["contract_id"], _corrected(line["corrects"]))))
    converted = f"at {line['rate']}" if line["rate"] else ""
    return (
        Cell(str(line["line_number"])),
        Cell(line["title"] or line["recording_id"], artist_isrc),
        Cell(f"{line['feed']}, {line['territory']}", kind),
        Cell(line["terms"], terms),
        Cell(count_text(line["units"])),
        Cell(
            line_text(line["receipts_atoms"], line["currency"]),
            f"{line['currency']} {converted}".strip(),
        ),
        Cell(line_text(line["payee_atoms"], currency)),
    )


def _corrected(period: str) -> str:
    return f"corrects {period_short(period)}" if period else ""


# In words


def _how_computed(sheet: Sheet, statement: Statement) -> None:
    currency = statement.currency
    sheet.heading("How these figures were computed", below=_HALF_A_PAGE)
    sheet.paragraph(
        "Every figure on the way from what was brought forward to what is paid, in the order in "
        "which it changes the balance. Nothing else changed it: the figures add up to what is "
        f"paid. They are in {currency}, exact to the last decimal."
    )
    sheet.top += 4
    for step in [*walk(statement, statement.movements.height), *_payments(statement)]:
        sheet.need(44)
        sheet.top += 17
        name = f"{step.name}, {step.reference}" if step.reference else step.name
        sheet.text(LEFT, sheet.top, name, font=MEDIUM, width=WIDTH * 0.6)
        _pointed(sheet, RIGHT, _EXACT_TAIL, exact_text(step.atoms, currency).partition(" ")[0])
        if step.explanation:
            sheet.paragraph(step.explanation, color=GREY, width=WIDTH * 0.74, size=8.5)
        sheet.top += 2
    _worked_line(sheet, statement)
    sheet.heading("Rounding, letters, files", below=70)
    sheet.paragraph(
        "Amounts are kept with 18 decimals and rounded once, when they are paid. On these pages "
        "sums are shown with the currency's own decimals and lines with four more, so that shown "
        "figures may seem to miss their sum by one in the last place; the exact ones do not. The "
        "CSV and Parquet files of this statement have every line with every decimal."
    )
    sheet.top += 3
    sheet.paragraph(
        "Names in scripts other than Latin, Greek and Cyrillic are transliterated, in brackets; "
        "the files have them as they were written."
    )


def _payments(statement: Statement) -> list[Step]:
    """What is paid, with its explanation, as a positive figure."""
    paid = statement.movements.filter(pl.col("movement") == Movement.PAID)
    return [
        Step(MOVEMENT_NAMES[Movement.PAID], reference, explanation, -atoms)
        for (reference, explanation), atoms in zip(
            paid.select("reference", "explanation").iter_rows(),
            series_to_atoms(paid["amount"]),
            strict=True,
        )
    ]


def _worked_line(sheet: Sheet, statement: Statement) -> None:
    """The largest line, from what the service sent to what the payee has of it."""
    if statement.lines.is_empty():
        return
    # One that was converted has one step more to be shown.
    converted = statement.lines.filter(pl.col("rate") != "")
    which = "the largest of those that were converted" if converted.height else "the largest"
    lines = converted if converted.height else statement.lines
    (line,) = with_atoms(largest_lines(lines, 1))
    where = f"{line['feed']}, {territory_name(line['territory'])}"
    sheet.heading("One line worked through", below=110)
    sheet.paragraph(
        f"Line {line['line_number']}, {which}: {line['title'] or line['recording_id']} by "
        f"{line['artist'] or 'an artist who is not named'}, {where}, "
        f"{count_text(line['units'])} units."
    )
    sheet.top += 2
    sheet.table(
        [Column("Step", WIDTH - 260), Column("Figure", 260, right=True)],
        [
            (Cell(step.words, step.source), Cell(exact_text(step.atoms, step.currency)))
            for step in line_steps(line, statement.currency)
        ],
    )
