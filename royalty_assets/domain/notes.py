"""Notes: what a line's identifiers were understood as, beyond what was sent (invariant 3).

A note does not refuse a line; it says, beside the line and by rule, that its value was restored
or is doubtful. Notes are ``field:what`` words, separated by spaces:

- ``text:not_utf8``: the line was no UTF-8 and was read as Windows-1252 (the reader's note)
- ``isrc:malformed``: what was sent is no ISRC; it stands as sent, for a person
- ``isrc:normalised``: case, hyphens or spaces were put right
- ``isrc:prefix_unknown``: well-formed, but no ISRC agency is known for its first two letters
- ``isrc:several``: more than one ISRC was sent; the first is taken
- ``grid:malformed``, ``iswc:malformed``: no valid one; it stands as sent
- ``upc:zeros_restored``: leading zeros were missing, and the check digit holds
- ``upc:malformed``: no UPC, EAN or GTIN, or a spreadsheet's ``8.6E+11``; no UPC is taken
- ``use_type:unknown_word``: the sender's word for the use is not in its template
"""

from collections.abc import Callable, Iterator

import polars as pl

from royalty_assets.domain.identifiers import (
    GTIN_DIGITS,
    ISRC_PATTERN,
    isrc_prefix_is_known,
    normalise_grid,
    normalise_gtin,
    normalise_iswc,
)

NOT_UTF8 = "text:not_utf8"
ISRC_SEVERAL = "isrc:several"
UNKNOWN_WORD = "use_type:unknown_word"
_CHECKED = {"grid": normalise_grid, "iswc": normalise_iswc}
_UPC_DIGITS = 12


def with_notes(lines: pl.DataFrame, *, all_isrcs_hold: bool = False) -> pl.DataFrame:
    """Canonical lines with ``upc`` in its normal form beside ``upc_as_sent``, and ``notes``.

    Args:
        lines: with ``isrc``, ``isrc_as_sent``, ``upc`` as sent, and ``notes`` of the reader.
        all_isrcs_hold: True where each is known to be one as it was sent.
    """
    lines = lines.with_columns(upc_as_sent="upc").with_columns(upc=_normal_gtins(lines["upc"]))
    for name, normalise in _CHECKED.items():
        if (lines[name] != "").any():
            lines = _with_normal(lines, name, normalise)
    told = [*_isrc_notes(lines, all_isrcs_hold), *_upc_notes(lines)]
    words = [(word, where) for word, where in told if where.any()]
    as_sent = pl.when(pl.col("isrc") != pl.col("isrc_as_sent")).then("isrc_as_sent")
    lines = lines.with_columns(isrc_as_sent=as_sent)
    if not words:
        return lines
    notes = pl.concat_str(
        pl.col("notes"),
        *(pl.when(where).then(pl.lit(f" {word}")).otherwise(pl.lit("")) for word, where in words),
    )
    return lines.with_columns(notes=notes.str.strip_chars())


def _with_normal(
    lines: pl.DataFrame, name: str, normalise: Callable[[str], str | None]
) -> pl.DataFrame:
    """The identifiers in their normal form; what has none stands as sent, and is noted."""
    distinct = lines[name].drop_nulls().unique()
    table = _mapped(distinct, lambda text: normalise(text) or "")
    joined = lines.join(table.rename({"t": name}), on=name, how="left", maintain_order="left")
    is_bad = (pl.col("mapped") == "") & (pl.col(name) != "")
    told = pl.when(is_bad).then(pl.lit(f" {name}:malformed")).otherwise(pl.lit(""))
    return joined.with_columns(
        pl.when(pl.col("mapped") != "").then("mapped").otherwise(name).alias(name),
        notes=pl.concat_str("notes", told.fill_null("")).str.strip_chars(),
    ).select(lines.columns)


def count_notes(notes: pl.Series) -> dict[str, int]:
    """How many lines bear each word."""
    words = notes.filter(notes != "").value_counts()
    counts: dict[str, int] = {}
    for text, number in words.iter_rows():
        for word in text.split():
            counts[word] = counts.get(word, 0) + number
    return dict(sorted(counts.items()))


def _isrc_notes(lines: pl.DataFrame, all_hold: bool) -> Iterator[tuple[str, pl.Series]]:
    isrc = lines["isrc"]
    if all_hold:
        is_isrc = pl.repeat(True, lines.height, dtype=pl.Boolean, eager=True)
    else:
        is_isrc = isrc.str.contains(ISRC_PATTERN)
        yield "isrc:malformed", (isrc != "") & ~is_isrc
        yield "isrc:normalised", is_isrc & (isrc != lines["isrc_as_sent"])
    prefix = isrc.str.slice(0, 2)
    unknown = [text for text in prefix.unique().to_list() if not isrc_prefix_is_known(text)]
    if unknown:
        yield "isrc:prefix_unknown", is_isrc & prefix.is_in(unknown)


def _upc_notes(lines: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
    upc, sent = lines["upc"], lines["upc_as_sent"]
    if (sent != "").any():
        yield "upc:zeros_restored", (upc != "") & (sent.str.len_bytes() < _UPC_DIGITS)
        yield "upc:malformed", (sent != "") & (upc == "")


def _normal_gtins(texts: pl.Series) -> pl.Series:
    """``normalise_gtin`` over a column, empty where there is none."""
    if not (texts != "").any():
        return texts
    distinct = texts.unique()
    normal = _normal_distinct_gtins(distinct)
    return texts.replace_strict(normal["t"], normal["normal"], return_dtype=pl.String)


def _normal_distinct_gtins(texts: pl.Series) -> pl.DataFrame:
    is_digits = texts.str.contains(rf"^[0-9]{{6,{GTIN_DIGITS}}}$")
    number = pl.when(is_digits).then(pl.col("t").cast(pl.Int64, strict=False))
    frame = pl.DataFrame({"t": texts}).with_columns(number=number)
    holds = (_weighted(pl.col("number")) % 10 == 0) & (pl.col("number") > 0)
    normal = pl.when(holds).then(pl.col("t").str.zfill(GTIN_DIGITS)).otherwise(pl.lit(""))
    frame = frame.with_columns(normal=pl.when(is_digits).then(normal))
    if is_digits.all():
        return frame
    others = frame.filter(~is_digits)["t"]
    by_text = _mapped(others, lambda text: normalise_gtin(text) or "")
    joined = frame.join(by_text, on="t", how="left")
    return joined.select("t", pl.coalesce("normal", "mapped").alias("normal"))


def _weighted(number: pl.Expr) -> pl.Expr:
    """The sum of a GTIN's digits, weighted 1 and 3 in turn from the right, check digit included."""
    total = number % 10
    for place in range(1, GTIN_DIGITS):
        digit = number // 10**place % 10
        total += digit * 3 if place % 2 else digit
    return total


def _mapped(texts: pl.Series, function: Callable[[str], str]) -> pl.DataFrame:
    known = texts.to_list()
    return pl.DataFrame(
        {"t": known, "mapped": [function(text) for text in known]},
        schema={"t": pl.String, "mapped": pl.String},
    )
