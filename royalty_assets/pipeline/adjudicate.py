"""Taking people's decisions: checked, recorded, and what they touch told."""

import csv
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from royalty_assets.domain.adjudication import (
    Action,
    AdjudicationError,
    Decision,
    Standing,
    checked,
    standings,
)
from royalty_assets.domain.catalog import Recording
from royalty_assets.domain.money import format_atoms, to_atoms
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog, take_catalog
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.questions import Question

DESK_RECORDINGS = "recordings-from-the-desk.csv"
_COLUMNS = ("recording_id", "isrc", "title", "artist", "upc", "release_title")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a person asks for, by form or by file.

    Attributes:
        action: what to do.
        who: by whom; why: in their words.
        recording_id: what the usage is, to accept.
        until: the day to come, to defer.
        seen: the number of the last decision about the subject that the person saw.
    """

    action: Action
    who: str
    why: str = ""
    recording_id: str | None = None
    until: date | None = None
    seen: int | None = None


def standing_of(context: PipelineContext, subject: str) -> Standing:
    """Where a subject stands now."""
    decisions = context.registry.adjudications(subject)
    return standings(decisions, context.now().date()).get(subject, Standing())


def last_number(context: PipelineContext, subject: str) -> int | None:
    """The number of the last decision about a subject."""
    decisions = context.registry.adjudications(subject)
    return decisions[-1].number if decisions else None


def rule_on(context: PipelineContext, question: Question, ruling: Ruling) -> Decision:
    """Record a decision about a question.

    Raises:
        AdjudicationError: if it may not be taken, saying why.
        RegistryConflictError: if somebody decided meanwhile.
    """
    standing = standing_of(context, question.subject)
    is_rule = ruling.action in {Action.ACCEPT, Action.REJECT}
    proposed = standing.decision
    decision = Decision(
        number=0,
        subject=question.subject,
        action=ruling.action,
        who=" ".join(ruling.who.split()),
        decided_at=context.now(),
        recording_id=ruling.recording_id if ruling.action is Action.ACCEPT else None,
        why=ruling.why.strip(),
        until=ruling.until if ruling.action is Action.DEFER else None,
        refers_to=proposed.number if ruling.action is Action.CONFIRM and proposed else None,
        needs_second=is_rule and needs_second(context, question.stakes),
        told=_as_shown(question),
    )
    known = known_recordings(context) if ruling.action is Action.ACCEPT else ()
    return context.registry.add_adjudication(checked(decision, standing, known), ruling.seen)


def needs_second(context: PipelineContext, stakes: Mapping[str, int]) -> bool:
    """Whether so much money is at stake that another person has to confirm."""
    limits = context.project.desk.four_eyes_above
    return any(abs(stakes.get(currency, 0)) > to_atoms(limit) for currency, limit in limits.items())


def known_recordings(context: PipelineContext) -> frozenset[str]:
    """The ids of the catalog in force."""
    _, batch = catalog_in_force(context)
    return frozenset(load_catalog(context, batch).recordings["recording_id"])


def _as_shown(question: Question) -> tuple[tuple[str, str], ...]:
    money = ", ".join(f"{format_atoms(a)} {c}" for c, a in sorted(question.stakes.items()))
    return (
        ("title", question.title[:300]),
        ("artist", question.artist[:300]),
        ("isrc", question.isrc),
        ("units", str(question.units)),
        ("at_stake", money),
    )


def add_recording(context: PipelineContext, fields: Mapping[str, str]) -> str:
    """Add a recording to the catalog, in a file of the desk's own.

    Args:
        context: the project.
        fields: ``isrc``, ``title``, ``artist`` and, where known, ``upc`` and ``release_title``.

    Returns:
        Its id.

    Raises:
        AdjudicationError: if the catalog would not take it, saying why.
    """
    try:
        recording = Recording.model_validate({k: v for k, v in fields.items() if v})
    except ValueError as error:
        problems = error.errors() if hasattr(error, "errors") else []
        told = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
        raise AdjudicationError(f"the catalog cannot take this recording: {told}") from None
    recording_id = recording.isrc
    _, batch = catalog_in_force(context)
    recordings = load_catalog(context, batch).recordings
    if recording_id in set(recordings["recording_id"]) | set(recordings["isrc"]):
        raise AdjudicationError(f"{recording_id} is in the catalog already")
    row = recording.model_dump() | {"recording_id": recording_id}
    _append(context.home / context.project.catalog.folder / DESK_RECORDINGS, row)
    take_catalog(context)
    return recording_id


def _append(path: Path, row: Mapping[str, str]) -> None:
    """The file with one more row, whole or not at all."""
    before = path.read_text(encoding="utf-8") if path.exists() else ",".join(_COLUMNS) + "\n"
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(before)
        csv.writer(file, lineterminator="\n").writerow([row[name] for name in _COLUMNS])
    Path(name).chmod(0o644)
    Path(name).replace(path)
