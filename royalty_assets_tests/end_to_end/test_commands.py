"""The commands as a user types them, each in a process of its own.

The demo is killed at ten seeded moments; running it again must end as if nothing had happened.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from royalty_assets.audit.notes import new_signing_key
from royalty_assets.orchestration.run_lock import only_run_of
from royalty_assets_tests.databases import copy_project, on_postgresql, url_of
from royalty_assets_tests.lakes import CHOSEN, copy_lake, lake_of, object_bytes, overwrite

TIMEOUT_SECONDS = 240
DEMO = ["--events", "3000", "--hours", "2", "--recordings", "300"]


def command(*arguments):
    return [sys.executable, "-m", "royalty_assets.cli", *map(str, arguments)]


SETTINGS = {}
"""What a test sets in the environment of the commands that it runs."""


def environment(arguments=()):
    """What a command runs in; the project's registry is where ``--database`` puts it."""
    homes = [each for each in arguments if isinstance(each, Path) and not each.is_file()]
    database = {"ROYALTY_ASSETS_REGISTRY_URL": url_of(homes[0])} if homes else {}
    quiet = {"COLUMNS": "160", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    return (
        {k: v for k, v in os.environ.items() if not k.startswith("ROYALTY_ASSETS") or k in CHOSEN}
        | quiet
        | (database if on_postgresql() else {})
        | SETTINGS
    )


def run(*arguments, succeeds=True):
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env=environment(arguments),
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if succeeds:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def ledger_hash(home, *options):
    digest = run("ledger-hash", home, *options).stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    return digest


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A demo that nothing disturbed: its home, its output and its hash."""
    home = tmp_path_factory.mktemp("calm")
    output = run("demo", home, *DEMO).stdout
    return home, output, ledger_hash(home)


def test_the_demo_ends_with_the_funnel_and_the_verdict(calm):
    _, output, _ = calm
    for word in ("rows received", "rejected", "duplicates", "in suspense", "by ISRC", "residue"):
        assert word in output
    assert re.search(
        r"accounted for: all [\d,]+ rows, all [\d,]+ units, all money in EUR, GBP", output
    )
    assert "NOT accounted for" not in output
    assert "Top payees" in output


def test_a_second_demo_leaves_the_hash_as_it_was(calm):
    home, _, digest = calm
    output = run("demo", home, *DEMO).stdout
    assert "committed" not in output
    assert ledger_hash(home) == digest
    assert ledger_hash(home, "--month", "2025-03") == digest


def test_what_if_compares_and_draws_and_leaves_the_hash_as_it_was(calm, tmp_path):
    home, _, digest = calm
    chart = tmp_path / "changes.svg"
    asked = ("what-if", home, "--model", "user-centric", "--month", "2025-03")
    output = run(*asked, "--chart", chart).stdout
    assert "sonora (pro_rata), vinylia (pro_rata) by user_centric" in output
    assert "the sum is the same" in output
    assert chart.read_text().startswith("<svg")
    totals = json.loads(run(*asked, "--json").stdout)["totals"]
    assert {each["before"] == each["after"] for each in totals.values()} == {True}
    assert ledger_hash(home) == digest


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "per-stream"], "'stream_threshold', 'artist_centric'"),
        (["--model", "stream-threshold", "--set", "units_min"], "write it as name=value"),
        (["--model", "stream-threshold", "--set", "units_min=x"], "units_min: Input should be"),
        (["--model", "shapley", "--chart", "x.png"], "a name that ends in .svg"),
        (["--model", "shapley", "--feed", "mercado"], "those that do: sonora, vinylia"),
    ],
)
def test_what_if_says_what_is_wrong_with_a_question(calm, arguments, told):
    done = run("what-if", calm[0], "--month", "2025-03", *arguments, succeeds=False)
    assert done.returncode == 2
    assert told in done.stderr


def kill_after(home, lines):
    """Start the demo and kill it as soon as it has told of ``lines`` partitions."""
    with subprocess.Popen(
        command("demo", home, *DEMO),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment([home]),
    ) as process:
        told = 0
        for line in process.stdout:
            told += line.rstrip().endswith(("committed", "unchanged"))
            if told == lines:
                break
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT_SECONDS)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.long  # the soak kills in each run of the tests, inside of writes
def test_killing_the_demo_at_any_moment_changes_nothing_in_the_end(calm, tmp_path):
    """Six moments, each in what the kill before left behind; then a run to the end."""
    moments = sorted(random.Random(7).sample(range(1, 21), 6))
    for moment in moments:
        kill_after(tmp_path, moment)
    output = run("demo", tmp_path, *DEMO).stdout
    assert "accounted for: all" in output
    assert ledger_hash(tmp_path) == calm[2]


def test_two_runs_at_once_do_not_get_in_each_others_way(calm):
    home, _, _ = calm
    with only_run_of(home):
        second = run("run", home, succeeds=False)
    assert second.returncode == 2
    assert "being run by another process" in second.stderr


def test_a_project_of_ones_own_goes_from_files_to_payouts(tmp_path):
    home = tmp_path / "mine"
    assert "inbox/" in run("init", home).stdout
    (home / "catalog/songs.csv").write_text(
        "isrc,title,artist\nUSUM70600055,Flowers,Miley Cyrus\nUSUM70600056,Hello,Adele\n"
    )
    (home / "inbox/chart.csv").write_text(
        "chart_date,song,performer,streams,region\n"
        "2021-01-01,Flowers - Remastered 2020,Miley Cyrus,30,lu\n"
        "2021-01-02,Hello,Adele,10,lu\n"
        "2021-02-02,Who knows,Nobody,5,lu\n"
        "2021-02-03,Hello,Adele,x,lu\n"
    )
    (home / "inbox/page.csv").write_text("<html>not a report</html>\n")
    done = run("run", home, succeeds=False)
    output = done.stdout
    assert "page.csv" in output
    assert "no template knows a header" in output
    # One of the two rows of February is refused: more than the feed's limit, so it is not paid.
    assert "rejected_fraction_max" in output
    assert done.returncode == 1
    chart = home / "inbox/chart.csv"
    chart.write_text(chart.read_text().replace(",x,lu", ",5,lu"))
    output = run("run", home).stdout
    for words, figure in (("rows received", "4"), ("units accepted", "50"), ("matched", "45")):
        assert re.search(rf"{words} +│ +{figure} │", output)
    assert re.search(r"received +│ 2,000.00 │", output)
    assert "accounted for: all 4 rows, all 50 units, all money in EUR" in output
    paid = run("payouts", home, "--month", "2021-01").stdout.splitlines()
    assert paid[0].startswith("month,rights_holder_id,")
    assert all(line.startswith("2021-01,sim-") for line in paid[1:])
    assert "are made up" in output
    letters = run("dead-letters", home).stdout
    assert "file:template_unknown" in letters


def test_what_comes_before_its_month_has_ended_waits_and_is_not_lost(tmp_path):
    """A feed without an end: the month that is running has no partition yet."""
    home = tmp_path / "mine"
    run("init", home)
    (home / "catalog/songs.csv").write_text("isrc,title,artist\nUSUM70600055,Flowers,Miley Cyrus\n")
    header = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
    today = datetime.now(UTC).date()
    report = home / "inbox/report.csv"
    report.write_text(
        header + f"2021-01-01,DE,USUM70600055,,,1,1.00,EUR\n{today},DE,USUM70600055,,,2,2.00,EUR\n"
    )
    output = run("run", home).stdout
    assert "accounted for: all 1 rows, all 1 units" in output
    assert "are taken, and wait until it has ended" in output
    report.unlink()
    assert "accounted for: all 1 rows" in run("run", home).stdout


def test_init_never_overwrites_and_the_demo_never_does_either(tmp_path):
    run("init", tmp_path)
    again = run("init", tmp_path, succeeds=False)
    assert (again.returncode, "holds a project already" in again.stderr) == (2, True)
    demo = run("demo", tmp_path, *DEMO, succeeds=False)
    assert (demo.returncode, "run the demo in another folder" in demo.stderr) == (2, True)


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        (None, "royalty-assets init"),
        ("feeds: [", "is not valid YAML"),
        ("feeds: [{name: Bad Name}]", "feeds.0.name"),
        ("feeds: []\nsurprise: 1", "surprise"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_where(tmp_path, feeds, told):
    if feeds is not None:
        (tmp_path / "feeds.yaml").write_text(feeds)
    done = run("run", tmp_path, succeeds=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_is_signed_verified_and_one_flipped_bit_of_it_is_found(calm, tmp_path):
    home = tmp_path / "copy"
    copy_project(calm[0], home)
    copy_lake(calm[0], home)
    whole = run("verify", home).stdout
    assert "payouts made again" in whole
    assert whole.rstrip().endswith("0 differences")
    lake = lake_of(home)
    path = next(each for each in lake.paths() if each.startswith("sonora/raw/"))
    body = bytearray(object_bytes(lake, path))
    body[1000] ^= 4
    overwrite(lake, path, bytes(body))
    done = run("verify", home, "--quick", succeeds=False)
    assert done.returncode == 1
    assert f"object {path}: its SHA-256 is" in done.stdout
    assert done.stdout.rstrip().endswith("1 difference")
    assert "made again" not in done.stdout


def test_what_a_run_left_that_died_is_shown_and_then_removed(calm, tmp_path):
    home = tmp_path / "copy"
    copy_project(calm[0], home)
    copy_lake(calm[0], home)
    assert "Nothing older than 7d" in run("gc", home).stdout
    (home / "spool/old").mkdir(parents=True)
    (home / "spool/old/rows").write_bytes(b"12345")
    for path in (home / "spool/old/rows", home / "spool/old"):
        os.utime(path, (0, 0))
    shown = run("gc", home).stdout
    assert "spool of a run" in shown
    assert "Nothing was removed" in shown
    (told,) = json.loads(run("gc", home, "--json").stdout)
    assert (told["bytes"] >= 5, told["removed"]) == (True, False)
    assert "Removed: 1 of kind 'spool of a run'" in run("gc", home, "--delete").stdout
    assert not (home / "spool/old").exists()
    assert ledger_hash(home) == calm[2]
    refused = run("gc", home, "--older-than", "2h", succeeds=False)
    assert (refused.returncode, "say 1d or more" in refused.stderr) == (2, True)


def test_keys_are_made_shown_and_replaced(calm, tmp_path):
    home = tmp_path / "copy"
    copy_project(calm[0], home)
    copy_lake(calm[0], home)
    (first,) = run("keys", "show", home).stdout.split()
    assert (home / "keys/signing.key").stat().st_mode & 0o777 == 0o600
    assert "keys rotate" in run("keys", "new", home, succeeds=False).stderr
    second = run("keys", "rotate", home, "--name", "label.example/royalties").stdout.strip()
    assert second.startswith("label.example/royalties+")
    assert run("keys", "show", home).stdout.split() == [first, second]
    assert "0 differences" in run("verify", home, "--quick", "--key", first).stdout
    other = run("verify", home, "--quick", "--key", f"x{first}", succeeds=False)
    assert (other.returncode, "was copied wrong" in other.stdout) == (1, True)
    # The log goes on under the new key.
    run("run", home)
    assert "0 differences" in run("verify", home, "--quick").stdout
    (home / "keys/signing.key").chmod(0o644)
    refused = run("run", home, succeeds=False)
    assert (refused.returncode, "can be read by others (mode 0644)" in refused.stderr) == (2, True)


def test_a_key_can_come_from_the_environment(tmp_path, monkeypatch):
    run("init", tmp_path)
    text = new_signing_key("label.example/royalties").text
    monkeypatch.setitem(SETTINGS, "ROYALTY_ASSETS_SIGNING_KEY", text)
    public = run("keys", "new", tmp_path).stdout.strip()
    assert public.startswith("label.example/royalties+")
    assert not (tmp_path / "keys").exists()
    assert text not in run("keys", "rotate", tmp_path, succeeds=False).stderr
    monkeypatch.delitem(SETTINGS, "ROYALTY_ASSETS_SIGNING_KEY")
    gone = run("run", tmp_path, succeeds=False)
    assert "is not there; put it back" in gone.stderr


@pytest.mark.parametrize(
    "name", ["", "demo", "run", "init", "ledger-hash", "dead-letters", "ui", "verify", "keys", "gc"]
)
def test_help_teaches(name):
    output = run(*filter(None, [name]), "--help").stdout
    assert "Usage" in output
    assert len(output) > 300


def test_a_month_that_is_none_is_told(calm):
    done = run("ledger-hash", calm[0], "--month", "March", succeeds=False)
    assert done.returncode == 2
    assert "write it as 2025-03" in done.stderr
