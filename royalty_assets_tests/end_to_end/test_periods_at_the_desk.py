"""A month closed at the desk in a real browser: from the demo's run to a receipt that holds.

``ROYALTY_ASSETS_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import subprocess
import sys

import pytest
from playwright.sync_api import expect

from royalty_assets_tests.end_to_end.desk_in_chromium import desk_page
from royalty_assets_tests.end_to_end.test_browser import CHROMIUM, keep
from royalty_assets_tests.end_to_end.test_commands import run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)
RECORDINGS = """recording_id,isrc,title,artist
R1,USUM70600055,Midnight Harbour,Mira Lund
R2,USUM70600056,Midnight Harbour (Live),Mira Lund
R3,USUM70600057,Paper Lanterns,Mira Lund
R4,USUM70600058,Glass Rivers,The Quiet Fields
"""
SHARES = """recording_id,rights_holder_id,rights_holder_name,share
R1,P1,Mira Lund,100
R2,P1,Mira Lund,100
R3,P1,Mira Lund,60
R3,P2,Lantern Records,40
R4,P3,Quiet Fields Ltd,100
"""
CONTRACTS = """
payees:
  - payee: P1
    name: Mira Lund
    withholding: [{percent: 5, reason: withholding tax}]
  - {payee: P4, name: Harbour Label}
accounts:
  - account: harbours
    payee: P1
    currency: EUR
    charges: [{kind: advance, amount: 800, on: 2025-03-01}]
contracts:
  - contract: harbours-2025
    recordings: [R1, R2]
    participants: [{payee: P1, percent: 60, account: harbours}]
    remainder_to: P4
    reserve:
      percent: 10
      release: [{after_months: 6, percent: 100}]
"""
HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
MARCH = """2025-03-01,DE,USUM70600055,Midnight Harbour,Mira Lund,412000,1240.40,EUR
2025-03-01,GB,USUM70600055,Midnight Harbour,Mira Lund,98000,327.15,EUR
2025-03-01,FR,USUM70600056,Midnight Harbour (Live),Mira Lund,41000,118.90,EUR
2025-03-02,DE,USUM70600057,Paper Lanterns,Mira Lund,251000,751.50,EUR
2025-03-02,AT,USUM70600057,Paper Lanterns,Mira Lund,50500,151.50,EUR
2025-03-03,SE,USUM70600058,Glass Rivers,The Quiet Fields,90000,270.00,EUR
"""
UNKNOWN = "2025-04-09,GB,GBXXX2500001,Song of Nobody,Unknown Choir,310000,930.00,EUR\n"
LATE = "2025-03-20,AT,USUM70600057,Paper Lanterns,Mira Lund,12500,37.50,EUR\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("periods") / "label"
    run("init", home)
    (home / "catalog/recordings.csv").write_text(RECORDINGS)
    (home / "catalog/shares.csv").write_text(SHARES)
    (home / "contracts").mkdir(exist_ok=True)
    (home / "contracts/contracts.yaml").write_text(CONTRACTS)
    (home / "inbox/march.csv").write_text(HEADER + MARCH)
    run("run", home)
    return home


@pytest.fixture(scope="module")
def page(home):
    with desk_page(home) as page:
        yield page


def downloaded(page, control, folder):
    with page.expect_download() as started:
        control.click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def unnamed_controls(page):
    return page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), select, button, a")].filter(
            e => !(e.textContent.trim() || e.getAttribute("aria-label") ||
                   (e.labels && e.labels.length))).map(e => e.outerHTML)"""
    )


def is_wider_than_the_window(page):
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def test_a_month_is_closed_and_a_receipt_of_it_holds(page, home, tmp_path):
    page.goto("/periods")
    page.get_by_label("You are").fill("Ann Example")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Close March 2025").click()
    # Of 2,859.45 EUR: 800 of an advance, 10 % of 1,011.87 held, 5 % of 652.48 withheld.
    for amount in ("2,859.45", "800.00", "101.19", "32.62", "1,925.64"):
        expect(page.get_by_role("cell", name=amount, exact=True)).to_be_visible()
    expect(page.get_by_label("Closed by")).to_have_value("Ann Example")
    assert unnamed_controls(page) == []
    page.get_by_label("Why").fill("all reports are in")
    page.get_by_label("Why").press("Enter")
    expect(page.get_by_role("button", name="for good")).to_be_visible()
    page.get_by_role("button", name="for good").click()
    expect(page.get_by_role("status")).to_contain_text("2025-03 is closed: 4 statements")
    expect(page.get_by_text("all reports are in")).to_be_visible()
    assert "Ann Example" in run("periods", home).stdout

    page.get_by_role("link", name="4 statements").click()
    page.get_by_role("link", name="Mira Lund").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("619.86 EUR")
    walk = page.get_by_role("region", name="From brought forward")
    expect(walk).to_contain_text("−800.00")
    expect(page.get_by_role("region", name="Recoupment")).to_contain_text("harbours")
    expect(page.get_by_role("region", name="Reserves")).to_contain_text("2025-09")
    first = page.locator("table.lines > tbody > tr").first
    first.get_by_text("How it was computed").click()
    expect(first).to_contain_text("The service's receipts for it.")
    assert not is_wider_than_the_window(page)
    pdf = downloaded(page, page.get_by_role("button", name="PDF"), tmp_path)
    assert pdf.name == "P1-statement-2025-03-EUR.pdf"
    assert pdf.read_bytes().startswith(b"%PDF-")
    receipt = downloaded(page, page.get_by_role("link", name="Receipt of line 1"), tmp_path)
    program = downloaded(page, page.get_by_role("link", name="verify_receipt.py"), tmp_path)
    told = subprocess.run(
        [sys.executable, "-I", program, receipt, "--source", home / "inbox/march.csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "This receipt holds." in told.stdout


def test_what_comes_late_is_an_adjustment_of_the_next_month(page, home):
    april = MARCH.replace("2025-03", "2025-04").replace("0,EUR", "2,EUR")
    (home / "inbox/april.csv").write_text(HEADER + april + UNKNOWN)
    (home / "inbox/late.csv").write_text(HEADER + LATE)
    run("run", home)
    page.goto("/periods")
    april = page.locator("section", has_text="April 2025")
    expect(april).to_contain_text("930 of 3827.05 EUR is in suspense")
    expect(april.get_by_role("link", name="Questions")).to_be_visible()
    expect(april.get_by_role("link", name="Close")).to_have_count(0)
    assert not is_wider_than_the_window(page)
    page.set_viewport_size({"width": 1400, "height": 660})
    keep(page, "desk-periods")
    page.goto("/periods/2025-04/statement?payee=P1&currency=EUR")
    # What is taken back, and what is booked instead.
    expect(page.get_by_text("adjustment: corrects March 2025")).to_have_count(2)
    page.goto("/periods/2025-03/statement?payee=P1&currency=EUR")
    expect(page.get_by_text("adjustment")).to_have_count(0)
    page.set_viewport_size({"width": 1400, "height": 1280})
    page.get_by_text("How it was computed").first.click()
    keep(page, "desk-statement")


def test_every_control_has_a_name_and_the_pages_ask_nobody_else(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for address in (
        "/periods",
        "/periods/2025-03/statements",
        "/periods/2025-03/statement?payee=P1&currency=EUR",
    ):
        page.goto(address)
        assert unnamed_controls(page) == []
    assert {url.split("/")[2].split(":")[0] for url in asked} == {"127.0.0.1"}
