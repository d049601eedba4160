"""The desk's pages as a browser without scripts sees them, and as a hostile page would."""

import csv
import html
import io
import re
from types import SimpleNamespace

import httpx
import pytest

from royalty_assets.desk.app import make_desk
from royalty_assets.desk.queue import Queue
from royalty_assets.desk.spreadsheet import read_wishes, write_questions
from royalty_assets.domain.adjudication import State
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.questions import Question, questions
from royalty_assets.simulator.server import serve
from royalty_assets_tests.projects import inbox_context, run_month

MARCH = Partition.parse(Cadence.MONTHLY, "2025-03-01")
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def context(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\nR2,USUM70600056,Sun,Ada\n"
    )
    (tmp_path / "inbox/report.csv").write_text(
        HEADER
        + "2025-03-02,DE,,Flwrs of the Sun,Ada,7,0.70,EUR\n"
        + f"2025-03-04,DE,GBXXX2500001,{HOSTILE},=cmd|' /C calc'!A0,5,2.50,EUR\n"
    )
    run_month(context, MARCH)
    yield context
    context.registry.close()


@pytest.fixture
def desk(context):
    with (
        serve(SimpleNamespace(app=make_desk(context))) as url,
        httpx.Client(base_url=url) as client,
    ):
        client.follow_redirects = True
        yield client


def token(desk, path="/"):
    return re.search('name="csrf" value="([0-9a-f]+)"', desk.get(path).text)[1]


def post(desk, path, **fields):
    return desk.post(path, data={"csrf": token(desk)} | fields)


def sit_down(desk, name="Ann Example"):
    post(desk, "/who", who=name, back="/")


def states(context):
    return {q.subject: q.state for q in questions(context)}


def test_the_queue_shows_the_money_and_escapes_what_it_shows(desk):
    page = desk.get("/").text
    assert "2.50 EUR" in page
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page
    assert page.index("GBXXX2500001") < page.index("Flwrs of the Sun")


def test_filters_narrow_the_queue(desk):
    assert "Flwrs" not in desk.get("/?kind=isrc").text.split("<tbody>")[1]
    assert "GBXXX2500001" not in desk.get("/?q=flwrs").text
    assert "Nothing here" in desk.get("/?state=resolved").text


def test_a_question_shows_its_candidates_and_how_near_they_are(desk):
    address = "/question?subject=name:flwrs of the sun |  | ada"
    page = desk.get(address).text
    candidates = page[page.index('id="candidates"') :]
    assert 'value="accept R' not in candidates
    assert "Nothing in the catalog comes near" in candidates
    found = desk.get(f"{address}&search=flowers").text
    assert 'value="accept R1"' in found
    assert "Nothing in the catalog" not in found[found.index('id="candidates"') :]


def test_a_candidate_says_how_near_it_comes(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/c.csv").write_text("isrc,title,artist\nUSUM70600055,Glass Rivers,Ada\n")
    (tmp_path / "inbox/r.csv").write_text(
        HEADER + "2025-03-01,DE,,Glass Rivers (Live),Ada,1,1.00,EUR\n"
    )
    run_month(context, MARCH)
    with serve(SimpleNamespace(app=make_desk(context))) as url:
        page = httpx.get(f"{url}/question", params={"subject": questions(context)[0].subject}).text
    for level in ("title equal", "artist equal", "version differs", "number agrees"):
        assert level in page
    context.registry.close()


def test_a_decision_is_recorded_and_can_be_undone(desk, context):
    sit_down(desk)
    done = post(
        desk, "/decide", subject="isrc:GBXXX2500001", decision="accept R1",
        why="same master", back="/?state=open",
    )  # fmt: skip
    assert "1 partition is to be matched again" in done.text
    assert states(context)["isrc:GBXXX2500001"] is State.RESOLVED
    log = desk.get("/log").text
    assert "Ann Example" in log
    assert "same master" in log
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="revoke", back="/log")
    assert states(context)["isrc:GBXXX2500001"] is State.OPEN


def test_many_are_decided_at_once(desk, context):
    sit_down(desk)
    subjects = list(states(context))
    data = {"csrf": token(desk), "subject": subjects, "decision": "reject", "why": "not ours"}
    assert "(2 questions)" in desk.post("/decide", data=data).text
    assert set(states(context).values()) == {State.REJECTED}


def test_nobody_decides_without_a_name(desk, context):
    refused = post(desk, "/decide", subject="isrc:GBXXX2500001", decision="reject")
    assert refused.status_code == 409
    assert "who decides" in refused.text
    assert context.registry.adjudications() == []


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
def test_a_form_of_another_site_is_refused(desk, context, headers):
    sit_down(desk)
    data = {"csrf": token(desk), "subject": "isrc:GBXXX2500001", "decision": "reject"}
    assert desk.post("/decide", data=data, headers=headers).status_code == 403
    assert context.registry.adjudications() == []


def test_a_form_without_the_pages_token_is_refused(desk, context):
    sit_down(desk)
    for wrong in ("", "0" * 64):
        data = {"csrf": wrong, "subject": "isrc:GBXXX2500001", "decision": "reject"}
        assert desk.post("/decide", data=data).status_code == 403
    assert context.registry.adjudications() == []


def test_another_host_name_is_not_answered(desk):
    refused = desk.get("/", headers={"host": "evil.example"})
    assert refused.status_code == 400
    assert "frame-ancestors 'none'" in refused.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"content": b"x" * (22 << 20)}, 413), ({"content": iter([b"csrf=x"])}, 411)],
)
def test_a_form_without_measure_is_refused_unread(desk, body, status):
    refused = desk.post("/decide", **body)
    assert refused.status_code == status
    assert refused.headers["x-content-type-options"] == "nosniff"


SQL = "Robert'); DROP TABLE batches; --"


def test_quotes_and_sql_in_every_text_are_texts(tmp_path):
    context = inbox_context(tmp_path, rejected_fraction_max=1)
    row = f'{{}},DE,{{}},"{SQL}","{SQL}",7,0.70,EUR\n'
    (tmp_path / "inbox" / f"{SQL}.csv").write_text(
        HEADER + row.format("2025-03-02", "") + row.format(SQL, SQL)
    )
    (tmp_path / "catalog/c.csv").write_text(
        f'recording_id,isrc,title,artist\n"{SQL}",USUM70600055,"{SQL} 2","{SQL}"\n'
    )
    run_month(context, MARCH)
    (question,) = questions(context)
    with (
        serve(SimpleNamespace(app=make_desk(context))) as url,
        httpx.Client(base_url=url, follow_redirects=True) as client,
    ):
        sit_down(client, SQL)
        assert SQL in html.unescape(client.get("/", params={"q": SQL}).text)
        asked = {"subject": question.subject, "search": SQL}
        assert SQL in html.unescape(client.get("/question", params=asked).text)
        assert client.get("/", params={"feed": SQL, "state": SQL, "kind": SQL}).status_code == 200
        decision = {"subject": question.subject, "decision": "defer", "why": SQL}
        post(client, "/decide", until="2030-01-01", **decision)
    (decided,) = context.registry.adjudications()
    assert (decided.who, decided.why) == (SQL, SQL)
    assert context.registry.batches("reports", "validated", MARCH.key)
    assert list(context.registry.dead_letters("' OR 1=1 --", limit=5)) == []
    assert {letter["source"] for letter in context.registry.dead_letters()} == {f"{SQL}.csv"}
    context.registry.close()


def test_the_way_back_leads_nowhere_else(desk):
    for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
        done = desk.post(
            "/who", data={"csrf": token(desk), "who": "x", "back": back}, follow_redirects=False
        )
        assert done.headers["location"] == "/"


def test_every_page_forbids_what_it_does_not_need(desk):
    headers = desk.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"


def test_a_decision_past_another_is_refused(desk, context):
    sit_down(desk)
    seen = "seen isrc:GBXXX2500001"
    first = {"subject": "isrc:GBXXX2500001", "decision": "reject", seen: ""}
    post(desk, "/decide", **first)
    # Somebody whose page is from before that one.
    late = post(desk, "/decide", **first)
    assert late.status_code == 409
    assert "meanwhile" in late.text


def test_the_queue_goes_out_and_decisions_come_in_as_csv(desk, context):
    sit_down(desk)
    rows = list(
        csv.DictReader(
            io.StringIO(desk.get("/questions.csv?state=open").text.removeprefix("\ufeff"))
        )
    )
    assert rows[0]["artist"].startswith("'=cmd")
    rows[0] |= {"decision": "Accept", "recording_id": "R1", "why": "checked"}
    rows[1] |= {"decision": "perhaps"}
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    done = desk.post(
        "/questions.csv",
        data={"csrf": token(desk), "back": "/"},
        files={"file": ("q.csv", out.getvalue(), "text/csv")},
    )
    assert "line 3: decision is &#39;perhaps&#39;" in done.text
    assert states(context)["isrc:GBXXX2500001"] is State.RESOLVED


def test_a_csv_without_the_columns_is_refused_by_name():
    assert read_wishes(b"a,b\n1,2\n")[1] == ["line 1: there is no column decision, subject"]


def test_formulas_are_written_as_text():
    question = Question("isrc:X", title="=1+1", artist="@SUM(A1)")
    row = next(csv.DictReader(io.StringIO(write_questions([question]).removeprefix("\ufeff"))))
    assert (row["title"], row["artist"]) == ("'=1+1", "'@SUM(A1)")


def test_a_new_recording_is_added_and_accepted(desk, context):
    sit_down(desk)
    done = post(
        desk, "/recordings", subject="isrc:GBXXX2500001", isrc="GBXXX2500001", title="New one"
    )
    assert "GBXXX2500001 is in the catalog" in done.text
    assert context.registry.adjudications()[-1].recording_id == "GBXXX2500001"


def test_what_is_no_question_says_so(desk):
    gone = desk.get("/question?subject=isrc:NOPE")
    assert gone.status_code == 404
    assert "No open question" in gone.text


def test_enter_in_a_field_decides_nothing(desk):
    """A browser presses a form's first button; that one is inert."""
    queue = desk.get("/").text
    inside = queue[queue.index('id="bulk"') :]
    assert inside[inside.index("<button") :].startswith("<button disabled")
    page = desk.get("/question?subject=isrc:GBXXX2500001&search=flowers").text
    # The first button of all that belong to the form, wherever they stand in the document.
    assert 0 < page.index("Enter decides nothing") < page.index('form="decide"')


def test_two_people_with_fresh_pages_do_not_decide_past_each_other(desk, context):
    sit_down(desk)
    seen = {"seen isrc:GBXXX2500001": "", "subject": "isrc:GBXXX2500001"}
    post(desk, "/decide", decision="accept R1", **seen)
    assert post(desk, "/decide", decision="reject", **seen).status_code == 409
    assert len(context.registry.adjudications()) == 1


def test_only_what_is_in_force_can_be_undone_from_the_log(desk):
    sit_down(desk)
    for wanted in ("accept R1", "accept R2"):
        post(desk, "/decide", subject="isrc:GBXXX2500001", decision=wanted)
    log = desk.get("/log").text
    assert log.count('value="revoke">Undo') == 1
    assert "no longer in force" in log


def test_the_name_that_stands_in_the_page_decides(desk, context):
    sit_down(desk, "Ann")
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="reject", who_typed="Bob")
    assert context.registry.adjudications()[-1].who == "Bob"


def test_a_subject_is_taken_exactly_as_it_is(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/c.csv").write_text("isrc,title,artist\nUSUM70600055,Flowers,Ada\n")
    titles = ("Moon & Co #1", "50% + more; 'q'", "Мир | труд", "no artist at all")
    rows = [f'2025-03-01,DE,,"{title}",,1,1.00,EUR\n' for title in titles]
    (tmp_path / "inbox/r.csv").write_text(HEADER + "".join(rows))
    run_month(context, MARCH)
    with serve(SimpleNamespace(app=make_desk(context))) as url, httpx.Client(base_url=url) as desk:
        desk.follow_redirects = True
        sit_down(desk)
        for question in questions(context):
            page = desk.get("/question", params={"subject": question.subject})
            assert page.status_code == 200
            done = post(desk, "/decide", subject=question.subject, decision="reject")
            assert "Recorded" in done.text
    assert set(states(context).values()) == {State.REJECTED}
    context.registry.close()


@pytest.mark.parametrize(
    ("content", "number", "told"),
    [
        (b"Subject;Decision;Why\nisrc:GBXXX2500001;Reject;caf\xe9\n", 1, ""),
        ("subject\tdecision\nisrc:X\treject\n".encode("utf-16"), 1, ""),
        (b"subject,decision\nisrc:X,reject\nisrc:X,reject\n", 1, "decided about twice"),
        (b'subject,decision\nisrc:X,"' + b"x" * 200_000 + b'"\n', 0, "field larger"),
        (b"subject,decision,until\nisrc:X,defer,soon\n", 0, "until is 'soon'"),
    ],
)
def test_a_csv_is_read_as_spreadsheets_save_it(content, number, told):
    wishes, problems = read_wishes(content)
    assert len(wishes) == number
    assert told in " ".join(problems)


def test_a_csv_from_before_somebody_decided_is_refused(desk, context):
    sit_down(desk)
    old = desk.get("/questions.csv?kind=isrc").text.removeprefix("\ufeff")
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="accept R1")
    rows = list(csv.DictReader(io.StringIO(old)))
    rows[0]["decision"] = "reject"
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    data = {"csrf": token(desk), "back": "/"}
    done = desk.post("/questions.csv", data=data, files={"file": ("q.csv", out.getvalue())})
    assert "decided about this meanwhile" in done.text
    assert states(context)["isrc:GBXXX2500001"] is State.RESOLVED


def test_a_page_past_the_end_is_the_last_one(desk):
    assert "Flwrs" in desk.get("/?page=99").text
    assert "No question is both" in desk.get("/?q=nothing+like+it").text


def test_before_the_first_run_the_desk_says_what_to_do(tmp_path):
    context = inbox_context(tmp_path)
    with serve(SimpleNamespace(app=make_desk(context))) as url:
        page = httpx.get(url)
    assert page.status_code == 200
    assert "Nothing was run yet" in page.text
    context.registry.close()


def test_odd_tokens_and_numbers_are_refused_in_words(desk):
    assert desk.post("/decide", data={"csrf": "né"}).status_code == 403
    sit_down(desk)
    seen = {"seen isrc:GBXXX2500001": "9" * 5000}
    assert (
        post(desk, "/decide", subject="isrc:GBXXX2500001", decision="reject", **seen).status_code
        == 200
    )


def test_drift_is_shown_and_accepted_by_a_person(desk, context):
    context.project = context.project.model_validate(
        context.project.model_dump() | {"drift": {"severity": "block"}}
    )
    sit_down(desk)
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="accept R1")
    shares = context.home / "catalog/shares.csv"
    shares.write_text("recording_id,rights_holder_id,share\nR1,P1,100\n")
    run_month(context, MARCH)
    assert "within limits" in desk.get("/drift").text
    shares.write_text("recording_id,rights_holder_id,share\nR1,P2,100\n")
    with pytest.raises(StageBlockedError):
        run_month(context, MARCH)
    page = desk.get("/drift").text
    assert "blocks the payout" in page
    assert "moves 2.5 EUR" in page
    version = re.search('name="version" value="([0-9a-f]+)"', page)[1]
    assert post(desk, "/drift", version="0" * 12).status_code == 409
    assert "is accepted" in post(desk, "/drift", version=version, why="agreed", back="/drift").text
    run_month(context, MARCH)
    assert "was accepted by a person" in desk.get("/drift").text


def test_a_refused_form_leads_back_to_its_page(desk):
    refused = post(desk, "/decide", subject="isrc:GBXXX2500001", decision="reject", back="/log")
    assert refused.status_code == 409
    saved = re.search('action="/who".*?name="back" value="([^"]+)"', refused.text, re.DOTALL)[1]
    assert saved == "/log"


def test_a_recording_that_was_added_goes_when_its_decision_is_revoked(desk, context):
    sit_down(desk)
    post(desk, "/recordings", subject="isrc:GBXXX2500001", isrc="GBXXX2500001", title="New one")
    assert (context.home / "catalog/recordings-from-the-desk.csv").exists()
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="revoke")
    assert not (context.home / "catalog/recordings-from-the-desk.csv").exists()
    run_month(context, MARCH)
    assert states(context)["isrc:GBXXX2500001"] is State.OPEN


def test_the_log_says_which_rule_was_confirmed(desk, context):
    context.project = context.project.model_validate(
        context.project.model_dump() | {"desk": {"four_eyes_above": {"EUR": 2}}}
    )
    sit_down(desk, "Ann")
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="accept R1")
    sit_down(desk, "Bob")
    post(desk, "/decide", subject="isrc:GBXXX2500001", decision="confirm")
    log = desk.get("/log").text
    assert "in force, confirmed" in log
    assert "<b>confirm</b> rule 1" in log


def test_recordings_on_the_release_come_first(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/c.csv").write_text(
        "isrc,title,artist,upc\nUSUM70600055,Something Else,Ada,036000291452\n"
        "USUM70600056,Halo,Ada,\n"
    )
    header = "Date,Territory,ISRC,UPC,Title,Artist,Units,Amount,Currency\n"
    (tmp_path / "inbox/r.csv").write_text(
        header + "2025-03-01,DE,,036000291452,Hallo (Live),Ada,1,1.00,EUR\n"
    )
    run_month(context, MARCH)
    (question,) = questions(context)
    found = Queue(context).candidates(question)
    assert (found[0].isrc, list(found[0].why)) == ("USUM70600055", ["UPC equal"])
    context.registry.close()


def test_a_form_before_the_first_run_is_refused_in_words(tmp_path):
    context = inbox_context(tmp_path)
    with serve(SimpleNamespace(app=make_desk(context))) as url, httpx.Client(base_url=url) as desk:
        desk.follow_redirects = True
        refused = post(desk, "/decide", subject="isrc:X", decision="reject", who_typed="Ann")
    assert refused.status_code == 409
    assert "no catalog is committed yet" in refused.text
    context.registry.close()
