"""The Dagster UI in a real browser: the lineage, with everything that the demo materialised.

``ROYALTY_ASSETS_SCREENSHOTS=docs/images`` keeps the pictures that the documentation shows.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from royalty_assets_tests.end_to_end.test_commands import DEMO, command, environment, run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
ARGUMENTS += ["--disable-background-networking", "--no-first-run"]
START_SECONDS_MAX = 120

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The UI of a small demo, served as `make ui` does."""
    home = tmp_path_factory.mktemp("ui")
    run("demo", home, *DEMO)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        command("ui", home, "--port", port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment([home]),
        start_new_session=True,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{url}/server_info", process)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(url, process):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, "the UI ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"{url} did not answer within {START_SECONDS_MAX} s")


@pytest.fixture(scope="module")
def page(ui):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1500, "height": 900}, base_url=ui)
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def keep(page, name):
    folder = os.environ.get("ROYALTY_ASSETS_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(5_000)  # colours and counts come a little after the shapes
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_lineage_shows_every_asset_with_its_partitions(page):
    page.goto("/assets/payouts?view=lineage&lineageScope=upstream&lineageDepth=6")
    for group in ("sonora", "vinylia", "mercado", "catalog", "ledger", "payouts"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    for name, number in (("raw", 3), ("validated", 3), ("matched", 3), ("pool", 2)):
        expect(page.get_by_text(name, exact=True)).to_have_count(number)
    keep(page, "lineage")


@pytest.mark.parametrize(
    ("asset", "partitions"),
    [
        ("sonora/validated", 2),
        ("vinylia/matched", 2),
        ("mercado/raw", 1),
        ("ledger", 1),
        ("payouts", 1),
    ],
)
def test_partitions_of_an_asset_are_materialised(page, asset, partitions):
    page.goto(f"/assets/{asset}?view=partitions")
    expect(page.get_by_text(f"Materialized ({partitions})")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()


def test_a_payout_explains_itself(page):
    page.goto("/assets/payouts?view=partitions&partition=2025-03-01")
    expect(page.get_by_text("where_the_money_went")).to_be_visible()
    expect(page.get_by_text("top_payees")).to_be_visible()
    keep(page, "payouts")


def test_checks_have_passed(page):
    page.goto("/assets/sonora/validated?view=checks")
    page.get_by_text("every_row_is_accounted_for").first.wait_for()
    expect(page.get_by_text("Skipped")).to_have_count(0)
    expect(page.get_by_text("Passed").first).to_be_visible()
    keep(page, "checks")


def test_the_page_asks_nobody_else(page, ui):
    """An installation without a way to the internet shows the same."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/assets/ledger?view=lineage")
    page.get_by_text("payouts").first.wait_for()
    assert [
        url for url in asked if not url.startswith((ui, "data:", "blob:", "ws://127.0.0.1"))
    ] == []
