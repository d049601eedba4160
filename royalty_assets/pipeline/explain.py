"""Why a line was decided as it was: from what a file said to where its money went, in words."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from royalty_assets.domain.batches import Batch, Stage
from royalty_assets.domain.feeds import Feed
from royalty_assets.domain.ledger import Account
from royalty_assets.domain.matching.words import (
    levels_in_words,
    method_in_words,
    reason_in_words,
)
from royalty_assets.domain.usage import USAGE_IDENTITY
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.adjustments import where_booked
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog
from royalty_assets.pipeline.closing import closing_of
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.month import passed_over_in_words
from royalty_assets.pipeline.periods import passed_over_by
from royalty_assets.storage.lake import read_frame

_PLACE = re.compile(r"^(?P<source>.+):(?P<row>[0-9]{1,12})$")
_SHA256_PREFIX = re.compile(r"^[0-9a-f]{6,64}$")
_FOUND_MAX = 5


@dataclass(frozen=True, slots=True)
class Explanation:
    """One line and what became of it.

    Attributes:
        line: the canonical usage line; of a refused row, its dead letter.
        decision: the matched row that it is a part of; None for a refused row.
        batch: the validated batch that it is in.
        sentences: all of it, in words.
    """

    line: Mapping[str, Any]
    decision: Mapping[str, Any] | None
    batch: Batch | None
    sentences: tuple[str, ...]


def explain(context: PipelineContext, reference: str) -> list[Explanation]:
    """What became of a line.

    Args:
        context: the project.
        reference: ``file name:row``, ``SHA-256 of the source:row`` (its first digits do), or an
            event id.

    Returns:
        At most five; empty if nothing in force is known by that.
    """
    found = [
        _explained(context, feed, batch, line)
        for feed, batch, line in _lines(context, reference.strip())
    ]
    return found or [_refused(letter) for letter in _letters(context, reference.strip())]


def _lines(
    context: PipelineContext, reference: str
) -> Iterator[tuple[Feed, Batch, dict[str, Any]]]:
    wanted = _wanted(context, reference)
    number = 0
    for commit in context.registry.commits(Stage.VALIDATED):
        for batch in context.registry.batches_by_id(commit.batch_ids):
            for stored in batch.objects:
                path = context.lake.local_path(stored)
                rows = pl.scan_parquet(path).filter(wanted).head(_FOUND_MAX).collect()
                for line in rows.iter_rows(named=True):
                    yield context.project.feed(commit.feed), batch, line
                    number += 1
                    if number == _FOUND_MAX:
                        return


def _wanted(context: PipelineContext, reference: str) -> pl.Expr:
    place = _PLACE.match(reference)
    if place is None:
        return pl.col("event_id") == reference
    is_row = pl.col("row_number") == int(place["row"])
    named = _sources_named(context, place["source"])
    is_source = pl.col("source_sha256").is_in(named)
    if _SHA256_PREFIX.match(place["source"]):
        is_source |= pl.col("source_sha256").str.starts_with(place["source"])
    return (is_row & is_source) | (pl.col("event_id") == reference)


def _sources_named(context: PipelineContext, name: str) -> list[str]:
    keys = {
        (commit.feed, commit.partition_key) for commit in context.registry.commits(Stage.VALIDATED)
    }
    return sorted(
        {
            report.source_sha256
            for feed in {feed for feed, _ in keys}
            for report in context.registry.reports(feed, [key for f, key in keys if f == feed])
            if report.name == name or report.name.endswith(f"/{name}")
        }
    )


def _explained(
    context: PipelineContext, feed: Feed, batch: Batch, line: dict[str, Any]
) -> Explanation:
    decision = _decision(context, feed, batch, line)
    told = [
        f"{feed.name}, {batch.partition_key}: row {line['row_number']:,} of "
        f"{_source_name(context, feed, batch, line)} (SHA-256 {line['source_sha256'][:12]}…).",
        f"It says: {_as_said(line)}.",
        *_as_understood(line),
    ]
    if decision is None:
        told.append("It is not matched yet; run the project.")
        return Explanation(line, None, batch, tuple(told))
    told += _as_decided(context, decision)
    told.append(
        f"This was decided on batch {batch.batch_id} (SHA-256 {batch.sha256[:12]}…) by matcher "
        f"{decision['matcher_version']} with catalog {decision['catalog_version'][:12]}…."
    )
    told += _as_booked(context, feed, batch, line, decision)
    return Explanation(line, decision, batch, tuple(told))


def _as_booked(
    context: PipelineContext,
    feed: Feed,
    batch: Batch,
    line: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> Iterator[str]:
    """Which month's ledger has the line, and which later ones correct what it is a part of."""
    month = Partition.parse(feed.cadence, batch.partition_key).month
    name = month.key[:7]
    passed_by = passed_over_by(context, month)
    closing = closing_of(context, month)
    if passed_by is not None:
        yield f"{passed_over_in_words(month, passed_by)}."
    elif closing is None:
        ledger = context.registry.commit(LEDGER_FEED, Stage.LEDGER, month.key)
        yield (
            f"It counts in {name}, which is open."
            if ledger is not None
            else f"It counts in {name}, which has no ledger yet."
        )
        return
    else:
        by_then = "after that" if _came_after(context, feed, batch, line) else "before that"
        yield (
            f"It counts in {name}, which was closed on {closing.closed_at[:10]} by {closing.who} "
            f"and stays as it is; the line came {by_then}."
        )
    of_line = pl.all_horizontal(
        pl.col("feed") == feed.name,
        pl.col("territory") == decision["territory"],
        pl.col("tier") == decision["tier"],
        pl.col("use_type") == decision["use_type"],
        pl.col("recording_id") == (decision["recording_id"] or ""),
        pl.col("account") != Account.RECEIVABLE,
    )
    yield from where_booked(context, month, of_line)


def _came_after(
    context: PipelineContext, feed: Feed, batch: Batch, line: Mapping[str, Any]
) -> bool:
    """Whether a line was not among those that its month was closed with."""
    month = Partition.parse(feed.cadence, batch.partition_key).month
    closing = context.registry.commit(LEDGER_FEED, Stage.CLOSING, month.key)
    if closing is None:
        return False
    then = context.registry.commit_as_of(
        Stage.VALIDATED, feed.name, batch.partition_key, context.registry.committed_at(closing)
    )
    if then is None:
        return True
    is_it = pl.all_horizontal(
        pl.col(name).eq_missing(pl.lit(line[name]))
        for name in ("source_sha256", "row_number", "event_id")
    )
    return not any(
        pl.scan_parquet(context.lake.local_path(stored)).filter(is_it).head(1).collect().height
        for of_then in context.registry.batches_by_id(then.batch_ids)
        if of_then.window_label == batch.window_label
        for stored in of_then.objects
    )


def _source_name(context: PipelineContext, feed: Feed, batch: Batch, line: dict[str, Any]) -> str:
    names = {
        report.source_sha256: report.name
        for report in context.registry.reports(feed.name, [batch.partition_key])
    }
    return names.get(line["source_sha256"], "what the service delivered")


def _as_said(line: dict[str, Any]) -> str:
    names = [f"{line['title']!r}" if line["title"] else "no title"]
    if line["artist"]:
        names.append(f"by {line['artist']!r}")
    sent = line["isrc_as_sent"] or line["isrc"]
    names.append(f"ISRC {sent}" if sent else "no ISRC")
    names += [f"UPC {line['upc_as_sent']}"] if line["upc_as_sent"] else []
    names += [f"on {line['release_title']!r}"] if line["release_title"] else []
    money = f"{line['amount'].normalize():f} {line['currency']}" if line["currency"] else ""
    units = f"{line['units']:,} units in {line['territory']} on {line['used_at']:%Y-%m-%d}"
    return ", ".join([*names, units, money or "its money is a part of a pool"])


def _as_understood(line: dict[str, Any]) -> list[str]:
    told = []
    if line["isrc_as_sent"]:
        told.append(f"Its ISRC is understood as {line['isrc']}.")
    if line["notes"]:
        told.append(f"Noted when it was read: {line['notes']}.")
    if line["corrects"]:
        told.append(f"It takes back {line['corrects']}.")
    return told


def _decision(
    context: PipelineContext, feed: Feed, batch: Batch, line: dict[str, Any]
) -> dict[str, Any] | None:
    commit = context.registry.commit(feed.name, Stage.MATCHED, batch.partition_key)
    if commit is None:
        return None
    identity = line | {"used_on": line["used_at"].date()}
    is_it = pl.all_horizontal(
        pl.col(name).eq_missing(pl.lit(identity[name])) for name in USAGE_IDENTITY
    )
    for matched in context.registry.batches_by_id(commit.batch_ids):
        usage = read_frame(context.lake, matched.objects[0])
        if "subject" not in usage.columns:
            continue
        rows = usage.filter((pl.col("batch_sha256") == batch.sha256) & is_it)
        if rows.height:
            return rows.row(0, named=True)
    return None


def _as_decided(context: PipelineContext, decision: Mapping[str, Any]) -> list[str]:
    names = _names(context)
    told = []
    if decision["recording_id"] is not None:
        how = method_in_words(decision["method"])
        told.append(f"It is {names(decision['recording_id'])}: {how}.")
    else:
        told.append(f"It is open: {reason_in_words(decision['reason'])}.")
    if decision["rule_id"]:
        told.append(_rule_in_words(context, decision["rule_id"], names))
    if decision["score"] is not None and decision["method"] not in {"isrc", "exception"}:
        levels = ", ".join(levels_in_words(decision["levels"]))
        told.append(f"Score {decision['score']:.1f} %" + (f" ({levels})." if levels else "."))
    if decision["runner_up_id"]:
        what = "Nearest" if decision["recording_id"] is None else "Runner-up"
        score = decision["runner_up_score"]
        how = "" if score is None else f", {score:.1f} %"
        margin = decision["margin"]
        ahead = "ahead of the next" if decision["recording_id"] is None else "behind"
        apart = "" if margin is None else f", {margin:.1f} points {ahead}"
        told.append(f"{what}: {names(decision['runner_up_id'])}{how}{apart}.")
    if decision["reason"] == "no_right_at_territory_and_date":
        told.append("What settles it: a right for that territory and day in the catalog.")
    elif decision["recording_id"] is None and decision["subject"]:
        told.append(f"What settles it: a decision about {decision['subject']!r} at the desk.")
    return told


def _rule_in_words(context: PipelineContext, rule_id: str, names: Any) -> str:
    number = int(rule_id.removeprefix("rule "))
    rule = next(one for one in context.registry.adjudications() if one.number == number)
    what = "said that it is none of the catalog's"
    if rule.recording_id is not None:
        what = f"said that it is {names(rule.recording_id)}"
    why = f", because: {rule.why!r}" if rule.why else ""
    second = next((d for d in context.registry.adjudications() if d.refers_to == number), None)
    agreed = "" if second is None else f"; {second.who} confirmed it"
    return f"By {rule_id}: {rule.who} {what} on {rule.decided_at:%Y-%m-%d}{why}{agreed}."


def _names(context: PipelineContext) -> Any:
    _, batch = catalog_in_force(context)
    recordings = load_catalog(context, batch).recordings

    def name(recording_id: str) -> str:
        rows = recordings.filter(pl.col("recording_id") == recording_id)
        if rows.is_empty():
            return f"{recording_id} (no longer in the catalog)"
        row = rows.row(0, named=True)
        return f"{row['title']!r} by {row['artist']!r} ({recording_id}, ISRC {row['isrc']})"

    return name


def _letters(context: PipelineContext, reference: str) -> list[dict[str, Any]]:
    place = _PLACE.match(reference)
    if place is None:
        # An event's id is a part of what it said.
        return context.registry.dead_letters(containing=reference, limit=_FOUND_MAX)
    letters = context.registry.dead_letters(row_number=int(place["row"]), limit=1_000)
    return [
        letter
        for letter in letters
        if letter["source_sha256"].startswith(place["source"])
        or letter["source"] == place["source"]
        or letter["source"].endswith(f"/{place['source']}")
    ][:_FOUND_MAX]


def _refused(letter: dict[str, Any]) -> Explanation:
    told = (
        f"{letter['feed']}, {letter['partition_key']}: row {letter['row_number']:,} of "
        f"{letter['source']} was refused.",
        f"By rule {letter['rule']}: {letter['reason'].rstrip('.')}.",
        f"Its value: {letter['value']!r}." if letter["value"] else "It has no value there.",
        f"It said: {letter['content'][:500]}" if letter["content"] else "What it said is not kept.",
    )
    return Explanation(letter, None, None, told)
