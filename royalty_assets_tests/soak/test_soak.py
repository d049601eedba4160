"""A short slice of ``make soak``: a handful of seeds, and bugs that are found on known ones.

The seeds are small worlds, without processes that are killed for good: those take seconds.
"""

import pytest

from royalty_assets_tests.soak.bugs import BUGS, broken
from royalty_assets_tests.soak.faults import Armed, FaultDraw, KilledError, Strike
from royalty_assets_tests.soak.oracle import Kind
from royalty_assets_tests.soak.seeds import run_seed
from royalty_assets_tests.soak.service import switchboard
from royalty_assets_tests.soak.world import make_world

CLEAN = (8, 14)
FOUND = {"round_twice": 8, "swallow_rejected_row": 14}


@pytest.fixture(scope="module")
def board():
    with switchboard() as board:
        yield board


@pytest.fixture(scope="module")
def reports(board):
    return {seed: run_seed(seed, board) for seed in CLEAN}


def test_nothing_is_lost_and_nothing_doubled_whatever_strikes(reports):
    assert [report.as_text() for report in reports.values() if report.findings] == []
    assert sum(report.injected.total() for report in reports.values()) > 5


def test_a_seed_that_is_run_again_meets_the_same_and_leaves_the_same(reports, board):
    again = run_seed(CLEAN[0], board)
    assert again.trace == reports[CLEAN[0]].trace
    assert again.ledger_hash == reports[CLEAN[0]].ledger_hash
    make_world.cache_clear()
    assert make_world(3) == make_world(3)


@pytest.mark.parametrize("bug", FOUND)
def test_a_bug_that_is_put_in_is_found_and_told_how_to_see_again(board, bug):
    report = run_seed(FOUND[bug], board, bug)
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


def test_every_kind_of_fault_is_drawn():
    draw = FaultDraw(1, rate=1.0)
    drawn = {draw.arm(is_network=n % 2 == 0, is_by_hand=False).strike for n in range(2_000)}
    assert drawn == set(Strike)
    assert {draw.arm(is_network=False, is_by_hand=True).strike for _ in range(2_000)}.isdisjoint(
        {Strike.CLOCK_AHEAD, Strike.CLOCK_BEHIND, Strike.NETWORK}
    )


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_taken_out_again(bug):
    before = [(where, what, getattr(where, what)) for where, what, _ in BUGS[bug]()]
    with broken(bug):
        assert all(getattr(where, what) is not original for where, what, original in before)
    assert all(getattr(where, what) is original for where, what, original in before)
