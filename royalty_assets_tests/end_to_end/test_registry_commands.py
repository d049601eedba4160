"""`royalty-assets registry`: where the schema stands, up and down, as its owner does it."""

import pytest
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.storage.registry import open_registry
from royalty_assets_tests.databases import empty_url_of
from royalty_assets_tests.end_to_end.test_periods import FEEDS
from royalty_assets_tests.storage.test_schema import fill

pytestmark = pytest.mark.on_databases


@pytest.fixture
def registry(tmp_path):
    """Runs a `registry` command on a project whose database is empty."""
    (tmp_path / "feeds.yaml").write_text(FEEDS)
    url = empty_url_of(tmp_path)
    environment = {"ROYALTY_ASSETS_REGISTRY_URL": url, "COLUMNS": "160", "NO_COLOR": "1"}

    def run(command, *options, **more):
        arguments = ["registry", command, str(tmp_path), *options]
        done = CliRunner().invoke(app, arguments, env=environment | more)
        return done.exit_code, done.stdout, done.stderr

    run.url = url
    return run


def test_status_tells_what_is_to_come_and_migrate_brings_it(registry):
    code, told, _ = registry("status")
    assert code == 1
    assert "none yet; this version works with" in told
    assert "to come   0004  The log" in told
    code, told, _ = registry("migrate")
    assert (code, "it was none" in told) == (0, True)
    code, told, _ = registry("status")
    assert (code, "to come" in told) == (0, False)
    assert "nothing was to be done" in registry("migrate")[1]


def test_going_back_tells_what_is_lost_and_takes_a_word(registry):
    opened = open_registry(registry.url)
    fill(opened)
    opened.append_leaf("period", "2025-03", "0" * 64)
    code, _, complaint = registry("migrate", "--to", "0003")
    assert code == 2
    assert "without 0004 is lost: the log with its signed checkpoints" in complaint
    assert "nothing was done" in complaint
    assert opened.log_size() == 5
    opened.close()
    code, told, _ = registry("migrate", "--to", "0003", "--drop-data")
    assert (code, "schema    0003; it was" in told) == (0, True)
    opened = open_registry(registry.url)
    assert opened.log_size() == 4, (
        "rows are logged anew; that a month was closed is not known any more"
    )
    opened.close()


def test_an_url_that_cannot_be_used_is_told_without_its_password(registry):
    for url, reason in (
        ("postgres//label:hunter2@db", "cannot be read"),
        ("postgresql://label:hunter2@localhost:1/royalties", "cannot be reached"),
    ):
        code, _, complaint = registry("status", ROYALTY_ASSETS_REGISTRY_URL=url)
        assert (code, reason in complaint, "hunter2" in complaint) == (2, True, False)
        assert "Traceback" not in complaint
