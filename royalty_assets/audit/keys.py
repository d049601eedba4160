"""Keys: the private one in a file that others cannot read, and the ring of those to be trusted.

The ring is a folder of signed notes, one a key, numbered from 0001. The first is signed by the
key that it introduces; each later one by the key before it and by its own. Who trusts the first
key so trusts those that follow, and nobody is introduced but by the key in force. A key is in
force from the size of the log at which it is introduced to that of the next; what it signed then
stays good. This is the one module of ``audit`` that touches files.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from royalty_assets.audit.notes import (
    NoteError,
    SigningKey,
    VerifierKey,
    new_signing_key,
    parse_note,
    parse_signing_key,
    parse_verifier_key,
    sign_note,
    verified_by,
)

KEY_FILE = "keys/signing.key"
RING_FOLDER = "trusted-keys"
_INTRODUCTION = "royalty_assets key v1"
_PRIVATE_MODE = 0o600


class SigningKeyError(Exception):
    """A key or ring that cannot be used, and what to do."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key of the ring.

    Attributes:
        from_size: leaves that the log had when it came into force.
    """

    key: VerifierKey
    from_size: int


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of a project, in the order in which they were introduced."""

    entries: tuple[TrustedKey, ...] = ()

    @property
    def current(self) -> VerifierKey | None:
        """The key in force; None if there never was one."""
        return self.entries[-1].key if self.entries else None

    @property
    def keys(self) -> list[VerifierKey]:
        """All keys."""
        return [entry.key for entry in self.entries]

    def in_force_at(self, size: int) -> list[VerifierKey]:
        """The keys that may sign a log of this size; two where one took over from the other."""
        ends = [entry.from_size for entry in self.entries[1:]]
        return [
            entry.key
            for number, entry in enumerate(self.entries)
            if entry.from_size <= size and (number == len(ends) or size <= ends[number])
        ]


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file.

    Raises:
        SigningKeyError: if others can read the file, or it holds no key.
    """
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise SigningKeyError(
                f"{path} can be read by others (mode {mode & 0o777:04o}), so its key is secret no "
                f"more: if that may have happened, `royalty-assets keys rotate`; then chmod 600 it"
            )
        return parse_signing_key(path.read_text(encoding="ascii").removesuffix("\n"))
    except (NoteError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"{path} holds no signing key: {error}") from None
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}") from None


def write_signing_key(path: Path, key: SigningKey, *, replaces: bool = False) -> None:
    """Keep a key in a file that only its owner can read, in a folder that git leaves alone.

    Raises:
        SigningKeyError: if there is one already, and it is not to be replaced.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="ascii")
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{key.text}\n")
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            Path(name).replace(path)
        else:
            path.hardlink_to(name)
    except FileExistsError:
        raise SigningKeyError(
            f"{path} holds a key already; `royalty-assets keys rotate` replaces it"
        ) from None
    finally:
        Path(name).unlink(missing_ok=True)


def signing_key_of(home: Path, given: str | None = None) -> SigningKey | None:
    """The key that a project signs with: the one that is given as text, or the one in its file.

    Raises:
        SigningKeyError: if it cannot be used.
    """
    if given:
        try:
            return parse_signing_key(given.strip())
        except NoteError as error:
            raise SigningKeyError(f"the signing key in the environment is none: {error}") from None
    path = home / KEY_FILE
    return read_signing_key(path) if path.exists() else None


def ensure_signing_key(home: Path, given: str | None = None, name: str | None = None) -> SigningKey:
    """The key that a project signs with; made if there is none, and introduced to its ring.

    Raises:
        SigningKeyError: if the key is not the one that the ring has in force.
    """
    key = signing_key_of(home, given)
    ring = read_ring(home / RING_FOLDER)
    if key is None:
        if ring.current is not None:
            raise SigningKeyError(
                f"the signing key {ring.current.text} is not there; put it back into "
                f"{home / KEY_FILE}, or into the environment"
            )
        key = new_signing_key(name or default_key_name(home))
        write_signing_key(home / KEY_FILE, key)
    if ring.current is None:
        _introduce(home / RING_FOLDER, 1, key, 0, [key])
    elif ring.current != key.verifier:
        raise SigningKeyError(
            f"the signing key is {key.verifier.text}, but {home / RING_FOLDER} has "
            f"{ring.current.text} in force; sign with that one (after an interrupted rotation it "
            f"is in {home / KEY_FILE}.next), and `royalty-assets keys rotate` to replace it"
        )
    return key


def rotate_signing_key(home: Path, old: SigningKey, new: SigningKey, size: int) -> None:
    """Let another key take over; the old one is gone afterwards, but for what it signed.

    Args:
        home: the project's folder.
        old: the key in force.
        new: the key to come; under the same name, or another.
        size: of the log, which both keys sign as it is now.

    Raises:
        SigningKeyError: if the old key is not in force, or the new one was before.
    """
    ring = read_ring(home / RING_FOLDER)
    if ring.current != old.verifier:
        raise SigningKeyError(f"{old.verifier.text} is not the key in force")
    if new.verifier in ring.keys:
        raise SigningKeyError(f"{new.verifier.text} was in force before; make a new one")
    # The new key rests somewhere before it is introduced: a crash may not lose it.
    path = home / KEY_FILE
    coming = path.with_name(f"{path.name}.next")
    write_signing_key(coming, new, replaces=True)
    _introduce(home / RING_FOLDER, len(ring.entries) + 1, new, size, [old, new])
    coming.replace(path)


def read_ring(folder: Path) -> KeyRing:
    """The keys that a project's ring introduces, each checked against the one before.

    Raises:
        SigningKeyError: naming the file, and what is wrong with it.
    """
    entries: list[TrustedKey] = []
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for number, name in enumerate(names, start=1):
        path = folder / name
        if name != f"{number:04d}.note":
            raise SigningKeyError(f"{path}: {number:04d}.note was to come here")
        try:
            entries.append(_introduced(path.read_bytes().decode(), entries))
        except (NoteError, UnicodeDecodeError, OSError) as error:
            raise SigningKeyError(f"{path} introduces no key: {error}") from None
    return KeyRing(tuple(entries))


def default_key_name(home: Path) -> str:
    """What a key is called where nobody says; others know the key by its whole text anyway."""
    folder = re.sub(r"[^a-z0-9.-]+", "-", home.resolve().name.lower()).strip("-")
    return f"royalty-assets.invalid/{folder or 'project'}"


def _introduce(
    folder: Path, number: int, key: SigningKey, size: int, signers: list[SigningKey]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    note = sign_note(f"{_INTRODUCTION}\n{key.verifier.text}\n{size}\n", signers)
    with (folder / f"{number:04d}.note").open("x", encoding="utf-8", newline="\n") as file:
        file.write(str(note))


def _introduced(content: str, before: list[TrustedKey]) -> TrustedKey:
    note = parse_note(content)
    match note.text.split("\n"):
        case [heading, text, size, ""] if heading == _INTRODUCTION:
            key = parse_verifier_key(text)
        case _:
            raise NoteError(f"its text is not {_INTRODUCTION!r}, a key and a size")
    if not re.fullmatch("0|[1-9][0-9]{0,18}", size):
        raise NoteError(f"{size[:40]!r} is not a size")
    from_size = int(size)
    if from_size < (before[-1].from_size if before else 0):
        raise NoteError("it comes into force before the key that it follows")
    signers = [*([before[-1].key] if before else []), key]
    # Exactly these, so that no line of the file can change unseen.
    if verified_by(note, signers) != signers or len(note.signatures) != len(signers):
        raise NoteError(f"it is not signed by {' and '.join(signer.text for signer in signers)}")
    return TrustedKey(key, from_size)
