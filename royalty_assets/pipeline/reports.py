"""Report files into one partition's lines: each file once, corrections beside what they correct.

The same text delivered again, however packed or named, is a repetition. A DDEX message is known
by sender and message id; a later message of the same sender, service and period that tells the
same transactions again corrects them: the earlier lines are taken back by lines of the opposite
sign, which point at them, and the new ones stand beside (reverse and rebook).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from io import BufferedReader
from pathlib import Path

import polars as pl

from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.notes import count_notes
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA
from royalty_assets.domain.validation import Rejection, SourceRow, reject
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.payload_store import StoredPayload
from royalty_assets.sources.inbox import PartitionOfDay, days_of
from royalty_assets.sources.reading import Message, ReadBlock
from royalty_assets.sources.reports import Report, open_report
from royalty_assets.sources.rows import ChunkReader
from royalty_assets.sources.text_lines import UnreadableFileError
from royalty_assets.storage.registry import ReportRecord

LINES_IN_MEMORY_MAX = 1_000_000
"""Of a partition's reports, about 200 MB; what is beyond waits on disk."""
CUT_REPORT_ROWS_MAX = 100_000
"""A report of several months is cut once and kept while its months are validated, up to this size;
a larger one is read again for each of its months, so that memory stays bounded."""

MESSAGE_CONFLICTING = "dsr:message_conflicting"
_TRANSACTION = ["transaction_id", "territory"]
_NUMBERED_BY_RECORDING = [*_TRANSACTION, "dsp_recording_id", "tier"]
"""Where a message's transaction ids do not tell its lines apart (YouTube numbers them anew for each
recording), these do."""


@dataclass(slots=True)
class TakenReport:
    """One file's part of a partition.

    Attributes:
        parts: its lines, and those that take earlier ones back; in memory or on disk.
        lines: how many were read; reversals: how many take earlier ones back.
        stated_amount: the file's control total, where this is all of the file.
        file_rows: rows of the whole file, whatever their period.
        homeless: refused rows here that tell no period of the feed.
        rejections: in the order of the file.
        problem: rule and reason, where the file as a whole is refused.
        findings: check → what breaks it.
    """

    name: str
    sha256: str
    kind: str = ""
    content_sha256: str = ""
    message: Message | None = None
    outcome: str = "taken"
    parts: list[pl.DataFrame | Path] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    problem: tuple[str, str] | None = None
    findings: dict[str, list[str]] = field(default_factory=dict)
    stated_amount: str | None = None
    pools: list[SourceRow] = field(default_factory=list)
    file_rows: int = 0
    homeless: int = 0
    lines: int = 0
    repeated: int = 0
    reversals: int = 0

    @property
    def received(self) -> int:
        """Rows that came; a file that is refused as a whole counts as one.

        What takes earlier lines back came as no row of its own.
        """
        return self.lines + self.repeated + len(self.rejections) + (self.problem is not None)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The lines, part by part."""
        for part in self.parts:
            yield pl.read_ipc(part) if isinstance(part, Path) else part

    def record(self) -> ReportRecord:
        """What the registry keeps of it."""
        money: dict[str, int] = {}
        units = 0
        notes: dict[str, int] = {}
        for frame in self.frames():
            units += int(frame["units"].sum())
            for word, number in count_notes(frame["notes"]).items():
                notes[word] = notes.get(word, 0) + number
            priced = frame.filter(pl.col("amount").is_not_null())
            sums = priced.group_by("currency").agg(pl.col("amount").sum())
            for currency, atoms in zip(
                sums["currency"], series_to_atoms(sums["amount"]), strict=True
            ):
                money[currency] = money.get(currency, 0) + atoms
        message = self.message
        return ReportRecord(
            source_sha256=self.sha256,
            name=self.name[-512:],
            kind=self.kind,
            content_sha256=self.content_sha256,
            outcome=self.outcome,
            message={}
            if message is None
            else {
                "sender": message.sender,
                "message_id": message.message_id,
                "created_at": message.created_at,
                "scope": message.scope,
            },
            counts={
                "rows": self.received,
                "lines": self.lines,
                "rejected": len(self.rejections) + (self.problem is not None),
                "repeated": self.repeated,
                "taken_back": self.reversals,
                "units": units,
            },
            money={currency: format_atoms(atoms) for currency, atoms in sorted(money.items())},
            stated_amount=self.stated_amount,
            notes=notes,
            pools=[_pool_row(row) for row in self.pools] if self.outcome == "taken" else [],
        )


def _pool_row(row: SourceRow) -> dict[str, str | int]:
    assert isinstance(row.content, dict)
    return {name: str(value) for name, value in row.content.items()} | {
        "row_number": row.row_number
    }


def read_report(context: PipelineContext, payload: StoredPayload) -> Report:
    """Open a stored report file by what it is.

    Raises:
        UnreadableFileError: if nothing knows it.
    """
    stream = BufferedReader(ChunkReader(payload.chunks))
    templates = [t for t in context.templates if t.records == "report_lines"]
    return open_report(payload.sha256, stream, templates, payload.name)


def take_reports(
    context: PipelineContext,
    feed: Feed,
    partition: Partition,
    payloads: Iterator[StoredPayload],
    folder: Path,
) -> list[TakenReport]:
    """Every file's part of a partition, in an order that follows from content alone.

    Args:
        context: the project.
        feed: of reports.
        partition: whose lines are wanted.
        payloads: the raw files.
        folder: for what does not fit into memory; has to live as long as the result.
    """
    wanted = _Wanted(context, feed, partition, folder)
    taken = []
    in_memory = 0
    for payload in payloads:
        report = _take(wanted, payload, in_memory)
        in_memory += sum(part.height for part in report.parts if isinstance(part, pl.DataFrame))
        taken.append(report)
    taken.sort(key=_order)
    _set_repetitions_aside(taken)
    _apply_corrections(taken)
    return taken


def _order(report: TakenReport) -> tuple[bool, str, str, str, int, str]:
    message = report.message
    if message is None:
        return (False, "", "", "", 0, report.sha256)
    return (
        True,
        message.sender,
        message.created_at,
        message.message_id,
        message.file_number,
        report.sha256,
    )


@dataclass(slots=True)
class _Cut:
    """A file cut into its partitions; blocks of the key "" belong to the first of them."""

    blocks: dict[str, list[ReadBlock]]
    taken: TakenReport


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What files are read for: a partition of a feed; a folder holds what memory does not."""

    context: PipelineContext
    feed: Feed
    partition: Partition
    folder: Path


def _take(wanted: _Wanted, payload: StoredPayload, in_memory: int) -> TakenReport:
    feed, partition = wanted.feed, wanted.partition
    if not isinstance(feed.source, InboxSource):
        return _take_streaming(wanted, payload, in_memory)

    def cut() -> _Cut | None:
        taken = TakenReport(payload.name, payload.sha256)
        blocks: dict[str, list[ReadBlock]] = {}
        of_day = PartitionOfDay(feed, feed.cadence)
        try:
            report = read_report(wanted.context, payload)
            for block in report.blocks():
                taken.file_rows += block.lines.height + len(block.rejections)
                if taken.file_rows > CUT_REPORT_ROWS_MAX:
                    return None
                for key, part in split_by_partition(block, of_day).items():
                    blocks.setdefault(key, []).append(part)
            _conclude(taken, report, is_whole=len(blocks) <= 1)
        except UnreadableFileError as error:
            taken.problem = (error.rule, error.reason)
        return _Cut(blocks, taken)

    key = f"{payload.sha256}\t{payload.name}\t{feed.name}\t{wanted.context.templates_version}"
    whole = wanted.context.cut_report(key, cut)
    if whole is None:
        return _take_streaming(wanted, payload, in_memory)
    taken = replace(whole.taken, parts=[], rejections=[], findings=dict(whole.taken.findings))
    for block in whole.blocks.get(partition.key, []):
        _add(taken, block, wanted.folder, in_memory)
    keys = sorted(key for key in whole.blocks if key)
    if PartitionOfDay(feed, feed.cadence).first_key(keys) == partition.key:
        _add_homeless(feed, taken, whole.blocks.get("", []), wanted.folder, in_memory)
    return taken


def _add_homeless(
    feed: Feed, taken: TakenReport, blocks: Sequence[ReadBlock], folder: Path, in_memory: int
) -> None:
    """Refuse, in the file's first period, what belongs to no period of the feed."""
    for block in blocks:
        refused = _homeless(feed, block)
        taken.homeless += len(refused.rejections)
        _add(taken, refused, folder, in_memory)


def _take_streaming(wanted: _Wanted, payload: StoredPayload, in_memory: int) -> TakenReport:
    feed, partition = wanted.feed, wanted.partition
    taken = TakenReport(payload.name, payload.sha256)
    is_inbox = isinstance(feed.source, InboxSource)
    of_day = PartitionOfDay(feed, feed.cadence)
    keys: set[str] = set()
    homeless: list[ReadBlock] = []
    try:
        report = read_report(wanted.context, payload)
        for block in report.blocks():
            taken.file_rows += block.lines.height + len(block.rejections)
            if not is_inbox:
                _add(taken, _within(partition, block), wanted.folder, in_memory)
                continue
            parts = split_by_partition(block, of_day)
            if (lost := parts.pop("", None)) is not None:
                homeless.append(lost)
            keys |= parts.keys()
            if (own := parts.get(partition.key)) is not None:
                _add(taken, own, wanted.folder, in_memory)
        _conclude(taken, report, is_whole=not is_inbox or (len(keys) <= 1 and not homeless))
    except UnreadableFileError as error:
        # It was whole when it was received, so the source itself sent it broken.
        taken.problem = (error.rule, error.reason)
    if homeless and of_day.first_key(sorted(keys)) == partition.key:
        _add_homeless(feed, taken, homeless, wanted.folder, in_memory)
    return taken


def _conclude(taken: TakenReport, report: Report, *, is_whole: bool) -> None:
    taken.kind = report.kind
    taken.content_sha256 = report.content_sha256
    taken.message = report.message
    taken.findings = report.findings
    taken.pools = report.pools
    # A total of several periods says nothing of one of them.
    if is_whole and "amount" in report.totals.stated:
        taken.stated_amount = format_atoms(report.totals.stated["amount"])


def _add(taken: TakenReport, block: ReadBlock, folder: Path, in_memory: int) -> None:
    taken.rejections += block.rejections
    if block.lines.is_empty():
        return
    taken.lines += block.lines.height
    here = sum(part.height for part in taken.parts if isinstance(part, pl.DataFrame))
    taken.parts.append(block.lines)
    if in_memory + here + block.lines.height <= LINES_IN_MEMORY_MAX:
        return
    for number, part in enumerate(taken.parts):
        if isinstance(part, pl.DataFrame):
            path = folder / f"{taken.sha256}-{number:06d}.arrow"
            part.write_ipc(path, compression="lz4")
            taken.parts[number] = path


def split_by_partition(block: ReadBlock, of_day: PartitionOfDay) -> dict[str, ReadBlock]:
    """A block by the partitions that its rows belong to; under "" what belongs to none."""
    days = days_of(block.lines)
    keys = {day: of_day.key(day) or "" for day in days.unique()}
    parts: dict[str, ReadBlock] = {}
    if len(set(keys.values())) == 1:
        parts[next(iter(keys.values()))] = ReadBlock(block.lines, [])
    elif keys:
        of_line = days.replace_strict(
            list(keys), list(keys.values()), return_dtype=pl.String
        ).alias("key")
        for (key,), lines in (
            block.lines.with_columns(of_line)
            .partition_by("key", as_dict=True, include_key=False, maintain_order=True)
            .items()
        ):
            parts[str(key)] = ReadBlock(lines, [])
    for rejection in block.rejections:
        key = "" if rejection.belongs_on is None else of_day.key(rejection.belongs_on) or ""
        part = parts.setdefault(key, ReadBlock(block.lines.clear(), []))
        part.rejections.append(rejection)
    return parts


def _homeless(feed: Feed, block: ReadBlock) -> ReadBlock:
    """Lines outside the feed's time are refused, saying so."""
    end = "" if feed.end is None else f" and ends on {feed.end:%Y-%m-%d}"
    return _refused(
        block,
        "used_at:outside_feed",
        lambda day: f"accounted on {day}, but {feed.name} starts on {feed.start:%Y-%m-%d}{end}",
    )


def _within(partition: Partition, block: ReadBlock) -> ReadBlock:
    """Lines outside a partition that its source delivered them for are refused, saying so."""
    days = days_of(block.lines)
    window = partition.window
    start, end = window.start.date(), window.end.date()
    if partition.cadence == "hourly":
        return block
    is_in = (days >= start) & (days < end)
    if is_in.all():
        return block
    outside = _refused(
        ReadBlock(block.lines.filter(~is_in), []),
        "used_at:outside_partition",
        lambda day: f"accounted on {day}, but this partition runs from {start} to {end}",
    )
    return ReadBlock(block.lines.filter(is_in), block.rejections + outside.rejections)


def _refused(block: ReadBlock, rule: str, reason: Callable[[date], str]) -> ReadBlock:
    rejections = list(block.rejections)
    told = ["isrc_as_sent", "title", "artist", "territory", "units", "amount", "currency"]
    for row in block.lines.to_dicts():
        day = (row["reported_at"] or row["used_at"]).date()
        content = {name: row[name] for name in told if row[name] not in {None, ""}}
        source = SourceRow(row["source_sha256"], row["row_number"], content)
        rejections.append(reject(source, rule, str(day), reason(day)))
    return ReadBlock(block.lines.clear(), rejections)


def _set_repetitions_aside(taken: Sequence[TakenReport]) -> None:
    """The same text twice counts once; one message with two texts is nobody's guess."""
    texts: set[str] = set()
    messages: dict[tuple[str, str, int], TakenReport] = {}
    for report in taken:
        if report.problem is not None:
            report.outcome = "unreadable"
            continue
        if report.content_sha256 in texts:
            report.outcome = "repeated"
            # Rows that were refused before are refused for the first time of telling, not again.
            report.repeated = report.lines + len(report.rejections)
            report.lines, report.parts, report.rejections = 0, [], []
            report.findings = {}
            continue
        texts.add(report.content_sha256)
        if (message := report.message) is None:
            continue
        key = (message.sender, message.message_id, message.file_number)
        if key in messages:
            first = messages[key]
            report.outcome = "conflicting"
            told = (
                f"{report.name} and {first.name} are both message {message.message_id} of "
                f"{message.sender}, with different content; only {first.name} counts. Ask the "
                "sender which is right, and copy that one over the other"
            )
            report.lines, report.parts, report.rejections = 0, [], []
            report.problem = (MESSAGE_CONFLICTING, told)
            report.findings = {"every_message_is_sent_once": [told]}
            continue
        messages[key] = report


def _apply_corrections(taken: Sequence[TakenReport]) -> None:
    """Let later messages take back what they tell anew."""
    by_scope: dict[tuple[str, str], list[TakenReport]] = {}
    for report in taken:
        if report.message is not None and report.outcome == "taken":
            scope = (report.message.sender, report.message.scope)
            by_scope.setdefault(scope, []).append(report)
    for reports in by_scope.values():
        by_message: dict[str, list[TakenReport]] = {}
        for report in reports:
            assert report.message is not None
            by_message.setdefault(report.message.message_id, []).append(report)
        if len(by_message) > 1:
            _reverse(list(by_message.values()))


def _reverse(messages: list[list[TakenReport]]) -> None:
    standing = pl.DataFrame(schema=USAGE_LINE_SCHEMA)
    contents = [
        pl.concat([f for file in files for f in file.frames()] or [standing.clear()])
        for files in messages
    ]
    key = _TRANSACTION
    if any(_repeats(lines, key) for lines in contents):
        key = _NUMBERED_BY_RECORDING
    for files, anew in zip(messages, contents, strict=True):
        named = anew.filter(pl.col("transaction_id") != "")
        told = named.unique(key, keep="first", maintain_order=True).select(
            *key,
            pl.col("source_sha256").alias("by_sha256"),
            pl.col("row_number").alias("by_row"),
        )
        corrected = standing.join(told, on=key, how="inner", maintain_order="left")
        standing = pl.concat([standing.join(told, on=key, how="anti"), anew])
        for file in files:
            own = corrected.filter(pl.col("by_sha256") == file.sha256)
            if own.height:
                reversal = _reversal(own)
                file.parts.append(reversal)
                file.reversals += reversal.height


def _repeats(lines: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether two transactions of a message have one key."""
    named = lines.filter(pl.col("transaction_id") != "")
    return named.select(key).is_duplicated().any()


def _reversal(lines: pl.DataFrame) -> pl.DataFrame:
    """Lines of the opposite sign, of the rows that correct, pointing at what they take back."""
    return lines.with_columns(
        -pl.col("units"),
        -pl.col("returns"),
        -pl.col("amount"),
        corrects=pl.concat_str("source_sha256", pl.lit(":"), "row_number"),
        source_sha256=pl.col("by_sha256"),
        row_number=pl.col("by_row"),
    ).select(USAGE_LINE_SCHEMA.keys())
