"""What a set of contracts covers, told without any usage: by territory, use and month.

Recordings that the same contracts name have one *profile*, and contracts of the same territories,
uses and months one *shape*, so that a catalog of a million recordings comes down to a few grids.
The rule is that of ``terms``, where lines are divided by it: the nearest contracts that cover a
line count, and there should be one of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import IntEnum
from functools import cache, lru_cache
from typing import NamedTuple, get_args

from royalty_assets.domain.contracts import Contract, Contracts
from royalty_assets.domain.territories import WORLDWIDE, TerritorySet, territory_codes
from royalty_assets.domain.usage import UseType

ALL_TERRITORIES = territory_codes() | {WORLDWIDE}
ALL_USE_TYPES = frozenset(get_args(UseType))
_DAY = timedelta(days=1)


class Nearness(IntEnum):
    """How nearly a contract names a recording; the nearest counts."""

    RECORDING = 0
    GROUP = 1
    EVERY_RECORDING = 2


class Profile(NamedTuple):
    """The contracts that may cover a recording, nearest first; not all of them name it."""

    contracts: tuple[tuple[Nearness, str], ...]

    @property
    def naming(self) -> tuple[str, ...]:
        """Those that name the recording, by itself or by a group."""
        return tuple(c for near, c in self.contracts if near != Nearness.EVERY_RECORDING)


class _Shape(NamedTuple):
    """A contract as far as coverage goes."""

    nearness: Nearness
    territories: str
    use_types: tuple[str, ...]
    valid_from: date | None
    valid_to: date | None


@dataclass(frozen=True, slots=True)
class Area:
    """Territories, uses and days for which the same contracts count.

    Attributes:
        contracts: none is a gap, more than one is an overlap.
        first, last: days, both included; None where there is no bound.
    """

    contracts: tuple[str, ...]
    territories: frozenset[str]
    use_types: frozenset[str]
    first: date | None
    last: date | None

    def has(self, territory: str, use_type: str, on: date) -> bool:
        """Whether a line lies in it."""
        return territory in self.territories and use_type in self.use_types and self.is_at(on)

    def is_at(self, on: date) -> bool:
        """Whether the day is one of its."""
        return (self.first is None or self.first <= on) and (self.last is None or on <= self.last)


class Coverage:
    """What each recording's contracts cover.

    Attributes:
        recordings: profile → the recordings that have it, of those that a contract names.
    """

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts.contracts
        everywhere = tuple(
            (Nearness.EVERY_RECORDING, c.contract)
            for c in sorted(contracts.contracts.values(), key=lambda c: c.contract)
            if c.every_recording
        )
        self.unnamed = Profile(everywhere)
        naming: dict[str, set[tuple[Nearness, str]]] = {}
        for contract in contracts.contracts.values():
            near = Nearness.GROUP if contract.groups else Nearness.RECORDING
            for recording in contracts.recordings_of(contract):
                naming.setdefault(recording, set()).add((near, contract.contract))
        self.recordings: dict[Profile, list[str]] = {}
        self._profiles: dict[str, Profile] = {}
        self._areas: dict[Profile, tuple[Area, ...]] = {}
        for recording, named_by in sorted(naming.items()):
            profile = Profile((*sorted(named_by), *everywhere))
            self.recordings.setdefault(profile, []).append(recording)
            self._profiles[recording] = profile

    def profile(self, recording_id: str) -> Profile:
        """The profile of any recording."""
        return self._profiles.get(recording_id, self.unnamed)

    def counting(
        self, profile: Profile, territory: str, use_type: str, on: date
    ) -> tuple[str, ...]:
        """The contracts that count for a line of a period that ends on a day."""
        positions = _counting(self._shapes(profile), territory, use_type, on)
        return tuple(profile.contracts[at][1] for at in positions)

    def areas(self, profile: Profile) -> tuple[Area, ...]:
        """Where no contract counts, or more than one; areas do not meet."""
        if profile not in self._areas:
            self._areas[profile] = tuple(
                replace(
                    area, contracts=tuple(profile.contracts[int(at)][1] for at in area.contracts)
                )
                for area in _areas(self._shapes(profile))
            )
        return self._areas[profile]

    def _shapes(self, profile: Profile) -> tuple[_Shape, ...]:
        return tuple(
            _shape(nearness, self._contracts[contract]) for nearness, contract in profile.contracts
        )


def _shape(nearness: Nearness, contract: Contract) -> _Shape:
    return _Shape(
        nearness,
        contract.territories,
        contract.use_types,
        contract.valid_from,
        contract.valid_to,
    )


@cache
def _territories(text: str) -> frozenset[str]:
    covered = TerritorySet.parse(text)
    return frozenset(territory for territory in ALL_TERRITORIES if territory in covered)


@lru_cache(maxsize=1 << 16)
def _counting(
    shapes: tuple[_Shape, ...], territory: str, use_type: str, on: date
) -> tuple[int, ...]:
    return _nearest(
        shapes,
        [
            (not shape.use_types or use_type in shape.use_types)
            and territory in _territories(shape.territories)
            and (shape.valid_from is None or shape.valid_from <= on)
            and (shape.valid_to is None or on <= shape.valid_to)
            for shape in shapes
        ],
    )


def _nearest(shapes: tuple[_Shape, ...], covers: Iterable[bool]) -> tuple[int, ...]:
    covering = [at for at, covered in enumerate(covers) if covered]
    nearness = min((shapes[at].nearness for at in covering), default=None)
    return tuple(at for at in covering if shapes[at].nearness == nearness)


@cache
def _areas(shapes: tuple[_Shape, ...]) -> tuple[Area, ...]:
    """Areas by positions of shapes, which are told as texts."""
    places = _classes(ALL_TERRITORIES, [_territories(shape.territories) for shape in shapes])
    uses = _classes(
        ALL_USE_TYPES, [frozenset(shape.use_types) or ALL_USE_TYPES for shape in shapes]
    )
    merged: dict[tuple[tuple[int, ...], frozenset[str], frozenset[str]], list[Area]] = {}
    for first, last in _spans(shapes):
        day = first or last or date.min
        in_force = [
            (shape.valid_from is None or shape.valid_from <= day)
            and (shape.valid_to is None or day <= shape.valid_to)
            for shape in shapes
        ]
        for counting, territories, use_types in _cells(shapes, in_force, places, uses):
            known = merged.setdefault((counting, territories, use_types), [])
            told = tuple(map(str, counting))
            if known and known[-1].last is not None and known[-1].last + _DAY == first:
                known[-1] = replace(known[-1], last=last)
            else:
                known.append(Area(told, territories, use_types, first, last))
    return tuple(area for areas in merged.values() for area in areas)


def _cells(
    shapes: tuple[_Shape, ...],
    in_force: list[bool],
    places: Mapping[tuple[bool, ...], frozenset[str]],
    uses: Mapping[tuple[bool, ...], frozenset[str]],
) -> Iterator[tuple[tuple[int, ...], frozenset[str], frozenset[str]]]:
    """Which shapes count where, other than one: the territories of the same uses together."""
    by_place: dict[tuple[tuple[int, ...], frozenset[str]], set[str]] = {}
    for at_place, territories in places.items():
        of_place: dict[tuple[int, ...], set[str]] = {}
        for of_use, use_types in uses.items():
            covers = map(all, zip(in_force, at_place, of_use, strict=True))
            of_place.setdefault(_nearest(shapes, covers), set()).update(use_types)
        for counting, met in of_place.items():
            if len(counting) != 1:
                by_place.setdefault((counting, frozenset(met)), set()).update(territories)
    for (counting, use_types), there in by_place.items():
        yield counting, frozenset(there), use_types


def _classes(
    universe: frozenset[str], sets: list[frozenset[str]]
) -> dict[tuple[bool, ...], frozenset[str]]:
    """The elements of a universe that are in the same sets."""
    classes: dict[tuple[bool, ...], set[str]] = {}
    for element in sorted(universe):
        classes.setdefault(tuple(element in each for each in sets), set()).add(element)
    return {membership: frozenset(elements) for membership, elements in classes.items()}


def _spans(shapes: tuple[_Shape, ...]) -> Iterator[tuple[date | None, date | None]]:
    """The time in between all days on which a contract begins or has ended."""
    starts = {shape.valid_from for shape in shapes if shape.valid_from is not None}
    starts |= {shape.valid_to + _DAY for shape in shapes if shape.valid_to not in {None, date.max}}
    first: date | None = None
    for start in sorted(starts):
        if start > (first or date.min):
            yield first, start - _DAY
            first = start
    yield first, None
