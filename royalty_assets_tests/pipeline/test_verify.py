"""Invariant 6: any changed bit anywhere is found and named, as is any row that is not as it was.

A small month of the demo is committed, decided about and signed once. Then bits are flipped one
at a time, with a fixed seed, where a disk or a person would flip them: in stored objects, in every
column of every table, in the newest checkpoint's file and in the ring of keys. After each flip
the same functions look again that ``royalty-assets verify`` calls, at what may have been touched.
"""

import math
import random
import sqlite3
import struct
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import sqlalchemy as sa

from royalty_assets.audit.keys import (
    RING_FOLDER,
    SigningKeyError,
    ensure_signing_key,
    read_ring,
    rotate_signing_key,
)
from royalty_assets.audit.leaves import LeafKind
from royalty_assets.audit.notes import Checkpoint, new_signing_key, parse_note, sign_note
from royalty_assets.audit.receipts import STATEMENT_KIND, make_receipt
from royalty_assets.audit.verify_receipt import verify as verify_receipt
from royalty_assets.domain.adjudication import Action
from royalty_assets.domain.batches import Stage
from royalty_assets.pipeline import match as match_module
from royalty_assets.pipeline.adjudicate import Ruling, rule_on
from royalty_assets.pipeline.checkpoints import NEWEST_FILE, extensions_of, sign_checkpoint
from royalty_assets.pipeline.context import StageBlockedError
from royalty_assets.pipeline.questions import questions
from royalty_assets.pipeline.rederive import rederive
from royalty_assets.pipeline.verify import (
    check_checkpoints,
    check_log,
    check_ring,
    check_rows,
    check_signatures,
    newest_note,
    object_differences,
    read_evidence,
    reread,
    verify_quickly,
)
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.storage import log, tables
from royalty_assets.storage.log import LOGGED
from royalty_assets.storage.registry import SignedCheckpoint, open_registry
from royalty_assets_tests.audit.test_receipts import STATEMENT
from royalty_assets_tests.databases import copy_project, on_postgresql, url_of
from royalty_assets_tests.lakes import copy_lake, lake_of, object_bytes, overwrite, take_away
from royalty_assets_tests.projects import demo_context, inbox_context, run_month

TINY = Scenario(events=1_200, recordings=200, hours=1)
FLIPS_PER_COLUMN = 5
FLIPS_IN_OBJECTS = 250
FLIPS_IN_FILES = 120


@pytest.fixture(scope="module")
def signed(tmp_path_factory, database):
    """A month that is committed, decided about and signed by two keys in turn."""
    home = tmp_path_factory.mktemp("signed")
    with demo_context(home, TINY) as (context, _):
        context.signer = ensure_signing_key(home)
        run_month(context)
        sign_checkpoint(context)
        first, second, *_ = questions(context)
        rule_on(context, first, Ruling(Action.REJECT, "Ann", "not ours"))
        rule_on(context, second, Ruling(Action.DEFER, "Bob", "asked", until=date(2099, 1, 1)))
        sign_checkpoint(context)
        successor = new_signing_key("label.example/royalties")
        rotate_signing_key(home, context.signer, successor, context.registry.log_size())
        context.signer = successor
        sign_checkpoint(context)
        yield context


@pytest.fixture
def copy(signed, tmp_path):
    """A copy of the project that a test may spoil."""
    home = tmp_path / "copy"
    copy_project(signed.home, home)
    copy_lake(signed.home, home)
    signed_by = signed.signer
    context = type(signed)(
        signed.project,
        home,
        lake_of(home),
        open_registry(url_of(home)),
        signed.templates,
        signer=signed_by,
    )
    yield context
    context.registry.close()


def differences(context):
    return [told for checked in verify_quickly(context) for told in checked.differences]


def of_registry(context, evidence):
    """What the checks of registry, log, keys and checkpoints tell."""
    ring, of_ring = check_ring(context.home)
    of_log, tree = check_log(evidence)
    newest = newest_note(context.home)
    checks = [
        *check_rows(evidence),
        of_log,
        of_ring,
        check_signatures(evidence, ring),
        check_checkpoints(evidence, tree, ring, newest),
    ]
    return [told for checked in checks for told in checked.differences]


def execute(context, statement, **values):
    with context.registry.writing() as connection:
        done = connection.execute(sa.text(statement), values)
        return done.fetchall() if done.returns_rows else []


def test_nothing_differs_where_nothing_was_touched(signed):
    found = verify_quickly(signed)
    assert [told for checked in found for told in [*checked.differences, *checked.notices]] == []
    assert all(checked.number for checked in found if checked.name != "closed periods")


# Bits


def flipped(value, chance):
    """A value of the database with one bit of it the other way round."""
    match value:
        case int():
            return value ^ 1 << chance.randrange(31)
        case float():
            raw = bytearray(struct.pack("<d", value))
        case _:
            raw = bytearray(value)
    bit = chance.randrange(len(raw) * 8)
    raw[bit // 8] ^= 1 << bit % 8
    return struct.unpack("<d", raw)[0] if isinstance(value, float) else bytes(raw)


def bits_of_columns(database, chance):
    """(table, column, rowid, value) to flip a bit of, several of each column that has any."""
    for table in (logged.table for logged in LOGGED.values()):
        for column in table.columns:
            there = database.execute(
                f"SELECT rowid FROM {table.name} WHERE {column.name} IS NOT NULL "
                f"AND length(CAST({column.name} AS BLOB)) > 0"
            ).fetchall()
            for _ in range(FLIPS_PER_COLUMN if there else 0):
                yield table.name, column.name, chance.choice(there)[0]


def test_a_flipped_bit_of_any_column_of_any_row_is_found_and_named(copy):
    if on_postgresql():
        pytest.skip("bits of a SQLite file; PostgreSQL's rows are changed in the next test")
    chance = random.Random(20250301)
    evidence = read_evidence(copy.registry)
    database = sqlite3.connect(copy.home / "registry.db", isolation_level=None)
    database.execute("PRAGMA synchronous=OFF")
    tried = set()
    flips = 0
    for table, column, rowid in bits_of_columns(database, chance):
        # Texts are read and written as the bytes that they are.
        (value, kind) = database.execute(
            f"SELECT CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} "
            f"END, typeof({column}) FROM {table} WHERE rowid = ?",
            (rowid,),
        ).fetchone()
        parameter = "CAST(? AS TEXT)" if kind == "text" else "?"
        update = f"UPDATE {table} SET {column} = {parameter} WHERE rowid = ?"
        other = flipped(value, chance)
        try:
            database.execute(update, (other, rowid))
        except sqlite3.IntegrityError:
            continue  # the database itself does not let two rows have one key
        told = of_registry(copy, reread(copy.registry, evidence, table))
        assert told, f"{table}.{column} of row {rowid}: {value!r} became {other!r}"
        named = {"log_leaves": "leaf", "checkpoints": "checkpoint"}.get(table, table)
        assert any(named in each for each in told), (table, column, told)
        # The one key that is the row's number in SQLite, too.
        moved = other if (table, column) in NUMBERED else rowid
        database.execute(update, (value, moved))
        tried.add((table, column))
        flips += 1
    database.close()
    assert differences(copy) == []
    assert {table for table, _ in tried} == set(LOGGED)
    assert flips > 400


def changed(value, chance):
    """Another value that the column of the database takes, as near as can be."""
    match value:
        case bool():
            return not value
        case datetime() | date():
            return value + timedelta(**{"days" if type(value) is date else "microseconds": 1})
        case int():
            return value ^ 1 << chance.randrange(31)
        case float():
            return math.nextafter(value, 2)
    place = chance.randrange(len(value))
    return f"{value[:place]}{chr(ord(value[place]) ^ 1)}{value[place + 1 :]}"


@pytest.mark.on_databases("postgresql")
def test_a_changed_value_of_any_column_of_any_row_is_found_and_named(copy):
    """As above on PostgreSQL, whose pages have checksums of their own against bits that flip."""
    chance = random.Random(20250304)
    evidence = read_evidence(copy.registry)
    engine = copy.registry._engine
    untouched = set()
    for table, column in (
        (logged.table, column) for logged in LOGGED.values() for column in logged.table.columns
    ):
        is_json = isinstance(column.type, sa.JSON)
        read = sa.cast(column, sa.Text) if is_json else column
        row = sa.literal_column("ctid::text")
        with engine.begin() as connection:
            query = sa.select(row, read).where(sa.cast(column, sa.Text) != "").order_by(row)
            there = connection.execute(query).fetchall()
            if not there:
                untouched.add(f"{table.name}.{column.name}")
                continue
            ctid, value = chance.choice(there)
        update = f"UPDATE {table.name} SET {column.name} = {{}} WHERE ctid = CAST(:ctid AS tid)"
        given = ":value" if not is_json else "CAST(:value AS json)"
        update = update.format(given) + " RETURNING ctid::text"
        other = changed(value, chance) if not is_json else f" {value}"
        with engine.begin() as connection:
            moved = connection.scalar(sa.text(update), {"value": other, "ctid": ctid})
        told = of_registry(copy, reread(copy.registry, evidence, table.name))
        named = {"log_leaves": "leaf", "checkpoints": "checkpoint"}.get(table.name, table.name)
        assert any(named in each for each in told), (table.name, column.name, value, other)
        with engine.begin() as connection:
            connection.execute(sa.text(update), {"value": value, "ctid": moved})
    assert differences(copy) == []
    assert untouched <= NEVER_FILLED


NEVER_FILLED = {"adjudications.recording_id", "adjudications.refers_to"}
"""Columns that a month of the demo leaves empty."""

NUMBERED = {("adjudications", "number"), ("checkpoints", "number")}


def test_a_flipped_bit_of_any_object_is_found_and_named(copy):
    chance = random.Random(20250302)
    objects = [stored for _, stored in read_evidence(copy.registry).objects]
    for _ in range(FLIPS_IN_OBJECTS):
        stored = chance.choice(objects)
        raw = object_bytes(copy.lake, stored.path)
        overwrite(copy.lake, stored.path, flipped(raw, chance))
        (told,) = object_differences(copy.lake, stored)
        assert stored.path in told
        overwrite(copy.lake, stored.path, raw)
        assert object_differences(copy.lake, stored) == []


def test_a_flipped_bit_of_the_checkpoints_file_and_of_the_ring_is_found(copy):
    chance = random.Random(20250303)
    evidence = read_evidence(copy.registry)
    files = [copy.home / NEWEST_FILE, *sorted((copy.home / RING_FOLDER).iterdir())]
    assert len(files) == 3
    for _ in range(FLIPS_IN_FILES):
        path = chance.choice(files)
        raw = path.read_bytes()
        path.write_bytes(flipped(raw, chance))
        assert any(path.name in told for told in of_registry(copy, evidence))
        path.write_bytes(raw)
    assert of_registry(copy, evidence) == []


# Rows


@pytest.mark.parametrize("table", sorted(LOGGED))
def test_a_removed_row_is_found_and_named(copy, table):
    key = [column.name for column in tables.metadata.tables[table].primary_key]
    first = f"SELECT {', '.join(key)} FROM {table} ORDER BY {', '.join(key)} LIMIT 1"
    execute(copy, f"DELETE FROM {table} WHERE ({', '.join(key)}) = ({first})")
    named = {"log_leaves": "leaf 0 was to come", "checkpoints": "checkpoint 1 was to come"}
    assert any(named.get(table, f"{table} of ") in told for told in differences(copy))


@pytest.mark.parametrize("table", ["batches", "commits", "adjudications", "exceptions"])
def test_an_added_row_is_found_and_named(copy, table):
    changes = {
        "batches": ("batch_id", "'new' || batch_id", "window_label", "'x'"),
        "commits": ("partition_key", "'2026-01-01'", "feed", "feed"),
        "adjudications": ("number", "99", "who", "'Eve'"),
        "exceptions": ("usage_key", "'x'", "units", "units"),
    }[table]
    chosen = dict(zip(changes[::2], changes[1::2], strict=True))
    columns = [column.name for column in tables.metadata.tables[table].columns]
    values = ", ".join(chosen.get(name, name) for name in columns)
    execute(
        copy, f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} LIMIT 1"
    )
    told = [each for each in differences(copy) if each.startswith(f"{table} of ")]
    assert len(told) == 1


def test_two_rows_that_changed_places_are_found_and_named(copy):
    (one, objects), (other, others) = execute(
        copy,
        "SELECT batch_id, CAST(objects AS TEXT) FROM batches WHERE stage = 'matched' LIMIT 2",
    )
    execute(copy, "UPDATE batches SET objects = :of WHERE batch_id = :id", of=others, id=one)
    execute(copy, "UPDATE batches SET objects = :of WHERE batch_id = :id", of=objects, id=other)
    told = differences(copy)
    assert {f"batches of batch {each}: changed" for each in (one, other)} == set(told)


def test_leaves_that_changed_places_are_found_even_if_their_hashes_are_made_to_fit(copy):
    with copy.registry.writing() as connection:
        rows = list(log.stored_rows(connection, tables.log_leaves))
        rows[3], rows[5] = rows[5], rows[3]
        connection.execute(sa.delete(tables.log_leaves))
        for row in rows:
            names = ("kind", "subject", "content_sha256", "content", "signature")
            log.append_leaf(connection, *(row[name] for name in names))
    told = differences(copy)
    assert any(
        "checkpoint 1: the first" in each and "leaves after 0 were changed, moved" in each
        for each in told
    )


def test_a_replayed_batch_is_found_and_named(copy):
    ((batch_id,),) = execute(copy, "SELECT batch_id FROM batches WHERE stage = 'raw' LIMIT 1")
    with copy.registry.writing() as connection:
        rows = {"batches": (batch_id,)}
        log.append_rows_leaf(connection, LeafKind.BATCH, batch_id, rows)
    sign_checkpoint(copy)
    told = differences(copy)
    assert any(f"batch {batch_id}): replayed; it was logged as leaf" in each for each in told)


def test_a_log_that_is_cut_short_is_found_by_its_last_checkpoint(copy):
    size = copy.registry.log_size()
    execute(copy, "DELETE FROM adjudications WHERE number = 2")
    execute(copy, "DELETE FROM log_leaves WHERE leaf_index = :last", last=size - 1)
    assert any(
        f"it was signed over {size} leaves; the log is cut short" in each
        for each in differences(copy)
    )
    with pytest.raises(StageBlockedError, match="royalty-assets verify"):
        sign_checkpoint(copy)
    # With its checkpoints taken out as well, the one beside the registry tells.
    execute(copy, "DELETE FROM checkpoints WHERE size = :size", size=size)
    (told,) = differences(copy)
    assert told.startswith(NEWEST_FILE)
    assert "of an earlier day" in told


def test_a_checkpoint_of_another_key_is_found_and_named(copy):
    stranger = new_signing_key("label.example/royalties")
    ((number, note),) = execute(
        copy, "SELECT number, note FROM checkpoints ORDER BY number DESC LIMIT 1"
    )
    forged = str(sign_note(parse_note(note).text, [stranger]))
    execute(copy, "UPDATE checkpoints SET note = :n WHERE number = :of", n=forged, of=number)
    (copy.home / NEWEST_FILE).write_text(forged, encoding="utf-8")
    (told,) = differences(copy)
    assert told.startswith(f"checkpoint {number}: it is signed by label.example/royalties+")
    assert "no key that is trusted" in told


def test_a_key_that_was_replaced_signs_nothing_more(reported):
    old = reported.signer
    reported.registry.append_leaf("note", "one", "0" * 64)
    sign_checkpoint(reported)
    rotate_signing_key(reported.home, old, new_signing_key("b"), 1)
    reported.registry.append_leaf("note", "two", "0" * 64)
    with pytest.raises(SigningKeyError, match="start again after a rotation"):
        sign_checkpoint(reported)
    # As whoever stole the old key would do it.
    last = reported.registry.last_checkpoint()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    root = reported.registry.log_root(2)
    forged = Checkpoint(old.name, 2, root, extensions_of(2, last, at))
    note = str(sign_note(forged.text, [old]))
    reported.registry.add_checkpoint(SignedCheckpoint(2, 2, root.hex(), note, at))
    (told,) = differences(reported)
    assert told == f"checkpoint 2: {old.verifier.text} was not in force for a log of 2 leaves"


def test_a_project_that_was_made_anew_is_found_by_a_key_that_was_written_down(signed):
    known = read_ring(signed.home / RING_FOLDER).entries[0].key.text
    assert not any(c.differences for c in verify_quickly(signed, trusted=known))
    other = new_signing_key("label.example/royalties").verifier.text
    (told,) = [d for c in verify_quickly(signed, trusted=other) for d in c.differences]
    assert other in told


# Objects


def test_a_missing_object_is_named_and_an_unknown_one_is_no_error(copy):
    stored = read_evidence(copy.registry).objects[0][1]
    body = object_bytes(copy.lake, stored.path)
    take_away(copy.lake, stored.path)
    (told,) = differences(copy)
    assert stored.path in told
    overwrite(copy.lake, stored.path, body)
    overwrite(copy.lake, stored.path.replace("/", "/of-a-crash-", 1), b"half")
    (objects, *_) = verify_quickly(copy)
    assert objects.differences == []
    assert "of-a-crash-" in objects.notices[0]


def test_only_a_months_objects_are_looked_at_where_that_is_asked(copy):
    (objects, *_) = verify_quickly(copy, month="2024-01")
    assert objects.number == 0
    assert objects.notices == []
    (objects, *_) = verify_quickly(copy, month="2025-03")
    assert objects.number


# From the raw bytes


def files(context):
    """All that a project holds, but for what it could fetch or make again."""
    here = {path for path in context.home.rglob("*") if path.is_file()}
    return {path for path in here if "cache" not in path.parts}, set(context.lake.paths())


def test_everything_comes_out_of_the_raw_bytes_as_it_was_committed(signed):
    before = files(signed)
    found = rederive(signed)
    assert [(c.number > 0, c.differences) for c in found] == [(True, [])] * 6
    # The month was decided about since, so that what it was matched by is not in force.
    assert all("a run brings it up to date" in n for c in found for n in c.notices)
    assert files(signed) == before


HEADER = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"


@pytest.fixture
def reported(tmp_path):
    context = inbox_context(tmp_path)
    (tmp_path / "catalog/recordings.csv").write_text(
        "recording_id,isrc,title,artist\nR1,USUM70600055,Flowers,Ada\nR2,USUM70600056,Sun,Ada\n"
    )
    (tmp_path / "inbox/report.csv").write_text(
        HEADER
        + "2025-03-01,DE,USUM70600055,Flowers,Ada,10,1.00,EUR\n"
        + "2025-03-02,DE,USUM70600056,Sun,Ada,7,0.70,EUR\n"
    )
    context.signer = ensure_signing_key(tmp_path)
    yield context
    context.registry.close()


def test_what_an_insider_with_the_key_commits_is_found_by_making_it_again(reported, monkeypatch):
    """All hashes and signatures are right; only it does not follow from what was received."""
    genuine = match_module.matched_usage

    def in_favour_of_one(lines, *arguments):
        usage = genuine(lines, *arguments)
        return usage.with_columns(pl.col("recording_id").max())

    with monkeypatch.context() as sabotage:
        sabotage.setattr(match_module, "matched_usage", in_favour_of_one)
        run_month(reported)
        sign_checkpoint(reported)
    assert differences(reported) == []
    found = [told for checked in rederive(reported) for told in checked.differences]
    assert len(found) == 1
    assert found[0].startswith("reports/matched 2025-03-01")
    assert "has other rows" in found[0]


def test_what_is_not_of_this_month_is_not_made_again(reported):
    run_month(reported)
    assert [checked.number for checked in rederive(reported, "2025-02")] == [0] * 6
    assert [checked.number for checked in rederive(reported, "2025-03")] == [1, 1, 0, 1, 1, 1]
    assert reported.registry.commits(Stage.LEDGER)


# Receipts


def test_a_statement_in_a_projects_own_log_has_a_receipt(reported):
    """What the pipeline does with a statement: log it, sign the log, and prove a line of it."""
    run_month(reported)
    logged = reported.registry.append_leaf(
        STATEMENT_KIND, STATEMENT.subject, STATEMENT.content_sha256
    )
    reported.registry.append_leaf("period", "2025-03", "0" * 64)
    signed = sign_checkpoint(reported)
    receipt = make_receipt(
        STATEMENT,
        1,
        logged,
        reported.registry.inclusion_proof(logged.index, signed.size),
        signed.size,
        parse_note(signed.note),
        read_ring(reported.home / RING_FOLDER).keys,
    )
    assert len(verify_receipt(receipt.encode(), reported.signer.verifier.text)) == 5
    assert differences(reported) == []
