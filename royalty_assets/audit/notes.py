"""Signed notes and log checkpoints, as c2sp.org/signed-note and c2sp.org/tlog-checkpoint say.

A note is text, an empty line, and a line for each signature. Only Ed25519 (signature type 0x01)
is spoken. What is read has to be spelt as it would be written: one note has one text, so that no
bit of it can change unseen. Which keys are trusted is for the caller to say.
"""

import base64
import binascii
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"
_DASH = "\N{EM DASH} "
SIGNATURES_MAX = 16
NOTE_LENGTH_MAX = 1 << 20


class NoteError(Exception):
    """A note, key or checkpoint that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, with the name that it signs under.

    Attributes:
        name: without white space and plus signs; best an address without its scheme.
        public: 32 bytes (RFC 8032 §5.1.5).
    """

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, line feed, type, public key)."""
        text = self.name.encode() + b"\n" + _ED25519 + self.public
        return hashlib.sha256(text).digest()[:4]

    @property
    def text(self) -> str:
        """The key as it is handed around: ``name+id+key``."""
        return f"{self.name}+{self.key_id.hex()}+{_encoded(_ED25519 + self.public)}"

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the key made this signature of the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; it is never shown by ``repr``.

    Attributes:
        name: see ``VerifierKey``.
        seed: 32 bytes, secret (RFC 8032 §5.1.5).
    """

    name: str
    seed: "_Secret"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed.value)
        return VerifierKey(self.name, private.public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """The key as it is kept, secret: ``PRIVATE+KEY+name+id+seed``."""
        encoded = _encoded(_ED25519 + self.seed.value)
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    def sign(self, message: bytes) -> "Signature":
        """Sign a message; the same message has the same signature."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed.value)
        return Signature(self.name, self.verifier.key_id, private.sign(message))


@dataclass(frozen=True, slots=True)
class _Secret:
    value: bytes

    def __repr__(self) -> str:
        return "(secret)"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature, by a key that its name and id tell."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def text(self) -> str:
        """Name and signature, as they stand in a note after the dash."""
        return f"{self.name} {_encoded(self.key_id + self.value)}"


@dataclass(frozen=True, slots=True)
class Note:
    """Text with signatures; the text ends in a line feed."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        lines = "".join(f"{_DASH}{signature.text}\n" for signature in self.signatures)
        return f"{self.text}\n{lines}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log is at one size.

    Attributes:
        origin: which log.
        size: leaves.
        root: of the tree, 32 bytes.
        extensions: further lines, none empty.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = [self.origin, str(self.size), _encoded(self.root), *self.extensions]
        return "".join(f"{line}\n" for line in lines)


def new_signing_key(name: str) -> SigningKey:
    """A key that nobody has had before.

    Raises:
        NoteError: if the name cannot be a key's.
    """
    _check_name(name)
    return SigningKey(name, _Secret(Ed25519PrivateKey.generate().private_bytes_raw()))


def parse_verifier_key(text: str) -> VerifierKey:
    """Read ``name+id+key``.

    Raises:
        NoteError: saying what is wrong.
    """
    name, key_id, raw = _key_parts(text, "a key is written name+id+key")
    key = VerifierKey(name, raw)
    try:
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise NoteError(f"key {name}: {error}") from None
    _check_key_id(key, key_id)
    return key


def parse_signing_key(text: str) -> SigningKey:
    """Read ``PRIVATE+KEY+name+id+seed``; the messages of its errors hold nothing secret.

    Raises:
        NoteError: saying what is wrong.
    """
    rest = text.removeprefix(_PRIVATE)
    if rest == text:
        raise NoteError(f"a signing key begins with {_PRIVATE}")
    name, key_id, raw = _key_parts(rest, f"a signing key is written {_PRIVATE}name+id+seed")
    key = SigningKey(name, _Secret(raw))
    _check_key_id(key.verifier, key_id)
    return key


def sign_note(text: str, keys: Iterable[SigningKey]) -> Note:
    """Sign a text with some keys.

    Raises:
        NoteError: if it cannot be the text of a note.
    """
    _check_text(text)
    return Note(text, tuple(key.sign(text.encode()) for key in keys))


def parse_note(content: str) -> Note:
    """Read a note; its signatures are not looked at yet.

    Raises:
        NoteError: saying what is wrong.
    """
    if len(content) > NOTE_LENGTH_MAX:
        raise NoteError(f"a note has at most {NOTE_LENGTH_MAX} characters")
    text, separator, rest = content.rpartition("\n\n")
    if not separator:
        raise NoteError("a note has an empty line between its text and its signatures")
    text += "\n"
    _check_text(text)
    lines = rest.split("\n")
    if lines.pop() != "" or not lines:
        raise NoteError("a note ends with the line of a signature")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError(f"a note has at most {SIGNATURES_MAX} signatures")
    return Note(text, tuple(map(_signature_line, lines)))


def parse_signature(text: str) -> Signature:
    """Read a signature as it stands in a note after the dash.

    Raises:
        NoteError: saying what is wrong.
    """
    name, _, encoded = text.partition(" ")
    _check_name(name)
    raw = _decoded(encoded, f"the signature of {name}")
    if len(raw) != 4 + 64:
        raise NoteError(f"the signature of {name} has {len(raw)} bytes, not 68")
    return Signature(name, raw[:4], raw[4:])


def verified_by(note: Note, keys: Sequence[VerifierKey]) -> list[VerifierKey]:
    """Those of some keys that signed a note; signatures of others say nothing.

    Raises:
        NoteError: if none did, or a signature that claims to be of one of them is not.
    """
    known: Mapping[tuple[str, bytes], VerifierKey] = {(k.name, k.key_id): k for k in keys}
    found: list[VerifierKey] = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None or key in found:
            continue
        if not key.signed(note.text.encode(), signature.value):
            raise NoteError(f"the signature of {key.name}+{key.key_id.hex()} is not of this text")
        found.append(key)
    if not found:
        signers = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in note.signatures)
        raise NoteError(f"it is signed by {signers or 'nobody'}, and by no key that is trusted")
    return found


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint's note.

    Raises:
        NoteError: saying what is wrong.
    """
    *lines, after = text.split("\n")
    if after or len(lines) < 3 or "" in lines:
        raise NoteError("a checkpoint has three lines or more, none of them empty")
    origin, size, encoded, *extensions = lines
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size):
        raise NoteError(f"a checkpoint's second line is a number of leaves, not {size[:40]!r}")
    root = _decoded(encoded, "the root")
    if len(root) != 32:
        raise NoteError(f"the root has {len(root)} bytes, not 32")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what} is not base64") from None
    if _encoded(raw) != text:
        raise NoteError(f"{what} is base64, but not as it is written")
    return raw


def _check_name(name: str) -> None:
    if not name or "+" in name or any(_is_space_or_control(c) for c in name):
        raise NoteError(f"a key's name has no white space and no plus sign, unlike {name[:80]!r}")


def _is_space_or_control(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in {"Cc", "Cs"}


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("a note's text ends in a line feed")
    if any(character < " " and character != "\n" for character in text):
        raise NoteError("a note has no control characters but line feeds")
    if any(unicodedata.category(character) == "Cs" for character in text):
        raise NoteError("a note is UTF-8")


def _check_key_id(key: VerifierKey, written: str) -> None:
    if key.key_id.hex() != written:
        raise NoteError(
            f"key {key.name} has the id {key.key_id.hex()}, not {written[:16]!r}; it was copied "
            "wrong"
        )


def _key_parts(text: str, how: str) -> tuple[str, str, bytes]:
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise NoteError(how)
    name, key_id, encoded = parts
    _check_name(name)
    raw = _decoded(encoded, f"key {name}")
    if raw[:1] != _ED25519 or len(raw) != 33:
        raise NoteError(f"key {name} is not an Ed25519 key of 32 bytes")
    return name, key_id, raw[1:]


def _signature_line(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise NoteError("a signature's line begins with an em dash and a space")
    return parse_signature(line.removeprefix(_DASH))
