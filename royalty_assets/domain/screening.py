"""The vectorised screen: whole columns of report text decided at once, as the models would.

It is derived from ``ReportLine`` and says nothing of its own about fields: constraints on texts
and integers become expressions; what a validator function decides, it decides here too, once
per distinct value. A row that the screen does not clear goes to the model, which accepts it or
gives the reason (invariant 8). What a field's text means (a date format, a decimal comma) is the
reader's to say, by its converter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import polars as pl
import pyarrow.compute as pc
from pydantic import (
    AfterValidator,
    BeforeValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from royalty_assets.domain.identifiers import ISRC_PATTERN
from royalty_assets.domain.money_columns import AMOUNT_DTYPE
from royalty_assets.domain.usage import (
    IDENTIFYING,
    NO_NUL,
    UNITS_MAX,
    USAGE_LINE_SCHEMA,
    ReportLine,
    exact_amount,
    isrc_as_understood,
)

Converter = Callable[[str], Any]
"""The text of a cell as a value for the model; what it cannot read it gives back as it is."""

# Within this the conversion is exact, and no bound of the model is reached.
_PLAIN_AMOUNT = r"^[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})$"


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """How a field's column is read.

    Attributes:
        convert: for one text.
        as_plain: of numbers, for a column: the texts as plain ones (``-1234.5``), null where that
            is not certain.
    """

    convert: Converter
    as_plain: Callable[[pl.Expr], pl.Expr] | None = None


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of a block of rows.

    Attributes:
        lines: the rows that were cleared, ``USAGE_LINE_SCHEMA`` without the columns that are
            not the model's, and ``row_number``.
        suspects: row number and converted fields of the others.
        plain: fields of which every row's text has the form that the field asks for, where that
            is known and there are no suspects.
    """

    lines: pl.DataFrame
    suspects: list[tuple[int, dict[str, Any]]]
    plain: frozenset[str] = frozenset()


def screen(
    cells: pl.DataFrame, readings: Mapping[str, ColumnReading], *, may_hold_nul: bool = True
) -> Screened:
    """Decide what can be decided by column.

    Args:
        cells: ``row_number`` and a String column, without nulls and without white space at the
            edges, per input field of ``ReportLine``; empty where nothing was sent.
        readings: by input field; texts are taken as they are where there is none.
        may_hold_nul: False where it is known that no cell holds one, which need not be looked for.
    """
    columns: list[_Values] = [cells["row_number"]]
    cleared = pl.repeat(True, cells.height, dtype=pl.Boolean, eager=True)
    plain: set[str] = set()
    for name, field in ReportLine.model_fields.items():
        given = input_name(name, field)
        if given not in cells.columns:
            decided = _default(name, field)
        else:
            decided = _decide(name, field, cells[given], readings.get(given), may_hold_nul)
        if decided is None:
            cleared = cleared & False
            continue
        columns.append(decided.values)
        if decided.is_plain:
            plain.add(name)
        if decided.is_clear is not None:
            cleared = cleared & decided.is_clear
    lines = cells.select(columns)
    is_complete = lines.width == len(ReportLine.model_fields) + 1
    if is_complete:
        cleared = cleared & lines.select(_is_whole()).to_series()
        if cleared.all():
            return Screened(lines, [], frozenset(plain))
    suspects = cells.filter(~cleared)
    return Screened(
        lines.filter(cleared) if is_complete else pl.DataFrame(schema=_line_schema()),
        [(row.pop("row_number"), convert_row(row, readings)) for row in suspects.to_dicts()],
    )


def convert_row(row: Mapping[str, str], readings: Mapping[str, ColumnReading]) -> dict[str, Any]:
    """The fields of one row as values for the model; empty texts are left out."""
    return {
        name: readings[name].convert(text) if name in readings else text
        for name, text in row.items()
        if text
    }


def input_name(name: str, field: FieldInfo) -> str:
    """What a field is called in what its model is given."""
    return str(field.validation_alias or name)


def _line_schema() -> dict[str, pl.DataType]:
    return {"row_number": pl.Int64()} | {n: USAGE_LINE_SCHEMA[n] for n in ReportLine.model_fields}


def _is_whole() -> pl.Expr:
    """``ReportLine._is_whole``, for cleared columns."""
    identified = pl.any_horizontal(pl.col(name) != "" for name in IDENTIFYING)
    return identified & (pl.col("amount").is_null() == pl.col("currency").is_null())


# A column; or where all rows say the same, an expression, so that it stays one value.
_Values = pl.Series | pl.Expr


@dataclass(frozen=True, slots=True)
class _Decided:
    """A field's values, and where they stand for sure; elsewhere they mean nothing.

    Attributes:
        values: of the field.
        is_clear: where they stand; None for everywhere.
        is_plain: whether every text has the form that the field asks for.
    """

    values: _Values
    is_clear: pl.Series | None = None
    is_plain: bool = False


def _default(name: str, field: FieldInfo) -> _Decided | None:
    if field.default is PydanticUndefined:
        return None
    return _Decided(pl.lit(field.default, USAGE_LINE_SCHEMA[name]).alias(name))


def _decide(
    name: str, field: FieldInfo, texts: pl.Series, reading: ColumnReading | None, may_hold_nul: bool
) -> _Decided:
    if _is_constant(texts):
        table = _one_by_one(name, field, texts.head(1), reading)
        refused = pl.repeat(False, texts.len(), dtype=pl.Boolean, eager=True)
        value = pl.lit(table[name]).first().alias(name)
        return _Decided(value, None if table["clear"][0] else refused)
    form = _form_of(name)
    if form is None or (reading is not None and reading.as_plain is None):
        return _Decided(*_looked_up(name, field, texts, reading))
    plain = texts
    if reading is not None and reading.as_plain is not None:
        plain = pl.select(reading.as_plain(pl.lit(texts))).to_series()
    values = form(plain, may_hold_nul).alias(name)
    unclear = values.is_null()
    if field.default != "" and (is_empty := texts == "").any():
        # What has no text has the default; that is not for the form to say, unless it is "".
        unclear = unclear | is_empty
    if not unclear.any():
        return _Decided(values, None, is_plain=True)
    found, clear = _looked_up(name, field, _only(texts, unclear), reading)
    merged = pl.select(pl.when(unclear).then(found).otherwise(values).alias(name)).to_series()
    return _Decided(merged, None if clear is None else ~unclear | clear.fill_null(value=False))


def _looked_up(
    name: str, field: FieldInfo, texts: pl.Series, reading: ColumnReading | None
) -> tuple[pl.Series, pl.Series | None]:
    """Values of texts by their distinct ones, and where they are clear; null where a text is."""
    # As Arrow numbers its distinct texts, so that none has to be looked for.
    numbered = pc.dictionary_encode(texts.to_arrow(compat_level=pl.CompatLevel.oldest()))
    table = _one_by_one(name, field, numbered.dictionary.to_pylist(), reading)
    numbers = pl.Series(numbered.indices)
    values = table[name].gather(numbers)
    return values, None if table["clear"].all() else table["clear"].gather(numbers)


def _one_by_one(
    name: str, field: FieldInfo, texts: Iterable[str], reading: ColumnReading | None
) -> pl.DataFrame:
    """Columns ``t``, the field's value, ``clear``: each distinct text put to the field itself."""
    adapter = _adapter(name)
    convert = None if reading is None else reading.convert
    known = list(texts)
    values: list[Any] = []
    clear: list[bool] = []
    for text in known:
        if not text:
            has_default = field.default is not PydanticUndefined
            values.append(field.default if has_default else None)
            clear.append(has_default)
            continue
        try:
            values.append(adapter.validate_python(text if convert is None else convert(text)))
            clear.append(True)
        except ValidationError:
            values.append(None)
            clear.append(False)
    dtype = USAGE_LINE_SCHEMA[name]
    series = pl.Series(name, values, dtype=dtype)
    cleared = pl.Series(clear, dtype=pl.Boolean)
    return pl.DataFrame({"t": pl.Series(known, dtype=pl.String), name: series, "clear": cleared})


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = ReportLine.model_fields[name]
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    return TypeAdapter(annotation)


_Form = Callable[[pl.Series, bool], pl.Series]


@cache
def _form_of(name: str) -> _Form | None:
    return _vector_form(ReportLine.model_fields[name])


def _vector_form(field: FieldInfo) -> _Form | None:
    """The field's law over a column: values where the text is certain, null elsewhere.

    Its second argument says whether a text may hold a NUL.
    """
    metadata = _flattened(field)
    functions = [m.func for m in metadata if isinstance(m, AfterValidator | BeforeValidator)]
    if exact_amount in functions:
        return _amount_form
    if isrc_as_understood in functions:
        return _isrc_form
    if functions:
        return None
    if field.annotation is int:
        return _units_form
    constraints = next((m for m in metadata if isinstance(m, StringConstraints)), None)
    if field.annotation is str and constraints is not None:
        return lambda texts, may_hold_nul: _text_form(texts, constraints, may_hold_nul)
    return None


def _flattened(field: FieldInfo) -> list[Any]:
    """Constraints on the field, those of an optional field's value included."""
    metadata = list(field.metadata)
    for part in getattr(field.annotation, "__args__", ()):
        metadata += getattr(part, "__metadata__", ())
    return metadata


def _is_constant(texts: pl.Series) -> bool:
    return not texts.is_empty() and texts[0] == texts[-1] and bool((texts == texts[0]).all())


def _amount_form(texts: pl.Series, _: bool) -> pl.Series:
    certain = _only(texts, texts.str.contains(_PLAIN_AMOUNT))
    return certain.str.to_decimal(scale=18).cast(AMOUNT_DTYPE)


def _units_form(texts: pl.Series, _: bool) -> pl.Series:
    # To Polars a text is an integer if it is digits, with a sign or none before them.
    units = texts.cast(pl.Int64, strict=False)
    return _only(units, units.is_between(-UNITS_MAX, UNITS_MAX))


def _isrc_form(texts: pl.Series, _: bool) -> pl.Series:
    return _only(texts, texts.str.contains(ISRC_PATTERN))


def _text_form(texts: pl.Series, constraints: StringConstraints, may_hold_nul: bool) -> pl.Series:
    # Cells come stripped, so that strip_whitespace has nothing to do. Bytes bound characters.
    longest = constraints.max_length
    sizes = texts.str.len_bytes()
    if longest is not None and (sizes > longest).any():
        texts = _only(texts, texts.str.len_chars() <= longest)
    if constraints.min_length:
        texts = _only(texts, sizes >= constraints.min_length)
    if constraints.pattern == NO_NUL:
        if not may_hold_nul:
            return texts
        texts = _only(texts, ~texts.str.contains("\x00", literal=True))
    elif constraints.pattern is not None:
        texts = _only(texts, texts.str.contains(str(constraints.pattern)))
    return texts


def _only(texts: pl.Series, certain: pl.Series) -> pl.Series:
    """The texts that are certain, null for the others."""
    if certain.all():
        return texts
    return pl.select(pl.when(certain).then(texts)).to_series()
