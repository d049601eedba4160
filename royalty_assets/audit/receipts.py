"""Making receipts: one line of a statement, with what shows that it was computed, logged, signed.

Pure: the evidence is gathered elsewhere. A statement's lines make a tree of their own, whose root
is in the statement's leaf of the log: who is shown one line learns of the others that they exist.
Each line, and the statement itself, is hashed with a salt of its own that follows from the
statement's *secret*, which is kept with the statement and never given out; without salts, hashes
of neighbours could be guessed from. The format is in docs/reference/receipt.md.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from royalty_assets.audit.leaves import Leaf
from royalty_assets.audit.merkle import MemoryTree, inclusion_proof, root
from royalty_assets.audit.notes import Note, VerifierKey, verified_by
from royalty_assets.audit.verify_receipt import (
    FORMAT,
    Rejected,
    leaf_hash,
    line_entry,
    statement_sha256,
    verify,
)

STATEMENT_KIND = "statement"
"""The kind of a statement's leaf in the log."""
SECRET_BYTES = 32


class ReceiptError(Exception):
    """A receipt that would not hold, and why."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of a statement, with all that a receipt tells of it; every value is a text.

    Attributes:
        fields: at least ``amount`` (a decimal) and ``currency``; what else the statement shows.
        sources: rows that it came from: ``name``, ``sha256`` of the file as received, ``row``
            (of the line in the file, from 1; 0 for the file as a whole) and ``text`` of the row;
            ``amount`` where the row brings money that step 1 adds up.
        match: how the recording was decided: method, score, rule, batch and the like.
        contract: the term that the share follows from.
        steps: how the amount was computed, see ``verify_receipt.KINDS``; amounts are decimals.
    """

    fields: Mapping[str, str]
    sources: Sequence[Mapping[str, str]]
    match: Mapping[str, str]
    contract: Mapping[str, str]
    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Statement:
    """What one payee is told of one period in one currency.

    Attributes:
        revision: ``0`` for the first.
        header: ``movements`` (each ``what`` and ``amount``), which come to ``closing``; what else
            the statement shows of itself.
        lines: in the order in which they are logged.
        secret: of 32 random bytes; see this module.
    """

    payee: str
    period: str
    currency: str
    revision: str
    header: Mapping[str, Any]
    lines: Sequence[StatementLine]
    secret: bytes

    @property
    def subject(self) -> str:
        """What its leaf in the log is about."""
        return f"{self.payee}/{self.period}/{self.currency}.{self.revision}"

    @property
    def content_sha256(self) -> str:
        """What its leaf in the log says; whoever logs it passes this to ``append_leaf``."""
        return content_sha256_of(self, line_entries(self))


def line_entries(statement: Statement) -> list[bytes]:
    """What the leaves of a statement's lines are the hashes of, in order."""
    return [line_entry(_line(statement, index)) for index in range(len(statement.lines))]


def content_sha256_of(statement: Statement, entries: Sequence[bytes]) -> str:
    """``Statement.content_sha256``, where the entries of its lines have been made already."""
    tree = MemoryTree(map(leaf_hash, entries))
    return statement_sha256(_shown(statement), root(tree, len(tree)), len(tree))


def line_of(entry: str) -> StatementLine:
    """The line that an entry of ``line_entries``, as text, is of."""
    told = json.loads(entry.partition("\n")[2])
    return StatementLine(
        told["line"], told["sources"], told["match"], told["contract"], told["steps"]
    )


def make_receipt(
    statement: Statement,
    index: int,
    leaf: Leaf,
    proof: Sequence[bytes],
    size: int,
    checkpoint: Note,
    keys: Sequence[VerifierKey],
) -> str:
    """The receipt of one line, which has been checked as its reader will check it.

    Args:
        statement: as it was logged.
        index: of the line, from 0.
        leaf: of the statement in the log.
        proof: that the log of ``size`` leaves holds it.
        size: leaves of the log that ``checkpoint`` was signed over.
        checkpoint: signed by any of ``keys``; signatures of others are left out.
        keys: that the project trusts.

    Raises:
        ReceiptError: if it would not hold.
        royalty_assets.audit.notes.NoteError: if none of the keys signed the checkpoint.
    """
    tree = _tree(statement)
    signers = verified_by(checkpoint, keys)
    known = {(key.name, key.key_id): key for key in signers}
    signatures = [s for s in checkpoint.signatures if (s.name, s.key_id) in known]
    by_line = [known[s.name, s.key_id].text for s in signatures]
    receipt = {
        "format": FORMAT,
        "statement": _shown(statement),
        **_line(statement, index),
        "line_proof": _proof(index, len(tree), inclusion_proof(tree, index, len(tree))),
        "log_proof": _proof(leaf.index, size, proof),
        "checkpoint": str(Note(checkpoint.text, tuple(signatures))),
        "keys": by_line,
    }
    text = json.dumps(receipt, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    try:
        verify(text.encode())
    except (Rejected, UnicodeEncodeError) as error:
        raise ReceiptError(f"line {index} of {statement.subject}: {error}") from None
    return text


def _salt(secret: bytes, what: str) -> str:
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a statement's secret has {SECRET_BYTES} bytes, not {len(secret)}")
    return hmac.new(secret, f"royalty_assets {what}".encode(), hashlib.sha256).hexdigest()


def _shown(statement: Statement) -> dict[str, Any]:
    return {
        "payee": statement.payee,
        "period": statement.period,
        "currency": statement.currency,
        "revision": statement.revision,
        "header": _plain(statement.header),
        "salt": _salt(statement.secret, "statement salt v1"),
    }


def _line(statement: Statement, index: int) -> dict[str, Any]:
    line = statement.lines[index]
    return {
        "line": _plain(line.fields),
        "line_salt": _salt(statement.secret, f"line salt v1 {index}"),
        "sources": _plain(line.sources),
        "match": _plain(line.match),
        "contract": _plain(line.contract),
        "steps": _plain(line.steps),
    }


def _tree(statement: Statement) -> MemoryTree:
    return MemoryTree(map(leaf_hash, line_entries(statement)))


def _plain(value: Any) -> Any:
    """Texts, lists and mappings of texts; numbers are refused, since they have many spellings."""
    match value:
        case str():
            return value
        case dict() if all(type(each) is str for each in (*value, *value.values())):
            return value
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case Sequence():
            return [_plain(each) for each in value]
    raise ValueError(f"a receipt holds texts, and not {value!r}")


def _proof(index: int, size: int, hashes: Sequence[bytes]) -> dict[str, Any]:
    return {"index": index, "size": size, "hashes": [each.hex() for each in hashes]}
