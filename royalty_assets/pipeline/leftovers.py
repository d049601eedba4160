"""What runs left that did not end: found, told, and removed where it cannot be wanted any more.

An object belongs to a batch, of any revision, or to nothing. One that no batch lists is of a run
that died before it committed, or of one that is still at it; only age tells them apart, so nothing
younger than a grace period is touched. Three things make that safe. The lake is listed before the
registry is read, so whatever was committed meanwhile is known. Whoever puts an object that is there
makes it young again (``lake.RENEWED_AFTER``), so no run commits one that is old. And each object's
age is looked at again when it is its turn to go. What is committed is never a leftover; whether it
is whole is ``verify``'s to say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from shutil import rmtree

from royalty_assets.pipeline.context import PipelineContext, StageBlockedError

GRACE = timedelta(days=7)
"""How old a leftover has to be, where nothing else is said."""
SHORTEST_GRACE = timedelta(days=1)
"""What may be asked for beside runs: ``lake.RENEWED_AFTER`` and twice the longest run are less."""


class LeftoverKind(StrEnum):
    """What a leftover is."""

    ORPHAN = "object that no batch lists"
    HALF_WRITTEN = "half-written object"
    SPOOL = "spool of a run"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that can go.

    Attributes:
        kind: what it is.
        name: where a person finds it.
        size_bytes: what its removal frees, as far as the store tells.
        left_at: when it was last written, in UTC.
        remove: removes it; whether it is gone, or was put again meanwhile.
    """

    kind: LeftoverKind
    name: str
    size_bytes: int
    left_at: datetime
    remove: Callable[[], bool]


def leftovers(context: PipelineContext, grace: timedelta = GRACE) -> list[Leftover]:
    """What nothing refers to and nobody can be at any more, by kind and age.

    Args:
        context: the project.
        grace: what is younger stays; it has to be longer than a run takes, unless none can run.

    Raises:
        StageBlockedError: if the registry lists nothing and the lake holds something.
        LakeError: if the lake cannot be listed.
    """
    put_before = context.now() - grace
    found = [each for each in context.lake.listing() if each.modified_at < put_before]
    # Not before the lake is listed: what is committed in between would be taken for an orphan.
    listed = context.registry.listed_paths()
    if found and not listed:
        raise StageBlockedError(
            f"the registry lists no object at all and the lake holds {len(found)}; nothing is "
            "removed. Is ROYALTY_ASSETS_REGISTRY_URL that of this lake?"
        )
    orphans = [
        Leftover(
            LeftoverKind.ORPHAN,
            each.path,
            each.size_bytes,
            each.modified_at,
            partial(context.lake.remove, each.path, put_before),
        )
        for each in found
        if each.path not in listed
    ]
    others = [*_half_written(context), *_spool(context.home / "spool")]
    old = orphans + [each for each in others if each.left_at < put_before]
    return sorted(old, key=lambda each: (each.kind, each.left_at, each.name))


def _half_written(context: PipelineContext) -> Iterator[Leftover]:
    for each in context.lake.half_written():
        yield Leftover(
            LeftoverKind.HALF_WRITTEN,
            each.name,
            each.size_bytes,
            each.begun_at,
            partial(_done, each.discard),
        )


def _spool(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # A run goes on writing into folders of its own: the newest file says when it last did.
        there = [(each, each.lstat()) for each in (path, *path.rglob("*"))]
        left_at = datetime.fromtimestamp(max(status.st_mtime for _, status in there), UTC)
        size_bytes = sum(status.st_size for each, status in there if each.is_file())
        remove = partial(_done, partial(_remove_from_disk, path))
        yield Leftover(LeftoverKind.SPOOL, str(path), size_bytes, left_at, remove)


def _remove_from_disk(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _done(remove: Callable[[], None]) -> bool:
    remove()
    return True
