"""The desk's pages of months, statements and receipts, as a browser without scripts sees them.

The sums are small enough to be done by hand: 12.40 EUR of one recording for one payee, 9.00 EUR of
another by 60 and 40 %, and 2.70 EUR that has no recording where a test needs something in suspense.
"""

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import httpx
import polars as pl
import pytest

from royalty_assets.audit.keys import ensure_signing_key
from royalty_assets.desk.app import make_desk
from royalty_assets.desk.statement_pages import walk_rows
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.run_lock import only_run_of
from royalty_assets.pipeline.closing import closing_of
from royalty_assets.pipeline.statements import statement_list, statement_of, statements
from royalty_assets.simulator.server import serve
from royalty_assets.statement_files import VERIFIER
from royalty_assets_tests.projects import inbox_context, run_month
from royalty_assets_tests.statements.samples import sample_statement

MARCH = Partition.parse(Cadence.MONTHLY, "2025-03-01")
APRIL = Partition.parse(Cadence.MONTHLY, "2025-04-01")
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
MATCHED = (
    "2025-03-01,DE,USUM70600055,Midnight Harbour,Mira Lund,4000,12.40,EUR\n"
    "2025-03-02,AT,USUM70600057,Paper Lanterns,Mira Lund,3000,9.00,EUR\n"
)
UNMATCHED = "2025-03-03,GB,GBXXX2500001,Song of Nobody,Unknown Choir,900,2.70,EUR\n"
PAGE = Path(__file__).parents[2] / "docs/how-to/close-a-month.md"
LABEL = "label:løv/records"


@pytest.fixture
def context(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Midnight Harbour,Mira Lund\n"
        "R3,USUM70600057,Paper Lanterns,Mira Lund\n"
    )
    (tmp_path / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,rights_holder_name,share\nR1,P1,<b>Mira</b>,100\n"
        f"R3,P1,<b>Mira</b>,60\nR3,{LABEL},Løv Records,40\n"
    )
    (tmp_path / "inbox/march.csv").write_text(HEADER + MATCHED)
    context.signer = ensure_signing_key(tmp_path)
    yield context
    context.registry.close()


@pytest.fixture
def desk(context):
    with (
        serve(SimpleNamespace(app=make_desk(context))) as url,
        httpx.Client(base_url=url, follow_redirects=True) as client,
    ):
        yield client


def field(page, name):
    return re.search(f'name="{name}" value="([^"]*)"', page)[1]


def close_march(desk, **fields):
    page = desk.get("/periods/2025-03/close").text
    shown = {"csrf": field(page, "csrf"), "version": field(page, "version"), "name": "Ann Example"}
    return desk.post("/periods/2025-03/close", data=shown | fields)


def statement_page(desk, payee="P1", month="2025-03", **query):
    address = f"/periods/{month}/statement"
    return desk.get(address, params={"payee": payee, "currency": "EUR"} | query)


def test_before_the_first_run_there_are_no_periods(desk):
    assert "No month has a ledger yet" in desk.get("/periods").text


def test_a_month_is_closed_by_a_person_who_saw_its_figures(desk, context):
    run_month(context)
    page = desk.get("/periods").text
    assert "can be closed" in page
    asked = desk.get("/periods/2025-03/close").text
    assert 'title="21.40 EUR"' in asked
    assert "2 statements" in asked
    assert closing_of(context, MARCH) is None
    told = close_march(desk, why="<i>all paid</i>")
    assert "2025-03 is closed: 2 statements of 3 lines, signed." in told.text
    closing = closing_of(context, MARCH)
    assert (closing.who, closing.why) == ("Ann Example", "<i>all paid</i>")
    page = desk.get("/periods").text
    assert closing.root in page
    assert "&lt;i&gt;all paid&lt;/i&gt;" in page
    assert "/close" not in page


def test_what_stands_against_closing_leads_to_where_it_is_decided(desk, context):
    (context.home / "inbox/more.csv").write_text(HEADER + UNMATCHED)
    run_month(context)
    context.project = context.project.model_validate(
        context.project.model_dump() | {"closing": {"suspense_fraction_max": "0.05"}}
    )
    page = desk.get("/periods").text
    assert "2.7 of 24.1 EUR is in suspense" in html_text(page)
    obstacles = page[page.index('class="obstacles"') :]
    assert '<a href="/">Questions</a>' in obstacles[: obstacles.index("</ul>")]
    assert desk.get("/periods/2025-03/close").url.path == "/periods"
    page = desk.get("/periods").text
    refused = desk.post(
        "/periods/2025-03/close",
        data={"csrf": field(desk.get("/").text, "csrf"), "name": "Ann", "version": "x"},
    )
    assert refused.status_code == 409
    assert closing_of(context, MARCH) is None


def test_drift_that_stands_against_closing_leads_to_drift(desk, context):
    context.project = context.project.model_validate(
        context.project.model_dump() | {"drift": {"money_moved_max": {"EUR": 1}}}
    )
    run_month(context)
    (context.home / "catalog/shares.csv").write_text(
        "recording_id,rights_holder_id,share\nR1,P9,100\nR3,P1,60\nR3,P9,40\n"
    )
    run_month(context)
    page = desk.get("/periods").text
    obstacles = page[page.index('class="obstacles"') :]
    assert '<a href="/drift">Drift</a>' in obstacles[: obstacles.index("</ul>")]


def html_text(page):
    return re.sub("<[^>]+>", "", page)


def test_a_later_month_waits_for_the_earlier_one(desk, context):
    (context.home / "inbox/april.csv").write_text(HEADER + MATCHED.replace("2025-03", "2025-04"))
    run_month(context)
    run_month(context, APRIL)
    page = desk.get("/periods").text
    assert page.index('id="2025-04"') < page.index('id="2025-03"')
    assert '<a href="#2025-03">March 2025</a>' in page


def test_a_month_is_not_closed_while_the_project_is_run(desk, context):
    run_month(context)
    with only_run_of(context.home):
        refused = close_march(desk)
    assert refused.status_code == 409
    assert "The project is being run" in refused.text
    assert closing_of(context, MARCH) is None
    assert close_march(desk).status_code == 200


def test_figures_that_changed_since_they_were_shown_are_not_closed(desk, context):
    run_month(context)
    shown = field(desk.get("/periods/2025-03/close").text, "version")
    (context.home / "inbox/more.csv").write_text(HEADER + MATCHED.replace("-01", "-05"))
    run_month(context)
    refused = close_march(desk, version=shown)
    assert refused.status_code == 409
    assert "has changed since its figures were shown" in refused.text
    assert closing_of(context, MARCH) is None


def test_a_closed_month_is_not_closed_again(desk, context):
    run_month(context)
    page = desk.get("/periods/2025-03/close").text
    close_march(desk)
    data = {name: field(page, name) for name in ("csrf", "version")} | {"name": "Bob"}
    again = desk.post("/periods/2025-03/close", data=data)
    assert again.status_code == 409
    assert "is closed" in again.text
    assert closing_of(context, MARCH).who == "Ann Example"


def test_nobody_closes_without_a_name_or_from_another_site(desk, context):
    run_month(context)
    assert "Say who closes" in close_march(desk, name=" ").text
    assert close_march(desk, csrf="0" * 64).status_code == 403
    page = desk.get("/periods/2025-03/close").text
    data = {name: field(page, name) for name in ("csrf", "version")} | {"name": "Bob"}
    evil = {"origin": "http://evil.example"}
    assert desk.post("/periods/2025-03/close", data=data, headers=evil).status_code == 403
    assert closing_of(context, MARCH) is None


def test_without_a_key_the_page_says_how_to_make_one(desk, context):
    run_month(context)
    page = desk.get("/periods/2025-03/close").text
    data = {name: field(page, name) for name in ("csrf", "version")} | {"name": "Ann"}
    context.signer = None
    assert "royalty-assets keys new" in desk.get("/periods").text
    assert "for good</button>" not in desk.get("/periods/2025-03/close").text
    refused = desk.post("/periods/2025-03/close", data=data)
    assert refused.status_code == 409
    assert "has no key" in refused.text


def test_statements_are_listed_and_found_by_payee(desk, context):
    run_month(context)
    page = desk.get("/periods/2025-03/statements").text
    assert "&lt;b&gt;Mira&lt;/b&gt;" in page
    # 12.40 and 60 % of 9.00; 40 % of 9.00.
    assert 'title="17.80 EUR">17.80' in page
    assert 'title="3.60 EUR">3.60' in page
    found = desk.get("/periods/2025-03/statements?q=LØV").text
    assert "3.60" in found
    assert "17.80" not in found
    assert "No payee has all of these words" in desk.get("/periods/2025-03/statements?q=zz").text


def test_a_statement_shows_how_each_line_was_computed(desk, context):
    run_month(context)
    page = statement_page(desk, LABEL).text
    assert "3.60 EUR</b> paid" in page
    text = html_text(page.replace("</td>", " "))
    text = " ".join(text.split())
    assert "receipts for it. 9.00 EUR Times 2/5. 40 % of receipts. 3.60" in text
    assert "/receipt?" not in page
    assert "Midnight Harbour" not in page


def test_lines_are_searched_and_keep_their_numbers(desk, context):
    run_month(context)
    page = statement_page(desk, q="lanterns").text
    assert "Midnight Harbour" not in page
    numbers = {f["line_number"] for f in statement_of(context, MARCH, "P1", "EUR").lines.filter(
        pl.col("title") == "Paper Lanterns").iter_rows(named=True)}  # fmt: skip
    assert re.findall(r'<td class="n">(\d+)</td>\n<td><b', page) == [str(n) for n in numbers]


def test_one_statement_read_alone_is_that_of_all(context):
    run_month(context)
    every = list(statements(context, MARCH))
    listed = statement_list(context, MARCH).select("payee_id", "payee_currency").rows()
    assert listed == [(s.payee_id, s.currency) for s in every] != []
    for one in every:
        alone = statement_of(context, MARCH, one.payee_id, one.currency)
        for table in ("lines", "movements", "recoupment", "reserves"):
            assert getattr(alone, table).equals(getattr(one, table))
    assert statement_of(context, MARCH, "P1", "USD") is None


def test_files_are_those_of_the_statement(desk, context):
    run_month(context)
    got = {
        form: desk.get(
            "/periods/2025-03/statement/file",
            params={"payee": LABEL, "currency": "EUR", "form": form, "issued_by": "Us"},
        )
        for form in ("pdf", "csv", "parquet", "dsr")
    }
    names = {form: one.headers["content-disposition"] for form, one in got.items()}
    name = "label_l_v_records-d9fa4ca6-statement-2025-03-EUR.pdf"
    assert names["pdf"] == f'attachment; filename="{name}"'
    assert got["pdf"].content.startswith(b"%PDF-")
    assert b"SR08\t" in got["dsr"].content
    with zipfile.ZipFile(io.BytesIO(got["csv"].content)) as archive:
        lines = archive.read("statement-2025-03-EUR-lines.csv").decode("utf-8-sig")
    (line,) = csv.DictReader(io.StringIO(lines, newline=""))
    assert line["payee_amount"] == "3.6"
    with zipfile.ZipFile(io.BytesIO(got["parquet"].content)) as archive:
        table = pl.read_parquet(archive.read("statement-2025-03-EUR-lines.parquet"))
    assert table["title"].to_list() == ["Paper Lanterns"]
    wrong = desk.get("/periods/2025-03/statement/file?payee=P1&currency=EUR&form=exe")
    assert wrong.status_code == 400


def test_a_receipt_from_the_desk_holds_by_the_program_from_the_desk(desk, context, tmp_path):
    run_month(context)
    query = {"payee": LABEL, "currency": "EUR", "line": 1}
    early = desk.get("/periods/2025-03/receipt", params=query)
    assert early.status_code == 409
    assert "not closed" in early.text
    close_march(desk)
    assert "line=1" in statement_page(desk, LABEL).text
    receipt, program = tmp_path / "receipt.json", tmp_path / VERIFIER
    receipt.write_bytes(desk.get("/periods/2025-03/receipt", params=query).content)
    program.write_bytes(desk.get(f"/{VERIFIER}").content)
    assert json.loads(receipt.read_text())["line"]["amount"] == "3.6"

    def verified():
        return subprocess.run(
            [sys.executable, "-I", program, receipt], capture_output=True, text=True, check=False
        )

    assert "This receipt holds." in verified().stdout
    receipt.write_text(receipt.read_text().replace('"3.6"', '"3.7"'))
    assert verified().returncode == 1
    for line in (0, 2, "x", 10**30):
        answer = desk.get("/periods/2025-03/receipt", params=query | {"line": line})
        assert answer.status_code == 409
        assert "has the lines 1 to 1" in answer.text


def test_the_pages_proof_by_hand_comes_to_the_signed_root(desk, context, tmp_path):
    run_month(context)
    close_march(desk)
    receipt = desk.get("/periods/2025-03/receipt?payee=P1&currency=EUR&line=2").text
    (program,) = re.findall("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "receipt.json").write_text(receipt)
    by_hand = [sys.executable, "-I", "-X", "utf8", "-c", program]
    done = subprocess.run(by_hand, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "is in the checkpoint" in done.stdout
    assert done.returncode == 0, done.stderr
    (tmp_path / "receipt.json").write_text(receipt.replace('"units": "4000"', '"units": "4001"'))
    assert subprocess.run(by_hand, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_what_comes_after_closing_is_marked_as_an_adjustment(desk, context):
    run_month(context)
    close_march(desk)
    before = statement_page(desk).text
    (context.home / "inbox/late.csv").write_text(HEADER + MATCHED.replace("-01", "-07"))
    (context.home / "inbox/april.csv").write_text(HEADER + MATCHED.replace("2025-03", "2025-04"))
    run_month(context)
    run_month(context, APRIL)
    page = statement_page(desk, month="2025-04").text
    assert "adjustment: corrects March 2025" in page
    assert '<tr class="correcting">' in page
    assert re.sub("csrf.*", "", statement_page(desk).text) == re.sub("csrf.*", "", before)


@pytest.mark.parametrize(
    "path",
    [
        "/periods/2025-3/statements",
        "/periods/never/close",
        "/periods/2031-01/statements",
        "/periods/2025-03/statement?payee=nobody&currency=EUR",
        "/periods/2025-03/statement",
    ],
)
def test_what_there_is_not_is_told_in_words(desk, context, path):
    run_month(context)
    answer = desk.get(path)
    assert answer.status_code == 404
    assert re.search("has no ledger|There is no statement", answer.text)


def test_bars_lead_from_each_to_the_next_and_end_at_what_is_paid():
    rows = walk_rows(sample_statement())
    assert all(row.bar.x >= 0 and row.bar.x + row.bar.width <= 1_000 for row in rows)
    assert rows[-1].amount.shown == "740.36"
    ends = [b.x if b.is_minus else b.x + b.width for b in (row.bar for row in rows)]
    starts = [b.x + b.width if b.is_minus else b.x for b in (row.bar for row in rows)]
    # A bar is at least two wide, however little it stands for.
    assert all(abs(end - start) <= 2 for end, start in zip(ends, starts[1:-1], strict=False))
    assert abs(ends[-1] - ends[-2]) <= 2
