"""How a pool becomes money per claim: the models, and the one rounding that they share.

A pool is shared by the usage that it covers: matched usage and usage in suspense alike, since
money of an unmatched play belongs to somebody who is not yet known, and to nobody else. Usage in
suspense takes part by its reason, as a recording and an artist of its own.

What belongs here: weighing claims (``models``) and dividing by exact weights (``rounding``). What
does not: which claims a pool has (``ledger``), and who holds a recording (``payouts``).
"""

from royalty_assets.domain.allocation.models import (
    Allocation,
    AllocationModel,
    ArtistCentric,
    Claim,
    ProRata,
    Shapley,
    StreamThreshold,
    UserCentric,
    pro_rata,
)
from royalty_assets.domain.allocation.plays import (
    PLAYS_SCHEMA,
    TERM_SCHEMA,
    fold_terms,
)
from royalty_assets.domain.allocation.rounding import split_by_fractions

__all__ = [
    "PLAYS_SCHEMA",
    "TERM_SCHEMA",
    "Allocation",
    "AllocationModel",
    "ArtistCentric",
    "Claim",
    "ProRata",
    "Shapley",
    "StreamThreshold",
    "UserCentric",
    "fold_terms",
    "pro_rata",
    "split_by_fractions",
]
