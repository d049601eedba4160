"""Writers at once, on each database: one log without gaps, one winner, nothing lost.

And what becomes of a writer whose connection is cut, whose server is restarted, or who waits too
long. Connections are cut by the server itself, at the statement that a test names.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import sqlalchemy as sa

from royalty_assets.audit.leaves import rows_of_content
from royalty_assets.audit.merkle import MemoryTree, root
from royalty_assets.domain.adjudication import Action, Decision
from royalty_assets.storage import log, tables
from royalty_assets.storage.database import (
    CommitUnknownError,
    DatabaseBusyError,
    DatabaseUnavailableError,
    DatabaseUrlError,
    parsed_url,
)
from royalty_assets.storage.registry import (
    RegistryConflictError,
    SignedCheckpoint,
    open_registry,
)
from royalty_assets_tests.databases import Server, on_postgresql, server, url_of
from royalty_assets_tests.storage.test_registry import BATCH, COMMIT, LETTER, turn_at
from royalty_assets_tests.storage.test_schema import AT

pytestmark = pytest.mark.on_databases
only_on_postgresql = pytest.mark.on_databases("postgresql")
WRITERS, ROUNDS = 4, 6


def log_of(registry):
    """The leaves, checked: without gaps, each hash in its place, each row answered for."""
    with registry.as_stored() as connection:
        leaves = list(log.stored_rows(connection, tables.log_leaves))
        there = {name: log.digests(connection, name) for name in log.LOGGED}
    assert [leaf["leaf_index"] for leaf in leaves] == list(range(len(leaves)))
    tree = MemoryTree(bytes.fromhex(leaf["leaf_hash"]) for leaf in leaves)
    for size in (len(leaves), len(leaves) // 3):
        assert registry.log_root(size) == root(tree, size)
    for leaf in leaves:
        for name, part in (rows_of_content(leaf["content"]) or {}).items():
            key = leaf["leaf_index"] if log.LOGGED[name].by_index else leaf["subject"]
            assert there[name].pop(key, None) == part, (name, key)
    assert not any(there.values())
    return leaves


def write(url, writer):
    """What one process of several does; at module level so that another process finds it."""
    registry = open_registry(url)
    for number in range(ROUNDS):
        own = replace(
            BATCH, window_label=f"2025030{writer}T{number:02d}00Z", partition_key=f"{writer}"
        )
        turn = turn_at(registry, own)
        registry.commit_batch(own, turn, subjects=["s"])
        registry.append_leaf("note", f"{writer} {number}", "0" * 64)
        decision = Decision(0, f"s{writer}", Action.REJECT, "Ann", AT)
        after = [one.number for one in registry.adjudications(f"s{writer}")]
        registry.add_adjudication(decision, after[-1] if after else None)
        registry.commit_partition(replace(COMMIT, partition_key=f"{writer}", revision=number), turn)
    registry.close()
    return registry.log_size()


def test_processes_that_write_at_once_make_one_log_without_gaps(tmp_path):
    url = url_of(tmp_path)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        list(processes.map(write, [url] * 3, range(3)))
    registry = open_registry(url)
    assert len(log_of(registry)) == 3 * 4 * ROUNDS
    assert len(registry.adjudications()) == 3 * ROUNDS
    registry.close()


@pytest.fixture
def at_once(tmp_path):
    """Runs a function for each of several registries over one database, all at one moment."""
    registries = [open_registry(url_of(tmp_path)) for _ in range(WRITERS)]
    gate = Barrier(WRITERS)

    def run(act):
        def one(number):
            gate.wait()
            try:
                return act(registries[number], number)
            except RegistryConflictError as error:
                return error

        with ThreadPoolExecutor(WRITERS) as threads:
            return list(threads.map(one, range(WRITERS)))

    yield run
    log_of(registries[0])
    for registry in registries:
        registry.close()


def lost(outcomes):
    return sum(isinstance(outcome, RegistryConflictError) for outcome in outcomes)


def test_of_writers_of_one_revision_one_wins_and_the_others_are_told(at_once, registry):
    for number in range(ROUNDS):
        ours = replace(BATCH, revision=number)
        commit = replace(COMMIT, revision=number)
        turn = turn_at(registry, commit)
        told = at_once(lambda r, n: r.commit_batch(replace(ours, counts={"n": n}), turn))  # noqa: B023
        assert lost(told) == WRITERS - 1
        told = at_once(
            lambda r, n: r.commit_partition(replace(commit, input_sha256=f"{n}" * 64), turn)  # noqa: B023
        )
        assert lost(told) == WRITERS - 1
        assert lost(at_once(lambda r, n: r.add_checkpoint(
            SignedCheckpoint(number, n, "", "note", AT)))) == 3  # fmt: skip  # noqa: B023


def test_of_writers_who_take_turns_at_once_the_last_commits(at_once, registry):
    """Whoever has been overtaken commits nothing; whoever has not, does."""
    for number in range(ROUNDS):
        turns = {}

        def act(r, n, number=number, turns=turns):
            turns[n] = turn_at(r, COMMIT)
            r.commit_partition(
                replace(COMMIT, revision=turns[n].revision, input_sha256=f"{n}" * 64), turns[n]
            )

        outcomes = at_once(act)
        assert len({turn.fencing_token for turn in turns.values()}) == WRITERS
        last = max(turns, key=lambda n, turns=turns: turns[n].fencing_token)
        assert not isinstance(outcomes[last], RegistryConflictError)
        standing = registry.commit("f", COMMIT.stage, COMMIT.partition_key)
        assert standing.input_sha256 == f"{last}" * 64


def test_of_people_who_decide_about_one_thing_at_once_one_does(at_once):
    last = None
    for _ in range(ROUNDS):
        decision = Decision(0, "s", Action.REJECT, "Ann", AT)
        outcomes = at_once(lambda r, n: r.add_adjudication(replace(decision, who=f"{n}"), last))  # noqa: B023
        assert lost(outcomes) == WRITERS - 1
        (winner,) = [one for one in outcomes if isinstance(one, Decision)]
        last = winner.number


def test_a_commit_answers_for_all_letters_that_were_let_in(at_once, registry):
    """Letters come while the revision is committed: they are in its leaf, or are refused."""
    for _ in range(ROUNDS):
        turn = turn_at(registry, COMMIT)

        def act(registry, number, turn=turn):
            if number == 0:
                registry.commit_partition(replace(COMMIT, revision=turn.revision), turn)
            elif number == 1:
                turn_at(registry, COMMIT)
            else:
                registry.add_dead_letters(turn, [replace(LETTER, row_number=number)])

        assert lost(at_once(act)) <= WRITERS - 1
        # at_once's end checks that each letter of a committed revision is answered for.


def test_a_nul_in_a_text_is_shown_as_a_sign_on_every_database(tmp_path):
    registry = open_registry(url_of(tmp_path))
    turn = turn_at(registry, COMMIT)
    registry.add_dead_letters(turn, [replace(LETTER, value="a\0b", source="x" * 600)])
    registry.commit_partition(COMMIT, turn)
    (letter,) = registry.dead_letters()
    assert (letter["value"], len(letter["source"])) == ("a␀b", 512)
    registry.add_adjudication(Decision(0, "s", Action.REJECT, "Ann", AT, why="no\0"), None)
    assert registry.adjudications("s")[0].why == "no␀"
    log_of(registry)
    registry.close()


# Connections that break


class Cut:
    """Cuts a registry's connection right before a statement, the first time that it comes."""

    def __init__(self, registry, of, before):
        self.done = 0

        def cut(connection, cursor, statement, *_):
            if statement.startswith(before) and not self.done:
                self.done += 1
                of()

        sa.event.listen(registry._engine, "before_cursor_execute", cut)


@pytest.fixture
def registry(tmp_path):
    registry = open_registry(url_of(tmp_path))
    yield registry
    log_of(registry)
    registry.close()


def cut_all(registry):
    return lambda: server().disconnect(registry._engine.url.database)


@only_on_postgresql
def test_a_connection_that_breaks_before_anything_is_committed_is_made_again(registry):
    turn = turn_at(registry, BATCH)
    for statement, act in (
        ("INSERT INTO log_leaves", lambda: registry.commit_batch(BATCH, turn, subjects=["s"])),
        ("INSERT INTO commits", lambda: registry.commit_partition(COMMIT, turn)),
        ("SELECT pg_advisory", lambda: registry.append_leaf("note", "n", "0" * 64)),
        ("INSERT INTO adjudications",
         lambda: registry.add_adjudication(Decision(0, "s", Action.REJECT, "A", AT), None)),
    ):  # fmt: skip
        cut = Cut(registry, cut_all(registry), statement)
        act()
        assert cut.done == 1
    assert len(log_of(registry)) == 4


def cut_at_commit(registry):
    """The server goes away as the next transaction is committed."""
    engine = registry._engine
    cut = []

    def before_commit(connection):
        if not cut:
            cut.append(True)
            server().disconnect(engine.url.database)

    sa.event.listen(engine, "commit", before_commit)


@only_on_postgresql
def test_what_broke_while_it_was_committed_is_done_again_only_if_that_changes_nothing(registry):
    cut_at_commit(registry)
    registry.commit_batch(BATCH, turn_at(registry, BATCH))
    assert registry.batches_by_id([BATCH.batch_id]) == [BATCH]
    cut_at_commit(registry)
    decision = Decision(0, "s", Action.REJECT, "A", AT)
    with pytest.raises(CommitUnknownError, match="look whether it is there before you do it again"):
        registry.add_adjudication(decision, None)
    assert registry.adjudications() == []
    assert registry.add_adjudication(decision, None).subject == "s"


@only_on_postgresql
def test_reading_says_that_the_connection_was_lost_and_works_the_next_time(registry):
    registry.commit_batch(BATCH, turn_at(registry, BATCH))
    Cut(registry, cut_all(registry), "SELECT batches.")
    with pytest.raises(DatabaseUnavailableError, match=r"was lost: .*run it again"):
        registry.batches("f", BATCH.stage, BATCH.partition_key)
    assert registry.batches("f", BATCH.stage, BATCH.partition_key) == {BATCH.window_label: BATCH}
    server().disconnect(registry._engine.url.database)
    assert registry.log_size() == 1


@only_on_postgresql
def test_a_server_that_crashes_and_comes_back_costs_nothing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("x")
    own = Server(server().beside(folder.name))
    registry = open_registry(own.url("postgres"))
    registry.commit_batch(BATCH, turn_at(registry, BATCH))
    cut = Cut(registry, own.restart, "INSERT INTO log_leaves")
    registry.commit_partition(COMMIT, turn_at(registry, COMMIT))
    assert cut.done == 1
    assert [leaf["kind"] for leaf in log_of(registry)] == ["batch", "commit"]
    own.stop()
    with pytest.raises(DatabaseUnavailableError, match="cannot be reached") as caught:
        registry.log_size()
    assert "see that its server runs" in str(caught.value)
    registry.close()


def test_who_waits_too_long_for_another_writer_is_told(registry, tmp_path):
    other = open_registry(url_of(tmp_path))
    if on_postgresql():
        sa.event.listen(other._engine, "begin", lambda c: c.exec_driver_sql("SET lock_timeout = 1"))
    else:
        sa.event.listen(
            other._engine, "begin", lambda c: c.exec_driver_sql("PRAGMA busy_timeout=1")
        )

    def hold(connection):
        with pytest.raises(DatabaseBusyError, match="another process has been writing"):
            other.append_leaf("note", "n", "0" * 64)

    from royalty_assets.storage.database import write_alone  # noqa: PLC0415

    write_alone(registry._engine, hold)
    other.append_leaf("note", "n", "0" * 64)
    other.close()


# URLs


def test_every_spelling_of_a_postgresql_url_is_psycopg2s():
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
        assert parsed_url(f"{scheme}://u:p@h/d").drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    "url",
    ["postgresql//u:secret@h/d", "mysql://u:secret@h/d", "secret", "postgresql://u:secret@h:x/d"],
)
def test_an_url_that_is_none_is_not_repeated(url):
    with pytest.raises(DatabaseUrlError) as caught:
        open_registry(url)
    assert "postgresql:" in str(caught.value)
    assert "secret" not in str(caught.value)


@only_on_postgresql
def test_no_error_tells_the_password(tmp_path):
    url = parsed_url(server().url("no_such_database")).set(password="hunter2")
    with pytest.raises(
        DatabaseUnavailableError, match='database "no_such_database" does not exist'
    ):
        open_registry(url.render_as_string(hide_password=False))
    registry = open_registry(
        parsed_url(url_of(tmp_path)).set(password="hunter2").render_as_string(hide_password=False)
    )
    with pytest.raises(sa.exc.ProgrammingError) as caught, registry.writing() as connection:
        connection.execute(sa.text("SELECT FROM nowhere"))
    assert "hunter2" not in str(caught.value) + repr(registry._engine)
    registry.close()
