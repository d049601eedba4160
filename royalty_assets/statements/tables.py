"""A statement's tables for spreadsheets (CSV) and for data people (Parquet): one file per table.

Both have the same columns under the same names, and before them the statement's id and currency, so
that files of many statements can be put under each other. Amounts are exact: all 18 decimals that
there are. A spreadsheet keeps about 15 digits of them, which is more than is paid out.

CSV is for people who open it with a double click, hence the byte order mark (without it Excel reads
``Zażółć`` in the machine's old encoding) and CRLF (RFC 4180). Texts that a spreadsheet would run
are marked (``domain.spreadsheet_cells``); numbers are left numbers, negative ones too.
"""

import csv
import io
from collections.abc import Iterable

import polars as pl

from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, series_to_atoms
from royalty_assets.domain.spreadsheet_cells import BOM, as_text_cell
from royalty_assets.domain.statements import Statement


def statement_tables(statement: Statement) -> dict[str, pl.DataFrame]:
    """``lines``, ``movements``, ``recoupment`` and ``reserves``, each row with its statement.

    The columns are those of the schemas in ``domain.statements``, after ``statement_id`` and
    ``payee_currency``, which is that of every amount but a line's ``receipts`` and ``amount``.
    """
    of_statement = (
        pl.lit(statement.statement_id).alias("statement_id"),
        pl.lit(statement.currency).alias("payee_currency"),
    )
    tables = {
        "lines": statement.lines,
        "movements": statement.movements,
        "recoupment": statement.recoupment,
        "reserves": statement.reserves,
    }
    return {name: table.select(*of_statement, pl.all()) for name, table in tables.items()}


def csv_files(statement: Statement) -> dict[str, bytes]:
    """Each table's name with ``.csv``, and its bytes: UTF-8 with a byte order mark."""
    return {f"{name}.csv": _csv(table) for name, table in statement_tables(statement).items()}


def parquet_files(statement: Statement) -> dict[str, bytes]:
    """Each table's name with ``.parquet``, and its bytes; amounts are ``DECIMAL(38, 18)``."""
    return {
        f"{name}.parquet": _parquet(table) for name, table in statement_tables(statement).items()
    }


def _csv(table: pl.DataFrame) -> bytes:
    out = io.StringIO(newline="")
    out.write(BOM)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(table.columns)
    writer.writerows(zip(*map(_cells, table.get_columns()), strict=True))
    return out.getvalue().encode()


def _cells(column: pl.Series) -> Iterable[str]:
    if column.dtype == AMOUNT_DTYPE:
        return map(format_atoms, series_to_atoms(column))
    if column.dtype == pl.String:
        return map(as_text_cell, column.to_list())
    return map(str, column.to_list())


def _parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out, compression="zstd")
    return out.getvalue()
