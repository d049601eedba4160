"""A short slice of ``make soak``: a handful of seeds, and bugs that are found on known ones.

The seeds are small worlds, without processes that are killed for good: those take seconds.
"""

from functools import partial

import pytest

from royalty_assets_tests.soak.__main__ import last_line
from royalty_assets_tests.soak.bugs import BUGS, broken
from royalty_assets_tests.soak.faults import Armed, FaultDraw, KilledError, Strike
from royalty_assets_tests.soak.oracle import Kind
from royalty_assets_tests.soak.seeds import SeedReport, run_seed
from royalty_assets_tests.soak.service import switchboard
from royalty_assets_tests.soak.stores import Servers
from royalty_assets_tests.soak.world import make_world

CLEAN = (8, 14)
ON_SERVERS = (30, 34)
"""One has both its registry on PostgreSQL and its lake on S3."""
FOUND = {"round_twice": 8, "swallow_rejected_row": 14}


@pytest.fixture(scope="module")
def board():
    with switchboard() as board:
        yield board


@pytest.fixture(scope="module")
def servers():
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def reports(board, servers):
    return {seed: run_seed(seed, board, servers) for seed in CLEAN}


def test_nothing_is_lost_and_nothing_doubled_whatever_strikes(reports):
    assert [report.as_text() for report in reports.values() if report.findings] == []
    assert sum(report.injected.total() for report in reports.values()) > 5


@pytest.mark.long
@pytest.mark.parametrize("seed", ON_SERVERS)
def test_servers_that_fail_cost_nothing(board, servers, seed):
    """The books are those of a run on SQLite and in a folder."""
    report = run_seed(seed, board, servers)
    assert not report.findings, report.as_text()
    assert not report.lacks_postgresql
    own = {Strike.DATABASE_RESTART, Strike.S3_CUT, Strike.S3_BUSY}
    assert report.injected.keys() & {str(strike) for strike in own}


def test_a_seed_that_is_run_again_meets_the_same_and_leaves_the_same(reports, board, servers):
    again = run_seed(CLEAN[0], board, servers)
    assert again.trace == reports[CLEAN[0]].trace
    assert again.ledger_hash == reports[CLEAN[0]].ledger_hash
    make_world.cache_clear()
    assert make_world(3) == make_world(3)


@pytest.mark.parametrize("bug", FOUND)
def test_a_bug_that_is_put_in_is_found_and_told_how_to_see_again(board, servers, bug):
    report = run_seed(FOUND[bug], board, servers, bug)
    is_lost = bug == "swallow_rejected_row"
    assert report.number_of(Kind.LOST if is_lost else Kind.WRONG)
    told = report.as_text(bug)
    assert f"make soak SEEDS=1 FIRST_SEED={FOUND[bug]} BUG={bug}" in told
    assert report.findings[0].told in told


def test_a_fault_strikes_once_at_the_boundary_that_it_was_drawn_for():
    armed = Armed(Strike.KILL_BEFORE_WRITE, at=2)
    armed.perhaps_kill(Strike.KILL_BEFORE_WRITE, "first")
    armed.perhaps_kill(Strike.KILL_AFTER_COMMIT, "another kind")
    armed.perhaps_kill(Strike.KILL_BEFORE_WRITE, "second")
    with pytest.raises(KilledError):
        armed.perhaps_kill(Strike.KILL_BEFORE_WRITE, "third")
    armed.perhaps_kill(Strike.KILL_BEFORE_WRITE, "fourth")
    assert armed.struck == "third"


def drawn(draw, *, is_network=False, is_by_hand=False):
    arm = partial(draw.arm, is_by_hand=is_by_hand, is_contested=False)
    return {arm(is_network=is_network and number % 2 == 0).strike for number in range(2_000)}


def test_every_kind_of_fault_is_drawn_where_it_can_strike():
    of_sqlite = {Strike.REGISTRY_FULL, Strike.REGISTRY_LOCKED}
    of_postgresql, of_s3 = {Strike.DATABASE_RESTART}, {Strike.S3_CUT, Strike.S3_BUSY}
    at_home = drawn(FaultDraw(1, rate=1.0), is_network=True)
    assert at_home == set(Strike) - of_postgresql - of_s3
    away = drawn(FaultDraw(1, rate=1.0, on_postgresql=True, on_s3=True), is_network=True)
    assert away == set(Strike) - of_sqlite
    assert drawn(FaultDraw(1, rate=1.0), is_by_hand=True).isdisjoint(
        {Strike.CLOCK_AHEAD, Strike.CLOCK_BEHIND, Strike.NETWORK}
    )


def test_a_database_that_could_not_be_had_is_told():
    there, lacking = SeedReport(1), SeedReport(2, lacks_postgresql=True)
    assert "PostgreSQL" not in last_line([there], "")
    assert last_line([there, lacking], "").endswith(
        "; 1 on SQLite, as no PostgreSQL could be started"
    )


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_taken_out_again(bug):
    before = [(where, what, getattr(where, what)) for where, what, _ in BUGS[bug]()]
    with broken(bug):
        assert all(getattr(where, what) is not original for where, what, original in before)
    assert all(getattr(where, what) is original for where, what, original in before)
