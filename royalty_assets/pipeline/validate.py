"""The validated stage: raw payloads become canonical usage lines, cut into windows.

Rows are read and put to their model in chunks. Accepted lines wait per window, in memory up to
``WAITING_ROWS_MAX`` and on disk beyond; then each window is de-duplicated and committed as a
batch of its own. What is refused goes to the dead letters as it is found.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage, combined_sha256
from royalty_assets.domain.feeds import REPORT_CHECKS, Feed, InboxSource
from royalty_assets.domain.notes import with_notes
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA, RecordKind
from royalty_assets.domain.validation import (
    Rejection,
    deduplicate,
    usage_lines,
    validate_rows,
)
from royalty_assets.domain.windows import Partition, Window
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    begin,
    commit_batch,
    green_input,
    standing,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.payload_store import StoredPayload, stored_payloads
from royalty_assets.pipeline.reports import MESSAGE_CONFLICTING, TakenReport, take_reports
from royalty_assets.sources.delimited import NOT_USAGE
from royalty_assets.sources.rows import event_rows, in_chunks
from royalty_assets.sources.templates import templates_sha256
from royalty_assets.sources.text_lines import UnreadableFileError
from royalty_assets.storage.lake import put_frame, read_frame
from royalty_assets.storage.parquet import write_frames
from royalty_assets.storage.registry import DeadLetter, PartitionRevision, Turn

VALIDATOR_VERSION = "2"
"""Changes whenever the same bytes may come out as other lines."""
CHUNK_ROWS = 20_000
WAITING_ROWS_MAX = 400_000


_REPORT_FINDINGS = (
    "report_totals_agree",
    "report_cross_sums_agree",
    "report_name_agrees",
    "every_message_is_sent_once",
    "every_pool_is_configured",
)


@dataclass(slots=True)
class _Tally:
    """What has been seen of a partition so far."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    units: int = 0
    taken_back: int = 0
    set_apart: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def find(self, check: str, findings: list[str]) -> None:
        self.findings.setdefault(check, []).extend(findings)


def validated(context: PipelineContext, feed: Feed, partition: Partition) -> Commit | None:
    """The commit in force, if there is nothing to validate anew.

    Raises:
        StageBlockedError: if the raw data is not committed, or is red.
    """
    _, (raw,) = green_input(context, feed.name, Stage.RAW, partition.key)
    return standing(
        context, feed.name, Stage.VALIDATED, partition.key, _input_sha256(context, feed, raw)
    )


def _input_sha256(context: PipelineContext, feed: Feed, raw: Batch) -> str:
    """A digest of all that decides which lines come out: bytes, rules, templates, times."""
    parts = [
        raw.input_sha256,
        VALIDATOR_VERSION,
        str(feed.window_minutes),
        str(feed.rejected_fraction_max),
    ]
    if feed.records is RecordKind.REPORT_LINES:
        parts.append(templates_sha256(context.templates, feed.records))
        parts += [f"{name}={feed.severity(name)}" for name in REPORT_CHECKS]
        parts.append(f"pools_in_reports={feed.pools_in_reports}")
    if isinstance(feed.source, InboxSource):
        parts += [str(feed.start), str(feed.end)]
    return combined_sha256(parts)


def validate(context: PipelineContext, feed: Feed, partition: Partition) -> Outcome:
    """Validate one partition of a feed.

    Raises:
        StageBlockedError: if its raw data is not committed, or is red.
    """
    turn = begin(
        context,
        feed.name,
        Stage.VALIDATED,
        partition.key,
        lambda: validated(context, feed, partition),
    )
    if isinstance(turn, Commit):
        return Outcome(partition.key, turn, changed=False)
    _, (raw,) = green_input(context, feed.name, Stage.RAW, partition.key)
    tally = _Tally()
    with tempfile.TemporaryDirectory(dir=context.spool()) as spool:
        work = _Work(context, feed, partition, turn, raw.sha256, Path(spool), tally)
        payloads = stored_payloads(context.lake, raw.objects)
        if feed.records is RecordKind.REPORT_LINES:
            batches = _validate_reports(work, payloads)
        else:
            batches = _validate_events(work, payloads)
    checks, warnings = _by_severity(feed, _checks(context, feed, turn, batches, tally))
    commit = Commit(
        feed=feed.name,
        stage=Stage.VALIDATED,
        partition_key=partition.key,
        revision=turn.revision,
        input_sha256=_input_sha256(context, feed, raw),
        batch_ids=tuple(batch.batch_id for batch in batches),
        counts={
            "received": tally.received,
            "accepted": tally.accepted,
            "rejected": tally.rejected,
            "duplicates": tally.repeated,
            "units": tally.units,
        }
        | ({"taken_back": tally.taken_back} if tally.taken_back else {}),
        checks=checks,
        warnings=warnings,
    )
    context.registry.commit_partition(commit, turn)
    return Outcome(partition.key, commit)


@dataclass(frozen=True, slots=True)
class _Work:
    """One partition under way."""

    context: PipelineContext
    feed: Feed
    partition: Partition
    turn: Turn
    raw_sha256: str
    spool: Path
    tally: _Tally


def _validate_events(work: _Work, payloads: Iterable[StoredPayload]) -> list[Batch]:
    waiting = _WaitingLines(work.feed, work.partition, work.spool)
    for payload in payloads:
        _take_payload(work, payload, waiting)
    return [_commit_window(work, window, lines) for window, lines in waiting.windows()]


def _take_payload(work: _Work, payload: StoredPayload, waiting: "_WaitingLines") -> None:
    tally = work.tally
    try:
        rows = event_rows(work.feed.source.dialect, payload.sha256, payload.chunks)
        for chunk in in_chunks(rows, CHUNK_ROWS):
            result = validate_rows(work.feed.records, chunk, work.partition.window)
            tally.received += len(chunk)
            tally.rejected += len(result.rejections)
            _bury(work.context, work.turn, payload.name, result.rejections)
            feed_name = pl.lit(work.feed.name).alias("feed")
            waiting.add(with_notes(usage_lines(result)).with_columns(feed_name))
    except UnreadableFileError as error:
        # It was whole when it was received, so the source itself sent it broken.
        _bury_file(work, payload.name, payload.sha256, error.rule, error.reason)
        tally.received += 1


def _bury_file(work: _Work, name: str, sha256: str, rule: str, reason: str) -> None:
    letter = DeadLetter(sha256, 0, name, rule, "", reason, "")
    work.context.registry.add_dead_letters(work.turn, [letter])
    work.tally.rejected += 1
    if rule != MESSAGE_CONFLICTING:
        work.tally.find("every_payload_is_readable", [f"{name}: {reason}"])


def _validate_reports(work: _Work, payloads: Iterator[StoredPayload]) -> list[Batch]:
    """The lines of all report files as one batch, file after file."""
    tally = work.tally
    taken = take_reports(work.context, work.feed, work.partition, payloads, work.spool)
    for report in taken:
        # What takes earlier lines back was not received as a row of its own.
        tally.received += report.received
        tally.repeated += report.repeated
        tally.rejected += len(report.rejections)
        _judge_rejections(work, report)
        _bury(work.context, work.turn, report.name, report.rejections)
        if report.problem is not None:
            _bury_file(work, report.name, report.sha256, *report.problem)
        for check, findings in report.findings.items():
            tally.find(check, [f"{report.name}: {told}" for told in findings])
        if report.pools and report.outcome == "taken" and not work.feed.pools_in_reports:
            tally.find(
                "every_pool_is_configured",
                [
                    f"{report.name} brings pools of its own; write `pools_in_reports: true` for "
                    f"{work.feed.name} in feeds.yaml, so that its usage shares them"
                ],
            )
    work.context.registry.add_reports(work.turn, [report.record() for report in taken])
    frames = (frame for report in taken for frame in report.frames())
    stored = _put_lines(work, frames, sum(r.lines + r.reversals for r in taken))
    if stored is None:
        return []
    units = sum(report.record().counts["units"] for report in taken)
    tally.accepted += sum(report.lines for report in taken)
    tally.taken_back += sum(report.reversals for report in taken)
    tally.units += units
    return [_commit_lines(work, work.partition.window, stored, units)]


def _judge_rejections(work: _Work, report: TakenReport) -> None:
    """What tells no period is held against its whole file; what is no usage against nothing."""
    tally, feed = work.tally, work.feed
    other = sum(rejection.rule == NOT_USAGE for rejection in report.rejections)
    homeless = min(report.homeless, len(report.rejections) - other)
    tally.set_apart += homeless + other
    if homeless > feed.rejected_fraction_max * report.file_rows:
        told = _too_many(feed, homeless, report.file_rows, f"{report.name}: ")
        tally.find("rejects_are_within_limits", [told])


def _put_lines(work: _Work, frames: Iterable[pl.DataFrame], rows: int) -> LakeObject | None:
    """Store report lines as one object; None if there are none."""
    if not rows:
        return None
    folder = f"{work.feed.name}/{Stage.VALIDATED}/{hive_folder(work.partition)}"
    named = pl.lit(work.feed.name).alias("feed")

    def write(path: Path) -> None:
        write_frames(path, (frame.with_columns(named) for frame in frames))

    return work.context.lake.put(folder, work.partition.window.label, rows, write)


def _bury(
    context: PipelineContext,
    turn: Turn,
    source: str,
    rejections: Iterable[Rejection],
) -> None:
    context.registry.add_dead_letters(
        turn,
        (
            DeadLetter(
                r.source_sha256, r.row_number, source[-512:], r.rule, r.value, r.reason, r.content
            )
            for r in rejections
        ),
    )


def _commit_window(work: _Work, window: Window, lines: pl.DataFrame) -> Batch:
    context, feed, tally = work.context, work.feed, work.tally
    result = deduplicate(lines)
    conflicting = result.conflicting
    context.registry.add_dead_letters(
        work.turn,
        (
            DeadLetter(
                row["source_sha256"],
                row["row_number"],
                f"{feed.name} {window.label}",
                "event_id:conflicting",
                row["event_id"],
                "this event id was also sent with other content, which comes first and counts",
                str({name: str(value) for name, value in row.items() if value is not None})[:2000],
            )
            for row in conflicting.iter_rows(named=True)
        ),
    )
    units = int(result.lines["units"].sum())
    tally.accepted += result.lines.height
    tally.rejected += conflicting.height
    tally.repeated += result.repeated
    tally.units += units
    folder = f"{feed.name}/{Stage.VALIDATED}/{hive_folder(work.partition)}"
    stored = put_frame(context.lake, folder, window.label, result.lines)
    return _commit_lines(work, window, stored, units)


def _commit_lines(work: _Work, window: Window, stored: LakeObject, units: int) -> Batch:
    batch = Batch(
        feed=work.feed.name,
        stage=Stage.VALIDATED,
        partition_key=work.partition.key,
        window_start=window.start,
        window_label=window.label,
        revision=0,
        input_sha256=work.raw_sha256,
        objects=(stored,),
        counts={"lines": stored.rows, "units": units},
    )
    return commit_batch(work.context, batch, work.turn)


def _by_severity(
    feed: Feed, checks: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What blocks, and what only warns, as the feed is configured."""
    blocking = {n: found if feed.severity(n) == "block" else [] for n, found in checks.items()}
    warnings = {n: found for n, found in checks.items() if feed.severity(n) == "warn" and found}
    return blocking, warnings


def _checks(
    context: PipelineContext,
    feed: Feed,
    revision: PartitionRevision,
    batches: list[Batch],
    tally: _Tally,
) -> dict[str, list[str]]:
    """The gate. Accepted lines and dead letters are counted where they rest, not as tallied."""
    in_lake = sum(
        pq.read_metadata(context.lake.local_path(stored)).num_rows
        - _lines_taken_back(context, feed, stored)
        for batch in batches
        for stored in batch.objects
    )
    twice = [
        finding
        for batch in batches
        for stored in batch.objects
        for finding in _counted_twice(context, feed, stored)
    ]
    recorded, unexplained = context.registry.count_dead_letters(revision)
    rows = invariants.RowCount(tally.received, in_lake, recorded, tally.repeated)
    rejected = tally.rejected - tally.set_apart
    too_many = list(tally.findings.get("rejects_are_within_limits", []))
    if rejected > feed.rejected_fraction_max * (tally.received - tally.set_apart):
        too_many.append(_too_many(feed, rejected, tally.received - tally.set_apart, ""))
    return {
        "every_row_is_accounted_for": invariants.rows_are_accounted_for(rows),
        "no_event_is_counted_twice": twice,
        "every_rejection_is_recorded": invariants.rejections_are_recorded(
            tally.rejected, recorded, unexplained
        ),
        "every_payload_is_readable": tally.findings.get("every_payload_is_readable", []),
        "rejects_are_within_limits": too_many,
    } | {name: tally.findings.get(name, []) for name in _REPORT_FINDINGS}


def _too_many(feed: Feed, rejected: int, received: int, of_what: str) -> str:
    return (
        f"{of_what}{rejected} of {received} rows were rejected, more than "
        f"{feed.rejected_fraction_max:%}; see the dead letters, or raise "
        "rejected_fraction_max in feeds.yaml"
    )


def _counted_twice(context: PipelineContext, feed: Feed, stored: LakeObject) -> list[str]:
    if feed.records is RecordKind.PLAY_EVENTS:
        ids = read_frame(context.lake, stored, ["event_id"])["event_id"]
        return invariants.ids_are_counted_once(ids)
    columns = ["source_sha256", "row_number", "corrects"]
    rows = read_frame(context.lake, stored, columns)
    if (rows["corrects"] == "").all() and not _repeats_a_row(rows):
        return []
    name = pl.concat_str("source_sha256", pl.lit(":"), "row_number", pl.lit(":"), "corrects")
    return invariants.ids_are_counted_once(rows.select(name.alias("id"))["id"])


def _lines_taken_back(context: PipelineContext, feed: Feed, stored: LakeObject) -> int:
    """Lines that came as no row of their own, but take an earlier one back."""
    if feed.records is RecordKind.PLAY_EVENTS:
        return 0
    return int((read_frame(context.lake, stored, ["corrects"])["corrects"] != "").sum())


def _repeats_a_row(rows: pl.DataFrame) -> bool:
    """Whether a row of a file stands twice; its numbers rise within each file otherwise."""
    same_file = rows["source_sha256"] == rows["source_sha256"].shift(1)
    rises = rows["row_number"].diff() > 0
    n_files = rows["source_sha256"].rle_id().n_unique()
    return bool((same_file & ~rises).any()) or n_files != rows["source_sha256"].n_unique()


class _WaitingLines:
    """Accepted lines, waiting by window until all of the partition has been read."""

    def __init__(self, feed: Feed, partition: Partition, folder: Path) -> None:
        self._windows = partition.windows(feed.window_length)
        self._starts = pl.DataFrame(
            {"window": range(len(self._windows)), "starts": [w.start for w in self._windows]},
            schema={"window": pl.Int64, "starts": USAGE_LINE_SCHEMA["used_at"]},
        )
        self._folder = folder
        self._in_memory: list[pl.DataFrame] = []
        self._rows_in_memory = 0
        self._spilled = 0

    def add(self, lines: pl.DataFrame) -> None:
        """Take accepted lines of any windows of the partition."""
        if lines.is_empty():
            return
        self._in_memory.append(lines)
        self._rows_in_memory += lines.height
        if self._rows_in_memory >= WAITING_ROWS_MAX:
            self._spill()

    def _by_window(self) -> pl.DataFrame:
        lines = (
            pl.concat(self._in_memory)
            if self._in_memory
            else pl.DataFrame(schema=USAGE_LINE_SCHEMA)
        )
        return (
            lines.sort("used_at")
            .join_asof(self._starts, left_on="used_at", right_on="starts")
            .drop("starts")
        )

    def _spill(self) -> None:
        for (number,), lines in (
            self._by_window().partition_by("window", as_dict=True, include_key=False).items()
        ):
            folder = self._folder / str(number)
            folder.mkdir(exist_ok=True)
            lines.write_ipc(folder / f"{self._spilled:06d}.arrow", compression="lz4")
        self._spilled += 1
        self._in_memory, self._rows_in_memory = [], 0

    def windows(self) -> Iterator[tuple[Window, pl.DataFrame]]:
        """Each window that has lines, in order, with all of its lines."""
        in_memory = self._by_window().partition_by("window", as_dict=True, include_key=False)
        self._in_memory = []
        for number, window in enumerate(self._windows):
            spilled = sorted((self._folder / str(number)).glob("*.arrow"))
            parts = [pl.read_ipc(path) for path in spilled]
            if (rest := in_memory.pop((number,), None)) is not None:
                parts.append(rest)
            if parts:
                yield window, pl.concat(parts)
