"""The desk in a real browser: from the queue to money paid, by keyboard.

``ROYALTY_ASSETS_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import pytest
from playwright.sync_api import expect

from royalty_assets_tests.end_to_end.desk_in_chromium import desk_page
from royalty_assets_tests.end_to_end.test_browser import CHROMIUM, keep
from royalty_assets_tests.end_to_end.test_commands import run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)
CATALOG = """recording_id,isrc,title,artist,release_title
R1,USUM70600055,Midnight Harbour,Mira Lund,Harbours
R2,USUM70600056,Midnight Harbour (Live),Mira Lund,On Stage
R3,USUM70600057,Paper Lanterns,Mira Lund,Harbours
R4,USUM70600058,Glass Rivers,The Quiet Fields,Rivers
"""
SHARES = """recording_id,rights_holder_id,rights_holder_name,share
R1,P1,Mira Lund,100
R2,P1,Mira Lund,100
R3,P1,Mira Lund,60
R3,P2,Lantern Records,40
R4,P3,Quiet Fields Ltd,100
"""
REPORT = """Date,Territory,ISRC,Title,Artist,Units,Amount,Currency
2025-03-01,DE,USUM70600055,Midnight Harbour,Mira Lund,4000,12.40,EUR
2025-03-02,DE,,Papr Lantern,M. Lund,2500,7.50,EUR
2025-03-02,AT,,PAPR LANTERN,M. Lund,500,1.50,EUR
2025-03-03,GB,GBXXX2500001,Glass Rivers (Live),The Quiet Fields,900,2.70,EUR
2025-03-03,FR,,Song of Nobody,Unknown Choir,120,0.36,EUR
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("desk") / "label"
    run("init", home)
    (home / "catalog/recordings.csv").write_text(CATALOG)
    (home / "catalog/shares.csv").write_text(SHARES)
    (home / "inbox/report.csv").write_text(REPORT)
    run("run", home)
    return home


@pytest.fixture(scope="module")
def page(home):
    with desk_page(home) as page:
        yield page


def test_an_exception_resolved_at_the_desk_pays_out_in_the_next_run(page, home):
    before = run("payouts", home).stdout
    assert "P2" not in before
    page.goto("/")
    page.get_by_label("You are").fill("Ann Example")
    page.get_by_role("button", name="Save").click()
    rows = page.locator("tr[data-row]")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("9.00 EUR")
    keep(page, "desk-queue")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Papr Lantern")
    expect(page.get_by_role("cell", name="PAPR LANTERN", exact=True)).to_be_visible()
    keep(page, "desk-question")
    page.keyboard.press("/")
    page.keyboard.type("lanterns")
    page.keyboard.press("Enter")
    row = page.locator("table.candidates tr", has_text="USUM70600057").first
    page.get_by_label("Why").fill("heard both")
    page.get_by_label("Why").press("Enter")
    expect(page.get_by_role("status")).to_have_count(0)
    row.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status")).to_contain_text("1 partition is to be matched again")
    page.get_by_role("button", name="Apply decisions").click()
    expect(page.get_by_text("all is accounted for")).to_be_visible(timeout=90_000)
    after = run("payouts", home).stdout
    # 7.50 and 1.50 EUR of Paper Lanterns, 60 to 40, beside the 12.40 EUR of before.
    told = {line.split(",")[1]: line for line in after.splitlines()[1:]}
    assert ",17.8" in told["P1"]
    assert ",3.6" in told["P2"]
    page.goto("/log")
    expect(page.get_by_text("heard both")).to_be_visible()
    keep(page, "desk-log")


def test_a_decision_is_taken_and_undone_by_keyboard(page):
    page.goto("/?kind=isrc")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Glass Rivers")
    page.wait_for_load_state()  # the script that hears keys runs after the page is read
    page.keyboard.press("r")
    expect(page.get_by_role("status")).to_contain_text("Recorded: reject")
    page.goto("/?state=rejected")
    expect(page.locator("tr[data-row]")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Revoke")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("u")
    expect(page.get_by_role("status")).to_contain_text("Recorded: revoke")
    page.goto("/?state=rejected")
    expect(page.get_by_text("Nothing here")).to_be_visible()


def test_every_control_has_a_name_and_the_page_asks_nobody_else(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), select, button, a")].filter(
            e => !(e.textContent.trim() || e.getAttribute("aria-label") ||
                   (e.labels && e.labels.length))).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert {url.split("/")[2].split(":")[0] for url in asked} == {"127.0.0.1"}
