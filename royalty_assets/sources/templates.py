"""Templates: how the files of one service are laid out, as data.

A template is recognised by its signature columns, all of which must stand in one header line;
its fields say which column is which. Templates are YAML in ``layouts`` (and, for a project
of one's own, in its ``templates`` folder); no layout is written as code.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from royalty_assets.domain.batches import combined_sha256
from royalty_assets.domain.catalog import Recording, Right, Share
from royalty_assets.domain.usage import PoolLine, ReportLine

HEADER_LINES_MAX = 20
"""How far down a header may stand."""


class TemplateError(Exception):
    """A template that cannot be used; the message names the file and what is wrong."""


_FIELDS: dict[str, frozenset[str]] = {
    "report_lines": frozenset(ReportLine.model_fields) - {"used_at"} | {"used_on"},
    "pools": frozenset(PoolLine.model_fields) - {"used_at"} | {"used_on"},
    "recordings": frozenset(Recording.model_fields),
    "shares": frozenset(Share.model_fields),
    "rights": frozenset(Right.model_fields),
}


class Footer(BaseModel):
    """A line after the data that tells totals, known by its first cell.

    Attributes:
        starts_with: the first cell.
        units, amount: columns that hold the totals, by name.
        lines: position of the number of lines, counted from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    starts_with: str
    units: str | None = None
    amount: str | None = None
    lines: int | None = None


class Template(BaseModel):
    """The layout of a kind of file.

    Attributes:
        name: unique, also told in the UI.
        records: what a line is.
        signature: columns that only this layout has together.
        columns: field of the record → column.
        constants: field → value for every line.
        preamble: field → first cell of a preamble line whose second cell is the value.
        date_format: strptime format of the date column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    records: Literal["report_lines", "pools", "recordings", "shares", "rights"]
    signature: Annotated[list[str], Field(min_length=2)]
    columns: dict[str, str]
    constants: dict[str, str] = {}
    preamble: dict[str, str] = {}
    date_format: str = "%Y-%m-%d"
    footers: list[Footer] = []

    @model_validator(mode="after")
    def _names_fields_that_exist(self) -> Self:
        named = {*self.columns, *self.constants, *self.preamble}
        if unknown := sorted(named - _FIELDS[self.records]):
            known = ", ".join(sorted(_FIELDS[self.records]))
            raise ValueError(f"no such field: {', '.join(unknown)}; {self.records} have {known}")
        return self


def fold(column: str) -> str:
    """A column's name without the differences that do not matter: case and white space."""
    return " ".join(column.split()).casefold()


def read_templates(folder: Path) -> list[Template]:
    """The templates in a folder's YAML files, by name.

    Raises:
        TemplateError: naming the file and the place in it.
    """
    return [_read_template(path) for path in sorted(folder.glob("*.yaml"))]


def _read_template(path: Path) -> Template:
    try:
        return Template.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise TemplateError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, problem['loc'])) or 'template'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise TemplateError(f"{path} is no template:\n{problems}") from None


@cache
def bundled_templates() -> tuple[Template, ...]:
    """The templates that come with the package."""
    return tuple(read_templates(Path(str(files("royalty_assets.sources").joinpath("layouts")))))


def recognise(header: Sequence[str], templates: Iterable[Template]) -> Template | None:
    """The template whose signature the header has; the one with most columns if there are more.

    A column that stands twice in the header cannot be part of a signature: which of the two is
    meant would be a guess.
    """
    folded = [fold(cell) for cell in header]
    unique = {cell for cell in folded if folded.count(cell) == 1}
    fitting = [t for t in templates if unique.issuperset(map(fold, t.signature))]
    return max(fitting, key=lambda t: (len(t.signature), t.name), default=None)


def nearest(
    header: Sequence[str], templates: Iterable[Template]
) -> tuple[Template, list[str]] | None:
    """The template that shares most signature columns, and those that are missing."""
    folded = {fold(cell) for cell in header}
    ranked = sorted(
        templates, key=lambda t: (-len(folded.intersection(map(fold, t.signature))), t.name)
    )
    if not ranked or not folded.intersection(map(fold, ranked[0].signature)):
        return None
    return ranked[0], [column for column in ranked[0].signature if fold(column) not in folded]


def templates_sha256(templates: Iterable[Template], records: str) -> str:
    """A digest of the templates for a kind of record: others may read the same bytes otherwise."""
    applicable = sorted(t.model_dump_json() for t in templates if t.records == records)
    return combined_sha256(applicable)
