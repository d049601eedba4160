"""The queue as CSV, out and in again, for those who decide in a spreadsheet.

A cell that a spreadsheet would run as a formula is written with an apostrophe before it.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from royalty_assets.domain.adjudication import Action
from royalty_assets.pipeline.questions import Question

COLUMNS = (
    "subject", "state", "title", "artist", "isrc", "reason", "units", "at_stake", "feeds",
    "first_used", "last_used", "nearest_recording_id", "nearest_score",
    "decision", "recording_id", "until", "why",
)  # fmt: skip
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
ROWS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One row that decides something, and where it stands."""

    line: int
    subject: str
    action: Action
    recording_id: str
    until: date | None
    why: str


def write_questions(questions: Iterable[Question]) -> str:
    """The queue; the last four columns are for the person to fill in."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for question in questions:
        money = ", ".join(f"{amount} {currency}" for currency, amount in question.stake_texts())
        row = (
            question.subject, question.state, question.title, question.artist, question.isrc,
            " ".join(sorted(question.reasons)), question.units, money,
            " ".join(sorted(question.feeds)), question.first_used, question.last_used,
            question.nearest_id or "", question.nearest_score or "", "", "", "", "",
        )  # fmt: skip
        writer.writerow([_plain(str(cell)) for cell in row])
    return out.getvalue()


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_STARTS_FORMULA) else cell


def read_wishes(text: str) -> tuple[list[Wish], list[str]]:
    """The rows that have a decision, and what is wrong with the others, by line."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    missing = {"subject", "decision"} - set(reader.fieldnames or ())
    if missing:
        return [], [f"line 1: there is no column {', '.join(sorted(missing))}"]
    wishes: list[Wish] = []
    problems: list[str] = []
    for number, row in enumerate(reader, start=2):
        if number > ROWS_MAX:
            problems.append(f"line {number}: more than {ROWS_MAX:,} rows; split the file")
            break
        said = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if not said["decision"]:
            continue
        try:
            wishes.append(_wish(number, said))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return wishes, problems


def _wish(number: int, said: dict[str, str]) -> Wish:
    word = said["decision"].casefold()
    if word not in {Action.ACCEPT, Action.REJECT, Action.DEFER}:
        raise ValueError(f"decision is {said['decision']!r}; write accept, reject or defer")
    until = None
    if said["until"]:
        try:
            until = date.fromisoformat(said["until"])
        except ValueError:
            raise ValueError(f"until is {said['until']!r}; write 2026-01-31") from None
    subject = said["subject"].removeprefix("'")
    return Wish(number, subject, Action(word), said["recording_id"], until, said["why"])
