"""Usage lines into Parquet, part by part: memory is bounded by one part, and time by its content.

Most of a usage line's columns say the same in every line of a file. They are handed to the writer
as one value and not as a million copies, which is where the time of a plain write goes. What
another engine reads is the same: plain strings.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1 << 18
# Columns whose smallest and largest values let a reader skip row groups.
_FILTERED_BY = ("used_at", "row_number")
_SAMPLE_ROWS = 10_000
_DICTIONARY = pa.dictionary(pa.int32(), pa.large_string())
_OLDEST = pl.CompatLevel.oldest()


def write_frames(path: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames of one schema one after the other; equal frames become equal bytes.

    Args:
        path: of the file.
        frames: at least one.

    Returns:
        Rows written.
    """
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for frame in _in_row_groups(frames):
            if writer is None:
                writer = _writer_for(path, frame)
            writer.write_table(_table(frame, writer.schema), row_group_size=frame.height or 1)
            rows += frame.height
    finally:
        if writer is not None:
            writer.close()
    return rows


def _in_row_groups(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Small frames together, large ones as they are."""
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        if waiting and sum(part.height for part in waiting) + frame.height > ROW_GROUP_ROWS:
            yield pl.concat(waiting)
            waiting = []
        waiting.append(frame)
    if waiting:
        yield pl.concat(waiting)


def _writer_for(path: Path, first: pl.DataFrame) -> pq.ParquetWriter:
    sample = first.head(_SAMPLE_ROWS)
    repeating = [
        name
        for name, dtype in first.schema.items()
        if dtype == pl.String and sample[name].n_unique() * 8 <= sample.height
    ]
    fields = [
        (name, _DICTIONARY if _is_constant(first[name]) else array.type)
        for name, array in zip(
            first.columns, first.clear().to_arrow(compat_level=_OLDEST), strict=True
        )
    ]
    return pq.ParquetWriter(
        path,
        pa.schema(fields),
        compression="zstd",
        compression_level=1,
        use_dictionary=repeating,
        write_statistics=[name for name in _FILTERED_BY if name in first.columns],
        # Without our types in its metadata a column of one value reads as the strings that it is.
        store_schema=False,
    )


def _table(frame: pl.DataFrame, schema: Any) -> Any:
    arrays = [
        _repeated(column, frame.height)
        if field.type == _DICTIONARY
        else column.to_arrow(compat_level=_OLDEST)
        for column, field in zip(frame, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _repeated(column: pl.Series, height: int) -> Any:
    """A column that mostly has one value, as indices into its distinct values."""
    if not _is_constant(column):
        return column.to_arrow(compat_level=_OLDEST).dictionary_encode().cast(_DICTIONARY)
    if column[0] is None:
        return pa.nulls(height, _DICTIONARY)
    indices = pa.Array.from_buffers(pa.int32(), height, [None, pa.py_buffer(bytes(4 * height))])
    return pa.DictionaryArray.from_arrays(indices, pa.array([column[0]], pa.large_string()))


def _is_constant(column: pl.Series) -> bool:
    if column.dtype != pl.String or column.is_empty() or column[0] != column[-1]:
        return False
    nulls = column.null_count()
    if column[0] is None or nulls:
        return nulls == column.len()
    return bool((column == column[0]).all())
