"""Taking people's decisions: checked, recorded, and what they touch told."""

from dataclasses import dataclass
from datetime import date

from royalty_assets.domain.adjudication import (
    Action,
    Decision,
    Standing,
    State,
    checked,
    same_person,
    standings,
)
from royalty_assets.domain.money import format_atoms, to_atoms
from royalty_assets.logs import log_of
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.questions import Question

_log = log_of(__name__)


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


def rule_on(
    context: PipelineContext,
    question: Question,
    ruling: Ruling,
    known: frozenset[str] | None = None,
) -> Decision:
    """Record a decision about a question.

    Who decides just what another person has proposed confirms it.

    Args:
        context: the project.
        question: what is decided about.
        ruling: what is decided.
        known: the ids of the catalog in force, where they are at hand.

    Raises:
        AdjudicationError: if it may not be taken, saying why.
        RegistryConflictError: if somebody decided meanwhile.
    """
    standing = standing_of(context, question.subject)
    action = _meant(standing, ruling)
    decision = Decision(
        number=0,
        subject=question.subject,
        action=action,
        who=" ".join(ruling.who.split()),
        decided_at=context.now(),
        recording_id=ruling.recording_id if action is Action.ACCEPT else None,
        why=ruling.why.strip(),
        until=ruling.until if action is Action.DEFER else None,
        refers_to=standing.decision.number
        if action is Action.CONFIRM and standing.decision is not None
        else None,
        needs_second=action in {Action.ACCEPT, Action.REJECT} and needs_second(context, question),
        # Of usage that is settled, what it was when it was decided about.
        told=_as_shown(question)
        if question.units or standing.decision is None
        else standing.decision.told,
    )
    if known is None:
        known = known_recordings(context)
    recorded = context.registry.add_adjudication(checked(decision, standing, known), ruling.seen)
    _log.info(
        "decision %d: %s by %s", recorded.number, recorded.action, recorded.who,
        extra={"decision": recorded.number, "subject": recorded.subject},
    )  # fmt: skip
    return recorded


def _meant(standing: Standing, ruling: Ruling) -> Action:
    proposed = standing.decision
    if (
        standing.state is State.PROPOSED
        and proposed is not None
        and ruling.action is proposed.action
        and ruling.recording_id == proposed.recording_id
        and not same_person(ruling.who, proposed.who)
    ):
        return Action.CONFIRM
    return ruling.action


def needs_second(context: PipelineContext, question: Question) -> bool:
    """Whether so much money is at stake that another person has to confirm.

    So it is too where nobody knows how much it is, and where it once was: a decision that two
    people took is not changed by one.
    """
    limits = context.project.desk.four_eyes_above
    if not limits:
        return False
    if not question.is_valued:
        return True
    is_much = any(
        question.gross.get(currency, 0) > to_atoms(limit) for currency, limit in limits.items()
    )
    return is_much or any(d.needs_second for d in context.registry.adjudications(question.subject))


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
