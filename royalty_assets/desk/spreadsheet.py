"""The queue as CSV, out and in again, for those who decide in a spreadsheet.

A cell that a spreadsheet would run as a formula is written with an apostrophe before it. What comes
back is read however a spreadsheet saved it: other delimiters, Windows-1252, capitals in the header.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from royalty_assets.domain.adjudication import Action
from royalty_assets.domain.spreadsheet_cells import BOM, as_text_cell, without_text_mark
from royalty_assets.pipeline.questions import Question

COLUMNS = (
    "subject", "state", "title", "artist", "isrc", "reason", "units", "at_stake", "feeds",
    "first_used", "last_used", "nearest_recording_id", "nearest_score", "last_decision",
    "decision", "recording_id", "until", "why",
)  # fmt: skip
ROWS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One row that decides something, and where it stands.

    Attributes:
        seen: the number of the last decision that the row was written after.
        knows_seen: whether the file has that column at all.
    """

    line: int
    subject: str
    action: Action
    recording_id: str
    until: date | None
    why: str
    seen: int | None
    knows_seen: bool


def write_questions(questions: Iterable[Question]) -> str:
    """The queue; the last four columns are for the person to fill in."""
    out = io.StringIO()
    out.write(BOM)
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for question in questions:
        money = ", ".join(f"{amount} {currency}" for currency, amount in question.stake_texts())
        last = question.standing.decision
        row = (
            question.subject, question.state, question.title, question.artist, question.isrc,
            " ".join(sorted(question.reasons)), question.units, money,
            " ".join(sorted(question.feeds)), question.first_used, question.last_used,
            question.nearest_id or "", question.nearest_score or "",
            last.number if last is not None else "", "", "", "", "",
        )  # fmt: skip
        writer.writerow([as_text_cell(str(cell)) for cell in row])
    return out.getvalue()


def read_wishes(content: bytes) -> tuple[list[Wish], list[str]]:
    """The rows that have a decision, and what is wrong with the others, by line."""
    text = _decoded(content)
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    wishes: list[Wish] = []
    problems: list[str] = []
    subjects: set[str] = set()
    try:
        reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
        if missing := {"subject", "decision"} - set(reader.fieldnames):
            return [], [f"line 1: there is no column {', '.join(sorted(missing))}"]
        for number, row in enumerate(reader):
            if number == ROWS_MAX:
                problems.append(f"more than {ROWS_MAX:,} rows; split the file")
                break
            try:
                wish = _wish(reader.line_num, row)
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
                continue
            if wish is not None and wish.subject in subjects:
                problems.append(f"line {wish.line}: {wish.subject!r} is decided about twice")
            elif wish is not None:
                wishes.append(wish)
                subjects.add(wish.subject)
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    return wishes, problems


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _wish(line: int, row: dict[str, str | None]) -> Wish | None:
    said = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not said["decision"]:
        return None
    word = said["decision"].casefold()
    if word not in {Action.ACCEPT, Action.REJECT, Action.DEFER}:
        raise ValueError(f"decision is {said['decision']!r}; write accept, reject or defer")
    until = None
    if said["until"]:
        try:
            until = date.fromisoformat(said["until"])
        except ValueError:
            raise ValueError(f"until is {said['until']!r}; write 2026-01-31") from None
    seen = said["last_decision"]
    return Wish(
        line, without_text_mark(said["subject"]), Action(word), said["recording_id"], until,
        said["why"], int(seen) if seen.isdecimal() else None, "last_decision" in row,
    )  # fmt: skip
