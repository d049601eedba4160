"""Statements as files in a folder: which forms there are, and what the files are called."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from royalty_assets.domain.statements import Statement
from royalty_assets.statements.dsr import Party, dsr_file_name, write_dsr
from royalty_assets.statements.pdf import statement_pdf
from royalty_assets.statements.tables import csv_files, parquet_files

VERIFIER = "verify_receipt.py"
_ID_CHARACTERS_MAX = 100
"""File systems hold names of 255 bytes; an id may be as long as it likes."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def write_statement(
    statement: Statement, folder: Path, forms: Sequence[str], issued_by: str = ""
) -> Iterator[Path]:
    """Write a statement into a folder of its payee's.

    Args:
        statement: to be written.
        folder: of the period; it is made if need be.
        forms: of ``pdf``, ``csv``, ``parquet`` and ``dsr``.
        issued_by: the name of who pays.

    Yields:
        The files.
    """
    of_payee = folder / payee_file_name(statement.payee_id)
    of_payee.mkdir(parents=True, exist_ok=True)
    for name, content in statement_contents(statement, forms, issued_by):
        path = of_payee / name
        path.write_bytes(content)
        yield path


def payee_file_name(payee_id: str) -> str:
    """A payee's id, if a file may be called so; else what is left of it, and its hash.

    Without the hash, statements of ``a/b`` and ``a b`` would be written over one another.
    """
    name = _NOT_IN_NAMES.sub("_", payee_id).strip(".")[:_ID_CHARACTERS_MAX]
    if name == payee_id:
        return name
    return f"{name}-{hashlib.sha256(payee_id.encode()).hexdigest()[:8]}"


def statement_contents(
    statement: Statement, forms: Sequence[str], issued_by: str = ""
) -> Iterator[tuple[str, bytes]]:
    """The names and bytes of a statement's files; see ``write_statement``."""
    stem = f"statement-{statement.period}-{statement.currency}"
    if "pdf" in forms:
        yield f"{stem}.pdf", statement_pdf(statement, issued_by=issued_by)
    if "csv" in forms:
        for name, content in csv_files(statement).items():
            yield f"{stem}-{name}", content
    if "parquet" in forms:
        for name, content in parquet_files(statement).items():
            yield f"{stem}-{name}", content
    if "dsr" in forms:
        sender = Party(_NOT_IN_NAMES.sub("", issued_by) or "sender", issued_by or "Sender")
        recipient = Party(
            _NOT_IN_NAMES.sub("", statement.payee_id) or "recipient", statement.payee_name
        )
        yield dsr_file_name(statement, sender, recipient), write_dsr(statement, sender, recipient)


def put_verifier(folder: Path) -> Path:
    """Copy the receipt checker, which needs nothing else, into a folder."""
    target = folder / VERIFIER
    target.write_bytes(verifier())
    return target


def verifier() -> bytes:
    """The receipt checker's program."""
    return files("royalty_assets.audit").joinpath(VERIFIER).read_bytes()
