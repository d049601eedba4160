"""The records of DSR flat files: which cell is where, in which version."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """The cells of one version of a record.

    Attributes:
        record_type: as it stands in the first cell (``SU02.03``).
        cells: names in order, the record type left out.
        cells_min: how many there must be, the record type left out: up to the last mandatory one.
    """

    record_type: str
    cells: tuple[str, ...]
    cells_min: int

    def position(self, *names: str) -> int | None:
        """Where the first of these cells that the record has stands, counted from 1."""
        return next(iter(self.positions(*names)), None)

    def positions(self, *names: str) -> list[int]:
        """Where those of these cells that the record has stand, in the order of the names."""
        return [self.cells.index(name) + 1 for name in names if name in self.cells]


@cache
def record_layouts() -> dict[str, RecordLayout]:
    """Record type, version included → layout."""
    text = files(__package__).joinpath("records.yaml").read_text(encoding="utf-8")
    return {name: _layout(name, cells) for name, cells in yaml.load(text, yaml.CSafeLoader).items()}


def _layout(name: str, cells: list[str]) -> RecordLayout:
    mandatory = [number for number, cell in enumerate(cells, start=1) if "?" not in cell]
    return RecordLayout(name, tuple(cell.rstrip("?*") for cell in cells), max(mandatory, default=0))


def layout_for(record_type: str, number_of_cells: int) -> RecordLayout | None:
    """The layout of a record: by its version, else by its number of cells among known versions."""
    known = record_layouts()
    if (layout := known.get(record_type)) is not None:
        return layout
    base = record_type.partition(".")[0]
    siblings = [layout for name, layout in known.items() if name.partition(".")[0] == base]
    fitting = [s for s in siblings if s.cells_min <= number_of_cells <= len(s.cells)]
    return max(fitting, key=lambda layout: layout.record_type, default=None)


@cache
def longest_record() -> int:
    """Cells after the type of the record that has most."""
    return max(len(layout.cells) for layout in record_layouts().values())


def known_record(record_type: str) -> bool:
    """Whether any version of the record is known."""
    base = record_type.partition(".")[0]
    return any(name.partition(".")[0] == base for name in record_layouts())
