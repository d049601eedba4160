"""Verification: whether what is stored is what was committed, logged and signed, to the last bit.

Five checks, none of which trusts another: the lake's objects against the registry, the registry's
rows against the log, the log against the checkpoints that were signed over it, closed periods
against what was logged of them, and (in ``rederive``) every derived object against what comes of
the raw bytes when it is made again. Each returns what differs, a line a difference; nothing is
mended, and nothing stops at the first.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from royalty_assets.audit.keys import RING_FOLDER, KeyRing, SigningKeyError, read_ring
from royalty_assets.audit.leaves import (
    Leaf,
    LeafKind,
    RowsDigest,
    manifest_text,
    rows_of_content,
    text_sha256,
)
from royalty_assets.audit.merkle import MemoryTree, root
from royalty_assets.audit.notes import (
    NoteError,
    parse_checkpoint,
    parse_note,
    parse_signature,
    parse_verifier_key,
    verified_by,
)
from royalty_assets.domain.batches import LakeObject
from royalty_assets.pipeline.checkpoints import NEWEST_FILE
from royalty_assets.pipeline.closing import closing_differences
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.periods import closed_months
from royalty_assets.storage import tables
from royalty_assets.storage.lake import Lake, LakeError
from royalty_assets.storage.log import LOGGED, digests, stored_rows
from royalty_assets.storage.registry import Registry

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how far it is, and how far it goes."""


@dataclass(slots=True)
class Checked:
    """What came of one check.

    Attributes:
        name: of what was checked, for people.
        number: how many of them.
        differences: what is not as it was committed, each in one line.
        notices: what is worth knowing and no difference.
    """

    name: str
    number: int = 0
    differences: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Leaves:
    """The rows of ``log_leaves``, by index; read again each time that they are gone through."""

    registry: Registry

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.registry.as_stored() as connection:
            yield from stored_rows(connection, tables.log_leaves)


@dataclass(slots=True)
class Evidence:
    """The registry as it is stored: what the log says, and what the rows come to.

    Attributes:
        leaves: of the log.
        checkpoints: rows of ``checkpoints``, by number.
        digests: table → leaf (index or subject) → digest of its rows.
        manifests: batch id → SHA-256 of its manifest.
        objects: the objects that batches list, with the month of their batch (``2025-03``).
    """

    leaves: Leaves
    checkpoints: list[dict[str, Any]]
    digests: dict[str, dict[int | str | None, RowsDigest]]
    manifests: dict[str, str]
    objects: list[tuple[str, LakeObject]]


def read_evidence(registry: Registry, told: Progress = lambda *_: None) -> Evidence:
    """Read all of the registry."""
    with registry.as_stored() as connection:
        checkpoints = list(stored_rows(connection, tables.checkpoints))
        found = {}
        for number, name in enumerate(LOGGED):
            told("registry", number, len(LOGGED))
            found[name] = digests(connection, name)
        manifests, objects = _batches(connection)
    return Evidence(Leaves(registry), checkpoints, found, manifests, objects)


def reread(registry: Registry, evidence: Evidence, table: str) -> Evidence:
    """The evidence with one table read again."""
    with registry.as_stored() as connection:
        if table == tables.log_leaves.name:
            return evidence
        if table == tables.checkpoints.name:
            return _with(evidence, checkpoints=list(stored_rows(connection, tables.checkpoints)))
        again = _with(evidence, digests={**evidence.digests, table: digests(connection, table)})
        if table == tables.batches.name:
            again.manifests, again.objects = _batches(connection)
        return again


def _with(evidence: Evidence, **changes: Any) -> Evidence:
    names = Evidence.__dataclass_fields__
    return Evidence(**({name: getattr(evidence, name) for name in names} | changes))


def _batches(connection: sa.Connection) -> tuple[dict[str, str], list[tuple[str, LakeObject]]]:
    manifests: dict[str, str] = {}
    objects: list[tuple[str, LakeObject]] = []
    for row in stored_rows(connection, tables.batches):
        manifests[str(row["batch_id"])] = str(row["sha256"])
        try:
            listed = [LakeObject(**stored) for stored in json.loads(row["objects"])]
        except (ValueError, TypeError):
            continue  # told as a changed row
        objects += [(str(row["window_start"])[:7], stored) for stored in listed]
    return manifests, objects


def verify_quickly(
    context: PipelineContext,
    month: str | None = None,
    trusted: str | None = None,
    told: Progress = lambda *_: None,
) -> list[Checked]:
    """All checks but making everything again.

    Args:
        context: the project.
        month: only objects of this accounting period, as ``2025-03``; the log is checked whole.
        trusted: a key that the project's ring has to hold, as somebody outside wrote it down.
        told: progress.
    """
    try:
        evidence = read_evidence(context.registry, told)
    except sa.exc.DatabaseError as error:
        return [Checked("registry", 0, [f"registry: it cannot be read: {error.orig}"])]
    objects = [stored for of, stored in evidence.objects if month is None or of == month]
    ring, of_ring = check_ring(context.home, trusted)
    log, tree = check_log(evidence)
    return [
        check_objects(context.lake, objects, {s.path for _, s in evidence.objects}, told),
        *check_rows(evidence),
        log,
        of_ring,
        check_signatures(evidence, ring),
        check_checkpoints(evidence, tree, ring, newest_note(context.home)),
        check_closings(context, month, told),
    ]


# Objects


def check_objects(
    lake: Lake, objects: Sequence[LakeObject], known: Iterable[str], told: Progress
) -> Checked:
    """Every listed object's length and SHA-256; objects that nothing lists are told as notices."""
    distinct = {stored.path: stored for stored in objects}
    checked = Checked("objects in the lake", len(distinct))
    for number, stored in enumerate(distinct.values()):
        told("objects", number, len(distinct))
        checked.differences += object_differences(lake, stored)
    for one in objects:
        if distinct[one.path].sha256 != one.sha256:
            checked.differences.append(f"{one.path}: two batches list it with other SHA-256")
    orphans = sorted(set(lake.paths()) - set(known))
    if orphans:
        checked.notices.append(
            f"{len(orphans)} objects that no batch lists, left by runs that did not end; "
            f"the first is {orphans[0]}"
        )
    return checked


def object_differences(lake: Lake, stored: LakeObject) -> list[str]:
    """What an object is, if it is not what was committed."""
    try:
        sha256 = lake.sha256(stored)
    except LakeError as error:
        return [f"object {error}"]
    except OSError as error:
        return [f"object {stored.path}: it cannot be read: {error.strerror}"]
    if sha256 != stored.sha256:
        return [f"object {stored.path}: its SHA-256 is {sha256}, not {stored.sha256}"]
    return []


# Rows


def check_rows(evidence: Evidence) -> list[Checked]:
    """Every row of every table against the leaf that answers for it."""
    found = {
        name: Checked(f"rows of {name}", sum(part.rows for part in evidence.digests[name].values()))
        for name in LOGGED
    }
    answered: dict[str, set[int | str | None]] = {name: set() for name in LOGGED}
    for row in evidence.leaves:
        parts = rows_of_content(str(row["content"])) or {}
        for name, logged in LOGGED.items():
            if str(logged.kind) != row["kind"]:
                continue
            key = row["leaf_index"] if logged.by_index else str(row["subject"])
            there = evidence.digests[name].get(key)
            if there is not None:
                answered[name].add(key)
            difference = _rows_difference(parts.get(name), there)
            if difference:
                place = f"{name} of {row['kind']} {_shown(row['subject'])}"
                found[name].differences.append(f"{place}: {difference}")
    for name, logged in LOGGED.items():
        for key in evidence.digests[name].keys() - answered[name]:
            rows = evidence.digests[name][key].rows
            place = f"{name} of {logged.kind} {_shown(key)}"
            if name in {"dead_letters", "reports"}:
                # Never in force before a commit answers for them, and removed before that is made.
                found[name].notices.append(f"{place}: {rows} rows of a run that did not end")
            else:
                found[name].differences.append(f"{place}: no leaf of the log answers for it")
    return list(found.values())


def _rows_difference(logged: RowsDigest | None, there: RowsDigest | None) -> str:
    if logged == there:
        return ""
    if there is None:
        return f"removed: {logged.rows if logged else 0} were logged, none is there"
    if logged is None:
        return f"added: {there.rows} are there, none was logged"
    if logged.rows != there.rows:
        return f"{there.rows} are there, but {logged.rows} were logged"
    return "changed" if there.rows == 1 else f"changed: one or more of its {there.rows} rows"


# The log


def check_log(evidence: Evidence) -> tuple[Checked, MemoryTree]:
    """Every leaf against its hash and place, and the tree that they make as far as they go."""
    checked = Checked("leaves of the log")
    tree = MemoryTree()
    first: dict[tuple[Any, Any], Any] = {}
    for place, row in enumerate(evidence.leaves):
        index, name = row["leaf_index"], f"leaf {row['leaf_index']} ({_about(row)})"
        checked.number += 1
        is_whole = len(tree) == place
        if index != place and is_whole:
            checked.differences.append(f"{name}: leaf {place} was to come here; it is removed")
            is_whole = False
        checked.differences += [f"{name}: {told}" for told in _leaf_differences(row)]
        if is_whole and tree.append(_leaf(row).hash).hex() != row["subtree_hash"]:
            checked.differences.append(f"{name}: the subtree's hash is not that of its leaves")
        before = first.setdefault((row["kind"], row["subject"]), index)
        if before != index and row["kind"] != LeafKind.DELIVERIES and row["kind"] in set(LeafKind):
            checked.differences.append(f"{name}: replayed; it was logged as leaf {before} before")
    return checked, tree


def _leaf(row: Mapping[str, Any]) -> Leaf:
    texts = (str(row[name]) for name in ("kind", "subject", "content_sha256", "signature"))
    return Leaf(row["leaf_index"], *texts)


def _leaf_differences(row: Mapping[str, Any]) -> Iterator[str]:
    if _leaf(row).hash.hex() != row["leaf_hash"]:
        yield "changed or moved: its hash is not that of what it says and where it stands"
    content = str(row["content"])
    if content and text_sha256(content) != row["content_sha256"]:
        yield "its content is not the one whose SHA-256 it says"
    if row["kind"] in set(LeafKind) and rows_of_content(content) is None:
        yield "its content tells of no rows"


def _about(row: Mapping[str, Any]) -> str:
    return f"{_shown(row['kind'])} {_shown(row['subject'])}"


def _shown(value: object) -> str:
    """For one line on a terminal, whatever it is."""
    return ascii(value)[1:-1][:200] if isinstance(value, str) else str(value)


# Closed periods


def check_closings(context: PipelineContext, month: str | None, told: Progress) -> Checked:
    """What each closed period is logged as, against what is stored and in force of it."""
    checked = Checked("closed periods")
    try:
        closed = [each for each in closed_months(context) if month in {None, each.key[:7]}]
    except (ValueError, KeyError, sa.exc.SQLAlchemyError) as error:
        checked.differences.append(f"closed periods: they cannot be read: {error}")
        return checked
    checked.number = len(closed)
    for number, each in enumerate(closed):
        told(checked.name, number, len(closed))
        try:
            checked.differences += closing_differences(context, each)
        except Exception as error:  # noqa: BLE001 - of a damaged row or object any reader may say anything
            checked.differences.append(f"period {each.key[:7]}: it cannot be read: {error}")
    return checked


# Keys and signatures


def check_ring(home: Path, trusted: str | None = None) -> tuple[KeyRing, Checked]:
    """The ring of keys, each introduced by the one before."""
    checked = Checked("trusted keys")
    try:
        ring = read_ring(home / RING_FOLDER)
        if trusted is not None and parse_verifier_key(trusted.strip()) not in ring.keys:
            checked.differences.append(f"{RING_FOLDER}: the key {trusted.strip()} is not in it")
    except (SigningKeyError, NoteError) as error:
        checked.differences.append(str(error))
        return KeyRing(), checked
    checked.number = len(ring.entries)
    return ring, checked


def check_signatures(evidence: Evidence, ring: KeyRing) -> Checked:
    """The signature of each batch's manifest."""
    checked = Checked("signatures of batches")
    by_id = {(key.name, key.key_id): key for key in ring.keys}
    unsigned = 0
    for row in evidence.leaves:
        if row["kind"] != LeafKind.BATCH:
            continue
        if not row["signature"]:
            unsigned += 1
            continue
        checked.number += 1
        place = f"batch {_shown(row['subject'])}"
        manifest = manifest_text(str(row["subject"]), evidence.manifests.get(row["subject"], ""))
        try:
            signature = parse_signature(str(row["signature"]))
        except NoteError as error:
            checked.differences.append(f"{place}: {error}")
            continue
        key = by_id.get((signature.name, signature.key_id))
        if key is None:
            told = f"{place}: signed by another key, {signature.name}+{signature.key_id.hex()}"
            checked.differences.append(told)
        elif not key.signed(manifest.encode("utf-8", "surrogateescape"), signature.value):
            checked.differences.append(f"{place}: the signature is not of its manifest")
    if unsigned:
        checked.notices.append(f"{unsigned} batches were committed while there was no key")
    return checked


def newest_note(home: Path) -> str | None:
    """The newest checkpoint as it is kept beside the registry."""
    try:
        return (home / NEWEST_FILE).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def check_checkpoints(
    evidence: Evidence, tree: MemoryTree, ring: KeyRing, newest: str | None
) -> Checked:
    """Every checkpoint: its keys, its place in the row, and the log that it was signed over.

    That the log of one begins with that of the one before follows: both are roots of one tree.
    """
    checked = Checked("checkpoints", len(evidence.checkpoints))
    sound = 0
    for place, row in enumerate(evidence.checkpoints, start=1):
        before = evidence.checkpoints[place - 2] if place > 1 else None
        name = f"checkpoint {row['number']}"
        if before is None and row["number"] != 1:
            checked.differences.append(f"{name}: checkpoint 1 was to come first; it is removed")
        try:
            size, expected = _signed_root(row, before, ring)
        except NoteError as error:
            checked.differences.append(f"{name}: {error}")
            continue
        if size > len(tree):
            checked.differences.append(
                f"{name}: it was signed over {size} leaves; the log is cut short, or broken, after "
                f"{len(tree)}"
            )
        elif root(tree, size) != expected:
            checked.differences.append(
                f"{name}: the first {size} leaves have another root; leaves after {sound} were "
                "changed, moved, removed or added"
            )
        else:
            sound = size
    checked.differences += _newest_differences(evidence, newest)
    checked.notices += _unsigned_notices(evidence, len(tree) - sound)
    return checked


def _signed_root(
    row: Mapping[str, Any], before: Mapping[str, Any] | None, ring: KeyRing
) -> tuple[int, bytes]:
    """What a checkpoint says of the log.

    Raises:
        NoteError: if it is not one that the project signed after the one before.
    """
    note = parse_note(str(row["note"]))
    signers = verified_by(note, ring.keys)
    told = parse_checkpoint(note.text)
    if len(note.signatures) != 1 or signers[0] not in ring.in_force_at(told.size):
        raise NoteError(f"{signers[0].text} was not in force for a log of {told.size} leaves")
    if (told.size, told.root.hex()) != (row["size"], row["root"]):
        raise NoteError("its row says another size or root than its note")
    previous = "none" if before is None else text_sha256(str(before["note"]))
    number = 1 if before is None else f"{before['number'] + 1}"
    expected = (f"number {number}", f"previous {previous}", f"signed_at {row['signed_at']}")
    if told.extensions != expected or f"number {row['number']}" != expected[0]:
        raise NoteError("it does not follow the one before it, or was signed at another time")
    if before is not None and told.origin != str(before["note"]).partition("\n")[0]:
        raise NoteError(f"it is of another log, {told.origin}")
    return told.size, told.root


def _newest_differences(evidence: Evidence, newest: str | None) -> list[str]:
    notes = [row["note"] for row in evidence.checkpoints]
    if newest is None:
        return [f"{NEWEST_FILE}: it is not there"] if notes else []
    if newest not in notes:
        return [
            f"{NEWEST_FILE}: the registry does not have this checkpoint; one of them was changed, "
            "or the registry is of an earlier day"
        ]
    return []


def _unsigned_notices(evidence: Evidence, unsigned: int) -> list[str]:
    if unsigned and not evidence.checkpoints:
        return [f"none of {unsigned} leaves is signed; a run with a key signs them"]
    return [f"{unsigned} leaves have come since and are signed by the next run"] if unsigned else []
