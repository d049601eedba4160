"""Usage lines into Parquet, part by part: memory is bounded by one part, and time by its content.

Most of a usage line's columns say the same in every line of a file. They are handed to the writer
as one value and not as a million copies, which is where the time of a plain write goes. What
another engine reads is the same: plain strings.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_TOGETHER_MAX = 1 << 17
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
    rows = 0
    for frame in frames:
        if waiting and rows + frame.height > _ROWS_TOGETHER_MAX:
            yield pl.concat(waiting)
            waiting, rows = [], 0
        waiting.append(frame)
        rows += frame.height
    if waiting:
        yield pl.concat(waiting)


def _writer_for(path: Path, first: pl.DataFrame) -> pq.ParquetWriter:
    sample = first.head(_SAMPLE_ROWS)
    types = first.clear().to_arrow(compat_level=_OLDEST).schema
    constant = _constants(first)
    distinct = sample.select(pl.all().n_unique()).row(0, named=True)
    repeating = [n for n in first.columns if n in constant or distinct[n] * 8 <= sample.height]
    numbers = sample.select(cs.integer() | cs.temporal()).columns
    counting = [name for name in numbers if name not in repeating]
    fields = [
        (name, _DICTIONARY if name in constant else types.field(name).type)
        for name in first.columns
    ]
    return pq.ParquetWriter(
        path,
        pa.schema(fields),
        compression="zstd",
        compression_level=1,
        use_dictionary=repeating,
        # Numbers of rows and the like, as differences.
        column_encoding=dict.fromkeys(counting, "DELTA_BINARY_PACKED"),
        max_rows_per_page=_ROWS_TOGETHER_MAX,
        write_statistics=[name for name in _FILTERED_BY if name in first.columns],
        # Without our types in its metadata a column of one value reads as the strings that it is.
        store_schema=False,
    )


def _table(frame: pl.DataFrame, schema: Any) -> Any:
    constant = _constants(frame)
    arrays = []
    for field in schema:
        if field.name in constant and field.type == _DICTIONARY:
            arrays.append(_repeated(constant[field.name], frame.height))
            continue
        array = frame[field.name].to_arrow(compat_level=_OLDEST)
        if field.type == _DICTIONARY:
            array = array.dictionary_encode().cast(_DICTIONARY)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _constants(frame: pl.DataFrame) -> dict[str, str | None]:
    """The text columns that say the same in every row, and what they say.

    Asked of the whole frame at once, since a column of one value is then not made into many.
    """
    texts = pl.col(pl.String)
    if frame.is_empty():
        return {}
    is_constant = frame.select(texts.eq_missing(texts.first()).all()).row(0, named=True)
    values = frame.select(texts.first()).row(0, named=True)
    return {name: values[name] for name, constant in is_constant.items() if constant}


def _repeated(value: str | None, height: int) -> Any:
    """One value, so many times, as indices into a dictionary of it alone."""
    if value is None:
        return pa.nulls(height, _DICTIONARY)
    indices = pa.Array.from_buffers(pa.int32(), height, [None, pa.py_buffer(bytes(4 * height))])
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.large_string()))
