"""Statements as files in a folder: which forms there are, and what the files are called."""

import re
import shutil
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from royalty_assets.domain.statements import Statement
from royalty_assets.statements.dsr import Party, dsr_file_name, write_dsr
from royalty_assets.statements.pdf import statement_pdf
from royalty_assets.statements.tables import csv_files, parquet_files

VERIFIER = "verify_receipt.py"
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
    # An id may hold what a path must not; the name is for people, the content says who it is.
    of_payee = folder / (_NOT_IN_NAMES.sub("_", statement.payee_id).strip(".") or "_")
    of_payee.mkdir(parents=True, exist_ok=True)
    for name, content in _contents(statement, forms, issued_by):
        path = of_payee / name
        path.write_bytes(content)
        yield path


def _contents(
    statement: Statement, forms: Sequence[str], issued_by: str
) -> Iterator[tuple[str, bytes]]:
    stem = f"statement-{statement.period}-{statement.currency}"
    if "pdf" in forms:
        yield f"{stem}.pdf", statement_pdf(statement, issued_by=issued_by)
    if "csv" in forms:
        for table, content in csv_files(statement).items():
            yield f"{stem}-{table}.csv", content
    if "parquet" in forms:
        for table, content in parquet_files(statement).items():
            yield f"{stem}-{table}.parquet", content
    if "dsr" in forms:
        sender = Party(_NOT_IN_NAMES.sub("", issued_by) or "sender", issued_by or "Sender")
        recipient = Party(
            _NOT_IN_NAMES.sub("", statement.payee_id) or "recipient", statement.payee_name
        )
        yield dsr_file_name(statement, sender, recipient), write_dsr(statement, sender, recipient)


def put_verifier(folder: Path) -> Path:
    """Copy the receipt checker, which needs nothing else, into a folder."""
    target = folder / VERIFIER
    with as_file(files("royalty_assets.audit").joinpath(VERIFIER)) as program:
        shutil.copyfile(program, target)
    return target
