"""The desk's pages as a browser without scripts sees them, and as a hostile page would."""

import csv
import html
import io
import re
from types import SimpleNamespace

import httpx
import pytest

from royalty_assets.desk.app import make_desk
from royalty_assets.desk.spreadsheet import read_wishes, write_questions
from royalty_assets.domain.adjudication import State
from royalty_assets.domain.windows import Cadence, Partition
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
    page = desk.get("/question?subject=name:flwrs of the sun |  | ada").text
    assert "artist equal" in page or "Nothing in the catalog comes near" in page
    assert (
        "USUM70600055"
        in desk.get("/question?subject=name:flwrs of the sun |  | ada&search=flowers").text
    )


def test_a_decision_is_recorded_and_can_be_undone(desk, context):
    sit_down(desk)
    done = post(
        desk, "/decide", subject="isrc:GBXXX2500001", action="accept", recording_id="R1",
        why="same master", back="/?state=open",
    )  # fmt: skip
    assert "1 partitions are to be matched again" in done.text
    assert states(context)["isrc:GBXXX2500001"] is State.RESOLVED
    log = desk.get("/log").text
    assert "Ann Example" in log
    assert "same master" in log
    post(desk, "/decide", subject="isrc:GBXXX2500001", action="revoke", back="/log")
    assert states(context)["isrc:GBXXX2500001"] is State.OPEN


def test_many_are_decided_at_once(desk, context):
    sit_down(desk)
    subjects = list(states(context))
    data = {"csrf": token(desk), "subject": subjects, "action": "reject", "why": "not ours"}
    assert "(2 questions)" in desk.post("/decide", data=data).text
    assert set(states(context).values()) == {State.REJECTED}


def test_nobody_decides_without_a_name(desk, context):
    refused = post(desk, "/decide", subject="isrc:GBXXX2500001", action="reject")
    assert refused.status_code == 409
    assert "who decides" in refused.text
    assert context.registry.adjudications() == []


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
def test_a_form_of_another_site_is_refused(desk, context, headers):
    sit_down(desk)
    data = {"csrf": token(desk), "subject": "isrc:GBXXX2500001", "action": "reject"}
    assert desk.post("/decide", data=data, headers=headers).status_code == 403
    assert context.registry.adjudications() == []


def test_a_form_without_the_pages_token_is_refused(desk, context):
    sit_down(desk)
    for wrong in ("", "0" * 64):
        data = {"csrf": wrong, "subject": "isrc:GBXXX2500001", "action": "reject"}
        assert desk.post("/decide", data=data).status_code == 403
    assert context.registry.adjudications() == []


def test_another_host_name_is_not_answered(desk):
    assert desk.get("/", headers={"host": "evil.example"}).status_code == 400


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
    first = {"subject": "isrc:GBXXX2500001", "action": "reject", "seen": ""}
    post(desk, "/decide", **first)
    number = context.registry.adjudications()[-1].number
    post(desk, "/decide", **first | {"action": "revoke", "seen": str(number)})
    late = post(desk, "/decide", **first | {"seen": str(number)})
    assert late.status_code == 409
    assert "meanwhile" in late.text


def test_the_queue_goes_out_and_decisions_come_in_as_csv(desk, context):
    sit_down(desk)
    rows = list(csv.DictReader(io.StringIO(desk.get("/questions.csv?state=open").text)))
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
    assert read_wishes("a,b\n1,2\n")[1] == ["line 1: there is no column decision, subject"]


def test_formulas_are_written_as_text():
    question = Question("isrc:X", title="=1+1", artist="@SUM(A1)")
    row = next(csv.DictReader(io.StringIO(write_questions([question]))))
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
    assert "settled" in gone.text
