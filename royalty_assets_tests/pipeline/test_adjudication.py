"""From an open question to money: rules through the stages, and what they touch."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from royalty_assets.domain.adjudication import Action, AdjudicationError, State
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.adjudicate import Ruling, last_number, rule_on
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.desk_recordings import add_recording
from royalty_assets.pipeline.drift import catalog_subject
from royalty_assets.pipeline.explain import explain
from royalty_assets.pipeline.funnel import make_funnel
from royalty_assets.pipeline.match import match, matched, rules_of
from royalty_assets.pipeline.month import blocked_because, month_frames
from royalty_assets.pipeline.questions import Question, questions
from royalty_assets.settings import load_project
from royalty_assets.storage.registry import RegistryConflictError
from royalty_assets_tests.projects import inbox_context, month_hash, run_month

MARCH = Partition.parse(Cadence.MONTHLY, "2025-03-01")
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
LINES = (
    "2025-03-01,DE,USUM70600055,Flowers,Ada,10,1.00,EUR\n"
    "2025-03-02,DE,,Flwrs of the Sun,Ada,7,0.70,EUR\n"
    "2025-03-03,AT,,FLWRS OF THE SUN (Remastered),Ada,3,0.30,EUR\n"
    "2025-03-04,DE,GBXXX2500001,Unknown,Nobody,5,2.50,EUR\n"
)


@pytest.fixture
def context(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\nR2,USUM70600056,Sun,Ada\n"
    )
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,P1,100\nR2,P2,100\n"
    )
    (tmp_path / "inbox/report.csv").write_text(HEADER + LINES)
    run_month(context, MARCH)
    yield context
    context.registry.close()


def paid(context):
    payouts = month_frames(context, MARCH)[1]
    return {row[0]: row[1] for row in payouts.select("rights_holder_id", "amount_paid").rows()}


def find(context, text):
    return next(q for q in questions(context) if text in f"{q.subject} {q.title}")


def decide(context, text, action, recording_id=None, who="Ann", **fields):
    question = find(context, text)
    seen = last_number(context, question.subject)
    return rule_on(
        context, question, Ruling(Action(action), who, "", recording_id, seen=seen, **fields)
    )


def test_questions_are_what_one_decision_settles_with_most_money_first(context):
    asked = questions(context)
    assert [(q.kind, q.units, q.stake_texts()) for q in asked] == [
        ("isrc", 5, [("EUR", "2.5")]),
        ("name", 10, [("EUR", "1")]),
    ]
    assert len(asked[1].spellings) == 2
    assert asked[1].territories == {"AT", "DE"}


def test_what_is_accepted_is_paid_by_the_next_run_to_the_unit(context):
    assert paid(context) == {"P1": Decimal(1)}
    decide(context, "Flwrs", "accept", "R2")
    assert blocked_because(context, MARCH)
    run_month(context, MARCH)
    assert paid(context) == {"P1": Decimal(1), "P2": Decimal(1)}
    assert [q.subject for q in questions(context)] == ["isrc:GBXXX2500001"]
    (commit,) = context.registry.commits(Stage.MATCHED)
    assert commit.counts["units_rule"] == 10


def test_revoking_gives_the_hash_of_before(context):
    before = month_hash(context, MARCH)
    decide(context, "GBXXX2500001", "accept", "R1")
    run_month(context, MARCH)
    assert month_hash(context, MARCH) != before
    rule_on_gone(context, "isrc:GBXXX2500001", "revoke")
    run_month(context, MARCH)
    assert month_hash(context, MARCH) == before


def rule_on_gone(context, subject, action):
    """A decision about a subject whose usage is no question any more."""
    ruling = Ruling(Action(action), "Ann", seen=last_number(context, subject))
    return rule_on(context, Question(subject), ruling)


def test_what_is_rejected_stays_in_suspense_and_is_no_question(context):
    decide(context, "GBXXX2500001", "reject")
    run_month(context, MARCH)
    question = find(context, "GBXXX2500001")
    assert (question.state, question.reasons) == (State.REJECTED, {"rejected_by_rule"})
    balance = month_frames(context, MARCH)[2]
    assert balance["in_suspense"].to_list() == [Decimal("3.5")]


def test_what_is_deferred_is_not_matched_again(context):
    (before,) = context.registry.commits(Stage.MATCHED)
    decide(context, "GBXXX2500001", "defer", until=date(2099, 1, 1))
    assert find(context, "GBXXX2500001").state is State.DEFERRED
    feed = context.project.feeds[0]
    assert matched(context, feed, Partition.parse(feed.cadence, before.partition_key)) == before


def test_a_rule_touches_only_the_partitions_that_have_its_usage(context):
    (context.home / "inbox/april.csv").write_text(
        HEADER + "2025-04-01,DE,GBXXX2500001,Unknown,Nobody,1,1.00,EUR\n"
    )
    april = Partition.parse(Cadence.MONTHLY, "2025-04-01")
    run_month(context, april)
    feed = context.project.feeds[0]
    decide(context, "Flwrs", "accept", "R2")
    assert matched(context, feed, april) is not None
    assert matched(context, feed, MARCH) is None
    subject = find(context, "GBXXX2500001").subject
    assert context.registry.partitions_with_subjects([subject]) == [
        ("reports", "2025-03-01"),
        ("reports", "2025-04-01"),
    ]


def test_a_rule_that_came_first_gives_the_same_as_one_that_came_after(context, tmp_path):
    decide(context, "Flwrs", "accept", "R2")
    run_month(context, MARCH)
    after = month_hash(context, MARCH)
    decide(context, "GBXXX2500001", "defer", until=date(2099, 1, 1))
    match(context, context.project.feeds[0], MARCH)
    assert month_hash(context, MARCH) == after


def test_two_people_do_not_decide_past_each_other(context):
    question = find(context, "GBXXX2500001")
    rule_on(context, question, Ruling(Action.REJECT, "Ann"))
    with pytest.raises(RegistryConflictError, match="somebody else decided"):
        rule_on(context, question, Ruling(Action.ACCEPT, "Bob", "", "R1"))
    assert len(context.registry.adjudications()) == 1


def test_much_money_waits_for_another_person(tmp_path):
    context = limited(tmp_path)
    decide(context, "GBXXX2500001", "accept", "R1")
    assert find(context, "GBXXX2500001").state is State.PROPOSED
    with pytest.raises(AdjudicationError, match="another person"):
        decide(context, "GBXXX2500001", "confirm")
    decide(context, "GBXXX2500001", "confirm", who="Bob")
    run_month(context, MARCH)
    assert [q.title for q in questions(context)] == ["Flwrs of the Sun"]


def test_a_new_recording_is_in_the_catalog_and_held_until_it_has_shares(context):
    question = find(context, "GBXXX2500001")
    fields = {"isrc": "GB-XXX-25-00001", "title": 'Unknown, "live"', "artist": "Nobody"}
    assert add_recording(context, fields) == "GBXXX2500001"
    with pytest.raises(AdjudicationError, match="already"):
        add_recording(context, fields)
    with pytest.raises(AdjudicationError, match="isrc: Not a well-formed ISRC"):
        add_recording(context, fields | {"isrc": "nonsense"})
    rule_on(context, question, Ruling(Action.ACCEPT, "Ann", "", "GBXXX2500001"))
    run_month(context, MARCH)
    balance = month_frames(context, MARCH)[2]
    assert balance["held"].to_list() == [Decimal("2.5")]


def test_a_decision_for_a_recording_that_is_gone_is_a_question_again(context):
    decide(context, "Flwrs", "accept", "R2")
    (context.home / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\n"
    )
    take_catalog(context)
    run_month(context, MARCH)
    question = find(context, "Flwrs")
    assert (question.reasons, question.state) == ({"rule_names_no_recording"}, State.OPEN)
    ledger = month_frames(context, MARCH)[0]
    suspended = ledger.filter(pl.col("reason") == "rule_names_no_recording")
    assert suspended["units"].sum() == 10


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("report.csv:2", "It is 'Flowers' by 'Ada' (R1, ISRC USUM70600055): its ISRC is in"),
        ("report.csv:3", "It is open: "),
        ("report.csv:3", "What settles it: a decision about 'name:flwrs of the sun |  | ada'"),
        ("report.csv:5", "'Unknown', by 'Nobody', ISRC GBXXX2500001, 5 units in DE"),
    ],
)
def test_a_line_is_explained_by_its_file_and_row(context, reference, told):
    (found,) = explain(context, reference)
    assert any(told in sentence for sentence in found.sentences)
    sha256 = found.line["source_sha256"]
    assert explain(context, f"{sha256[:10]}:{found.line['row_number']}") == [found]


def test_a_rule_is_explained_with_who_and_why(context):
    question = find(context, "Flwrs")
    rule_on(context, question, Ruling(Action.ACCEPT, "Ann", "heard both", "R2"))
    run_month(context, MARCH)
    (found,) = explain(context, "report.csv:3")
    assert found.decision["rule_id"] == "rule 1"
    assert any("Ann said that it is 'Sun' by 'Ada'" in s and "heard both" in s
               for s in found.sentences)  # fmt: skip


def test_a_refused_row_is_explained_too(context):
    report = context.home / "inbox/report.csv"
    report.write_text(report.read_text() + "2025-03-05,XQ,USUM70600055,Flowers,Ada,1,1.00,EUR\n")
    run_month(context, MARCH)
    (found,) = explain(context, "report.csv:6")
    assert "was refused" in found.sentences[0]
    assert "territory_unknown" in found.sentences[1]


def test_what_nobody_reported_has_no_explanation(context):
    assert explain(context, "report.csv:999") == []
    assert explain(context, "no such event") == []


SPLIT = "recording_id,rights_holder_id,share\nR1,P3,100\nR2,P2,100\n"


def with_drift(context, **drift):
    content = context.project.model_dump() | {"drift": drift}
    context.project = context.project.model_validate(content)


def ledger_commit(context):
    return context.registry.commit("ledger", Stage.LEDGER, MARCH.key)


def test_a_changed_split_is_told_with_the_money_that_it_moves(context):
    (context.home / "catalog/shares.csv").write_text(SPLIT)
    run_month(context, MARCH)
    told = ledger_commit(context).warnings["catalog_drift_is_within_limits"]
    assert told == [
        "changes in the catalog move 1 EUR that was paid to others",
        "R1: splits was 'P1 100.0', is 'P3 100.0'; moves 1 EUR",
    ]
    assert paid(context) == {"P3": Decimal(1)}


def test_drift_that_blocks_is_paid_once_a_person_accepts_it(context):
    with_drift(context, severity="block")
    (context.home / "catalog/shares.csv").write_text(SPLIT)
    with pytest.raises(StageBlockedError, match="move 1 EUR"):
        run_month(context, MARCH)
    assert paid(context) == {"P1": Decimal(1)}
    rule_on(context, Question(catalog_subject(context)), Ruling(Action.ACCEPT, "Ann", "agreed"))
    run_month(context, MARCH)
    assert paid(context) == {"P3": Decimal(1)}


def test_what_moves_no_more_than_allowed_is_not_told(context):
    with_drift(context, severity="block", money_moved_max={"EUR": "1.00"})
    (context.home / "catalog/shares.csv").write_text(SPLIT)
    run_month(context, MARCH)
    assert paid(context) == {"P3": Decimal(1)}


@pytest.mark.parametrize(
    ("recordings", "told"),
    [
        ("R2,USUM70600056,Sun,Ada\n", "R1 (Flowers by Ada) is no longer in the catalog"),
        ("R1,USUM70600056,Flowers,Ada\nR2,USUM70600055,Sun,Ada\n", "R1: isrc was 'USUM70600055'"),
    ],
)
def test_a_repointed_isrc_or_a_lost_recording_is_told(context, recordings, told):
    (context.home / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\n" + recordings
    )
    run_month(context, MARCH)
    findings = ledger_commit(context).warnings["catalog_drift_is_within_limits"]
    assert any(told in finding and "moves 1 EUR" in finding for finding in findings)


def test_a_new_title_that_moves_nothing_is_not_told(context):
    (context.home / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers!,Ada\nR2,USUM70600056,Sun,Ada\n"
    )
    run_month(context, MARCH)
    assert "catalog_drift_is_within_limits" not in ledger_commit(context).warnings


def test_usage_that_calls_an_isrc_otherwise_is_told(context):
    (context.home / "inbox/report.csv").write_text(
        HEADER + "2025-03-01,DE,USUM70600055,Quite Another Song,Bob,10,1.00,EUR\n"
        "2025-03-02,DE,USUM70600056,SUN (Remastered),Ada,10,1.00,EUR\n"
    )
    run_month(context, MARCH)
    (commit,) = context.registry.commits(Stage.MATCHED)
    assert commit.is_green
    told = commit.warnings["usage_agrees_with_catalog"]
    assert told[0] == "10 of 20 units have an ISRC that the catalog calls otherwise"
    assert "usage says 'Quite Another Song' by 'Bob', the catalog 'Flowers' by 'Ada'" in told[1]
    with_drift(context, severity="block")
    (context.home / "catalog/extra.csv").write_text("isrc,title,artist\nUSUM70600099,X,Y\n")
    with pytest.raises(StageBlockedError, match="calls otherwise"):
        run_month(context, MARCH)


def test_a_later_decision_counts_though_the_first_found_no_right(context):
    """Accepted as R1, which may be used in the US only, and then as R2."""
    (context.home / "catalog/rights.csv").write_text("recording_id,territories\nR1,US\n")
    run_month(context, MARCH)
    decide(context, "GBXXX2500001", "accept", "R1")
    run_month(context, MARCH)
    assert find(context, "right:R1").units == 15
    question = Question("isrc:GBXXX2500001")
    seen = last_number(context, question.subject)
    rule_on(context, question, Ruling(Action.ACCEPT, "Ann", "", "R2", seen=seen))
    assert blocked_because(context, MARCH)
    run_month(context, MARCH)
    assert paid(context) == {"P2": Decimal("2.5")}


def limited(tmp_path, lines=LINES):
    """A project where two people have to agree from 2 EUR on."""
    context = inbox_context(tmp_path)
    context.project = context.project.model_validate(
        context.project.model_dump() | {"desk": {"four_eyes_above": {"EUR": "2.00"}}}
    )
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\nR2,USUM70600056,Sun,Ada\n"
    )
    (tmp_path / "inbox/report.csv").write_text(HEADER + lines)
    run_month(context, MARCH)
    return context


def test_what_two_people_decided_is_not_changed_by_one(tmp_path):
    context = limited(tmp_path)
    decide(context, "GBXXX2500001", "accept", "R1")
    decide(context, "GBXXX2500001", "accept", "R1", who="Bob")  # the same again confirms
    run_month(context, MARCH)
    settled = Question("isrc:GBXXX2500001")
    seen = last_number(context, settled.subject)
    again = rule_on(context, settled, Ruling(Action.ACCEPT, "Ann", "", "R2", seen=seen))
    assert again.needs_second
    run_month(context, MARCH)
    (commit,) = context.registry.commits(Stage.MATCHED)
    assert commit.counts["units_rule"] == 5


def test_money_that_cancels_out_is_money_all_the_same(tmp_path):
    lines = (
        "2025-03-04,DE,GBXXX2500001,Unknown,Nobody,5,900.00,EUR\n"
        "2025-03-05,DE,GBXXX2500001,Unknown,Nobody,-5,-900.00,EUR\n"
    )
    context = limited(tmp_path, lines)
    assert find(context, "GBXXX2500001").stake_texts() == [("EUR", "0")]
    assert decide(context, "GBXXX2500001", "accept", "R1").needs_second


def test_the_labels_own_row_goes_before_the_desks(context):
    add_recording(context, {"isrc": "GBXXX2500001", "title": "Unknown", "artist": "Nobody"})
    (context.home / "catalog/later.csv").write_text(
        "recording_id,isrc,title,artist\nLBL-7,GBXXX2500001,Unknown,Nobody\n"
    )
    (context.home / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,P1,100\nR2,P2,100\nLBL-7,P7,100\n"
    )
    run_month(context, MARCH)
    assert paid(context)["P7"] == Decimal("2.5")
    assert context.registry.dead_letters("catalog") == []


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", ";"),
        lambda text: "\ufeff" + text,
    ],
)
def test_the_desks_file_survives_a_spreadsheet(context, saved):
    path = context.home / "catalog/recordings-from-the-desk.csv"
    add_recording(context, {"isrc": "GBXXX2500001", "title": "Café", "artist": "Nobody"})
    path.write_text(saved(path.read_text()))
    add_recording(context, {"isrc": "GBXXX2500002", "title": "Two", "artist": "Nobody"})
    assert [line.split(",")[1:3] for line in path.read_text().splitlines()[1:]] == [
        ["GBXXX2500001", "Café"],
        ["GBXXX2500002", "Two"],
    ]


def test_a_title_of_two_lines_is_no_new_recording(context):
    with pytest.raises(AdjudicationError, match="line breaks"):
        add_recording(context, {"isrc": "GBXXX2500001", "title": "a\nb"})
    assert not (context.home / "catalog/recordings-from-the-desk.csv").exists()


def test_what_is_decided_during_a_run_waits_for_the_next(context):
    """Otherwise the month would be posted without the partitions that it touches."""
    rules_of(context)
    context.holds_rules = True
    decide(context, "GBXXX2500001", "accept", "R1")
    run_month(context, MARCH)
    assert paid(context) == {"P1": Decimal(1)}
    context.holds_rules = False
    assert blocked_because(context, MARCH)
    run_month(context, MARCH)
    assert paid(context) == {"P1": Decimal("3.5")}


def test_amounts_in_configuration_are_exact_with_quotes_or_without(tmp_path):
    (tmp_path / "feeds.yaml").write_text(
        "desk: {four_eyes_above: {EUR: 500.10, USD: 7, GBP: '0.30'}}\n"
        "drift: {money_moved_max: {EUR: 0.1}}\n"
        "feeds: [{name: f, records: report_lines, cadence: monthly, start: 2025-01-01, "
        "source: {dialect: inbox, folder: inbox}, rejected_fraction_max: 0.25}]\n"
    )
    project = load_project(tmp_path)
    limits = project.desk.four_eyes_above
    assert {c: str(a) for c, a in limits.items()} == {"EUR": "500.10", "USD": "7", "GBP": "0.30"}
    assert project.drift.money_moved_max["EUR"] == Decimal("0.1")


def test_what_waits_and_what_drifts_is_told_after_a_run(context):
    (context.home / "catalog/shares.csv").write_text(SPLIT)
    run_month(context, MARCH)
    notices = make_funnel(context).notices
    assert any("15 units have no recording" in told for told in notices)
    assert any("move 1 EUR that was paid to others; see Drift" in told for told in notices)


def test_usage_that_nobody_has_valued_yet_needs_two_people(tmp_path):
    """It shares a pool, and its month is not posted."""
    context = limited(tmp_path, "2025-03-04,DE,GBXXX2500001,Unknown,Nobody,5,,\n")
    assert not find(context, "GBXXX2500001").is_valued
    assert decide(context, "GBXXX2500001", "accept", "R1").needs_second
