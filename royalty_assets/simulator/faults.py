"""What can go wrong with a service, switched on by name and decided by the seed.

A fault strikes a URL on its first attempts only (``FAULTS_PER_URL_MAX``), so a client that
retries gets through, and one that does not, does not.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

FAULTS_PER_URL_MAX = 2


class Fault(StrEnum):
    """The kinds of fault."""

    SERVER_ERROR = "server_error"
    RATE_LIMITED = "rate_limited"
    TRUNCATED_BODY = "truncated_body"
    HTML_PAGE = "html_page"
    CONNECTION_RESET = "connection_reset"
    TIMEOUT = "timeout"
    REPEATED_PAGE = "repeated_page"
    REORDERED_PAGES = "reordered_pages"
    SCHEMA_CHANGE = "schema_change"


TRANSPORT_FAULTS = (
    Fault.SERVER_ERROR,
    Fault.RATE_LIMITED,
    Fault.TRUNCATED_BODY,
    Fault.HTML_PAGE,
    Fault.CONNECTION_RESET,
    Fault.TIMEOUT,
)
"""Faults of one response; the others are faults of what is delivered."""
PASSING_FAULTS = frozenset(Fault) - {Fault.TIMEOUT, Fault.SCHEMA_CHANGE}
"""What is over when it is asked for again. A client of long patience would wait a timeout out; a
changed schema stays until the service mends it."""


@dataclass(slots=True)
class FaultPlan:
    """Which faults strike where.

    Attributes:
        seed: decides, with the URL.
        enabled: the kinds that may happen.
        rate: the chance of each attempt, up to ``FAULTS_PER_URL_MAX`` a URL.
        struck: how often each kind has happened.
    """

    seed: int = 0
    enabled: frozenset[Fault] = frozenset()
    rate: float = 0.2
    struck: Counter[Fault] = field(default_factory=Counter)
    _attempts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def all(cls, seed: int = 0, rate: float = 0.2) -> "FaultPlan":
        """Every kind of fault at once that asking again gets through."""
        return cls(seed, PASSING_FAULTS, rate)

    def transport_fault(self, url: str) -> Fault | None:
        """The fault that this attempt at ``url`` meets, if any."""
        kinds = [kind for kind in TRANSPORT_FAULTS if kind in self.enabled]
        attempt = self._attempts[url]
        self._attempts[url] += 1
        if not kinds or attempt >= FAULTS_PER_URL_MAX or self._draw(url, attempt) >= self.rate:
            return None
        kind = kinds[int(self._draw(url, attempt, "kind") * len(kinds))]
        self.struck[kind] += 1
        return kind

    def repeats_page(self, url: str) -> bool:
        """Whether the first answer at ``url`` is the page before it, once more."""
        if Fault.REPEATED_PAGE not in self.enabled or self._attempts[f"page {url}"]:
            return False
        self._attempts[f"page {url}"] += 1
        strikes = self._draw(url, "repeat") < self.rate
        self.struck[Fault.REPEATED_PAGE] += strikes
        return strikes

    def swaps_pages(self, hour: str, pair: int) -> bool:
        """Whether pages ``2 · pair`` and ``2 · pair + 1`` of an hour change places, always."""
        if Fault.REORDERED_PAGES not in self.enabled:
            return False
        strikes = self._draw(hour, pair, "swap") < self.rate
        self.struck[Fault.REORDERED_PAGES] += strikes
        return strikes

    def changes_schema(self, hour: str) -> bool:
        """Whether a service renames a field in the middle of an hour, while this plan holds."""
        if Fault.SCHEMA_CHANGE not in self.enabled:
            return False
        strikes = self._draw(hour, "schema") < self.rate
        self.struck[Fault.SCHEMA_CHANGE] += strikes and not self._attempts[f"schema {hour}"]
        self._attempts[f"schema {hour}"] += 1
        return strikes

    def _draw(self, *words: object) -> float:
        key = "\t".join(map(str, (self.seed, *words))).encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:7], "big") / 2**56
