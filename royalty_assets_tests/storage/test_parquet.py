"""Usage lines in Parquet: what was written is what any engine reads."""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from royalty_assets.domain.money_columns import AMOUNT_DTYPE
from royalty_assets.domain.usage import INSTANT_DTYPE
from royalty_assets.storage.parquet import write_frames

_SCHEMA = {
    "used_at": INSTANT_DTYPE,
    "store": pl.String(),
    "title": pl.String(),
    "amount": AMOUNT_DTYPE,
    "row_number": pl.Int64(),
}
_texts = st.none() | st.sampled_from(["", "a", "Ünïcode 🎵"]) | st.text(max_size=20)
_rows = st.tuples(
    st.none() | st.datetimes().map(lambda at: at.replace(fold=0)),
    _texts,
    _texts,
    st.none() | st.decimals(-(10**18), 10**18, places=18),
    st.integers(-(2**63), 2**63 - 1),
)


def _frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


@given(
    st.lists(st.lists(_rows, max_size=5), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([1, 20]),
)
@settings(max_examples=150)
def test_frames_are_read_as_they_were_written(
    tmp_path_factory: object, parts: list[list[tuple[object, ...]]], constant: bool, times: int
) -> None:
    """Whatever is constant or repeats in one part and not in the next, and whatever is null."""
    frames = [_frame(rows * times) for rows in parts]
    if constant:
        frames = [frame.with_columns(store=pl.lit("Streamly")) for frame in frames]
    path = Path(tmp_path_factory.mktemp("parquet")) / "lines.parquet"  # type: ignore[attr-defined]
    rows = write_frames(path, frames)
    assert rows == sum(map(len, frames))
    assert_frame_equal(pl.read_parquet(path), pl.concat(frames))


def test_other_engines_read_plain_strings(tmp_path: Path) -> None:
    frame = _frame([(None, "Streamly", "A", None, 1), (None, "Streamly", "B", None, 2)])
    write_frames(tmp_path / "lines.parquet", [frame])
    schema = pq.read_schema(tmp_path / "lines.parquet")
    assert str(schema.field("store").type) in {"string", "large_string"}
    assert b"ARROW:schema" not in (schema.metadata or {})


def test_a_value_that_comes_late_is_kept(tmp_path: Path) -> None:
    """The first row group has one store only; the second has two, and a null."""
    first = _frame([(None, "Streamly", str(n), None, n) for n in range(100)])
    first = pl.concat([first] * 1_400)
    second = _frame([(None, "Otherly", "x", None, 1), (None, None, "y", None, 2)])
    write_frames(tmp_path / "lines.parquet", [first, second])
    assert_frame_equal(pl.read_parquet(tmp_path / "lines.parquet"), pl.concat([first, second]))
    assert pq.read_metadata(tmp_path / "lines.parquet").num_row_groups == 2


def test_equal_frames_become_equal_bytes(tmp_path: Path) -> None:
    frame = _frame([(None, "Streamly", "A", None, 1)])
    for name in ("a", "b"):
        write_frames(tmp_path / name, [frame])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_row_groups_can_be_skipped_by_time_and_row(tmp_path: Path) -> None:
    write_frames(tmp_path / "lines.parquet", [_frame([(None, "Streamly", "A", None, 7)])])
    group = pq.read_metadata(tmp_path / "lines.parquet").row_group(0)
    told = {group.column(n).path_in_schema: group.column(n).statistics for n in range(5)}
    assert told["row_number"].min == 7
    assert told["title"] is None
