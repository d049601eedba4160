"""Signing the log: one checkpoint after what has been committed, kept also beside the registry.

A checkpoint's further lines tell its number, the hash of the one before and when it was signed,
so that none can be taken out of their row. The newest is also a file, which is what a registry
that was cut short, or put back to an earlier day, is held against.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from royalty_assets.audit.keys import RING_FOLDER, SigningKeyError, read_ring
from royalty_assets.audit.leaves import text_sha256
from royalty_assets.audit.notes import Checkpoint, SigningKey, parse_note, sign_note
from royalty_assets.logs import log_of
from royalty_assets.pipeline.context import PipelineContext, StageBlockedError
from royalty_assets.storage.registry import RegistryConflictError, SignedCheckpoint

_log = log_of(__name__)

NEWEST_FILE = "checkpoints/newest.note"
_ATTEMPTS = 5


def sign_checkpoint(context: PipelineContext) -> SignedCheckpoint | None:
    """Sign the log as it is, unless that has been done; None without a key or leaves.

    The cost is a few look-ups, however long the log is.

    Raises:
        SigningKeyError: if the context's key is not the one in force.
        StageBlockedError: if the log is not a continuation of what was signed before.
    """
    if context.signer is None:
        return None
    ring = read_ring(context.home / RING_FOLDER)
    if ring.current != context.signer.verifier:
        raise SigningKeyError(
            f"{context.signer.verifier.text} is not the key in force in "
            f"{context.home / RING_FOLDER}; start again after a rotation"
        )
    for _ in range(_ATTEMPTS):
        last = context.registry.last_checkpoint()
        size = context.registry.log_size()
        if last is not None:
            _check_continues(context, last, size)
        if not size or (
            last is not None and last.size == size and _is_signed_by(last, context.signer)
        ):
            return last
        signed = _sign(context, context.signer, last, size)
        try:
            context.registry.add_checkpoint(signed)
        except RegistryConflictError:
            continue  # another process has signed meanwhile; what it left out is signed now
        _keep(context.home / NEWEST_FILE, signed.note)
        _log.info("checkpoint %d is signed: %d leaves", signed.number, size)
        return signed
    raise RegistryConflictError("others are signing the log all the time; run it again")


def extensions_of(number: int, previous: SignedCheckpoint | None, at: datetime) -> tuple[str, ...]:
    """The further lines of a checkpoint."""
    before = "none" if previous is None else text_sha256(previous.note)
    instant = at.astimezone(UTC).isoformat(timespec="microseconds")
    return (f"number {number}", f"previous {before}", f"signed_at {instant}")


def _check_continues(context: PipelineContext, last: SignedCheckpoint, size: int) -> None:
    if size < last.size or context.registry.log_root(last.size).hex() != last.root:
        raise StageBlockedError(
            f"the log does not go on from checkpoint {last.number} ({last.size} leaves); nothing "
            "more is signed until `royalty-assets verify` has told why"
        )


def _is_signed_by(checkpoint: SignedCheckpoint, key: SigningKey) -> bool:
    return any(s.key_id == key.verifier.key_id for s in parse_note(checkpoint.note).signatures)


def _sign(
    context: PipelineContext, key: SigningKey, last: SignedCheckpoint | None, size: int
) -> SignedCheckpoint:
    number = 1 if last is None else last.number + 1
    at = context.now()
    root = context.registry.log_root(size)
    # The origin is the log's, not the key's: it stays what it was when keys change.
    origin = key.name if last is None else last.note.partition("\n")[0]
    checkpoint = Checkpoint(origin, size, root, extensions_of(number, last, at))
    note = str(sign_note(checkpoint.text, [key]))
    return SignedCheckpoint(number, size, root.hex(), note, at)


def _keep(path: Path, note: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    Path(name).replace(path)
