"""What comes late or is corrected: each case in figures that can be checked by hand.

The figures are those of `docs/explanation/late-and-corrected.md`. R1 is Ada's (60 %) and Bo's
(40 %), R2 is Cy's alone; a closed month stays, and the first open one pays the difference, whose
lines point at what they correct. Of each case that can be told in time as well, somebody does: in
the sum of all months everyone has the same.
"""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from royalty_assets.domain.adjudication import Action
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.payouts import HELD_SCHEMA, PAYOUT_LINE_SCHEMA
from royalty_assets.domain.rates import NoRateError, Rates, build_rates, standing_rates
from royalty_assets.domain.terms import Period
from royalty_assets.pipeline.adjudicate import Ruling, last_number, rule_on
from royalty_assets.pipeline.adjustments import adjustments as adjustments_of
from royalty_assets.pipeline.closing import close, closing_differences, propose
from royalty_assets.pipeline.context import LEDGER_FEED, StageBlockedError
from royalty_assets.pipeline.explain import explain
from royalty_assets.pipeline.funnel import make_funnel
from royalty_assets.pipeline.known import delta
from royalty_assets.pipeline.payouts import closing_accounts, payout_frame
from royalty_assets.pipeline.periods import closed_months, ledger_in_force
from royalty_assets.pipeline.questions import Question, questions
from royalty_assets.pipeline.rederive import rederive
from royalty_assets.pipeline.statements import statement_list
from royalty_assets_tests.late_plays import playing
from royalty_assets_tests.monthly_reports import (
    APRIL,
    FEBRUARY,
    JANUARY,
    MARCH,
    PAYOUT_LINE,
    agree,
    earned,
    in_force,
    month,
    movements,
    project,
    report,
    row,
    run,
    run_and_close,
    statement,
    told,
)

DSR = Path(__file__).parents[1] / "sources/dsr"
LEDGER_LINE = ("account", "recording_id", "reason", "entry", "units", "amount")


def claims_corrected(context, of, period):
    """The ledger's lines of a month that correct a period, but for what is receivable."""
    ledger = ledger_in_force(context, of).filter(
        (pl.col("corrects") == period) & (pl.col("account") != "receivable")
    )
    return told(ledger, *LEDGER_LINE)


def lines_corrected(context, of, period):
    """The payout lines of a month that correct a period."""
    lines = payout_frame(context, of, "payout_lines", PAYOUT_LINE_SCHEMA)
    return told(lines.filter(pl.col("corrects") == period), *PAYOUT_LINE)


def adjustments(context, of):
    """(payee, period that is corrected) → amount, of all statements of a month."""
    return {
        (payee, reference): amount
        for payee in statement_list(context, of)["payee_id"]
        for (kind, amount), reference in zip(
            movements(statement(context, of, payee)),
            statement(context, of, payee).movements["reference"],
            strict=True,
        )
        if kind == "adjustment"
    }


def check(context, *, again=False):
    """Nothing is red, closed months are as signed; and all can be made again, where it is asked."""
    for of in closed_months(context):
        assert list(closing_differences(context, of)) == []
    for stage in (Stage.LEDGER, Stage.PAYOUTS, Stage.STATEMENTS, Stage.CLOSING):
        for commit in context.registry.commits(stage, LEDGER_FEED):
            assert [found for findings in commit.checks.values() for found in findings] == []
    if again:
        assert [told for checked in rederive(context) for told in checked.differences] == []


def allow(context, **limits):
    """Let months be closed with money in suspense, or held."""
    closing = context.project.closing.model_copy(
        update={name: Decimal(limit) for name, limit in limits.items()}
    )
    context.project = context.project.model_copy(update={"closing": closing})


# Late telemetry: a pool is shared anew

EARLY = (("1", "u1", "R1"), ("2", "u1", "R1"), ("3", "u1", "R1"), ("4", "u2", "R2"))
LATE = (("5", "u1", "R2"), ("6", "u3", "R1"))
SHARED = {
    "pro_rata": (("9", "3"), ("8", "4")),
    "user_centric": (("6", "6"), ("7", "5")),
    "stream_threshold": (("12", "0"), ("8", "4")),
}


@pytest.mark.parametrize("model", SHARED)
def test_late_plays_of_a_closed_month_share_its_pool_anew(tmp_path, model):
    """12.00 EUR for R1 three times by u1 and R2 once by u2; late are u1's R2 and u3's R1.

    | | in time: R1, R2 | with what came late: R1, R2 |
    |---|---|---|
    | pro rata | 3 and 1 of 4: 9, 3 | 4 and 2 of 6: 8, 4 |
    | user-centric | u1's 6 and u2's 6 | u1's 4 are 3 and 1, u2's 4, u3's 4: 7, 5 |
    | threshold of 2 plays | R2 is below: 12, 0 | 4 and 2 of 6: 8, 4 |
    """
    allocation = {"model": model} | ({"units_min": 2} if model == "stream_threshold" else {})
    (r1, r2), (r1_late, r2_late) = SHARED[model]
    with playing(tmp_path / "late", allocation=allocation) as (context, plays):
        plays.deliver("2025-01", *EARLY)
        plays.deliver("2025-02", ("7", "u1", "R1"))
        run_and_close(context, JANUARY)
        before = in_force(context, JANUARY)
        plays.deliver("2025-01", *LATE)
        run(context, JANUARY, FEBRUARY)
        assert in_force(context, JANUARY) == before
        assert claims_corrected(context, FEBRUARY, "2025-01") == [
            ("recording_payable", "R1", "", "rebooking", 4, f"-{r1_late}"),
            ("recording_payable", "R1", "", "reversal", -3, r1),
            ("recording_payable", "R2", "", "rebooking", 2, f"-{r2_late}"),
            ("recording_payable", "R2", "", "reversal", -1, r2),
        ]
        more = Decimal(r1_late) - Decimal(r1)
        assert adjustments(context, FEBRUARY) == {
            ("ada", "2025-01"): f"{(more * 6 / 10).normalize():f}",
            ("bo", "2025-01"): f"{(more * 4 / 10).normalize():f}",
            ("cy", "2025-01"): f"{-more:f}",
        }
        close(context, FEBRUARY, "Ann")
        check(context)
        late = earned(context)
    if model != "user_centric":
        return  # The others share by the same counts in and out of time.
    with playing(tmp_path / "in time", allocation=allocation) as (context, plays):
        plays.deliver("2025-01", *EARLY, *LATE)
        plays.deliver("2025-02", ("7", "u1", "R1"))
        run(context, JANUARY, FEBRUARY)
        assert late == earned(context)


def test_thirds_of_a_pool_are_taken_back_to_the_atom(tmp_path):
    """10.00 EUR for two plays are 5.00 each; for three 3.33… each.

    The third that waits has the atom that is left over: equal remainders go by key, and usage of no
    recording comes first.
    """
    with playing(tmp_path, pool={"amount": "10.00", "currency": "EUR"}) as (context, plays):
        plays.deliver("2025-01", ("1", "u1", "R1"), ("2", "u1", "R2"))
        plays.deliver("2025-02", ("3", "u1", "R1"))
        run_and_close(context, JANUARY)
        plays.deliver("2025-01", ("4", "u1", "Nobody knows"))
        run(context, JANUARY, FEBRUARY)
        third = "3.333333333333333333"
        claims = claims_corrected(context, FEBRUARY, "2025-01")
        reason = claims[-1][2]
        assert claims == [
            ("recording_payable", "R1", "", "rebooking", 1, f"-{third}"),
            ("recording_payable", "R1", "", "reversal", -1, "5"),
            ("recording_payable", "R2", "", "rebooking", 1, f"-{third}"),
            ("recording_payable", "R2", "", "reversal", -1, "5"),
            ("suspense", "", reason, "rebooking", 1, f"-{third[:-1]}4"),
        ]
        assert (
            propose(context, FEBRUARY)
            .reasons[0]
            .startswith(f"{third[:-1]}4 of 10 EUR is in suspense")
        )


def test_late_plays_of_an_open_month_make_a_new_revision_of_their_window_alone(tmp_path):
    """Three plays in time; late are one of 23:01 again and another one: four, each once.

    12.00 EUR are 8 and 4 by 2 and 1 plays, then 6 and 6 by 2 and 2; January is posted again, and
    nothing of it is a correction.
    """
    with playing(tmp_path) as (context, plays):
        plays.deliver("2025-01", ("1", "u1", "R1"), ("2", "u1", "R1"), ("3", "u2", "R2"))
        plays.deliver("2025-02", ("9", "u1", "R1"))
        run(context, JANUARY, FEBRUARY)
        first = in_force(context, JANUARY)
        other = in_force(context, FEBRUARY)
        plays.deliver("2025-01", ("3", "u2", "R2"), ("4", "u2", "R2"))
        run(context, JANUARY, FEBRUARY)
        (commit, _) = context.registry.commits(Stage.VALIDATED, "plays")
        counts = commit.counts
        assert (counts["received"], counts["accepted"], counts["duplicates"]) == (5, 4, 1)
        (window,) = context.registry.batches_by_id(commit.batch_ids)
        assert (window.window_label, window.revision) == ("20250131T2300Z", 1)
        ledger = in_force(context, JANUARY)[0]
        assert (ledger.revision, ledger.counts["units"]) == (first[0].revision + 1, 4)
        assert in_force(context, FEBRUARY)[0] == other[0]
        payables = ledger_in_force(context, JANUARY).filter(pl.col("account") != "receivable")
        assert told(payables, "recording_id", "units", "amount", "corrects") == [
            ("R1", 2, "-6", ""),
            ("R2", 2, "-6", ""),
        ]
        check(context)


# Splits and contracts

STEPS = """
contracts:
  - contract: deal
    recordings: [R1]
    participants: [{payee: dee, percent: 10}]
    remainder_to: label
    escalations: [{above_units: 100, percents: {dee: 50}}]
"""


def sales(context, name, day, units):
    """A report of so many units of R1 for 1.00 EUR each."""
    report(context, name, row(day, f"{units}.00", units=units))


def test_units_that_come_late_move_every_step_after_them(tmp_path):
    """Dee has 10 % of the first 100 units and 50 % of what is above; a unit is 1.00 EUR.

    | | units | as closed | with 30 units of January late |
    |---|---|---|---|
    | January | 60, then 90 | 60 at 10 %: 6 | 90 at 10 %: 9 |
    | February | 60 | 40 at 10 %, 20 at 50 %: 14 | 10 at 10 %, 50 at 50 %: 26 |
    | March | 10 | | 10 at 50 %: 5 |

    March pays Dee 5, and 3 and 12 more. Its counter ends at 160 units.
    """
    late, in_time = project(tmp_path / "late"), project(tmp_path / "in time")
    for context in (late, in_time):
        agree(context, STEPS)
        sales(context, "jan.csv", "2025-01-03", 60)
        sales(context, "feb.csv", "2025-02-03", 60)
        sales(context, "mar.csv", "2025-03-03", 10)
    run_and_close(late, JANUARY, FEBRUARY)
    assert movements(statement(late, FEBRUARY, "dee"))[0] == ("earnings", "14")
    for context in (late, in_time):
        sales(context, "late.csv", "2025-01-05", 30)
    run(late, JANUARY, MARCH)
    assert adjustments(late, MARCH) == {
        ("dee", "2025-01"): "3", ("label", "2025-01"): "27",
        ("dee", "2025-02"): "12", ("label", "2025-02"): "-12",
    }  # fmt: skip
    assert movements(statement(late, MARCH, "dee"))[0] == ("earnings", "5")
    assert closing_accounts(late, MARCH).units_reached == {"deal": 160}
    # The ledger of February is as it was; only its division has moved.
    assert claims_corrected(late, MARCH, "2025-02") == []
    # Once more, and later: 5 units of February move nothing of March, which is above 100 already.
    close(late, MARCH, "Ann")
    for context in (late, in_time):
        sales(context, "later.csv", "2025-02-07", 5)
    run(late, FEBRUARY, APRIL)
    assert adjustments(late, APRIL) == {("dee", "2025-02"): "2.5", ("label", "2025-02"): "2.5"}
    run(in_time, JANUARY, FEBRUARY, MARCH)
    assert earned(late) == earned(in_time)
    assert closing_accounts(late, APRIL).units_reached == {"deal": 165}
    check(late, again=True)


def test_units_that_are_taken_back_count_no_more(tmp_path):
    """January's 120 units were 20 too many: 10 + 10 become 10, and February begins at 100."""
    context = project(tmp_path)
    agree(context, STEPS)
    sales(context, "jan.csv", "2025-01-03", 120)
    sales(context, "feb.csv", "2025-02-03", 10)
    run_and_close(context, JANUARY)
    assert movements(statement(context, JANUARY, "dee"))[0] == ("earnings", "20")
    sales(context, "jan.csv", "2025-01-03", 100)
    run(context, JANUARY, FEBRUARY)
    assert movements(statement(context, FEBRUARY, "dee"))[:2] == [
        ("earnings", "5"),
        ("adjustment", "-10"),
    ]
    assert closing_accounts(context, FEBRUARY).units_reached == {"deal": 110}
    check(context)


def test_a_split_of_before_is_changed_by_a_dated_contract_and_not_by_a_share(tmp_path):
    """January's 10.00 EUR are 6 and 4 by shares; new ones of 50 and 50 are for months to come.

    February's 10.00 are 5 and 5. A contract from January on is for January too: 5 and 5 in place of
    6 and 4.
    """
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "10.00"))
    run_and_close(context, JANUARY)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,ada,50\nR1,bo,50\nR2,cy,100\n"
    )
    run(context, JANUARY, FEBRUARY)
    assert adjustments(context, FEBRUARY) == {}
    assert movements(statement(context, FEBRUARY, "ada"))[0] == ("earnings", "5")
    agree(
        context,
        """
contracts:
  - contract: halves
    recordings: [R1]
    valid_from: 2025-01-01
    participants: [{payee: ada, percent: 50}, {payee: bo, percent: 50}]
""",
    )
    run(context, JANUARY, FEBRUARY)
    assert lines_corrected(context, FEBRUARY, "2025-01") == [
        ("ada", "R1", -10, "-10", "-6"),
        ("ada", "R1", 10, "10", "5"),
        ("bo", "R1", -10, "-10", "-4"),
        ("bo", "R1", 10, "10", "5"),
    ]
    assert adjustments(context, FEBRUARY) == {("ada", "2025-01"): "-1", ("bo", "2025-01"): "1"}
    close(context, FEBRUARY, "Ann")
    check(context)


def test_money_that_was_held_for_want_of_shares_is_paid_once_there_are_some(tmp_path):
    """R2's 4.00 EUR of January were held; February has its shares, and pays Cy 4.00.

    March's shares give R2 to Eve. What then comes late for January is Cy's all the same.
    """
    context = project(tmp_path)
    allow(context, held_fraction_max="0.5")
    shares = tmp_path / "catalog/shares.csv"
    of_r1 = "recording_id,rights_holder_id,share\nR1,ada,60\nR1,bo,40\n"
    shares.write_text(of_r1)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "4.00", "R2"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    report(context, "mar.csv", row("2025-03-03", "1.00"))
    run_and_close(context, JANUARY)
    shares.write_text(of_r1 + "R2,cy,100\n")
    run(context, JANUARY, FEBRUARY)
    held = payout_frame(context, FEBRUARY, "held", HELD_SCHEMA)
    assert told(held, "recording_id", "corrects", "amount") == [("R2", "2025-01", "-4")]
    assert claims_corrected(context, FEBRUARY, "2025-01") == []
    assert adjustments(context, FEBRUARY) == {("cy", "2025-01"): "4"}
    close(context, FEBRUARY, "Ann")
    shares.write_text(of_r1 + "R2,eve,100\n")
    report(context, "late.csv", row("2025-01-05", "1.00", "R2"))
    run(context, JANUARY, FEBRUARY, MARCH)
    assert adjustments(context, MARCH) == {("cy", "2025-01"): "1"}
    check(context)


# Decisions


def rule(context, action, recording=None):
    """What a person decides about the one title that is open, or was until it was decided about."""
    decided = [Question(one.subject) for one in context.registry.adjudications()[-1:]]
    question = (questions(context) or decided)[0]
    seen = last_number(context, question.subject)
    rule_on(context, question, Ruling(action, "Ann", "", recording, seen=seen))


def test_a_decision_that_is_revoked_gives_back_the_money_of_a_closed_month(tmp_path):
    """10.00 EUR of January's "Snu" were decided to be R2, so Cy's.

    Revoked in February, they are taken back of R2 and wait in suspense. Decided anew in March, they
    are R1's: its 10.00 of January are taken back, and 20.00 booked. Cy gives 10.00 back; Ada has
    6.00 and Bo 4.00 more.
    """
    context = project(tmp_path)
    allow(context, suspense_fraction_max="0.5")
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "10.00", "Snu"))
    report(context, "feb.csv", row("2025-02-03", "20.00"))
    report(context, "mar.csv", row("2025-03-03", "1.00"))
    run(context, JANUARY)
    rule(context, Action.ACCEPT, "R2")
    run_and_close(context, JANUARY)
    rule(context, Action.REVOKE)
    run(context, JANUARY, FEBRUARY)
    claims = claims_corrected(context, FEBRUARY, "2025-01")
    assert [(*line[:2], *line[3:]) for line in claims] == [
        ("recording_payable", "R2", "reversal", -10, "10"),
        ("suspense", "", "rebooking", 10, "-10"),
    ]
    assert adjustments(context, FEBRUARY) == {("cy", "2025-01"): "-10"}
    (question,) = questions(context)
    assert question.title == "Snu"
    close(context, FEBRUARY, "Ann")
    rule(context, Action.ACCEPT, "R1")
    run(context, JANUARY, MARCH)
    assert [
        line for line in claims_corrected(context, MARCH, "2025-01") if line[0] != "suspense"
    ] == [
        ("recording_payable", "R1", "", "rebooking", 20, "-20"),
        ("recording_payable", "R1", "", "reversal", -10, "10"),
    ]
    assert adjustments(context, MARCH) == {("ada", "2025-01"): "6", ("bo", "2025-01"): "4"}
    close(context, MARCH, "Ann")
    check(context)


# DSR messages that correct what was told


JANUARY_2024, FEBRUARY_2024 = month("2024-01"), month("2024-02")


def message(context, kind, number, *changes):
    """A DSR message of January 2024 with what it tells otherwise, each a month after the last."""
    body = (DSR / f"{kind}.tsv").read_bytes().replace(b"JPUM", b"USUM")
    for old, new in (
        ("\tM1\t", f"\tM{number}\t"),
        ("2024-02-10T", f"2024-0{number}-10T"),
        *changes,
    ):
        assert number == 1 or old.encode() in body
        body = body.replace(old.encode(), new.encode())
    (context.home / "inbox" / f"{number}.tsv").write_bytes(body)


def test_a_message_that_tells_a_pool_anew_corrects_an_open_month_and_a_closed_one(tmp_path):
    """Germany's pool: 12.00 EUR for 100 plays of R1 and 50 of R2 are 8 and 4.

    M2 says 15.00, while January is open: 10 and 5. M3 says 9.00 for 50 and 50, once it is closed:
    4.50 each; Ada has 60 % of 5.50 less, Bo 40 %, Cy 0.50 less. France's 2.10 wait in suspense.
    """
    context = project(tmp_path, pools_in_reports=True)
    allow(context, suspense_fraction_max="0.5")
    first = ("\t12.50\t", "\t12.00\t")
    message(context, "basic_audio_1_4", 1, first)
    report(context, "feb.csv", row("2024-02-03", "1.00"))
    run(context, JANUARY_2024)
    assert earned(context) == {
        ("ada", "EUR"): 48 * 10**17, ("bo", "EUR"): 32 * 10**17, ("cy", "EUR"): 4 * 10**18,
    }  # fmt: skip
    message(context, "basic_audio_1_4", 2, ("\t12.50\t", "\t15.00\t"))
    run(context, JANUARY_2024)
    assert in_force(context, JANUARY_2024)[0].revision == 1
    assert set(ledger_in_force(context, JANUARY_2024)["corrects"]) == {""}
    assert earned(context) == {
        ("ada", "EUR"): 6 * 10**18, ("bo", "EUR"): 4 * 10**18, ("cy", "EUR"): 5 * 10**18,
    }  # fmt: skip
    close(context, JANUARY_2024, "Ann")
    message(
        context, "basic_audio_1_4", 3, ("\t12.50\t", "\t9.00\t"),
        ("Premium\t150\t", "Premium\t100\t"), ("true\t100\t", "true\t50\t"),
    )  # fmt: skip
    run(context, JANUARY_2024, FEBRUARY_2024)
    assert claims_corrected(context, FEBRUARY_2024, "2024-01") == [
        ("recording_payable", "R1", "", "rebooking", 50, "-4.5"),
        ("recording_payable", "R1", "", "reversal", -100, "10"),
        ("recording_payable", "R2", "", "rebooking", 50, "-4.5"),
        ("recording_payable", "R2", "", "reversal", -50, "5"),
    ]
    assert adjustments(context, FEBRUARY_2024) == {
        ("ada", "2024-01"): "-3.3", ("bo", "2024-01"): "-2.2", ("cy", "2024-01"): "-0.5",
    }  # fmt: skip
    check(context)


def test_a_message_that_cancels_a_line_of_a_closed_month_takes_its_money_back(tmp_path):
    """M1: 120 units of R1 for 8.00, 10 of R2 for 2.00. M2: 100 for 6.00, while January is open.

    M3 cancels them, once it is closed: Ada gives back 60 % of 6.00, Bo 40 %; Cy keeps 2.00.
    """
    context = project(tmp_path, checks={"report_cross_sums_agree": "off"})
    kind, units = "financial_reporting_1_0", "\t121\t1\t120\t"
    of_r1, of_r2 = "0.889123456789012345", "0.009876543210987655"
    message(context, kind, 1, (of_r1, "8"), (of_r2, "2"))
    report(context, "feb.csv", row("2024-02-03", "1.00"))
    run(context, JANUARY_2024)
    message(context, kind, 2, (units, "\t100\t0\t100\t"), (of_r1, "6"), (of_r2, "2"))
    run(context, JANUARY_2024)
    commit = context.registry.commit("reports", Stage.VALIDATED, JANUARY_2024.key)
    assert (commit.revision, commit.counts["units"]) == (1, 110)
    assert earned(context)["ada", "EUR"] == 36 * 10**17
    close(context, JANUARY_2024, "Ann")
    message(context, kind, 3, (units, "\t0\t0\t0\t"), (of_r1, "0"), (of_r2, "2"))
    run(context, JANUARY_2024, FEBRUARY_2024)
    assert claims_corrected(context, FEBRUARY_2024, "2024-01") == [
        ("recording_payable", "R1", "", "reversal", -100, "6")
    ]
    assert adjustments(context, FEBRUARY_2024) == {
        ("ada", "2024-01"): "-3.6", ("bo", "2024-01"): "-2.4",
    }  # fmt: skip
    check(context)


# A month that was passed over


def test_a_month_before_a_closed_one_is_booked_in_the_first_open_one(tmp_path):
    """February is closed when January's 10.00 EUR come: March books them, and says whose they are.

    Ada has 6.00 and Bo 4.00 with March's statement; there is none of January to correct. When
    January turns out to be 5.00, April takes 10.00 back and books 5.00.
    """
    context = project(tmp_path)
    agree(context, "payees: [{payee: cy, minimum_payment: 100}]\n")
    report(context, "dec.csv", row("2024-12-03", "7.00", "R2"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    december = month("2024-12")
    run_and_close(context, december, FEBRUARY)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    (warning,) = in_force(context, JANUARY)[0].warnings["every_late_line_is_posted"]
    assert warning.startswith("2025-01 has no books of its own: 2025-02 was closed before")
    assert propose(context, JANUARY).reasons == (warning,)
    with pytest.raises(StageBlockedError, match="no books of its own"):
        close(context, JANUARY, "Ann")
    assert statement_list(context, JANUARY).is_empty()
    report(context, "mar.csv", row("2025-03-03", "1.00"))
    run(context, JANUARY, MARCH)
    assert claims_corrected(context, MARCH, "2025-01") == [
        ("recording_payable", "R1", "", "rebooking", 10, "-10")
    ]
    ada = statement(context, MARCH, "ada")
    assert movements(ada) == [("earnings", "0.6"), ("adjustment", "6"), ("paid", "-6.6")]
    assert ada.movements["explanation"][1] == (
        "1 line comes to 6.00 EUR; they are of 2025-01, which there was no statement of"
    )
    # Cy's 7.00 of December are too little to pay, and go on as they were, past January.
    assert movements(statement(context, MARCH, "cy")) == [
        ("brought_forward", "7"),
        ("carried_forward", "-7"),
    ]
    close(context, MARCH, "Ann")
    report(context, "jan.csv", row("2025-01-03", "5.00", units=5))
    run(context, JANUARY, APRIL)
    assert claims_corrected(context, APRIL, "2025-01") == [
        ("recording_payable", "R1", "", "rebooking", 5, "-5"),
        ("recording_payable", "R1", "", "reversal", -10, "10"),
    ]
    assert adjustments(context, APRIL) == {("ada", "2025-01"): "-3", ("bo", "2025-01"): "-2"}
    check(context)


def test_a_month_that_was_passed_over_is_divided_as_the_closed_one_after_it(tmp_path):
    """Shares of February's closing, 6 and 4; those of March, 5 and 5, are for March."""
    context = project(tmp_path)
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run_and_close(context, FEBRUARY)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,ada,50\nR1,bo,50\nR2,cy,100\n"
    )
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "mar.csv", row("2025-03-03", "10.00"))
    run(context, JANUARY, MARCH)
    assert movements(statement(context, MARCH, "ada"))[:2] == [
        ("earnings", "5"),
        ("adjustment", "6"),
    ]
    check(context)


# Rates


def test_a_closed_month_is_converted_at_the_rate_that_it_was_closed_with(tmp_path):
    """10.00 EUR of January were 11.00 USD at 1.1. A rate of 1.2 is added; 1.00 EUR comes late.

    Taken back are the 11.00 that were told, and booked are 11.00 EUR at 1.1, 12.10: 1.10 more.
    The dollars that come late for January, converted for nobody then, are Eve's at the rate that
    is known now.
    """
    context = project(tmp_path)
    usd = "payees: [{payee: cy, currency: USD}, {payee: ada, currency: GBP}]\n"
    rates = "2025-01-15,EUR,USD,1.1,ECB\n2025-01-15,EUR,GBP,0.5,ECB\n"
    rates += "2025-02-15,EUR,USD,1.3,ECB\n2025-02-15,EUR,GBP,0.5,ECB\n"
    agree(context, usd, rates)
    report(context, "jan.csv", row("2025-01-03", "10.00", "R2"))
    report(context, "feb.csv", row("2025-02-03", "1.00", "R2"))
    run_and_close(context, JANUARY)
    assert movements(statement(context, JANUARY, "cy"))[0] == ("earnings", "11")
    later = "2025-01-31,EUR,USD,1.2,ECB\n2025-01-31,USD,GBP,0.8,ECB\n"
    agree(context, usd, rates + later)
    run(context, JANUARY, FEBRUARY)
    assert adjustments(context, FEBRUARY) == {}
    report(
        context, "late.csv", row("2025-01-05", "1.00", "R2"),
        row("2025-01-05", "10.00", currency="USD"),
    )  # fmt: skip
    run(context, JANUARY, FEBRUARY)
    cy = statement(context, FEBRUARY, "cy")
    assert told(cy.lines, "corrects", "rate", "amount", "payee_amount") == [
        ("", "1.3", "1", "1.3"),
        ("2025-01", "1.1", "-10", "-11"),
        ("2025-01", "1.1", "11", "12.1"),
    ]
    # Ada's 60 % of 10.00 USD.
    assert adjustments(context, FEBRUARY)["ada", "2025-01"] == "4.8"
    close(context, FEBRUARY, "Ann")
    check(context)


def test_a_rate_stands_as_the_first_that_had_one_within_the_period_knew_it():
    def rates(*rows):
        names = ("date", "currency", "into", "rate", "source")
        return build_rates(
            ("rates.csv", n, dict(zip(names, of, strict=True))) for n, of in enumerate(rows)
        )[0]

    january = Period.parse("2025-01")
    then = rates(("2025-01-15", "EUR", "USD", "1.1", "ECB"), ("2025-02-01", "EUR", "GBP", "9", "x"))
    now = rates(("2025-01-31", "EUR", "USD", "1.2", "ECB"), ("2025-01-31", "EUR", "GBP", "1", "x"))
    standing = standing_rates([Rates(), then, now], january.first, january.last)
    found = [
        standing.within("EUR", into, january.first, january.last).rate for into in ("USD", "GBP")
    ]
    assert found == [Decimal("1.1"), Decimal(1)]
    with pytest.raises(NoRateError):
        standing.within("GBP", "USD", january.first, january.last)


# What people are told


def words(context, of):
    """What a month corrects, without what came since."""
    return [one.words for one in adjustments_of(context, of)]


def test_each_adjustment_says_what_it_corrects_for_whom_and_since_what(tmp_path):
    """Late in January: 1.00 EUR of R1, 0.60 Ada's and 0.40 Bo's. December's 2.00 are Cy's."""
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run_and_close(context, JANUARY)
    report(context, "late.csv", row("2025-01-05", "1.00", units=1))
    report(context, "dec.csv", row("2024-12-05", "2.00", "R2"))
    december = month("2024-12")
    run(context, december, JANUARY)
    # There is no ledger yet that could correct anything.
    funnel = make_funnel(context)
    waits = "what has come since it was settled waits for the next month's ledger"
    assert [told.partition(": ")[::2] for told in funnel.notices] == [
        ("2024-12", f"{waits}, which corrects it"),
        ("2025-01", f"{waits}, which corrects it"),
    ]
    assert funnel.is_accounted_for
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run(context, december, JANUARY, FEBRUARY)
    assert words(context, FEBRUARY) == [
        "corrects 2024-12: +2 EUR came in, cy +2 EUR. Since: reports: dec.csv came",
        "corrects 2025-01: +1 EUR came in, ada +0.6 EUR, bo +0.4 EUR. "
        "Since: reports: late.csv came",
    ]
    funnel = make_funnel(context)
    assert funnel.notices == [f"2025-02 {told}" for told in words(context, FEBRUARY)]
    assert funnel.is_accounted_for
    booked = "2025-02 corrects 2025-01 here: 10 units and 10 EUR are taken back, "
    booked += "11 units and 11 EUR are booked."
    today = f"{context.now():%Y-%m-%d}"
    for line, came in (("late.csv:2", "after"), ("jan.csv:2", "before")):
        (told,) = explain(context, line)
        assert told.sentences[-2:] == (
            f"It counts in 2025-01, which was closed on {today} by Ann and stays as it is; the "
            f"line came {came} that.",
            booked,
        )
    (told,) = explain(context, "dec.csv:2")
    assert told.sentences[-2].startswith("2024-12 has no books of its own: 2025-01 was closed")
    assert told.sentences[-1] == ("2025-02 corrects 2024-12 here: 10 units and 2 EUR are booked.")
    (told,) = explain(context, "feb.csv:2")
    assert told.sentences[-1] == "It counts in 2025-02, which is open."
    whole = delta(context, JANUARY, datetime(2020, 1, 1, tzinfo=UTC), context.now())
    assert any("deliveries taken (jan.csv, late.csv)" in reason for reason in whole.reasons)


def test_a_decision_and_a_contract_are_told_as_what_came_since(tmp_path):
    context = project(tmp_path)
    allow(context, suspense_fraction_max="1")
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "10.00", "Snu"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run_and_close(context, JANUARY)
    rule(context, Action.ACCEPT, "R2")
    agree(context, STEPS)
    run(context, JANUARY, FEBRUARY)
    (told,) = words(context, FEBRUARY)
    subject = context.registry.adjudications()[0].subject
    assert told == (
        "corrects 2025-01: -10 EUR in suspense, cy +10 EUR, label +9 EUR, ada -6 EUR, "
        f"2 more payees. Since: Ann decided about {subject}: accept; contracts or rates changed "
        "(revision 1)"
    )
