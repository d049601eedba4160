"""Bugs put into the product on purpose: whoever finds none of them would find no other either.

Each takes away one thing that the product does for a reason. They are put in by replacing what
they break in memory, in every process of the simulation (``make soak BUG=NAME``).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from royalty_assets.domain import payouts
from royalty_assets.domain.batches import Commit, LakeObject
from royalty_assets.domain.money import minor_unit_decimals
from royalty_assets.pipeline import reports, validate
from royalty_assets.storage import lake, registry
from royalty_assets.storage.registry import Registry, Turn

Replaced = list[tuple[Any, str, Any]]
"""What is replaced: where it is, its name, and what stands there instead."""


def _no_fence() -> Replaced:
    """Nobody holds a turn: a run looks which revision comes next when it has ended its work."""
    commit_partition = Registry.commit_partition

    def commit_whenever(self: Registry, commit: Commit, turn: Turn, *leaves: Any) -> None:
        newest = self.commit(turn.feed, turn.stage, turn.partition_key)
        number = 0 if newest is None else newest.revision + 1
        as_told = replace(turn, revision=number)
        commit_partition(self, replace(commit, revision=number), as_told, *leaves)

    return [
        (registry, "_hold", lambda *_, **__: None),
        (Registry, "commit_partition", commit_whenever),
    ]


def _commit_before_durable() -> Replaced:
    """An object is told to the registry while its bytes are still in memory."""
    put, local_path = lake.LocalLake.put, lake.LocalLake.local_path
    commit_batch = Registry.commit_batch
    waiting: dict[int, dict[Path, bytes]] = defaultdict(dict)
    last = [0]

    def put_later(
        self: lake.LocalLake, folder: str, label: str, rows: int, write: Callable[[Path], None]
    ) -> LakeObject:
        before = set((self._root / folder).glob(f"{label}-*"))
        stored = put(self, folder, label, rows, write)
        path = self._root / stored.path
        last[0] = id(self)
        if path not in before:
            waiting[id(self)][path] = path.read_bytes()
            path.unlink()
        return stored

    def land(owner: int) -> None:
        """What a lake has in memory goes to the disk; what another had that was killed is gone."""
        for path, body in waiting.pop(owner, {}).items():
            path.write_bytes(body)

    def local_path_later(self: lake.LocalLake, stored: LakeObject) -> Path:
        land(id(self))
        return local_path(self, stored)

    def commit_first(self: Registry, *arguments: Any, **options: Any) -> None:
        commit_batch(self, *arguments, **options)
        land(last[0])

    return [
        (lake.LocalLake, "put", put_later),
        (lake.LocalLake, "local_path", local_path_later),
        (Registry, "commit_batch", commit_first),
    ]


def _no_idempotency_key() -> Replaced:
    """What is delivered a second time is taken as new."""
    return [(reports, "_set_repetitions_aside", lambda _: None)]


def _swallow_rejected_row() -> Replaced:
    """A row that is refused is neither kept nor counted, now and then."""
    validate_rows, take_reports = validate.validate_rows, validate.take_reports

    def validate_fewer(*arguments: Any) -> Any:
        result = validate_rows(*arguments)
        del result.rejections[:1]
        return result

    def take_fewer(*arguments: Any) -> Any:
        taken = take_reports(*arguments)
        for report in taken:
            del report.rejections[:1]
        return taken

    return [(validate, "validate_rows", validate_fewer), (validate, "take_reports", take_fewer)]


def _round_twice() -> Replaced:
    """What is paid is rounded to a tenth of a minor unit first, and then to minor units."""
    round_once = payouts.round_to_minor_units

    def round_again(payable: Mapping[str, int], currency: str) -> Any:
        tenth = 10 ** (17 - minor_unit_decimals(currency))
        rough = {payee: (atoms + tenth // 2) // tenth * tenth for payee, atoms in payable.items()}
        return round_once(rough, currency)

    return [(payouts, "round_to_minor_units", round_again)]


BUGS: dict[str, Callable[[], Replaced]] = {
    "no_fence": _no_fence,
    "commit_before_durable": _commit_before_durable,
    "no_idempotency_key": _no_idempotency_key,
    "swallow_rejected_row": _swallow_rejected_row,
    "round_twice": _round_twice,
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """The product with a bug in this process; as it is, without a name."""
    replaced = BUGS[name]() if name else []
    originals = [(where, what, getattr(where, what)) for where, what, _ in replaced]
    for where, what, instead in replaced:
        setattr(where, what, instead)
    try:
        yield
    finally:
        for where, what, original in originals:
            setattr(where, what, original)
