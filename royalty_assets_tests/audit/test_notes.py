"""Notes against the published key and note of Go's sumdb, and against tampering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.audit.notes import (
    Checkpoint,
    NoteError,
    new_signing_key,
    parse_checkpoint,
    parse_note,
    parse_signing_key,
    parse_verifier_key,
    sign_note,
    verified_by,
)

VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NOTE = (
    f"{TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SPEC_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
)


def test_the_published_note_is_of_the_published_key():
    assert verified_by(parse_note(NOTE), [parse_verifier_key(VKEY)]) == [parse_verifier_key(VKEY)]


def test_signing_the_published_text_gives_the_published_note():
    key = parse_signing_key(SKEY)
    assert str(sign_note(TEXT, [key])) == NOTE
    assert (key.verifier.text, key.text) == (VKEY, SKEY)


def test_any_flipped_bit_of_a_note_is_found():
    key = parse_verifier_key(VKEY)
    raw = NOTE.encode()
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((NoteError, UnicodeDecodeError)):
            verified_by(parse_note(flipped.decode()), [key])


def test_no_part_and_no_variation_of_a_key_is_a_key():
    for begin in range(len(VKEY)):
        for end in range(begin + 1, len(VKEY) + 1):
            if end - begin < len(VKEY):
                with pytest.raises(NoteError):
                    parse_verifier_key(VKEY[begin:end])
    for at, character in enumerate(VKEY):
        with pytest.raises(NoteError):
            parse_verifier_key(VKEY[:at] + chr(ord(character) + 1) + VKEY[at + 1 :])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "not as it is",
        ),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "Ed25519"),
        (VKEY.replace("c74f20a3", "C74F20A3"), "copied wrong"),
        (VKEY.replace("Peter", "Peter "), "white space"),
    ],
)
def test_what_is_wrong_with_a_key_is_told(text, told):
    with pytest.raises(NoteError, match=told):
        parse_verifier_key(text)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TEXT, "empty line"),
        (NOTE[:-1], "ends with the line"),
        (NOTE.replace("— P", "- P"), "em dash"),
        (NOTE.replace("—", "—\t", 1), "em dash"),
        (NOTE.replace("If", "\rIf"), "control characters"),
        (NOTE + "\n", "ends with the line|em dash"),
        (NOTE.replace("x08g", "x08g!"), "not base64"),
        (NOTE.replace("JnAM=", "JnAN="), "not as it is written"),
        (NOTE.replace("x08go/ZJ", "x08g"), "bytes, not 68"),
        (TEXT + "\n" + "".join(["— a " + "A" * 90 + "A=\n"] * 17), "at most 16"),
    ],
)
def test_what_is_wrong_with_a_note_is_told(content, told):
    with pytest.raises(NoteError, match=told):
        parse_note(content)


def test_signatures_of_other_keys_say_nothing_and_do_no_harm():
    peter = parse_signing_key(SKEY)
    other = new_signing_key("witness.example/1")
    note = parse_note(str(sign_note(TEXT, [other, peter])))
    assert verified_by(note, [peter.verifier]) == [peter.verifier]
    assert verified_by(note, [peter.verifier, other.verifier]) == [other.verifier, peter.verifier]
    namesake = new_signing_key("PeterNeumann")
    with pytest.raises(NoteError, match="signed by witness.example/1.*and by no key"):
        verified_by(note, [namesake.verifier])


def test_a_false_signature_of_a_known_key_spoils_the_note():
    peter, other = parse_signing_key(SKEY), new_signing_key("o")
    forged = str(sign_note(TEXT, [peter, other])).replace("problem is", "problem was")
    with pytest.raises(NoteError, match="is not of this text"):
        verified_by(parse_note(forged), [peter.verifier, other.verifier])


def test_a_signing_key_does_not_show_itself():
    key = new_signing_key("label.example/royalties")
    secret = key.text.split("+", 4)[4]
    assert secret not in repr(key)
    assert key == parse_signing_key(key.text)
    with pytest.raises(NoteError) as told:
        parse_signing_key(key.text.replace(secret, f"{secret[:-6]}AAAAAA"))
    assert secret[:-6] not in str(told.value)


LINES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)


@given(st.lists(LINES, min_size=1, max_size=5))
def test_any_text_comes_back_as_it_was_signed(lines):
    text = "\n".join(lines) + "\n"
    key = parse_signing_key(SKEY)
    note = parse_note(str(sign_note(text, [key])))
    assert note.text == text
    assert verified_by(note, [key.verifier])


def test_the_checkpoint_of_the_specification_is_read():
    checkpoint = parse_checkpoint(SPEC_CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == SPEC_CHECKPOINT


@given(st.integers(0, 2**62), st.binary(min_size=32, max_size=32), st.lists(st.just("x y")))
def test_a_checkpoint_comes_back_as_it_was(size, root, extensions):
    checkpoint = Checkpoint("a.example/log", size, root, tuple(extensions))
    assert parse_checkpoint(checkpoint.text) == checkpoint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("20852163", "020852163"), "number of leaves"),
        (("20852163", "-1"), "number of leaves"),
        (("20852163\n", "\n"), "none of them empty"),
        (("20852163\n", ""), "three lines"),
        (("q2I=\n", "q2I=\n\n"), "none of them empty"),
        (("CsUY", "CsU"), "base64"),
        (("CsUYapGG", ""), "26 bytes"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_told(change, told):
    with pytest.raises(NoteError, match=told):
        parse_checkpoint(SPEC_CHECKPOINT.replace(*change))
