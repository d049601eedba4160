"""What keeps a partition from being committed: what mends it, and who.

One taxonomy for sources, lake, registry, disk and stages. What belongs here: the words and what
follows from them. Which exception is which kind is in ``pipeline.failures``.
"""

from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """What has to happen before the partition can be committed.

    ``RETRY`` and ``WAIT`` are transient: the run that comes next needs nobody. ``MEND`` is
    permanent: each run fails in the same way until a person has acted.
    """

    RETRY = "retry"
    """The same again may do: a service that was busy, a database that was restarted."""
    WAIT = "wait"
    """Something else comes first and is on its way: a delivery, the stage before, another run."""
    MEND = "mend"
    """A person has to act."""


class Actor(StrEnum):
    """Who acts."""

    NOBODY = "nobody"
    """It goes on by itself."""
    FEED_OWNER = "feed owner"
    """Whoever looks after the feed, and speaks to its sender: the feed's ``owner``."""
    ROYALTY_MANAGER = "royalty manager"
    """Whoever answers for the month: contracts, rates, catalog, limits."""
    OPERATOR = "operator"
    """Whoever runs the machine: disk, database, lake."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a partition has no commit.

    Attributes:
        problem: what is wrong and what to do, in words for the one who acts.
        remedy: what has to happen.
        actor: who acts; ``NOBODY`` where the remedy is transient.
    """

    problem: str
    remedy: Remedy
    actor: Actor = Actor.NOBODY

    def __post_init__(self) -> None:
        if (self.remedy is Remedy.MEND) == (self.actor is Actor.NOBODY):
            raise ValueError(f"{self.remedy} and {self.actor} contradict each other")

    @property
    def is_transient(self) -> bool:
        """Whether it goes on by itself."""
        return self.remedy is not Remedy.MEND
