"""What stands for a subject, by example and against a slow retelling of its decisions."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.adjudication import (
    Action,
    AdjudicationError,
    Decision,
    Rule,
    Standing,
    State,
    checked,
    rules_in_force,
    rules_sha256,
    same_person,
    standings,
)

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
TODAY = NOON.date()


def decision(number, action, who="Ann", **fields):
    fields = {"subject": "isrc:X", "decided_at": NOON} | fields
    return Decision(number=number, action=Action(action), who=who, **fields)


def state(*decisions, today=TODAY):
    return standings(decisions, today)["isrc:X"].state


def test_the_last_decision_stands():
    accept = decision(1, "accept", recording_id="R1")
    assert state(accept) is State.RESOLVED
    assert state(accept, decision(2, "reject")) is State.REJECTED
    assert state(accept, decision(2, "reject"), decision(3, "revoke")) is State.OPEN


def test_what_is_deferred_is_open_again_on_its_day():
    deferred = decision(1, "defer", until=date(2025, 3, 12))
    assert state(deferred, today=date(2025, 3, 11)) is State.DEFERRED
    assert state(deferred, today=date(2025, 3, 12)) is State.OPEN


def test_much_money_needs_another_person():
    proposed = decision(1, "accept", recording_id="R1", needs_second=True)
    assert state(proposed) is State.PROPOSED
    assert rules_in_force([proposed]) == []
    assert state(proposed, decision(2, "confirm", "Ann", refers_to=1)) is State.PROPOSED
    assert state(proposed, decision(2, "confirm", "Bob", refers_to=7)) is State.PROPOSED
    confirmed = [proposed, decision(2, "confirm", "Bob", refers_to=1)]
    assert state(*confirmed) is State.RESOLVED
    assert [rule.recording_id for rule in rules_in_force(confirmed)] == ["R1"]


def test_what_was_in_force_stays_until_the_second_person_agrees():
    before = decision(1, "accept", recording_id="R1")
    proposed = decision(2, "accept", recording_id="R2", needs_second=True)
    assert [rule.number for rule in rules_in_force([before, proposed])] == [1]


@pytest.mark.parametrize(
    ("wanted", "before", "told"),
    [
        (decision(0, "accept", recording_id="GONE"), Standing(), "no recording 'GONE'"),
        (decision(0, "accept"), Standing(), "no recording"),
        (decision(0, "reject", who="  "), Standing(), "who decides"),
        (decision(0, "reject", who="x" * 65), Standing(), "more than 64"),
        (decision(0, "reject", who="An\x00n"), Standing(), "cannot be shown"),
        (
            decision(0, "accept", subject="unnamed:f", recording_id="R1"),
            Standing(),
            "ask the sender",
        ),
        (
            decision(0, "defer", until=date(2099, 1, 1)),
            Standing(rule=Rule(1, "isrc:X", "R1")),
            "revoke that",
        ),
        (decision(0, "reject", why="x" * 1001), Standing(), "more than 1000"),
        (decision(0, "defer", until=TODAY), Standing(), "day to come"),
        (decision(0, "defer"), Standing(), "day to come"),
        (decision(0, "revoke"), Standing(), "nothing to revoke"),
        (decision(0, "confirm", refers_to=1), Standing(), "nothing to confirm"),
        (
            decision(0, "accept", subject="right:R1", recording_id="R1"),
            Standing(),
            "for the catalog to say",
        ),
        (
            decision(0, "confirm", who="ann", refers_to=1),
            Standing(State.PROPOSED, decision(1, "accept", "Ann")),
            "another person",
        ),
        (
            decision(0, "confirm", who="Bob", refers_to=1),
            Standing(State.PROPOSED, decision(2, "accept", "Ann")),
            "decided anew",
        ),
    ],
)
def test_what_may_not_be_decided_is_refused_in_words(wanted, before, told):
    with pytest.raises(AdjudicationError, match=told):
        checked(wanted, before, {"R1"})


def test_a_proposal_that_is_taken_back_leaves_what_two_people_agreed_on():
    agreed = [
        decision(1, "accept", recording_id="R1", needs_second=True),
        decision(2, "confirm", "Bob", refers_to=1),
    ]
    other = decision(3, "accept", "Carl", recording_id="R2", needs_second=True)
    after = [*agreed, other, decision(4, "revoke", "Carl")]
    assert [rule.number for rule in rules_in_force(after)] == [1]
    assert state(*after) is State.RESOLVED
    assert rules_in_force([*after, decision(5, "revoke", "Carl")]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("José", "Jose\u0301"), ("Ann", "Ann\u200b"), ("Ann  Lee", " ann lee "), ("Ａnn", "Ann")],
)
def test_a_person_is_one_however_the_name_is_typed(one, other):
    assert same_person(one, other)
    proposed = decision(1, "accept", one, recording_id="R1", needs_second=True)
    assert rules_in_force([proposed, decision(2, "confirm", other, refers_to=1)]) == []


def test_a_recording_that_has_gone_is_not_confirmed():
    proposed = decision(1, "accept", "Ann", recording_id="R9", needs_second=True)
    with pytest.raises(AdjudicationError, match="no recording 'R9'"):
        checked(
            decision(0, "confirm", "Bob", refers_to=1), Standing(State.PROPOSED, proposed), {"R1"}
        )


_acts = st.lists(
    st.tuples(
        st.sampled_from(["isrc:A", "name:b"]),
        st.sampled_from(list(Action)),
        st.sampled_from(["Ann", "Bob"]),
        st.sampled_from(["R1", "R2"]),
        st.booleans(),
        st.integers(1, 6),
    ),
    max_size=8,
)


@given(_acts, st.randoms(use_true_random=False))
def test_rules_follow_from_the_decisions_whatever_order_they_are_read_in(acts, random):
    decisions = [
        Decision(n, subject, action, who, NOON, recording, needs_second=second, refers_to=refers,
                 until=date(2030, 1, 1))
        for n, (subject, action, who, recording, second, refers) in enumerate(acts, start=1)
    ]  # fmt: skip
    shuffled = decisions[:]
    random.shuffle(shuffled)
    rules = rules_in_force(shuffled)
    assert {rule.subject: rule.number for rule in rules} == retold(decisions)
    assert rules_sha256(rules) == rules_sha256(rules_in_force(decisions))


def retold(decisions):
    """Subject → number of the rule in force, by walking back from the last decision."""
    in_force = {}
    for subject in {one.subject for one in decisions}:
        about = [one for one in decisions if one.subject == subject]
        proposed = None
        for one in about:
            if one.action is Action.REVOKE:
                if proposed is None or subject not in in_force:
                    in_force.pop(subject, None)
                proposed = None
            elif one.action is Action.DEFER:
                proposed = proposed if subject in in_force else None
            elif one.action is Action.CONFIRM:
                if proposed and proposed.number == one.refers_to and proposed.who != one.who:
                    in_force[subject] = proposed.number
                    proposed = None
            elif one.needs_second:
                proposed = one
            else:
                in_force[subject] = one.number
                proposed = None
    return in_force
