"""A month as it was known at two instants: lines, reasons, and the instants between."""

from datetime import UTC, datetime

from royalty_assets.domain.adjudication import Action
from royalty_assets.pipeline.adjudicate import Ruling, last_number, rule_on
from royalty_assets.pipeline.closing import close
from royalty_assets.pipeline.known import delta
from royalty_assets.pipeline.questions import questions
from royalty_assets_tests.monthly_reports import (
    FEBRUARY,
    JANUARY,
    project,
    report,
    row,
    run,
    told,
)

LINE = ("rights_holder_id", "recording_id", "units_before", "units_after", "difference")


def now():
    return datetime.now(UTC)


def lines(found):
    return told(found.lines, *LINE)


def test_a_late_file_a_decision_and_a_correction_are_each_told_when_they_were_known(tmp_path):
    """Ada 6.00, then 6.60 by 1.00 late; Cy 2.00 by a decision; Ada 1.20 more by a correction."""
    context = project(tmp_path)
    context.project = context.project.model_copy(
        update={
            "closing": context.project.closing.model_copy(update={"suspense_fraction_max": 1}),
        }
    )
    begun = now()
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "2.00", "Snu"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run(context, JANUARY, FEBRUARY)
    first = now()
    report(context, "late.csv", row("2025-01-05", "1.00"))
    run(context, JANUARY)
    second = now()
    (question,) = questions(context)
    seen = last_number(context, question.subject)
    rule_on(context, question, Ruling(Action.ACCEPT, "Bea", "by ear", "R2", seen=seen))
    run(context, JANUARY)
    third = now()
    close(context, JANUARY, "Ann")
    closed = now()
    report(context, "later.csv", row("2025-01-06", "2.00"))
    run(context, JANUARY, FEBRUARY)
    last = now()

    assert lines(delta(context, JANUARY, begun, first)) == [
        ("ada", "R1", 0, 10, "6"),
        ("bo", "R1", 0, 10, "4"),
    ]
    late = delta(context, JANUARY, first, second)
    assert lines(late) == [("ada", "R1", 10, 20, "0.6"), ("bo", "R1", 10, 20, "0.4")]
    assert any("reports: 1 deliveries taken" in reason for reason in late.reasons)
    decided = delta(context, JANUARY, second, third)
    assert lines(decided) == [("cy", "R2", 0, 10, "2")]
    assert any("Bea decided about" in r and "by ear" in r for r in decided.reasons)
    assert lines(delta(context, JANUARY, third, closed)) == []
    correction = delta(context, JANUARY, closed, last)
    assert lines(correction) == [("ada", "R1", 20, 30, "1.2"), ("bo", "R1", 20, 30, "0.8")]
    assert told(correction.by_payee, "rights_holder_id", "amount_before", "amount_after") == [
        ("ada", "6.6", "7.8"),
        ("bo", "4.4", "5.2"),
    ]
    whole = delta(context, JANUARY, begun, last)
    assert lines(whole) == [
        ("ada", "R1", 0, 30, "7.8"),
        ("bo", "R1", 0, 30, "5.2"),
        ("cy", "R2", 0, 10, "2"),
    ]
    assert lines(delta(context, JANUARY, last, begun))[0] == ("ada", "R1", 30, 0, "-7.8")
    assert lines(delta(context, FEBRUARY, first, last)) == []
    times = [reason[:16] for reason in whole.reasons]
    assert times == sorted(times)
