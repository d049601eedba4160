"""Plays by listener, read back for a month, with every listener whole.

A listener's plays are spread over all windows of a month, and models need them together. A month
that is more than ``ROWS_IN_MEMORY_MAX`` rows is dealt to files by listener, and read file by file.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from royalty_assets.domain.allocation import AllocationModel, ProRata
from royalty_assets.domain.batches import Batch, Stage, combined_sha256
from royalty_assets.domain.listening import LISTENING_SCHEMA, count_listening, fold_listening
from royalty_assets.domain.pool_sharing import ARTIST_SCHEMA, FeedSharing, first_credited_artists
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.match import LISTENING, LISTENING_READ, USAGE
from royalty_assets.storage.lake import read_frame, write_frame

ROWS_IN_MEMORY_MAX = 2_000_000


def allocation_sha256(context: PipelineContext) -> str:
    """A digest of how pools are shared; empty where all are shared pro rata.

    Who recordings are by is in the matched batches' own, which name the catalog.
    """
    told = [
        f"{feed.name} {feed.allocation.model_dump_json()}"
        for feed in context.project.feeds
        if feed.allocation != ProRata()
    ]
    return combined_sha256(told) if told else ""


def sharing_of_feeds(
    context: PipelineContext,
    matched: list[Batch],
    models: Mapping[str, AllocationModel] | None = None,
) -> dict[str, FeedSharing]:
    """Feed → how its pools are shared.

    Args:
        context: the project.
        matched: the month's matched batches, of all feeds.
        models: feed → model, instead of what is configured.
    """
    if models is None:
        models = {feed.name: feed.allocation for feed in context.project.feeds}
    artists = pl.DataFrame(schema=ARTIST_SCHEMA)
    if matched and any(model.needs_listening for model in models.values()):
        recordings = load_catalog(context, catalog_in_force(context)[1]).recordings
        artists = first_credited_artists(recordings)
    sharing = {}
    for name, model in models.items():
        listening: Iterable[pl.DataFrame] = ()
        if model.needs_listening:
            batches = [batch for batch in matched if batch.feed == name]
            listening = whole_listeners(context, batches)
        sharing[name] = FeedSharing(model, listening, artists)
    return sharing


def whole_listeners(
    context: PipelineContext, matched: list[Batch], rows_max: int = ROWS_IN_MEMORY_MAX
) -> Iterator[pl.DataFrame]:
    """``LISTENING_SCHEMA`` of some matched batches, in frames that no listener is in two of.

    Batches of a feed that does not keep listening have theirs counted again from the lines.
    """
    rows = sum(map(_rows_at_most, matched))
    frames = (_listening_of(context, batch) for batch in matched)
    if rows <= rows_max:
        yield _folded(frames, rows_max)
        return
    with tempfile.TemporaryDirectory(dir=context.spool()) as name:
        parts = _deal(frames, Path(name), -(-rows // rows_max), rows_max)
        for paths in parts:
            yield _folded((pl.read_parquet(path) for path in paths), rows_max)


def _rows_at_most(batch: Batch) -> int:
    if len(batch.objects) > LISTENING:
        return batch.objects[LISTENING].rows
    return sum(number for name, number in batch.counts.items() if name.startswith("lines_"))


def _listening_of(context: PipelineContext, batch: Batch) -> pl.DataFrame:
    if len(batch.objects) > LISTENING:
        return read_frame(context.lake, batch.objects[LISTENING])
    usage = read_frame(context.lake, batch.objects[USAGE])
    sources = context.registry.batches(batch.feed, Stage.VALIDATED, batch.partition_key)
    source = sources[batch.window_label]
    lines = read_frame(context.lake, source.objects[0], LISTENING_READ)
    return count_listening(batch.feed, lines, usage)


def _folded(frames: Iterable[pl.DataFrame], rows_max: int) -> pl.DataFrame:
    pending = [pl.DataFrame(schema=LISTENING_SCHEMA)]
    rows = 0
    for frame in frames:
        pending.append(frame.select(LISTENING_SCHEMA.keys()))
        rows += frame.height
        if rows > rows_max:
            pending = [fold_listening(pl.concat(pending))]
            rows = 0
    return fold_listening(pl.concat(pending))


def _deal(
    frames: Iterable[pl.DataFrame], folder: Path, parts: int, rows_max: int
) -> list[list[Path]]:
    """Write rows to files by listener; returns the files of each part."""
    files: list[list[Path]] = [[] for _ in range(parts)]

    def write(pending: list[pl.DataFrame]) -> None:
        # Pseudonyms are as good as random, so their first digits deal evenly.
        number = pl.col("listener").str.head(8).str.to_integer(base=16) % parts
        dealt = fold_listening(pl.concat(pending)).with_columns(number.alias("part"))
        by_part = dealt.partition_by("part", as_dict=True, include_key=False)
        for (part,), frame in by_part.items():
            path = folder / f"{part}-{len(files[part])}.parquet"
            write_frame(path, frame, compression="lz4")
            files[part].append(path)

    pending: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        pending.append(frame.select(LISTENING_SCHEMA.keys()))
        rows += frame.height
        if rows > rows_max:
            write(pending)
            pending, rows = [], 0
    if pending:
        write(pending)
    return files
