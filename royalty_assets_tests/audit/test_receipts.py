"""Receipts made of invented parts, read by the verifier that payees get; and its Ed25519.

The test of mutations shows what a receipt binds: everything. Flip any bit of the file, and it is
refused.
"""

import ast
import gzip
import hashlib
import json
import random
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from royalty_assets.audit import verify_receipt
from royalty_assets.audit.leaves import Leaf
from royalty_assets.audit.merkle import MemoryTree, inclusion_proof, root
from royalty_assets.audit.notes import Checkpoint, NoteError, new_signing_key, sign_note
from royalty_assets.audit.receipts import (
    STATEMENT_KIND,
    ReceiptError,
    Statement,
    StatementLine,
    make_receipt,
)
from royalty_assets.audit.verify_receipt import (
    ORDER,
    Rejected,
    check_convert,
    check_per_unit,
    check_pool_share,
    check_share,
    ed25519_verifies,
    main,
    verify,
)

# What a payee might be told of: the parts that the pipeline will gather from its stores.

REPORT = (
    b"Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
    b"2025-03-01,DE,USUM70600055,Flowers,Ada,10,1.00,EUR\n"
    b"2025-03-02,AT,USUM70600055,Fl\xc3\xb6wers,Ada,7,0.75,EUR\r\n"
)
SHA256 = hashlib.sha256(REPORT).hexdigest()
BY_REPORT = StatementLine(
    fields={"recording": "Flowers by Ada", "units": "17", "amount": "0.525", "currency": "EUR"},
    sources=[
        {
            "name": "report.csv",
            "sha256": SHA256,
            "row": "2",
            "text": "2025-03-01,DE,USUM70600055,Flowers,Ada,10,1.00,EUR",
            "amount": "1.00",
        },
        {
            "name": "report.csv",
            "sha256": SHA256,
            "row": "3",
            "text": "2025-03-02,AT,USUM70600055,Flöwers,Ada,7,0.75,EUR",
            "amount": "0.75",
        },
    ],
    match={"method": "isrc", "batch": "reports/validated/20250301.0", "batch_sha256": "a" * 64},
    contract={"term": "artist contract 7, from 2020-01-01", "share": "0.3"},
    steps=[
        {"kind": "sum", "terms": ["1.00", "0.75"], "result": "1.75", "words": "as reported"},
        {"kind": "share", "amount": "1.75", "numerator": "3", "denominator": "10",
         "result": "0.525", "words": "30 % to the artist"},
    ],
)  # fmt: skip
BY_POOL = StatementLine(
    fields={"recording": "Sun by Ada", "units": "1", "amount": "0.2", "currency": "EUR"},
    sources=[],
    match={"method": "title_artist_similar", "score": "96.5"},
    contract={"term": "7"},
    steps=[
        {"kind": "pool_share", "pool": "100", "units": "1", "all_units": "3",
         "result": "33.333333333333333334"},
        {"kind": "convert", "amount": "33.333333333333333334", "rate": "0.01",
         "result": "0.333333333333333333"},
        {"kind": "deduct", "amount": "0.333333333333333333",
         "deductions": ["0.133333333333333333"], "result": "0.2"},
    ],
)  # fmt: skip
STATEMENT = Statement(
    payee="ada",
    period="2025-03",
    currency="EUR",
    revision="0",
    header={
        "movements": [
            {"what": "brought forward", "amount": "-0.10"},
            {"what": "earned", "amount": "0.725"},
            {"what": "paid", "amount": "-0.62"},
        ],
        "closing": "0.005",
    },
    lines=[BY_REPORT, BY_POOL, BY_REPORT],
    secret=hashlib.sha256(b"secret").digest(),
)
KEY = new_signing_key("label.example/royalties")


def logged(statement, entries=11, at=6):
    """A log with the statement in it: its leaf, the proof, and the signed checkpoint."""
    leaf = Leaf(at, STATEMENT_KIND, statement.subject, statement.content_sha256)
    others = (Leaf(n, "batch", f"b{n}", f"{n:064x}").hash for n in range(entries))
    tree = MemoryTree(leaf.hash if n == at else other for n, other in enumerate(others))
    checkpoint = Checkpoint("label.example/royalties", entries, root(tree, entries))
    return leaf, inclusion_proof(tree, at, entries), entries, sign_note(checkpoint.text, [KEY])


def receipt(statement=STATEMENT, index=0):
    return make_receipt(statement, index, *logged(statement), [KEY.verifier])


GOOD = receipt().encode()


def written(content):
    """A receipt as receipts are written."""
    return (json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def test_a_receipt_holds_and_says_what_of_it():
    held = dict(verify(GOOD, KEY.verifier.text))
    assert held == {
        "the arithmetic": "each of 2 steps comes to its result, 0.525 EUR",
        "the balance": "the movements come to 0.005",
        "the statement": "the line is number 1 of 3 of ada for 2025-03",
        "the log": "the statement is entry 6 of a log of 11, none of which can change without a "
        "trace",
        "the signature": f"the log was signed by {KEY.verifier.text}",
    }


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(("entries", "at"), [(1, 0), (8, 7), (100, 64)])
def test_any_line_in_any_log_has_a_receipt(index, entries, at):
    text = make_receipt(STATEMENT, index, *logged(STATEMENT, entries, at), [KEY.verifier])
    assert len(verify(text.encode())) == 5


def test_a_flipped_bit_anywhere_in_a_receipt_is_found():
    """Every byte of it, one bit of each; and every bit of what the cheap checks do not reach."""
    chance = random.Random(20250304)
    checkpoint = GOOD.index(b'"checkpoint"'), GOOD.index(b'"contract"')
    bits = [byte * 8 + chance.randrange(8) for byte in range(len(GOOD))]
    bits += [byte * 8 + bit for byte in range(*checkpoint) for bit in range(8)][::5]
    for bit in bits:
        flipped = bytearray(GOOD)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected):
            verify(bytes(flipped))


def leaves_of(value, place=()):
    """Every text and number in a receipt, with where it is."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves_of(each, (*place, name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from leaves_of(each, (*place, number))
    else:
        yield place, value


def changed(content, place, value):
    content = json.loads(json.dumps(content))
    *way, last = place
    inner = content
    for step in way:
        inner = inner[step]
    inner[last] = value
    return content


def test_no_field_is_for_information_only():
    """Written out again as receipts are, with any one value other than it was."""
    content = json.loads(GOOD)
    fields = list(leaves_of(content))
    assert len(fields) > 50
    for place, value in fields:
        other = value + 1 if isinstance(value, int) else f"{value} "
        with pytest.raises(Rejected):
            verify(written(changed(content, place, other)))


@pytest.mark.parametrize("name", [*verify_receipt.SHAPE])
def test_a_field_that_is_missing_or_of_another_kind_is_refused(name):
    content = json.loads(GOOD)
    for spoilt in ({k: v for k, v in content.items() if k != name}, content | {name: 5}):
        with pytest.raises(Rejected):
            verify(written(spoilt))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"format":"royalty-assets receipt v1"}'],
)
def test_what_is_no_receipt_is_refused(content):
    with pytest.raises(Rejected):
        verify(content)


def test_a_receipt_spelt_otherwise_is_refused():
    for other in (
        json.dumps(json.loads(GOOD)).encode(),
        GOOD.replace(b'"closing"', b'"\\u0063losing"'),
        GOOD.replace(b'{\n "checkpoint"', b'{\n "checkpoint": "x",\n "checkpoint"'),
    ):
        with pytest.raises(Rejected, match="not written as receipts are"):
            verify(other)


def test_another_key_is_told():
    other = new_signing_key("label.example/royalties")
    with pytest.raises(Rejected, match="and not by label.example"):
        verify(GOOD, other.verifier.text)
    leaf, proof, size, note = logged(STATEMENT)
    with pytest.raises(NoteError, match="no key that is trusted"):
        make_receipt(STATEMENT, 0, leaf, proof, size, note, [other.verifier])
    forged = sign_note(note.text, [other])
    by_other = make_receipt(STATEMENT, 0, leaf, proof, size, forged, [other.verifier])
    with pytest.raises(Rejected, match="and not by label.example"):
        verify(by_other.encode(), KEY.verifier.text)


def test_signatures_of_witnesses_are_left_out():
    leaf, proof, size, note = logged(STATEMENT)
    witnessed = sign_note(note.text, [new_signing_key("witness.example"), KEY])
    text = make_receipt(STATEMENT, 0, leaf, proof, size, witnessed, [KEY.verifier])
    assert json.loads(text)["keys"] == [KEY.verifier.text]
    assert verify(text.encode())


# What it tells, and what not


def test_a_receipt_tells_nothing_of_other_lines():
    text = receipt(index=0)
    assert "Sun by Ada" not in text
    assert STATEMENT.secret.hex() not in text
    content = json.loads(text)
    salts = {json.loads(receipt(index=i))["line_salt"] for i in range(3)}
    assert len(salts) == 3
    assert content["statement"]["salt"] not in salts
    # Two lines that say the same do not look the same, so that a neighbour cannot be guessed.
    first, third = (json.loads(receipt(index=i)) for i in (0, 2))
    own = verify_receipt.leaf_hash(verify_receipt.line_entry(first)).hex()
    assert own not in third["line_proof"]["hashes"] + first["line_proof"]["hashes"]


def test_the_log_does_not_let_a_statement_be_guessed():
    other = replace(STATEMENT, secret=hashlib.sha256(b"other").digest())
    assert other.content_sha256 != STATEMENT.content_sha256
    assert STATEMENT.content_sha256 == replace(STATEMENT).content_sha256


# Arithmetic


def spoilt(line, **changes):
    return replace(STATEMENT, lines=[replace(line, **changes)])


def steps(*changes, line=BY_POOL):
    found = [dict(step) for step in line.steps]
    for number, name, value in changes:
        found[number][name] = value
    return found


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (spoilt(BY_POOL, steps=steps((0, "result", "33.333333333333333335"))), "part of the pool"),
        (spoilt(BY_POOL, steps=steps((0, "units", "4"))), "are no part of 3 units"),
        (spoilt(BY_POOL, steps=steps((1, "amount", "33.4"))), "times|go on"),
        (spoilt(BY_POOL, steps=steps((2, "deductions", []))), "what is left"),
        (spoilt(BY_POOL, steps=steps((2, "result", "0.20000000001"))), "what is left"),
        (spoilt(BY_POOL, steps=steps()[:2]), "last step does not come to the line's 0.2"),
        (spoilt(BY_POOL, steps=steps()[::2]), "does not go on from the result of step 1"),
        (spoilt(BY_POOL, steps=[]), "no step says"),
        (spoilt(BY_POOL, steps=steps((0, "kind", "magic"))), "nobody knows how to check"),
        (spoilt(BY_POOL, steps=steps((0, "pool", "1e2"))), "is not a decimal number"),
        (spoilt(BY_POOL, steps=steps((0, "extra", "1"))), "has the fields"),
        (spoilt(BY_REPORT, steps=steps((0, "terms", ["1.75"]), line=BY_REPORT)), "among the terms"),
        (spoilt(BY_REPORT, steps=steps((1, "numerator", "11"), line=BY_REPORT)), "is no share"),
        (spoilt(BY_POOL, fields=dict(BY_POOL.fields) | {"currency": "USD"}), "another currency"),
        (replace(STATEMENT, header=STATEMENT.header | {"closing": "0.006"}), "movements"),
        (replace(STATEMENT, payee="a\nb"), "one line"),
    ],
)
def test_a_line_that_does_not_follow_gets_no_receipt(statement, told):
    with pytest.raises(ReceiptError, match=told):
        receipt(statement)


def test_numbers_and_short_secrets_are_refused():
    with pytest.raises(ValueError, match="holds texts"):
        receipt(spoilt(BY_POOL, match={"score": 96.5}))
    with pytest.raises(ValueError, match="32 bytes"):
        receipt(replace(STATEMENT, secret=b"short"))


ATOMS = st.integers(-(10**24), 10**24)


def text_of(atoms):
    sign = "-" if atoms < 0 else ""
    return f"{sign}{abs(atoms) // 10**18}.{abs(atoms) % 10**18:018d}"


@given(ATOMS, st.integers(1, 10**6), st.data())
def test_a_share_is_one_of_the_two_amounts_beside_the_exact_one(atoms, parts, data):
    own = data.draw(st.integers(0, parts))
    exact = Fraction(atoms * own, parts)
    for result in range(int(exact) - 3, int(exact) + 4):
        words = {"result": text_of(result)}
        share = {"amount": text_of(atoms), "numerator": f"{own}", "denominator": f"{parts}"}
        pool = {"pool": text_of(atoms), "units": f"{own}", "all_units": f"{parts}"}
        for check, step in ((check_share, share | words), (check_pool_share, pool | words)):
            is_beside = result in {exact.__floor__(), exact.__ceil__()}
            assert holds(check, step) == is_beside


@given(ATOMS, st.decimals(0, 1000, places=7))
def test_a_product_is_cut_off_towards_zero(atoms, rate):
    exact = Fraction(atoms) * Fraction(rate)
    cut = int(exact)  # towards zero
    for result in (cut - 1, cut, cut + 1):
        step = {"amount": text_of(atoms), "rate": f"{rate:f}", "result": text_of(result)}
        assert holds(check_convert, step) == (result == cut and rate > 0)
        units = {"units": text_of(atoms), "rate": f"{rate:f}", "result": text_of(result)}
        assert holds(check_per_unit, units) == (result == cut)


def holds(check, step):
    try:
        check(step, Fraction(step["result"]), "step 1")
    except Rejected:
        return False
    return True


# Sources and the command


def test_the_file_that_a_line_came_from_is_recognised(tmp_path):
    report = tmp_path / "march.csv"
    report.write_bytes(REPORT)
    held = verify(GOOD, sources=[report])
    assert held[-1] == (
        "the source march.csv",
        "it is the file that the line came from, 2 row(s)",
    )
    report.write_bytes(REPORT.replace(b"10,1.00", b"10,9.00"))
    with pytest.raises(Rejected, match="which the receipt does not name"):
        verify(GOOD, sources=[report])


def test_a_row_that_the_file_does_not_have_is_told(tmp_path):
    packed = gzip.compress(REPORT, mtime=0)
    source = dict(BY_REPORT.sources[0]) | {"sha256": hashlib.sha256(packed).hexdigest()}
    report = tmp_path / "march.csv.gz"
    report.write_bytes(packed)
    for row, ok in (("2", True), ("3", False), ("99", False), ("0", True)):
        text = receipt(spoilt(BY_REPORT, sources=[source | {"row": row}]))
        if ok:
            assert verify(text.encode(), sources=[report])
        else:
            with pytest.raises(Rejected, match=f"line {row}: it says"):
                verify(text.encode(), sources=[report])


def test_it_runs_alone_on_the_command_line(tmp_path):
    """The file by itself, in a Python without any packages, as a payee has it."""
    program = tmp_path / "verify_receipt.py"
    program.write_bytes(Path(verify_receipt.__file__).read_bytes())
    (tmp_path / "receipt.json").write_bytes(GOOD)
    command = [sys.executable, "-I", "-S", program, tmp_path / "receipt.json"]
    done = subprocess.run(command, capture_output=True, check=False)
    output = done.stdout.decode()
    assert (done.returncode, output.count("✓")) == (0, 5), done.stderr
    assert "compare the key above" in output
    (tmp_path / "receipt.json").write_bytes(GOOD.replace(b"Flowers by Ada", b"Flowers by Eve"))
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert "✗ the log that was signed does not hold this line" in done.stdout.decode()


def test_a_receipt_that_is_not_there_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().out


def test_it_needs_nothing_but_the_standard_library():
    tree = ast.parse(Path(verify_receipt.__file__).read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
    assert not imported & {"socket", "urllib", "http", "subprocess", "os"}


# Ed25519

# RFC 8032 §7.1: secret key, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032_verify(secret, public, message, signature):
    key, text, signed = (bytes.fromhex(t) for t in (public, message, signature))
    assert ed25519_verifies(key, text, signed)
    assert not ed25519_verifies(key, text + b"x", signed)
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    assert private.sign(text) == signed


def by_cryptography(public, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@hypothesis_settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.data())
def test_it_agrees_with_cryptography(seed, message, data):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519_verifies(public, message, signature)
    bit = data.draw(st.integers(0, 511))
    other = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
    assert ed25519_verifies(public, message, other) is by_cryptography(public, message, other)
    assert not ed25519_verifies(public, message, other)


def test_one_signature_has_one_spelling():
    """S and S + order would both satisfy the equation; RFC 8032 §5.1.7 takes the smaller alone."""
    _, public, message, signature = (bytes.fromhex(t) for t in VECTORS[1])
    other = int.from_bytes(signature[32:], "little") + ORDER
    malleable = signature[:32] + other.to_bytes(32, "little")
    assert not ed25519_verifies(public, message, malleable)
    assert not by_cryptography(public, message, malleable)
    assert not ed25519_verifies(public, message, signature + b"\0")


@pytest.mark.parametrize(
    "public",
    [
        (2**255 - 19 + 1).to_bytes(32, "little"),  # y = 1, not reduced
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
        (2).to_bytes(32, "little"),  # no point of the curve
        bytes(31),
    ],
)
def test_what_is_no_key_verifies_nothing(public):
    assert not ed25519_verifies(public, b"", bytes(64))
