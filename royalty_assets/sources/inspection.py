"""Looking into one file: what it is, what it comes to, what of it is refused and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import BinaryIO

import polars as pl

from royalty_assets.domain.money import AmountError, format_atoms, parse_amount, to_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.notes import count_notes
from royalty_assets.domain.validation import Rejection
from royalty_assets.sources.delimited import DelimitedFile, readable
from royalty_assets.sources.reading import ReadBlock
from royalty_assets.sources.reports import Report, file_sha256, open_report
from royalty_assets.sources.templates import Template
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

REJECTIONS_KEPT = 100


@dataclass(slots=True)
class Inspection:
    """What is found in a file.

    Attributes:
        rows_read: rows that the reader counted; ``lines`` + ``rejected`` come to the same.
        template: name of the template or DSR profile; None for a file that nothing recognises.
        units: net of returns, over the accepted lines.
        money: currency → amount of the accepted lines and of the pools, in atoms.
        pools: currency → the part of ``money`` that the file's usage shares, in atoms.
        first_day, last_day: of the accepted lines' use.
        findings: check → what breaks it.
        notes: word → lines that bear it.
        rules: rule → rows that it refused.
        rejections: the first of them.
        refused: rule and reason, where the file as a whole cannot be read.
    """

    name: str
    sha256: str
    template: str | None = None
    generation: str = ""
    records: str = "report_lines"
    encoding: str = "utf-8"
    rows_read: int = 0
    lines: int = 0
    rejected: int = 0
    units: int = 0
    money: dict[str, int] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    first_day: date | None = None
    last_day: date | None = None
    findings: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    rejections: list[Rejection] = field(default_factory=list)
    refused: tuple[str, str] | None = None

    def as_json(self) -> dict[str, object]:
        """The same for programs: amounts as decimal texts."""
        return {
            "file": self.name,
            "sha256": self.sha256,
            "template": self.template,
            "generation": self.generation or None,
            "records": self.records if self.template else None,
            "encoding": self.encoding,
            "rows_read": self.rows_read,
            "lines": self.lines,
            "rejected": self.rejected,
            "units": self.units,
            "money": {c: format_atoms(atoms) for c, atoms in sorted(self.money.items())},
            "pools": {c: format_atoms(atoms) for c, atoms in sorted(self.pools.items())},
            "first_day": None if self.first_day is None else self.first_day.isoformat(),
            "last_day": None if self.last_day is None else self.last_day.isoformat(),
            "findings": {check: found for check, found in self.findings.items() if found},
            "notes": self.notes,
            "rejected_by_rule": dict(self.rules.most_common()),
            "rejections": [
                {
                    "row": rejection.row_number,
                    "rule": rejection.rule,
                    "value": rejection.value,
                    "reason": rejection.reason,
                }
                for rejection in self.rejections
            ],
            "refused": None
            if self.refused is None
            else {"rule": self.refused[0], "reason": self.refused[1]},
        }


def inspect_file(path: Path, templates: Sequence[Template]) -> Inspection:
    """Read a file of any kind that a template, or DSR, describes; nothing is stored.

    Args:
        path: the file.
        templates: for all kinds of records.

    Raises:
        OSError: if it cannot be read.
    """
    name = readable(path.name)
    found = Inspection(name, file_sha256(path))
    report: Report | None = None
    try:
        with path.open("rb") as stream:
            report = _open(found.sha256, stream, templates, name)
            found.template, found.generation = report.kind, report.generation
            found.encoding = report.encoding
            if isinstance(report, DelimitedFile) and report.template.records != "report_lines":
                found.records = report.template.records
                _count_rows(found, report)
            else:
                _count_blocks(found, report)
    except UnreadableFileError as error:
        found.refused = (error.rule, error.reason)
    if report is not None:
        found.rows_read = report.totals.lines
    return found


def _open(sha256: str, stream: BinaryIO, templates: Sequence[Template], name: str) -> Report:
    """As a report; else as a catalog, pool or remittance file, if that explains all its columns."""
    reports = [template for template in templates if template.records == "report_lines"]
    try:
        return open_report(sha256, stream, reports, name)
    except UnreadableFileError as unknown:
        if unknown.rule != "file:template_unknown":
            raise
        stream.seek(0)
        others = [template for template in templates if template.records != "report_lines"]
        try:
            file = DelimitedFile(sha256, TextLines(stream), others, name)
        except UnreadableFileError:
            raise unknown from None
        if not file.explains_its_columns:
            raise unknown from None
        return file


def _count_rows(found: Inspection, file: DelimitedFile) -> None:
    for row in file.rows():
        if isinstance(row, Rejection):
            _refuse(found, [row])
        else:
            found.lines += 1
    found.findings = file.findings


def _count_blocks(found: Inspection, report: Report) -> None:
    for block in report.blocks():
        _count_block(found, block)
    found.findings = report.findings
    for pool in report.pools:
        assert isinstance(pool.content, dict)
        currency = str(pool.content["currency"])
        try:
            atoms = to_atoms(parse_amount(str(pool.content["amount"])))
        except AmountError:
            continue
        for sums in (found.money, found.pools):
            sums[currency] = sums.get(currency, 0) + atoms


def _count_block(found: Inspection, block: ReadBlock) -> None:
    lines = block.lines
    found.lines += lines.height
    _refuse(found, block.rejections)
    found.units += int(lines["units"].sum())
    priced = lines.filter(pl.col("amount").is_not_null())
    sums = priced.group_by("currency").agg(pl.col("amount").sum())
    for currency, atoms in zip(sums["currency"], series_to_atoms(sums["amount"]), strict=True):
        found.money[currency] = found.money.get(currency, 0) + atoms
    for word, number in count_notes(lines["notes"]).items():
        found.notes[word] = found.notes.get(word, 0) + number
    ends = lines.select(
        pl.col("used_at").dt.date().min().alias("first"),
        pl.col("used_at").dt.date().max().alias("last"),
    )
    known = [found.first_day, found.last_day, *ends["first"], *ends["last"]]
    days = [day for day in known if day is not None]
    found.first_day, found.last_day = min(days, default=None), max(days, default=None)


def _refuse(found: Inspection, rejections: Sequence[Rejection]) -> None:
    found.rejected += len(rejections)
    found.rules.update(rejection.rule for rejection in rejections)
    kept = REJECTIONS_KEPT - len(found.rejections)
    found.rejections += rejections[: max(kept, 0)]
