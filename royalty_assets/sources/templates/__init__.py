"""Templates: how the files of one sender are laid out, as versioned data.

A template is recognised by its signature columns, all of which must stand in one header line;
its fields say which column is which. Templates are the YAML files in this folder (and, for a
project of one's own, in its ``templates`` folder); no layout is written as code. What a sender
has changed over the years are *generations* of one file: each states what differs.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from royalty_assets.domain.batches import combined_sha256
from royalty_assets.domain.catalog import Recording, Right, Share
from royalty_assets.domain.remittances import Remittance
from royalty_assets.domain.screening import input_name
from royalty_assets.domain.usage import PoolLine, ReportLine

HEADER_LINES_MAX = 20
"""How far down a header may stand."""

ISO_DATES = (
    "%Y-%m-%d",
    "%Y-%m",
    "%Y/%m/%d",
    "%Y/%m",
    "%Y.%m.%d",
    "%Y%m%d",
    "%Y%m",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
)
"""Year first, then month: dates that mean one thing only."""


class TemplateError(Exception):
    """A template that cannot be used; the message names the file and what is wrong."""


def _input_names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(input_name(name, field) for name, field in model.model_fields.items())


_FIELDS: dict[str, frozenset[str]] = {
    "report_lines": _input_names(ReportLine),
    "pools": _input_names(PoolLine),
    "recordings": _input_names(Recording),
    "shares": _input_names(Share),
    "rights": _input_names(Right),
    "remittances": _input_names(Remittance),
}


class Footer(BaseModel):
    """A line after the data that tells totals, known by its first cell.

    Attributes:
        starts_with: the first cell.
        units, amount: where the totals are: the name of a column, or a position from 0.
        lines: position of the number of lines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    starts_with: str
    units: str | int | None = None
    amount: str | int | None = None
    lines: int | None = None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


class Template(BaseModel):
    """The layout of a kind of file.

    Attributes:
        name: of the layout; its generations share it.
        generation: which of them; the month since when it is used, where that is known.
        feed: whose layout it is, for people.
        records: what a line is.
        signature: columns that only this layout has together.
        absent: columns that it must not have, to tell it from a later generation.
        columns: field of the record → column, or columns of which the first that is filled counts.
        constants: field → value for every line.
        preamble: field → name of a value above the header: the first cell of a line whose second
            is the value, or a name in one line whose value stands in the next.
        file_name: regular expression whose named groups are fields that the file's name tells.
        values: field → {the sender's word: ours}; ``*`` stands for any other word.
        date_format: strptime formats of the date columns; year first is always understood.
        decimal: of numbers: ``.``, ``,``, or ``either`` where senders' files differ (then each
            file's own numbers decide).
        defaults: field → value where its cell is empty.
        products: field → two columns whose numbers are multiplied, where no column has the product.
        not_usage: column → words of lines that tell of something else, and are refused as such.
        extra_cells: cells beyond the last column that lines may have.
        footers: lines of totals.
        stated: ``lines``, ``units``, ``amount`` → name of a value above the header.
        summary_after_repeated_header: whether what follows a second header is a summary by
            country, whose columns add up to the lines'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    generation: str = ""
    feed: str = ""
    description: str = ""
    records: Literal["report_lines", "pools", "recordings", "shares", "rights", "remittances"]
    signature: Annotated[list[str], Field(min_length=2)]
    absent: list[str] = []
    columns: dict[str, Names]
    constants: dict[str, str] = {}
    preamble: dict[str, Names] = {}
    file_name: str | None = None
    values: dict[str, dict[str, str]] = {}
    date_format: Names = list(ISO_DATES)
    decimal: Literal[".", ",", "either"] = "."
    defaults: dict[str, str] = {}
    products: dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]] = {}
    not_usage: dict[str, list[str]] = {}
    extra_cells: Annotated[int, Field(ge=0, le=9)] = 0
    footers: list[Footer] = []
    stated: dict[Literal["lines", "units", "amount"], str] = {}
    summary_after_repeated_header: bool = False

    @field_validator("file_name")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _names_fields_that_exist(self) -> Self:
        named = {
            *self.columns,
            *self.constants,
            *self.preamble,
            *self.values,
            *self.products,
            *self.defaults,
        }
        if self.file_name is not None:
            named |= set(re.compile(self.file_name).groupindex)
        if unknown := sorted(named - _FIELDS[self.records]):
            known = ", ".join(sorted(_FIELDS[self.records]))
            raise ValueError(f"no such field: {', '.join(unknown)}; {self.records} have {known}")
        return self

    @cached_property
    def folded_signature(self) -> frozenset[str]:
        """The signature as ``fold`` has it."""
        return frozenset(map(fold, self.signature))

    @cached_property
    def folded_absent(self) -> frozenset[str]:
        """The columns that must not be there, as ``fold`` has them."""
        return frozenset(map(fold, self.absent))

    @property
    def told(self) -> str:
        """Name and generation, for people."""
        return f"{self.name} ({self.generation})" if self.generation else self.name


def fold(column: str) -> str:
    """A column's name without the differences that do not matter: case and white space."""
    return " ".join(column.split()).casefold()


def read_templates(folder: Path) -> list[Template]:
    """The templates in a folder's YAML files, by name.

    Raises:
        TemplateError: naming the file and the place in it.
    """
    return [template for path in sorted(folder.glob("*.yaml")) for template in _read(path)]


def _read(path: Path) -> list[Template]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        return [Template.model_validate(each) for each in _generations(content)]
    except yaml.YAMLError as error:
        raise TemplateError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, problem['loc'])) or 'template'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise TemplateError(f"{path} is no template:\n{problems}") from None


def _generations(content: Any) -> list[Any]:
    """Each generation with what it shares with the others; mappings are merged, lists replaced."""
    if not isinstance(content, Mapping) or "generations" not in content:
        return [content]
    shared = {name: value for name, value in content.items() if name != "generations"}
    merged = []
    for generation in content["generations"]:
        whole = dict(shared)
        for name, value in generation.items():
            before = whole.get(name)
            both = isinstance(before, Mapping) and isinstance(value, Mapping)
            whole[name] = {**before, **value} if both else value  # type: ignore[dict-item]
        merged.append(whole)
    return merged


@cache
def bundled_templates() -> tuple[Template, ...]:
    """The templates that come with the package."""
    return tuple(read_templates(Path(str(files(__name__)))))


def recognise(header: Sequence[str], templates: Iterable[Template]) -> Template | None:
    """The template whose signature the header has; the most specific one if there are more.

    A column that stands twice in the header cannot be part of a signature: which of the two is
    meant would be a guess.
    """
    folded = [fold(cell) for cell in header]
    present = set(folded)
    unique = {cell for cell in present if folded.count(cell) == 1}
    fitting = [
        t for t in templates if unique >= t.folded_signature and not present & t.folded_absent
    ]
    return max(
        fitting,
        key=lambda t: (len(t.signature) + len(t.absent), t.generation, t.name),
        default=None,
    )


def nearest(
    header: Sequence[str], templates: Iterable[Template]
) -> tuple[Template, list[str]] | None:
    """The template that shares most signature columns, and those that are missing or repeated."""
    folded = [fold(cell) for cell in header]
    unique = {cell for cell in folded if folded.count(cell) == 1}
    ranked = sorted(
        templates,
        key=lambda t: (-len(unique & t.folded_signature) / len(t.signature), t.name),
    )
    if not ranked or not unique & ranked[0].folded_signature:
        return None
    return ranked[0], [column for column in ranked[0].signature if fold(column) not in unique]


def templates_sha256(templates: Iterable[Template], records: str) -> str:
    """A digest of the templates for a kind of record: others may read the same bytes otherwise."""
    applicable = sorted(t.model_dump_json() for t in templates if t.records == records)
    return combined_sha256(applicable)
