"""The desk of a project, started as a user does, and a page of it in a headless browser."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from royalty_assets_tests.end_to_end.test_browser import ARGUMENTS, CHROMIUM, wait_for
from royalty_assets_tests.end_to_end.test_commands import command, environment


@contextmanager
def desk_page(home: Path) -> Iterator[Page]:
    """A page whose base is the desk; both end with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        command("desk", home, "--port", port), env=environment([home]), start_new_session=True
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(url, process)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=url)
                page.set_default_timeout(30_000)
                yield page
                browser.close()
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
