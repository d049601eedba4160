"""Exceptions → failures: the one place that says what an error means for a partition.

``failure_of`` knows every error that a stage meets in the ordinary course of bad days: a source,
the lake, the registry, its database, the disk, an input that is not there. Whatever it does not
know is a fault of the program, and has to end the run loudly.
"""

import errno
import re
from collections.abc import Iterator

import sqlalchemy as sa

from royalty_assets.audit.keys import SigningKeyError
from royalty_assets.domain.failures import Actor, Failure, Remedy
from royalty_assets.pipeline.context import StageBlockedError, StageWaitingError
from royalty_assets.sources.payloads import (
    NotDeliveredError,
    PermanentSourceError,
    SourceError,
    TransientSourceError,
)
from royalty_assets.storage.database import (
    DatabaseAccessError,
    DatabaseBusyError,
    DatabaseUnavailableError,
)
from royalty_assets.storage.lake import LakeError, LakeUnavailableError
from royalty_assets.storage.registry import RegistryConflictError

_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DISK_MAY_RECOVER = frozenset({errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ESTALE})
# Libraries written in Rust tell the number in the text alone.
_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")

_ACTORS: tuple[tuple[type[Exception], Remedy, Actor], ...] = (
    (TransientSourceError, Remedy.RETRY, Actor.NOBODY),
    (NotDeliveredError, Remedy.WAIT, Actor.NOBODY),
    (PermanentSourceError, Remedy.MEND, Actor.FEED_OWNER),
    (SourceError, Remedy.MEND, Actor.FEED_OWNER),
    (RegistryConflictError, Remedy.WAIT, Actor.NOBODY),
    (StageWaitingError, Remedy.WAIT, Actor.NOBODY),
    (StageBlockedError, Remedy.MEND, Actor.ROYALTY_MANAGER),
    (LakeUnavailableError, Remedy.RETRY, Actor.NOBODY),
    (LakeError, Remedy.MEND, Actor.OPERATOR),
    (DatabaseUnavailableError, Remedy.RETRY, Actor.NOBODY),
    (DatabaseBusyError, Remedy.RETRY, Actor.NOBODY),
    (DatabaseAccessError, Remedy.MEND, Actor.OPERATOR),
    (sa.exc.TimeoutError, Remedy.RETRY, Actor.NOBODY),  # no connection of the pool was free
    (SigningKeyError, Remedy.MEND, Actor.OPERATOR),
)


def failure_of(error: BaseException) -> Failure | None:
    """What an error means for the partition that met it; None if it is a fault of the program.

    Of a group of errors the one counts that needs a person; a group with a fault in it is one.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [failure_of(each) for each in _leaves(error)]
        known = [failure for failure in found if failure is not None]
        if len(known) < len(found):
            return None
        return min(known, key=lambda failure: failure.is_transient)
    for kind, remedy, actor in _ACTORS:
        if isinstance(error, kind):
            return Failure(str(error), remedy, actor)
    if isinstance(error, OSError):
        return _of_disk(error)
    return None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _of_disk(error: OSError) -> Failure:
    told = str(error)
    number = error.errno
    if number is None and (found := _NUMBER_IN_TEXT.search(told)):
        number = int(found[1])
    if number in _DISK_IS_FULL:
        return Failure(
            f"the disk is full ({told}); make room, and run it again: nothing is lost",
            Remedy.MEND,
            Actor.OPERATOR,
        )
    if number in _DISK_MAY_RECOVER or isinstance(error, ConnectionError):
        return Failure(told, Remedy.RETRY)
    return Failure(
        f"a file cannot be read or written: {told}; see to the disk and the rights on it, and run "
        "it again",
        Remedy.MEND,
        Actor.OPERATOR,
    )
