"""What people decide about usage that the matcher left open, and the rules that follow.

A *subject* is what one decision settles: an ISRC that the catalog does not know, a name in its
normal form, a release told without a title, a recording without a right. A *decision* is one act
of one person on one subject; it is never changed or removed. What stands for a subject follows
from its decisions in order, so that any past state can be had again. A decision to accept or to
reject is a *rule*: it is applied to all usage of its subject, past and to come, until it is
revoked or superseded.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from royalty_assets.domain.batches import combined_sha256

WHO_LENGTH_MAX = 64
WHY_LENGTH_MAX = 1000


class Action(StrEnum):
    """What a person can do about a subject."""

    ACCEPT = "accept"
    REJECT = "reject"
    DEFER = "defer"
    CONFIRM = "confirm"
    REVOKE = "revoke"


class State(StrEnum):
    """Where a subject stands.

    ``proposed`` awaits a second person; ``rejected`` usage stays in suspense, but is no question.
    """

    OPEN = "open"
    PROPOSED = "proposed"
    DEFERRED = "deferred"
    RESOLVED = "resolved"
    REJECTED = "rejected"


class SubjectKind(StrEnum):
    """What a subject is; the first part of its text."""

    ISRC = "isrc"
    NAME = "name"
    RELEASE = "release"
    RIGHT = "right"
    UNNAMED = "unnamed"
    CATALOG = "catalog"


class AdjudicationError(Exception):
    """A decision that cannot be taken, and why."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One act.

    Attributes:
        number: order of decisions, from 1; 0 for one that is not recorded yet.
        subject: ``isrc:…``, ``name:…``, ``release:…``, ``right:…``; ``catalog:…`` is a snapshot
            whose drift is accepted.
        recording_id: what an accepted subject is.
        who: as they call themselves; why: in their words.
        decided_at: in UTC.
        until: the day on which a deferred subject is open again.
        refers_to: the number that is confirmed.
        needs_second: whether it is in force only once another person confirms it.
        told: how the subject was shown, for people: title, artist, money at stake and so on.
    """

    number: int
    subject: str
    action: Action
    who: str
    decided_at: datetime
    recording_id: str | None = None
    why: str = ""
    until: date | None = None
    refers_to: int | None = None
    needs_second: bool = False
    told: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What is in force for a subject; ``recording_id`` is None where it was rejected."""

    number: int
    subject: str
    recording_id: str | None

    @property
    def rule_id(self) -> str:
        """How people name it."""
        return f"rule {self.number}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a subject stands.

    Attributes:
        decision: the one that made it so; None if it is open since nobody decided.
    """

    state: State = State.OPEN
    decision: Decision | None = None
    rule: Rule | None = None


def kind_of(subject: str) -> SubjectKind:
    """What a subject is."""
    return SubjectKind(subject.partition(":")[0])


def standings(decisions: Iterable[Decision], today: date) -> dict[str, Standing]:
    """Subject → where it stands, for every subject that somebody decided about.

    Args:
        decisions: all of them, or those up to some instant, in any order.
        today: decides what is still deferred.
    """
    found: dict[str, Standing] = {}
    for decision in sorted(decisions, key=lambda one: one.number):
        found[decision.subject] = _after(found.get(decision.subject, Standing()), decision)
    return {subject: _on(standing, today) for subject, standing in found.items()}


def _after(before: Standing, decision: Decision) -> Standing:
    match decision.action:
        case Action.REVOKE:
            # What is only proposed is taken back; what was in force before stays.
            rule = before.rule if before.state is State.PROPOSED else None
            return Standing(State.OPEN if rule is None else _state_of(rule), decision, rule)
        case Action.DEFER:
            return before if before.rule is not None else Standing(State.DEFERRED, decision)
        case Action.CONFIRM:
            return _confirmed(before, decision)
        case _ if decision.needs_second:
            # What was in force before stays so until the second person agrees.
            return Standing(State.PROPOSED, decision, before.rule)
        case _:
            return _in_force(decision, decision)


def _confirmed(before: Standing, decision: Decision) -> Standing:
    proposed = before.decision
    if before.state is not State.PROPOSED or proposed is None:
        return before
    if proposed.number != decision.refers_to or same_person(proposed.who, decision.who):
        return before
    return _in_force(proposed, decision)


def same_person(one: str, other: str) -> bool:
    """Whether two names are one, however they are typed."""
    return _plain_name(one) == _plain_name(other)


def _plain_name(name: str) -> str:
    letters = unicodedata.normalize("NFKC", name)
    shown = "".join(c for c in letters if unicodedata.category(c) not in {"Cf", "Cc"})
    return " ".join(shown.split()).casefold()


def _state_of(rule: Rule) -> State:
    return State.REJECTED if rule.recording_id is None else State.RESOLVED


def _in_force(decision: Decision, last: Decision) -> Standing:
    is_accepted = decision.action is Action.ACCEPT
    rule = Rule(decision.number, decision.subject, decision.recording_id if is_accepted else None)
    return Standing(State.RESOLVED if is_accepted else State.REJECTED, last, rule)


def _on(standing: Standing, today: date) -> Standing:
    until = None if standing.decision is None else standing.decision.until
    if standing.state is State.DEFERRED and until is not None and until <= today:
        return Standing(State.OPEN, standing.decision)
    return standing


def rules_in_force(decisions: Iterable[Decision]) -> list[Rule]:
    """The rules that the decisions leave in force, by subject."""
    # What is deferred, or no more, has no rule on any day.
    standing = standings(decisions, date.min).values()
    rules = [one.rule for one in standing if one.rule is not None]
    return sorted(rules, key=lambda rule: rule.subject)


def rules_sha256(rules: Sequence[Rule]) -> str:
    """A digest of rules; empty for none, so that nothing is made anew where nobody decided."""
    if not rules:
        return ""
    ordered = sorted(rules, key=lambda rule: rule.subject)
    return combined_sha256(f"{r.number}\t{r.subject}\t{r.recording_id or ''}" for r in ordered)


def checked(decision: Decision, before: Standing, known_recordings: Iterable[str]) -> Decision:
    """The decision, if it may be taken where the subject stands.

    Raises:
        AdjudicationError: saying why not.
    """
    _check_texts(decision)
    known = frozenset(known_recordings)
    if decision.action is Action.ACCEPT:
        _check_recording(decision.subject, decision.recording_id, known)
    if decision.action is Action.DEFER:
        if before.rule is not None:
            raise AdjudicationError("a decision about it is in force; revoke that first")
        if decision.until is None or decision.until <= decision.decided_at.date():
            raise AdjudicationError("say until which day to come it is deferred")
    if decision.action is Action.CONFIRM:
        proposed = _check_second(decision, before)
        if proposed.action is Action.ACCEPT:
            _check_recording(decision.subject, proposed.recording_id, known)
    if decision.action is Action.REVOKE and before.state is State.OPEN:
        raise AdjudicationError("there is nothing to revoke: the question is open")
    return decision


def _check_texts(decision: Decision) -> None:
    for what, text, most in (
        ("name", decision.who, WHO_LENGTH_MAX),
        ("reason", decision.why, WHY_LENGTH_MAX),
    ):
        if len(text) > most:
            raise AdjudicationError(f"the {what} has more than {most} characters")
        if any(unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\r\t" for c in text):
            raise AdjudicationError(f"the {what} has characters that cannot be shown")
    if not _plain_name(decision.who):
        raise AdjudicationError("say who decides: a name of up to 64 characters")


def _check_recording(subject: str, recording_id: str | None, known: frozenset[str]) -> None:
    kind = kind_of(subject)
    if kind is SubjectKind.CATALOG:
        return
    if kind is SubjectKind.RIGHT:
        raise AdjudicationError(
            "whether a right holds is for the catalog to say: add a row to its rights table"
        )
    if kind is SubjectKind.UNNAMED:
        raise AdjudicationError(
            "nothing tells this usage from other usage of the feed; ask the sender what it was"
        )
    if not recording_id or recording_id not in known:
        raise AdjudicationError(f"the catalog has no recording {recording_id!r}")


def _check_second(decision: Decision, before: Standing) -> Decision:
    proposed = before.decision
    if before.state is not State.PROPOSED or proposed is None:
        raise AdjudicationError("there is nothing to confirm: no decision awaits a second person")
    if proposed.number != decision.refers_to:
        raise AdjudicationError("it was decided anew meanwhile; look at it again")
    if same_person(proposed.who, decision.who):
        raise AdjudicationError(f"{decision.who} proposed it; another person has to confirm it")
    return proposed
