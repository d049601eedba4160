"""Keys in real files: who may read them, and who introduces whom."""

import pytest

from royalty_assets.audit.keys import (
    KEY_FILE,
    RING_FOLDER,
    SigningKeyError,
    default_key_name,
    ensure_signing_key,
    read_ring,
    read_signing_key,
    rotate_signing_key,
    signing_key_of,
    write_signing_key,
)
from royalty_assets.audit.notes import new_signing_key, sign_note


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    key = ensure_signing_key(tmp_path)
    path = tmp_path / KEY_FILE
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert ensure_signing_key(tmp_path) == key == read_signing_key(path)
    assert read_ring(tmp_path / RING_FOLDER).current == key.verifier
    assert sorted(p.name for p in path.parent.iterdir()) == [".gitignore", "signing.key"]
    assert (path.parent / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    ensure_signing_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(SigningKeyError, match=f"mode {mode:04o}.*chmod 600"):
        signing_key_of(tmp_path)


def test_a_file_that_holds_no_key_is_told_and_not_shown(tmp_path):
    path = tmp_path / "k"
    write_signing_key(path, new_signing_key("a"))
    secret = path.read_text()
    path.write_text(secret.replace("PRIVATE", "PUBLIC"))
    with pytest.raises(SigningKeyError, match="begins with") as told:
        read_signing_key(path)
    assert secret.strip()[-20:] not in str(told.value)


def test_a_key_is_not_overwritten(tmp_path):
    key = ensure_signing_key(tmp_path)
    with pytest.raises(SigningKeyError, match="keys rotate"):
        write_signing_key(tmp_path / KEY_FILE, new_signing_key("b"))
    assert read_signing_key(tmp_path / KEY_FILE) == key


def test_a_key_from_the_environment_goes_before_the_file_and_is_never_written(tmp_path):
    given = new_signing_key("label.example/royalties")
    assert ensure_signing_key(tmp_path, f"{given.text}\n") == given
    assert not (tmp_path / KEY_FILE).exists()
    with pytest.raises(SigningKeyError, match=r"is not there; put it back"):
        ensure_signing_key(tmp_path)
    with pytest.raises(SigningKeyError, match="in the environment is none"):
        signing_key_of(tmp_path, "nonsense")
    with pytest.raises(SigningKeyError, match="in force; sign with that one"):
        ensure_signing_key(tmp_path, new_signing_key("other").text)


def test_a_key_that_takes_over_is_introduced_by_the_one_before(tmp_path):
    first = ensure_signing_key(tmp_path)
    second, third = new_signing_key("b"), new_signing_key("c")
    rotate_signing_key(tmp_path, first, second, 10)
    rotate_signing_key(tmp_path, second, third, 25)
    ring = read_ring(tmp_path / RING_FOLDER)
    assert ring.keys == [first.verifier, second.verifier, third.verifier]
    assert ring.current == third.verifier
    assert ring.in_force_at(9) == [first.verifier]
    assert ring.in_force_at(10) == [first.verifier, second.verifier]
    assert ring.in_force_at(24) == [second.verifier]
    assert ring.in_force_at(99) == [third.verifier]
    assert read_signing_key(tmp_path / KEY_FILE) == third
    with pytest.raises(SigningKeyError, match="is not the key in force"):
        rotate_signing_key(tmp_path, second, new_signing_key("d"), 30)
    with pytest.raises(SigningKeyError, match="was in force before"):
        rotate_signing_key(tmp_path, third, first, 30)


def test_nobody_introduces_himself_later_on(tmp_path):
    ensure_signing_key(tmp_path)
    stranger = new_signing_key("stranger")
    text = f"royalty_assets key v1\n{stranger.verifier.text}\n5\n"
    (tmp_path / RING_FOLDER / "0002.note").write_text(str(sign_note(text, [stranger])))
    with pytest.raises(SigningKeyError, match=r"0002.note introduces no key.*is not signed by"):
        read_ring(tmp_path / RING_FOLDER)


def test_any_flipped_bit_of_the_ring_and_any_missing_file_is_found(tmp_path):
    first = ensure_signing_key(tmp_path)
    rotate_signing_key(tmp_path, first, new_signing_key("b"), 10)
    folder = tmp_path / RING_FOLDER
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        for bit in range(0, len(raw) * 8, 3):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(SigningKeyError, match=path.name):
                read_ring(folder)
        path.write_bytes(raw)
    (folder / "0001.note").unlink()
    with pytest.raises(SigningKeyError, match=r"0001.note was to come here"):
        read_ring(folder)


def test_a_key_is_called_after_its_projects_folder(tmp_path):
    assert default_key_name(tmp_path / "My Label+Co") == "royalty-assets.invalid/my-label-co"
