"""Remittances of a project: the files in its ``remittances`` folder, and the three-way check."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from royalty_assets.domain.batches import Stage, combined_sha256
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.money import AmountError, parse_amount, to_atoms
from royalty_assets.domain.remittances import (
    PaymentFigures,
    Remittance,
    cash_received,
    three_way,
)
from royalty_assets.domain.validation import Rejection, SourceRow
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.sources.delimited import DelimitedFile, readable
from royalty_assets.sources.reports import file_sha256
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

FOLDER = "remittances"


def remittances_sha256(context: PipelineContext) -> str:
    """A digest of the remittance files, so that a new one has the ledger checked anew."""
    asked = [
        f"{feed.name} {feed.severity('remittance_agrees')} {feed.remittance_tolerance}"
        for feed in context.project.feeds
        if feed.severity("remittance_agrees") != "off"
    ]
    if not asked:
        return ""
    return combined_sha256([*asked, *(file_sha256(path) for path in _files(context))])


def remittance_findings(
    context: PipelineContext,
    month: Partition,
    reported: Mapping[tuple[str, str], int],
) -> tuple[list[str], list[str]]:
    """What differs between lines, control totals and cash: what blocks, and what only warns.

    Args:
        context: the project.
        month: the accounting period.
        reported: (feed, currency) → atoms of the period's lines and pools.
    """
    feeds = {
        feed.name: feed
        for feed in context.project.feeds
        if feed.severity("remittance_agrees") != "off"
    }
    if not feeds:
        return [], []
    remittances, problems = read_remittances(context)
    cash = cash_received(remittances, month.window.start.date())
    figures = {}
    for key in sorted(reported.keys() | cash.keys()):
        if key[0] in feeds:
            stated = _stated(context, feeds[key[0]], month, key[1])
            figures[key] = PaymentFigures(reported.get(key, 0), stated, cash.get(key))
    tolerance = {name: to_atoms(feed.remittance_tolerance) for name, feed in feeds.items()}
    may_block = any(f.severity("remittance_agrees") == "block" for f in feeds.values())
    blocking: list[str] = list(problems) if may_block else []
    warnings: list[str] = [] if may_block else list(problems)
    for key, known in figures.items():
        told = three_way({key: known}, tolerance)
        blocks = feeds[key[0]].severity("remittance_agrees") == "block"
        (blocking if blocks else warnings).extend(told)
    return blocking, warnings


def read_remittances(context: PipelineContext) -> tuple[list[Remittance], list[str]]:
    """All remittances, and in words what of the files cannot be used."""
    templates = [t for t in context.templates if t.records == "remittances"]
    found: list[Remittance] = []
    problems: list[str] = []
    for path in _files(context):
        name = readable(path.name)
        try:
            with path.open("rb") as stream:
                opened = DelimitedFile(file_sha256(path), TextLines(stream), templates, name)
                for row in opened.rows():
                    _take(context, name, row, found, problems)
        except (UnreadableFileError, OSError) as error:
            problems.append(f"{name}: {error}")
    return found, problems


def _take(
    context: PipelineContext,
    name: str,
    row: SourceRow | Rejection,
    found: list[Remittance],
    problems: list[str],
) -> None:
    if isinstance(row, Rejection):
        problems.append(f"{name}, line {row.row_number}: {row.reason}")
        return
    try:
        remittance = Remittance.model_validate(row.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        value = str(first["input"])[:60]
        told = f"{name}, line {row.row_number}: {place}: {first['msg']} ({value!r})"
        problems.append(told)
        return
    known = [feed.name for feed in context.project.feeds]
    if remittance.feed not in known:
        told = f"no feed is called {remittance.feed!r}; there are {', '.join(known)}"
        problems.append(f"{name}, line {row.row_number}: {told}")
        return
    found.append(remittance)


def _files(context: PipelineContext) -> list[Path]:
    folder = context.home / FOLDER
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _stated(context: PipelineContext, feed: Feed, month: Partition, currency: str) -> int | None:
    """The control totals of the month's reports; None if any of them states none."""
    keys = [
        commit.partition_key
        for commit in context.registry.commits(Stage.VALIDATED, feed.name)
        if Partition.parse(feed.cadence, commit.partition_key).month.key == month.key
    ]
    total: int | None = None
    for report in context.registry.reports(feed.name, keys):
        if report.outcome != "taken" or currency not in report.money:
            continue
        if report.stated_amount is None or len(report.money) > 1:
            return None
        try:
            total = (total or 0) + to_atoms(parse_amount(report.stated_amount))
        except AmountError:
            return None
    return total
