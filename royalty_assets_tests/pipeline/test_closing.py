"""Closed months: when one may be closed, that it stays, and what comes late is corrected later."""

import io
import json
import re
import subprocess
import sys
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.audit import verify_receipt
from royalty_assets.audit.receipts import ReceiptError
from royalty_assets.domain.adjudication import Action
from royalty_assets.domain.allocation import StreamThreshold
from royalty_assets.domain.payouts import PAYOUT_LINE_SCHEMA
from royalty_assets.domain.statements import statement_differences
from royalty_assets.pipeline import closing as closing_module
from royalty_assets.pipeline.adjudicate import Ruling, last_number, rule_on
from royalty_assets.pipeline.checkpoints import sign_checkpoint
from royalty_assets.pipeline.closing import (
    close,
    closing_differences,
    closing_of,
    propose,
    receipt,
)
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.month import post_ledger
from royalty_assets.pipeline.payouts import pay_out, payout_frame
from royalty_assets.pipeline.periods import closed_months, ledger_in_force
from royalty_assets.pipeline.questions import questions
from royalty_assets.pipeline.rederive import rederive
from royalty_assets.pipeline.statements import state, statements
from royalty_assets.pipeline.verify import verify_quickly
from royalty_assets_tests.lakes import object_bytes, overwrite
from royalty_assets_tests.monthly_reports import (
    APRIL,
    FEBRUARY,
    JANUARY,
    MARCH,
    PAYOUT_LINE,
    TITLES,
    agree,
    earned,
    in_force,
    movements,
    project,
    report,
    row,
    run,
    run_and_close,
    statement,
    told,
)
from royalty_assets_tests.projects import run_month


def corrected(context, month, period):
    """(ledger, payout lines) of a month that correct a period."""
    lines = payout_frame(context, month, "payout_lines", PAYOUT_LINE_SCHEMA)
    of_period = pl.col("corrects") == period
    ledger = ledger_in_force(context, month).filter(of_period)
    return (
        told(ledger, "account", "recording_id", "reason", "entry", "units", "amount"),
        told(lines.filter(of_period), *PAYOUT_LINE),
    )


def check_books(context):
    """What holds of every closed month, whatever happened."""
    for month in closed_months(context):
        assert list(closing_differences(context, month)) == []
        for one in statements(context, month):
            assert statement_differences(one) == []
            for number in range(1, one.lines.height + 1):
                text = receipt(context, month, one.payee_id, one.currency, number)
                verify_receipt.verify(text.encode())


# When it may be closed


def test_a_month_is_proposed_with_its_figures_and_closed_by_a_person(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    assert propose(context, JANUARY).figures == ("EUR: received 10, paid 10",)
    assert propose(context, JANUARY).is_ready
    commit = close(context, JANUARY, "Ann", "looked at")
    assert commit.counts == {"statements": 2, "lines": 2}
    closing = closing_of(context, JANUARY)
    assert (closing.who, closing.why) == ("Ann", "looked at")
    assert propose(context, JANUARY).is_closed
    assert not propose(context, JANUARY).is_ready
    with pytest.raises(StageBlockedError, match="closed; what comes late is corrected later"):
        close(context, JANUARY, "Bob")
    assert context.registry.last_checkpoint().size == context.registry.log_size()
    subjects = ("ada/2025-01/EUR.0", "bo/2025-01/EUR.0")
    assert all(context.registry.leaves_of("statement", subject) for subject in subjects)
    assert context.registry.leaves_of("period", "2025-01")


def test_what_stands_against_closing_is_told(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "5.00", "Unknown"))
    report(context, "feb.csv", row("2025-02-03", "10.00"))
    run(context, JANUARY, FEBRUARY)
    (suspense,) = propose(context, JANUARY).reasons
    assert suspense.startswith("5 of 15 EUR is in suspense, and at most ")
    assert propose(context, FEBRUARY).reasons == ("2025-01-01 comes first, and is still open",)
    with pytest.raises(StageBlockedError, match="comes first"):
        close(context, FEBRUARY, "Ann")
    assert any("ledger/ledger is not committed" in r for r in propose(context, MARCH).reasons)


def test_a_month_whose_stages_are_not_of_each_other_is_not_closed(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,ada,50\nR1,bo,50\nR2,cy,100\n"
    )
    from royalty_assets.pipeline.catalog import take_catalog  # noqa: PLC0415
    from royalty_assets.pipeline.match import match  # noqa: PLC0415

    take_catalog(context)
    feed = context.project.feed("reports")
    assert "of other lines, catalog or decisions" in str(
        post_ledger(context, JANUARY).commit.checks
    )
    match(context, feed, JANUARY)
    post_ledger(context, JANUARY)
    assert "payouts are not of the ledger" in propose(context, JANUARY).reasons[0]
    pay_out(context, JANUARY)
    assert "the statements are not of the payouts" in propose(context, JANUARY).reasons[0]
    state(context, JANUARY)
    # What the catalog's change moved is a warning of the ledger, which stands against closing too.
    assert propose(context, JANUARY).reasons == (
        "changes in the catalog move 1 EUR that was paid to others",
    )


def test_money_without_terms_and_a_project_without_a_key_are_not_closed(tmp_path):
    context = project(tmp_path)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,ada,100\n"
    )
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "5.00", "R2"))
    run(context, JANUARY)
    assert propose(context, JANUARY).reasons[0].startswith("5 of 15 EUR is held for want of terms")
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)
    context.signer = None
    with pytest.raises(StageBlockedError, match="this project has no key"):
        close(context, JANUARY, "Ann")


def test_a_closing_that_was_broken_off_is_begun_again(tmp_path, monkeypatch):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run(context, JANUARY)

    def killed(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(type(context.registry), "commit_partition", killed)
        with pytest.raises(RuntimeError):
            close(context, JANUARY, "Ann")
    assert not propose(context, JANUARY).is_closed
    assert not context.registry.leaves_of("period", "2025-01")
    with monkeypatch.context() as patch:
        patch.setattr(closing_module, "sign_checkpoint", killed)
        with pytest.raises(RuntimeError):
            close(context, JANUARY, "Ann")
    assert propose(context, JANUARY).is_closed
    with pytest.raises(StageBlockedError, match="not signed yet"):
        receipt(context, JANUARY, "ada", "EUR", 1)
    sign_checkpoint(context)
    check_books(context)
    assert [d for c in verify_quickly(context) for d in c.differences] == []


# That it stays, and what is corrected


def test_a_row_that_comes_late_is_booked_in_the_first_open_month(tmp_path):
    """10.00 EUR of 10 units become 11.00 of 20: Ada has 60 % of 1.00 more, Bo 40 %."""
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "20.00"))
    run_and_close(context, JANUARY)
    before = in_force(context, JANUARY)
    report(context, "late.csv", row("2025-01-05", "1.00"))
    run(context, JANUARY, FEBRUARY)
    assert in_force(context, JANUARY) == before
    ledger, lines = corrected(context, FEBRUARY, "2025-01")
    assert ledger == [
        ("receivable", "", "", "rebooking", 20, "11"),
        ("receivable", "", "", "reversal", -10, "-10"),
        ("recording_payable", "R1", "", "rebooking", 20, "-11"),
        ("recording_payable", "R1", "", "reversal", -10, "10"),
    ]
    assert lines == [
        ("ada", "R1", -10, "-10", "-6"),
        ("ada", "R1", 20, "11", "6.6"),
        ("bo", "R1", -10, "-10", "-4"),
        ("bo", "R1", 20, "11", "4.4"),
    ]
    ada = statement(context, FEBRUARY, "ada")
    assert movements(ada) == [("earnings", "12"), ("adjustment", "0.6"), ("paid", "-12.6")]
    assert told(ada.lines, "line_number", "corrects", "units", "payee_amount") == [
        (1, "", 10, "12"),
        (2, "2025-01", -10, "-6"),
        (3, "2025-01", 20, "6.6"),
    ]
    close(context, FEBRUARY, "Ann")
    run(context, MARCH)
    check_books(context)


def test_a_month_is_corrected_twice_by_the_difference_alone(tmp_path):
    """1.00 late is corrected in February; 2.00 more, once that is closed, in March."""
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "20.00"))
    report(context, "mar.csv", row("2025-03-03", "30.00"))
    run_and_close(context, JANUARY)
    report(context, "late.csv", row("2025-01-05", "1.00"))
    run(context, JANUARY)
    run_and_close(context, FEBRUARY)
    report(context, "later.csv", row("2025-01-06", "2.00"))
    run(context, JANUARY, FEBRUARY, MARCH)
    assert ledger_in_force(context, FEBRUARY).filter(pl.col("corrects") == "2025-01").height == 4
    _, lines = corrected(context, MARCH, "2025-01")
    assert lines == [
        ("ada", "R1", -20, "-11", "-6.6"),
        ("ada", "R1", 30, "13", "7.8"),
        ("bo", "R1", -20, "-11", "-4.4"),
        ("bo", "R1", 30, "13", "5.2"),
    ]
    assert corrected(context, MARCH, "2025-02") == ([], [])
    close(context, MARCH, "Ann")
    run(context, APRIL)
    assert corrected(context, APRIL, "2025-01") == ([], [])
    check_books(context)


def test_a_report_that_is_replaced_takes_back_what_it_said(tmp_path):
    """Ada's 6.00 EUR of January become 3.00, and February's 1.20 do not make up for it."""
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "2.00"))
    run_and_close(context, JANUARY)
    report(context, "jan.csv", row("2025-01-03", "5.00", units=5))
    run(context, JANUARY, FEBRUARY)
    assert movements(statement(context, FEBRUARY, "ada")) == [
        ("earnings", "1.2"),
        ("adjustment", "-3"),
        ("carried_forward", "1.8"),
    ]
    report(context, "mar.csv", row("2025-03-03", "10.00"))
    run_and_close(context, FEBRUARY, MARCH)
    assert movements(statement(context, MARCH, "ada")) == [
        ("brought_forward", "-1.8"),
        ("earnings", "6"),
        ("paid", "-4.2"),
    ]
    check_books(context)


def decide(context, title, recording):
    (question,) = [one for one in questions(context) if title in f"{one.subject} {one.title}"]
    seen = last_number(context, question.subject)
    rule_on(context, question, Ruling(Action.ACCEPT, "Ann", "", recording, seen=seen))


def test_a_decision_takes_money_of_a_closed_month_out_of_suspense(tmp_path):
    """10.00 EUR were Cy's all along; more than February's 1.00, which is closed all the same."""
    context = project(tmp_path)
    context.project = context.project.model_copy(
        update={
            "closing": context.project.closing.model_copy(
                update={"suspense_fraction_max": Decimal("0.5")}
            )
        }
    )
    report(context, "jan.csv", row("2025-01-03", "10.00"), row("2025-01-04", "10.00", "Snu"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run_and_close(context, JANUARY)
    decide(context, "Snu", "R2")
    run(context, JANUARY, FEBRUARY)
    ledger, lines = corrected(context, FEBRUARY, "2025-01")
    assert [line for line in ledger if line[0] != "receivable"] == [
        ("recording_payable", "R2", "", "rebooking", 10, "-10"),
        ("suspense", "", ledger[-1][2], "reversal", -10, "10"),
    ]
    assert lines == [("cy", "R2", 10, "10", "10")]
    assert movements(statement(context, FEBRUARY, "cy")) == [("adjustment", "10"), ("paid", "-10")]
    assert propose(context, FEBRUARY).is_ready
    close(context, FEBRUARY, "Ann")
    check_books(context)


def test_suspense_that_is_added_to_a_closed_month_counts_against_closing(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    run_and_close(context, JANUARY)
    report(context, "late.csv", row("2025-01-04", "7.00", "Unknown"))
    run(context, JANUARY, FEBRUARY)
    assert propose(context, FEBRUARY).reasons[0].startswith("7 of 8 EUR is in suspense")


DEAL = """
contracts:
  - contract: deal
    recordings: [R1]
    valid_from: 2025-01-01
    participants:
      - {{payee: {payee}, percent: {percent}}}
    remainder_to: label
"""


def test_a_contract_for_a_closed_month_is_corrected_and_so_is_one_that_changes(tmp_path):
    """By shares 6 and 4; by the deal of 50 % 5 and 5; then Dee has 30 % in Ada's place."""
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run_and_close(context, JANUARY)
    before = in_force(context, JANUARY)
    report(context, "feb.csv", row("2025-02-03", "1.00"))
    agree(context, DEAL.format(payee="ada", percent=50))
    run(context, JANUARY)
    run_and_close(context, FEBRUARY)
    assert corrected(context, FEBRUARY, "2025-01") == (
        [],
        [
            ("ada", "R1", -10, "-10", "-6"),
            ("ada", "R1", 10, "10", "5"),
            ("bo", "R1", -10, "-10", "-4"),
            ("label", "R1", 10, "10", "5"),
        ],
    )
    report(context, "mar.csv", row("2025-03-03", "1.00"))
    agree(context, DEAL.format(payee="dee", percent=30))
    run(context, JANUARY, FEBRUARY)
    run_and_close(context, MARCH)
    assert in_force(context, JANUARY) == before
    assert corrected(context, MARCH, "2025-01")[1] == [
        ("ada", "R1", -10, "-10", "-5"),
        ("dee", "R1", 10, "10", "3"),
        ("label", "R1", -10, "-10", "-5"),
        ("label", "R1", 10, "10", "7"),
    ]
    (ada,) = statement(context, MARCH, "ada").lines.filter(pl.col("corrects") == "2025-01")["terms"]
    assert ada == "50 % of receipts, as was agreed before"
    # The deal is of February too, and nothing is left of Ada's: 30 and 70 % of all 12.00 EUR.
    assert earned(context) == {("dee", "EUR"): 36 * 10**17, ("label", "EUR"): 84 * 10**17}
    check_books(context)


def test_shares_of_the_catalog_do_not_reach_into_closed_months(tmp_path):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    report(context, "feb.csv", row("2025-02-03", "20.00"))
    run_and_close(context, JANUARY)
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,ada,50\nR1,bo,50\nR2,cy,100\n"
    )
    run(context, JANUARY, FEBRUARY)
    assert corrected(context, FEBRUARY, "2025-01") == ([], [])
    assert movements(statement(context, FEBRUARY, "ada"))[0] == ("earnings", "10")
    report(context, "late.csv", row("2025-01-05", "1.00"))
    run(context, JANUARY)
    run_and_close(context, FEBRUARY)
    # What comes late for January is divided as January was: 60 % of 1.00.
    assert movements(statement(context, FEBRUARY, "ada"))[1] == ("adjustment", "0.6")
    check_books(context)


DAYS = {JANUARY: "2025-01-05", FEBRUARY: "2025-02-05", MARCH: "2025-03-05"}
STEPS = """
contracts:
  - contract: deal
    recordings: [R2]
    participants: [{payee: cy, percent: 33.333333}]
    remainder_to: label
    escalations: [{above_units: 2, percents: {cy: 70}}]
"""
AMOUNTS = ("0.01", "0.1", "0.000000000000000001", "3.333333333333333333", "-2")


@settings(max_examples=3, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(DAYS)), st.sampled_from(AMOUNTS), st.sampled_from(["R1", "R2"]),
            st.sampled_from(["EUR", "USD"]), st.integers(0, 3),
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_late_or_in_time_everyone_earns_the_same(tmp_path_factory, files):
    """Each file comes before the month of a number is closed; April has all that was left."""
    home = tmp_path_factory.mktemp("late")
    late, known = project(home / "late"), project(home / "known")
    shares = "recording_id,rights_holder_id,share\nR2,cy,100\nR1,ada,33.333333\nR1,bo,33.333333\n"
    for context in (late, known):
        (context.home / "catalog/shares.csv").write_text(shares + "R1,dee,33.333334\n")
        agree(context, STEPS)
        report(context, "base.csv", *(row(day, "10.00") for day in DAYS.values()))
        report(context, "april.csv", row("2025-04-01", "1.00"))
    for number, closed in enumerate([*DAYS, APRIL]):
        for name, (month, amount, recording, currency, comes) in enumerate(files):
            if comes == number:
                text = row(DAYS[month], amount, recording, 1, currency)
                report(late, f"{name}.csv", text)
                report(known, f"{name}.csv", text)
        run(late, *DAYS)
        if closed is not APRIL:
            close(late, closed, "Ann")
    run(late, APRIL)
    run(known, *DAYS, APRIL)
    assert earned(late) == earned(known)
    for context in (late, known):
        assert not any(
            findings for month in (*DAYS, APRIL) for c in in_force(context, month) if c
            for findings in c.checks.values()
        )  # fmt: skip
    check_books(late)
    late.registry.close()
    known.registry.close()


# Receipts


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """January and a corrected February, by a contract with everything and by shares."""
    context = project(tmp_path_factory.mktemp("closed"))
    agree(
        context,
        """
payees:
  - {payee: dee, name: Dee Secret, currency: USD}
contracts:
  - contract: deal
    recordings: [R2]
    deductions: [{name: distribution, percent: 10}]
    participants:
      - {payee: dee, percent: 33.3}
      - {payee: eve, per_unit: 0.01, currency: EUR}
    remainder_to: label
""",
        "2025-01-31,EUR,USD,1.1,ECB\n2025-02-28,EUR,USD,1.2,ECB\n",
    )
    report(
        context, "jan.csv", row("2025-01-03", "7.77"), row("2025-01-04", "5.55", "R2"),
        row("2025-01-07", "1.11", "R2"),
    )  # fmt: skip
    report(context, "feb.csv", row("2025-02-03", "3.33", "R2"))
    run_and_close(context, JANUARY)
    report(context, "late.csv", row("2025-01-05", "2.22", "R2"))
    run(context, JANUARY)
    run_and_close(context, FEBRUARY)
    yield context
    context.registry.close()


def receipt_of(context, month, payee, number=1):
    (one,) = statements(context, month, payee)
    return json.loads(receipt(context, month, payee, one.currency, number))


def kinds(told_receipt):
    return [step["kind"] for step in told_receipt["steps"]]


def test_every_line_has_a_receipt_that_holds(closed):
    check_books(closed)


def test_a_receipt_names_the_rows_and_walks_to_the_amount(closed):
    """90 % of 6.66 is 5.994; Dee's 33.3 % are 1.996002 EUR, at 1.1 2.1956022 USD."""
    dee = receipt_of(closed, JANUARY, "dee")
    assert kinds(dee) == ["sum", "share", "convert"]
    assert [(source["name"], source["row"], source["amount"]) for source in dee["sources"]] == [
        ("jan.csv", "3", "5.55"),
        ("jan.csv", "4", "1.11"),
    ]
    assert dee["sources"][0]["text"] == "2025-01-04,DE,USUM70600056,Sun,Ada,10,5.55,EUR"
    assert [step["result"] for step in dee["steps"]] == ["6.66", "1.996002", "2.1956022"]
    eve = receipt_of(closed, JANUARY, "eve")
    assert [(s["kind"], s["units"], s["rate"], s["result"]) for s in eve["steps"]] == [
        ("per_unit", "20", "0.01", "0.2")
    ]
    label = receipt_of(closed, JANUARY, "label")
    assert kinds(label) == ["sum", "deduct"]
    # 6.66 less 0.666 of distribution, Dee's 1.996002 and Eve's 0.20.
    assert label["steps"][-1]["result"] == "3.797998"
    dee = receipt_of(closed, FEBRUARY, "dee", 2)
    assert dee["line"]["corrects"] == "2025-01"
    assert (dee["steps"][0]["words"], dee["sources"]) == (
        "what corrects the books of 2025-01",
        [],
    )


def test_a_receipt_tells_of_nobody_else(closed):
    names = {
        "dee": ("eve", "label"), "eve": ("dee", "Secret", "33.3", "label"),
        "label": ("dee", "Secret", "eve", "33.3"), "ada": ('"bo"', "Bo Kim", "3.108"),
    }  # fmt: skip
    for payee, others in names.items():
        for month in (JANUARY, FEBRUARY):
            for one in statements(closed, month, payee):
                for number in range(1, one.lines.height + 1):
                    given = json.loads(receipt(closed, month, payee, one.currency, number))
                    said = [given[n] for n in ("statement", "line", "contract", "steps", "sources")]
                    # A hash may spell a name by chance.
                    text = re.sub("[0-9a-f]{64}", "", json.dumps(said))
                    assert [other for other in others if other in text] == []


def test_a_receipt_is_checked_by_one_file_with_the_report_beside_it(closed, tmp_path):
    path = tmp_path / "receipt.json"
    path.write_text(receipt(closed, JANUARY, "dee", "USD", 1))
    source = closed.home / "inbox/jan.csv"

    def checked(file):
        command = [sys.executable, "-I", verify_receipt.__file__, str(path), "--source", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    held = checked(source)
    assert held.returncode == 0, held.stdout + held.stderr
    assert "it is the file that the line came from, 2 row(s)" in held.stdout
    assert checked(closed.home / "inbox/feb.csv").returncode == 1


@pytest.mark.parametrize("packed", ["gzip", "zip", "utf-16", "cp1252"])
def test_rows_are_told_as_they_stand_in_the_file_however_it_is_packed(tmp_path, packed):
    import gzip  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    context = project(tmp_path)
    text = report(context, "jan.csv", row("2025-01-03", "1.00")).read_text()
    path = tmp_path / "inbox/jan.csv"
    if packed == "gzip":
        path.write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    elif packed == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("jan.csv", text)
    else:
        path.write_bytes(text.replace("Flowers", "Flöwers").encode(packed))
    run_and_close(context, JANUARY)
    text = receipt(context, JANUARY, "ada", "EUR", 1)
    assert "USUM70600055" in json.loads(text)["sources"][0]["text"]
    assert verify_receipt.verify(text.encode(), sources=[path])


# Verification


def found(checks, name):
    (checked,) = [one for one in checks if one.name == name]
    return checked


def test_verification_looks_at_closed_periods_and_makes_them_again(closed):
    checks = verify_quickly(closed)
    assert found(checks, "closed periods").number == 2
    assert [told for check in checks for told in check.differences] == []
    again = rederive(closed)
    assert [told for check in again for told in check.differences] == []
    (notice,) = found(again, "ledger made again").notices
    assert notice.startswith("ledger/ledger 2025-01-01: the month is closed, and other data")
    assert found(verify_quickly(closed, "2025-02"), "closed periods").number == 1


DAMAGE = {
    "leaf": "DELETE FROM log_leaves WHERE kind = 'statement'",
    "period": "UPDATE log_leaves SET content_sha256 = 'x' WHERE kind = 'period'",
    "ledger": "UPDATE batches SET input_sha256 = 'x' WHERE stage = 'ledger'",
    "commit": "UPDATE commits SET batch_ids = '[]' WHERE stage = 'statements'",
}


@pytest.mark.parametrize("what", [*DAMAGE, "record", "statements", "evidence", "lines"])
def test_each_thing_that_is_damaged_is_found(tmp_path, what):
    context = project(tmp_path)
    report(context, "jan.csv", row("2025-01-03", "10.00"))
    run_and_close(context, JANUARY)
    if what in DAMAGE:
        with context.registry.writing() as connection:
            assert connection.exec_driver_sql(DAMAGE[what]).rowcount
    else:
        stage = "statements" if what == "lines" else "closing"
        (path,) = (
            each
            for each in context.lake.paths()
            if each.startswith(f"{stage}/") and what in each.rpartition("/")[2]
        )
        frame = pl.read_parquet(object_bytes(context.lake, path))
        spoilt = {
            "record": pl.col("content").str.replace("1", "2"),
            "statements": pl.col("header").str.replace("6", "7"),
            "evidence": pl.col("evidence").str.replace("6", "7"),
            "lines": pl.col("payee_amount") + 1,
        }
        body = io.BytesIO()
        frame.with_columns(spoilt[what]).write_parquet(body)
        overwrite(context.lake, path, body.getvalue())
    assert found(verify_quickly(context), "closed periods").differences
    if what == "leaf":
        with pytest.raises(ReceiptError, match="the log has no leaf"):
            receipt(context, JANUARY, "ada", "EUR", 1)
    context.registry.close()


def test_another_allocation_is_for_months_to_come_and_not_for_closed_ones(tmp_path):
    """10 EUR by 30 and 10 plays: 7.50 and 2.50; above a threshold of 20 plays 10.00 and nothing."""
    context = project(tmp_path, pool={"amount": "10.00", "currency": "EUR"})

    def deliver(name, day, **plays):
        rows = "".join(f"{day},{TITLES[of]},Ada,{units},de\n" for of, units in plays.items())
        header = "chart_date,song,performer,streams,region\n"
        (tmp_path / "inbox" / name).write_text(header + rows)

    deliver("january.csv", "2025-01-03", R1=30, R2=10)
    run_month(context, JANUARY)
    close(context, JANUARY, "ann")
    feed = context.project.feeds[0].model_copy(update={"allocation": StreamThreshold(units_min=20)})
    context.project = context.project.model_copy(update={"feeds": [feed]})
    deliver("february.csv", "2025-02-03", R1=30, R2=10)
    run_month(context, FEBRUARY)
    lines = payout_frame(context, FEBRUARY, "payout_lines", PAYOUT_LINE_SCHEMA)
    assert set(lines["corrects"]) == {""}
    # What comes late for January is shared as January was: 30 and 20 plays, 6 and 4 EUR.
    deliver("late.csv", "2025-01-04", R2=10)
    run_month(context, JANUARY)
    run_month(context, FEBRUARY)
    lines = payout_frame(context, FEBRUARY, "payout_lines", PAYOUT_LINE_SCHEMA)
    late = (
        lines.filter(pl.col("corrects") == "2025-01")
        .group_by("recording_id")
        .agg(pl.col("amount").sum())
    )
    assert dict(late.rows()) == {"R1": Decimal("-1.50"), "R2": Decimal("1.50")}


def test_a_month_that_is_paid_by_made_up_splits_stays_open(tmp_path):
    context = project(tmp_path)
    (tmp_path / "catalog/shares.csv").unlink()
    catalog = context.project.catalog.model_copy(update={"missing_shares": "simulated"})
    context.project = context.project.model_copy(update={"catalog": catalog})
    report(context, "january.csv", row("2025-01-03", "9.00"))
    run_month(context, JANUARY)
    (told,) = propose(context, JANUARY).reasons
    assert "the splits of 2 recordings are made up" in told
    with pytest.raises(StageBlockedError, match="made up"):
        close(context, JANUARY, "ann")
