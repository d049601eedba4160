"""The tree against the vectors of Certificate Transparency, and against the RFC's own words."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.audit.merkle import (
    EMPTY_ROOT,
    MemoryTree,
    ProofError,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
)

# The eight leaves, and the roots and proofs over them, with which CT implementations are tested.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
NODES = {
    "0-1": "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "0": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "1": "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "2-3": "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "0-3": "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4-7": "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    "4": "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "4-5": "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "6": "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "6-7": "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
}
INCLUSION = [
    (0, 1, ""),
    (0, 8, "1 2-3 4-7"),
    (5, 8, "4 6-7 0-3"),
    (2, 3, "0-1"),
    (1, 5, "0 2-3 4"),
]
CONSISTENCY = [
    (1, 1, ""),
    (1, 8, "1 2-3 4-7"),
    (6, 8, "4-5 6-7 0-3"),
    (2, 5, "2-3 4"),
    (6, 7, "4-5 6 0-3"),
]


def tree(entries=ENTRIES):
    return MemoryTree(map(leaf_hash, entries))


def hashes(names):
    return [bytes.fromhex(NODES[name]) for name in names.split()]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_published(size):
    assert root(tree(), size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "names"), INCLUSION)
def test_inclusion_proofs_are_those_published(index, size, names):
    assert inclusion_proof(tree(), index, size) == hashes(names)
    leaf = leaf_hash(ENTRIES[index])
    check_inclusion(leaf, index, size, hashes(names), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "names"), CONSISTENCY)
def test_consistency_proofs_are_those_published(old, new, names):
    assert consistency_proof(tree(), old, new) == hashes(names)
    check_consistency(old, new, hashes(names), bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


# The oracle: RFC 9162 §2.1 as it is written, over lists of entries.


def split(n):
    return max(2**k for k in range(n.bit_length()) if 2**k < n)


def mth(entries):
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m, entries):
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def proof(m, entries):
    def subproof(m, entries, is_whole):
        n = len(entries)
        if m == n:
            return [] if is_whole else [mth(entries)]
        k = split(n)
        if m <= k:
            return [*subproof(m, entries[:k], is_whole), mth(entries[k:])]
        return [*subproof(m - k, entries[k:], False), mth(entries[:k])]

    return subproof(m, entries, True)


LEAVES = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


@given(LEAVES, st.data())
def test_roots_and_proofs_are_the_oracles(entries, data):
    size = data.draw(st.integers(1, len(entries)))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    kept = tree(entries)
    assert root(kept, size) == mth(entries[:size])
    assert inclusion_proof(kept, index, size) == path(index, entries[:size])
    assert consistency_proof(kept, old, size) == proof(old, entries[:size])
    check_inclusion(
        leaf_hash(entries[index]), index, size, path(index, entries[:size]), mth(entries[:size])
    )
    check_consistency(
        old, size, proof(old, entries[:size]), mth(entries[:old]), mth(entries[:size])
    )


@given(LEAVES, st.data())
def test_a_proof_that_is_tampered_with_proves_nothing(entries, data):
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    for genuine, check in (
        (
            path(index, entries),
            lambda p: check_inclusion(leaf_hash(entries[index]), index, size, p, mth(entries)),
        ),
        (
            proof(old, entries),
            lambda p: check_consistency(old, size, p, mth(entries[:old]), mth(entries)),
        ),
    ):
        check(genuine)
        forged = [[*genuine, bytes(32)], genuine[:-1]] if genuine else [[bytes(32)]]
        if genuine:
            at = data.draw(st.integers(0, len(genuine) - 1))
            bit = data.draw(st.integers(0, 255))
            flipped = (int.from_bytes(genuine[at]) ^ 1 << bit).to_bytes(32)
            forged.append([*genuine[:at], flipped, *genuine[at + 1 :]])
        for wrong in forged:
            with pytest.raises(ProofError):
                check(wrong)


@given(LEAVES, st.data())
def test_a_leaf_elsewhere_or_other_is_not_included(entries, data):
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    with pytest.raises(ProofError):
        check_inclusion(leaf_hash(b"other"), index, size, path(index, entries), mth(entries))
    with pytest.raises(ProofError):
        check_inclusion(leaf_hash(entries[index]), size, size, path(index, entries), mth(entries))


def test_a_tree_that_was_changed_is_not_consistent():
    changed = [*ENTRIES[:3], b"other", *ENTRIES[4:]]
    with pytest.raises(ProofError, match="does not begin with"):
        check_consistency(5, 8, proof(5, changed), mth(ENTRIES[:5]), mth(changed))
    with pytest.raises(ProofError, match="have to be equal"):
        check_consistency(8, 8, [], mth(ENTRIES), mth(changed))


def test_the_empty_tree_has_the_hash_of_nothing():
    assert root(MemoryTree(), 0) == EMPTY_ROOT


def test_what_is_kept_is_looked_up_a_few_times_however_large_the_tree():
    class Counting(MemoryTree):
        looked_up = 0

        def subtree(self, index):
            self.looked_up += 1
            return super().subtree(index)

    large = Counting(leaf_hash(b"%d" % number) for number in range(50_000))
    large.looked_up = 0
    root(large, 49_999)
    inclusion_proof(large, 12_345, 49_999)
    consistency_proof(large, 33_333, 49_999)
    assert large.looked_up < 400


def test_proofs_for_what_is_not_there_are_refused():
    with pytest.raises(ValueError, match="no leaf 8"):
        inclusion_proof(tree(), 8, 8)
    with pytest.raises(ValueError, match="no consistency proof"):
        consistency_proof(tree(), 0, 8)
