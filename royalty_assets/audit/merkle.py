"""The Merkle tree of RFC 6962 (and RFC 9162, the same tree): roots and proofs.

A tree is only ever added to. Beside each leaf is kept the hash of the largest perfect subtree
that ends with it (of 2^k leaves, where 2^k is the largest power of two that divides the number of
leaves so far). From these alone any root or proof of any size follows by O(log² n) look-ups, so
that a log of millions of leaves is neither held in memory nor hashed again. What a leaf means is
not for this module.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

EMPTY_ROOT = hashlib.sha256(b"").digest()


class ProofError(Exception):
    """A proof that does not prove what it is given for, and how it fails."""


class TreeStore(Protocol):
    """The kept hashes of a tree, of 32 bytes each."""

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""

    def subtree(self, index: int) -> bytes:
        """The hash of the largest perfect subtree whose last leaf has this index."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def next_subtree(store: TreeStore, index: int, leaf: bytes) -> bytes:
    """What to keep beside a leaf that is appended at ``index``."""
    found = leaf
    for level in range(_level(index)):
        found = node_hash(store.subtree(index - (1 << level)), found)
    return found


def root(store: TreeStore, size: int) -> bytes:
    """The root over the first ``size`` leaves."""
    return _range(store, 0, size) if size else EMPTY_ROOT


def inclusion_proof(store: TreeStore, index: int, size: int) -> list[bytes]:
    """RFC 9162 §2.1.3.1: what shows that a leaf is in the tree of ``size`` leaves.

    Raises:
        ValueError: if the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range(store, middle, end))
            end = middle
        else:
            path.append(_range(store, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(store: TreeStore, old: int, new: int) -> list[bytes]:
    """RFC 9162 §2.1.4.1: what shows that the larger tree only adds to the smaller.

    Raises:
        ValueError: if the sizes are not 0 < old ≤ new.
    """
    if not 0 < old <= new:
        raise ValueError(f"there is no consistency proof from size {old} to size {new}")
    path = []
    begin, end = 0, new
    # Down to where the old tree ends; what is left of that the verifier knows, if it is all.
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_range(store, middle, end))
            end = middle
        else:
            path.append(_range(store, begin, middle))
            begin = middle
    if begin:
        path.append(_range(store, begin, end))
    return path[::-1]


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """RFC 9162 §2.1.3.2.

    Raises:
        ProofError: if the leaf is not shown to be at that place of the tree with that root.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    found = leaf
    for sibling, is_left in _upwards(index, size - 1, proof):
        found = node_hash(sibling, found) if is_left else node_hash(found, sibling)
    if found != expected_root:
        raise ProofError(f"the inclusion proof leads to root {found.hex()}")


def check_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """RFC 9162 §2.1.4.2.

    Raises:
        ProofError: if the tree of ``new`` leaves is not shown to begin with that of ``old``.
    """
    if not 0 < old <= new:
        raise ProofError(f"there is no consistency proof from size {old} to size {new}")
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("two trees of one size have to be equal")
        return
    is_perfect = old & (old - 1) == 0
    hashes = [old_root, *proof] if is_perfect else list(proof)
    if not hashes:
        raise ProofError("the consistency proof is empty")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    of_old = of_new = hashes[0]
    for sibling, is_left in _upwards(place, last, hashes[1:]):
        if is_left:
            of_old, of_new = node_hash(sibling, of_old), node_hash(sibling, of_new)
        else:
            of_new = node_hash(of_new, sibling)
    if of_old != old_root or of_new != new_root:
        raise ProofError(f"the tree of {new} leaves does not begin with that of {old}")


def _upwards(place: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each hash of a proof, and whether it stands to the left of what is known so far."""
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof has more hashes than the tree has levels")
        is_left = bool(place & 1) or place == last
        if is_left:
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        yield sibling, is_left
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("the proof has fewer hashes than the tree has levels")


class MemoryTree:
    """A tree in memory: of one statement's lines, or of a whole log that is being checked."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._leaves: list[bytes] = []
        self._subtrees: list[bytes] = []
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._leaves)

    def append(self, leaf: bytes) -> bytes:
        """Add a leaf by its hash; returns the subtree's hash that is kept beside it."""
        subtree = next_subtree(self, len(self._leaves), leaf)
        self._leaves.append(leaf)
        self._subtrees.append(subtree)
        return subtree

    def leaf(self, index: int) -> bytes:
        """See ``TreeStore``."""
        return self._leaves[index]

    def subtree(self, index: int) -> bytes:
        """See ``TreeStore``."""
        return self._subtrees[index]


def _level(index: int) -> int:
    """Of the largest perfect subtree that ends with a leaf."""
    number = index + 1
    return (number & -number).bit_length() - 1


def _split(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _range(store: TreeStore, begin: int, end: int) -> bytes:
    """The hash over some leaves: a perfect subtree, or the right edge of the tree."""
    size = end - begin
    if size & (size - 1) == 0:
        return _perfect(store, end - 1, size.bit_length() - 1)
    middle = begin + _split(size)
    return node_hash(_range(store, begin, middle), _range(store, middle, end))


def _perfect(store: TreeStore, last: int, level: int) -> bytes:
    """The hash of the subtree of 2^level leaves that ends with leaf ``last``."""
    if level == 0:
        return store.leaf(last)
    if level == _level(last):
        return store.subtree(last)
    half = 1 << level - 1
    return node_hash(store.subtree(last - half), _perfect(store, last, level - 1))
