"""Check a royalty receipt on your own: `python verify_receipt.py RECEIPT.json --key KEY`.

This one file needs Python 3.10 or newer and nothing else: no network, no packages, nothing of those
who pay. It checks that the line's amount follows, step by step, from the figures that it names;
that the line is one of a statement, and the statement an entry of a log that only grows; and that
the log was signed by the key. With `--source FILE` it also checks that a file which you were given
is the one that the line came from. docs/reference/receipt.md describes what a receipt holds.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

FORMAT = "royalty-assets receipt v1"
ATOMS_PER_UNIT = 10**18
Json = dict[str, Any]


class Rejected(Exception):  # noqa: N818 - what a reader is told, no error of the program
    """The receipt does not show what it claims; the message says where it fails."""


def reject(why: str) -> NoReturn:
    """Say that the receipt fails."""
    raise Rejected(why)


# Ed25519 signatures, RFC 8032 §5.1

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]  # X, Y, Z and T, where x = X/Z, y = Y/Z and x·y = T/Z


def point_add(a: Point, b: Point) -> Point:
    """RFC 8032 §5.1.4."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_multiply(factor: int, point: Point) -> Point:
    """The point, added to itself so many times."""
    result: Point = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        factor >>= 1
    return result


def point_encode(point: Point) -> bytes:
    """RFC 8032 §5.1.2."""
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_decode(raw: bytes) -> Point | None:
    """RFC 8032 §5.1.3; None if the bytes are no point, or not spelt as they have to be."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if len(raw) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032 §5.1.7: whether S·B = R + k·A, for the one spelling of S and R."""
    key = point_decode(public)
    if BASE is None or key is None or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    k = int.from_bytes(digest, "little") % ORDER
    minus_key = (P - key[0], key[1], key[2], P - key[3])
    expected = point_add(point_multiply(s, BASE), point_multiply(k, minus_key))
    return point_encode(expected) == signature[:32]


# Merkle trees, RFC 6962 §2.1 and RFC 9162 §2.1.3.2


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def root_by_proof(leaf: bytes, proof: Json, what: str) -> bytes:
    """The root of the tree that has this leaf at the proof's index, by the proof's hashes."""
    index, size = proof["index"], proof["size"]
    if type(index) is not int or type(size) is not int or not 0 <= index < size:
        reject(f"{what}: there is no place {index!r} among {size!r}")
    last, found = size - 1, leaf
    for text in proof["hashes"]:
        sibling = from_hex(text, f"{what}: a hash")
        if last == 0:
            reject(f"{what}: the proof is too long")
        if index & 1 or index == last:
            found = hashlib.sha256(b"\x01" + sibling + found).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\x01" + found + sibling).digest()
        index, last = index >> 1, last >> 1
    if last:
        reject(f"{what}: the proof is too short")
    return found


# Signed notes, c2sp.org/signed-note and c2sp.org/tlog-checkpoint


def from_hex(text: Any, what: str) -> bytes:
    """32 bytes from lower-case hexadecimal."""
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
        reject(f"{what} is not 64 hexadecimal digits")
    return bytes.fromhex(text)


def from_base64(text: str, what: str) -> bytes:
    """Bytes from base64 in its one spelling."""
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except ValueError:
        reject(f"{what} is not base64")
    if base64.b64encode(raw).decode() != text:
        reject(f"{what} is base64, but not as it is written")
    return raw


def parse_key(text: str) -> tuple[str, bytes, bytes]:
    """(name, id, public key) of a key's text, ``name+id+key``."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = from_base64(encoded, f"key {name}")
    expected = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if not name or name != "".join(name.split()) or key_id != expected.hex():
        reject(f"key {text!r} was copied wrong")
    if len(raw) != 33 or raw[0] != 1:
        reject(f"key {name} is not an Ed25519 key")
    return name, expected, raw[1:]


def open_note(note: str, keys: Sequence[str]) -> str:
    """The text of a note that each of the keys signed, and nobody else."""
    text, separator, rest = note.rpartition("\n\n")
    if not separator or not rest.endswith("\n"):
        reject("the checkpoint is no signed note")
    text += "\n"
    lines = rest[:-1].split("\n")
    if not keys or len(lines) != len(keys):
        reject("the checkpoint is not signed by just the keys that the receipt names")
    for line, key in zip(lines, keys, strict=True):
        name, key_id, public = parse_key(key)
        prefix = f"\u2014 {name} "
        if not line.startswith(prefix):
            reject(f"the checkpoint is not signed by {key}")
        raw = from_base64(line[len(prefix) :], "a signature")
        if raw[:4] != key_id or not ed25519_verifies(public, text.encode(), raw[4:]):
            reject(f"the signature of the checkpoint is not of {key}")
    return text


def checkpoint_root(text: str) -> tuple[int, bytes]:
    """(size, root) of the log that a checkpoint's text tells of."""
    lines = text.split("\n")
    if len(lines) < 4 or not re.fullmatch("0|[1-9][0-9]{0,18}", lines[1]):
        reject("the checkpoint tells no size")
    root = from_base64(lines[2], "the checkpoint's root")
    if len(root) != 32:
        reject("the checkpoint's root has not 32 bytes")
    return int(lines[1]), root


# Arithmetic: amounts are decimal texts, counted in 10^-18 of a unit of their currency


def decimal(text: Any, what: str) -> Fraction:
    """A number from its decimal text."""
    if not isinstance(text, str) or not re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", text):
        reject(f"{what} is not a decimal number: {text!r}")
    return Fraction(text)


def is_within_one_atom(result: Fraction, exact: Fraction) -> bool:
    """Whether a result is the exact figure, or one of the two amounts beside it."""
    atoms = result * ATOMS_PER_UNIT
    return atoms.denominator == 1 and abs(atoms - exact * ATOMS_PER_UNIT) < 1


def is_cut_off(result: Fraction, exact: Fraction) -> bool:
    """Whether a result is the exact figure, cut off after 18 decimals."""
    atoms = exact * ATOMS_PER_UNIT
    cut = abs(atoms.numerator) // atoms.denominator
    return result * ATOMS_PER_UNIT == (-cut if atoms < 0 else cut)


def numbers(step: Json, names: Sequence[str], where: str) -> list[Fraction]:
    """The named operands of a step."""
    return [decimal(step[name], f"{where}, {name}") for name in names]


def check_sum(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`sum`: the terms come to the result."""
    terms = [decimal(term, f"{where}, a term") for term in step["terms"]]
    if sum(terms) != result:
        reject(f"{where}: the terms come to something else than {step['result']}")
    return terms


def check_pool_share(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`pool_share`: pool times units over all units, to the atom above or below."""
    pool, units, all_units = numbers(step, ("pool", "units", "all_units"), where)
    if not 0 <= units <= all_units or all_units == 0:
        reject(f"{where}: {step['units']} are no part of {step['all_units']} units")
    if not is_within_one_atom(result, pool * units / all_units):
        reject(f"{where}: the part of the pool is not {step['result']}")
    return [pool, units, all_units]


def check_share(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`share`: amount times numerator over denominator, as `pool_share`."""
    amount, numerator, denominator = numbers(step, ("amount", "numerator", "denominator"), where)
    if not 0 <= numerator <= denominator or denominator == 0:
        reject(f"{where}: {step['numerator']} of {step['denominator']} is no share")
    if not is_within_one_atom(result, amount * numerator / denominator):
        reject(f"{where}: the share is not {step['result']}")
    return [amount]


def check_deduct(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`deduct`: the amount less its deductions."""
    (amount,) = numbers(step, ("amount",), where)
    deductions = [decimal(each, f"{where}, a deduction") for each in step["deductions"]]
    if amount - sum(deductions) != result:
        reject(f"{where}: what is left is not {step['result']}")
    return [amount, *deductions]


def check_per_unit(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`per_unit`: units times rate, cut off after 18 decimals."""
    units, rate = numbers(step, ("units", "rate"), where)
    if not is_cut_off(result, units * rate):
        reject(f"{where}: {step['units']} times {step['rate']} is not {step['result']}")
    return [units, rate]


def check_convert(step: Json, result: Fraction, where: str) -> list[Fraction]:
    """`convert`: amount times rate of exchange, cut off after 18 decimals."""
    amount, rate = numbers(step, ("amount", "rate"), where)
    if rate <= 0 or not is_cut_off(result, amount * rate):
        reject(f"{where}: {step['amount']} times {step['rate']} is not {step['result']}")
    return [amount]


KINDS: dict[str, tuple[tuple[str, ...], Callable[[Json, Fraction, str], list[Fraction]]]] = {
    "sum": (("terms",), check_sum),
    "pool_share": (("pool", "units", "all_units"), check_pool_share),
    "share": (("amount", "numerator", "denominator"), check_share),
    "deduct": (("amount", "deductions"), check_deduct),
    "per_unit": (("units", "rate"), check_per_unit),
    "convert": (("amount", "rate"), check_convert),
}


def check_steps(receipt: Json) -> None:
    """Every step comes to its result from what it names, each from the one before it."""
    steps = receipt["steps"]
    if not steps:
        reject("no step says how the amount was computed")
    before: Fraction | None = None
    for number, step in enumerate(steps, start=1):
        where = f"step {number}"
        if step.get("kind") not in KINDS:
            reject(f"{where}: nobody knows how to check a step of kind {step.get('kind')!r}")
        names, check = KINDS[step["kind"]]
        if set(step) - {"words"} != {"kind", "result", *names}:
            reject(f"{where}: a {step['kind']} has the fields {', '.join(names)} and result")
        result = decimal(step["result"], f"{where}, result")
        operands = check(step, result, where)
        if before is not None and before not in operands:
            reject(f"{where}: it does not go on from the result of step {number - 1}")
        if number == 1 and step["kind"] == "sum":
            check_sources_are_terms(receipt["sources"], operands)
        before = result
    if before != decimal(receipt["line"]["amount"], "the line's amount"):
        reject(f"the last step does not come to the line's {receipt['line']['amount']}")


def check_sources_are_terms(sources: Sequence[Json], terms: Sequence[Fraction]) -> None:
    """What source rows say of money is among what was added up."""
    left = list(terms)
    for source in sources:
        if "amount" in source:
            amount = decimal(source["amount"], f"the amount of {source['name']}")
            if amount not in left:
                reject(f"{source['amount']} of {source['name']} is not among the terms of step 1")
            left.remove(amount)


def check_movements(statement: Json) -> None:
    """The statement's balance: its movements come to what it closes with."""
    header = statement["header"]
    total = sum(decimal(m["amount"], f"movement {m['what']}") for m in header["movements"])
    if total != decimal(header["closing"], "the closing balance"):
        reject(f"the statement's movements do not come to its balance of {header['closing']}")


# The receipt


def canonical(value: Any) -> str:
    """The one text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def line_entry(receipt: Json) -> bytes:
    """What the leaf of a line is the hash of: the line and all that is said about it."""
    names = ("contract", "line", "line_salt", "match", "sources", "steps")
    return ("royalty_assets line v1\n" + canonical({n: receipt[n] for n in names})).encode()


def statement_sha256(statement: Json, lines_root: bytes, lines: int) -> str:
    """What the log knows of a statement."""
    from_hex(statement["salt"], "the statement's salt")
    text = f"royalty_assets statement v1\n{canonical(statement)}\n{lines}\n{lines_root.hex()}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def log_entry(statement: Json, index: int, content_sha256: str) -> bytes:
    """What the leaf of a statement is the hash of."""
    subject = "{payee}/{period}/{currency}.{revision}".format(**statement)
    if "\n" in subject:
        reject("the statement's payee, period and currency are of one line")
    return f"royalty_assets leaf v1\n{index}\nstatement\n{subject}\n{content_sha256}\n\n".encode()


SHAPE: Json = {
    "checkpoint": str,
    "contract": dict,
    "format": str,
    "keys": list,
    "line": dict,
    "line_proof": dict,
    "line_salt": str,
    "log_proof": dict,
    "match": dict,
    "sources": list,
    "statement": dict,
    "steps": list,
}


def parse_receipt(content: bytes) -> Json:
    """A receipt, spelt in the one way in which receipts are written."""
    try:
        text = content.decode("utf-8")
        receipt = json.loads(text)
    except ValueError:
        reject("the file is no JSON")
    if not isinstance(receipt, dict) or receipt.get("format") != FORMAT:
        reject(f"the file is no {FORMAT}")
    if json.dumps(receipt, sort_keys=True, indent=1, ensure_ascii=False) + "\n" != text:
        reject("the file was changed: it is not written as receipts are")
    if set(receipt) != set(SHAPE):
        reject(f"a receipt has the fields {', '.join(sorted(SHAPE))}")
    for name, kind in SHAPE.items():
        if not isinstance(receipt[name], kind):
            reject(f"the receipt's field {name} is of another kind")
    return receipt


def verify(
    content: bytes, key: str | None = None, sources: Sequence[Path] = ()
) -> list[tuple[str, str]]:
    """Check a receipt.

    Returns:
        What holds, each with what that means.

    Raises:
        Rejected: where it does not hold.
    """
    try:
        return _verify(content, key, sources)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Rejected(f"the receipt is not complete: {error!r}") from None


def _verify(content: bytes, key: str | None, sources: Sequence[Path]) -> list[tuple[str, str]]:
    receipt = parse_receipt(content)
    statement, line = receipt["statement"], receipt["line"]
    if line["currency"] != statement["currency"]:
        reject("the line is in another currency than its statement")
    check_steps(receipt)
    money = f"{line['amount']} {line['currency']}"
    held = [
        ("the arithmetic", f"each of {len(receipt['steps'])} steps comes to its result, {money}")
    ]
    check_movements(statement)
    held.append(("the balance", f"the movements come to {statement['header']['closing']}"))

    from_hex(receipt["line_salt"], "the line's salt")
    lines = receipt["line_proof"]
    lines_root = root_by_proof(leaf_hash(line_entry(receipt)), lines, "the line")
    of_statement = statement_sha256(statement, lines_root, lines["size"])
    whose = f"{statement['payee']} for {statement['period']}"
    held.append(
        ("the statement", f"the line is number {lines['index'] + 1} of {lines['size']} of {whose}")
    )
    place = receipt["log_proof"]
    leaf = leaf_hash(log_entry(statement, place["index"], of_statement))
    log_root = root_by_proof(leaf, place, "the statement")
    size, signed_root = checkpoint_root(receipt["checkpoint"])
    if (size, signed_root) != (place["size"], log_root):
        reject("the log that was signed does not hold this line in this statement")
    held.append(
        ("the log", f"the statement is entry {place['index']} of a log of {size}, none of which "
         "can change without a trace")
    )  # fmt: skip
    open_note(receipt["checkpoint"], receipt["keys"])
    if key is not None and key.strip() not in receipt["keys"]:
        reject(f"it is signed by {', '.join(receipt['keys'])}, and not by {key.strip()}")
    held.append(("the signature", f"the log was signed by {', '.join(receipt['keys'])}"))
    held += [check_source(receipt["sources"], path) for path in sources]
    return held


def check_source(sources: Sequence[Json], path: Path) -> tuple[str, str]:
    """A file that is the source of the line, and what its rows say."""
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    rows = [source for source in sources if source["sha256"] == sha256]
    if not rows:
        reject(f"{path} has the SHA-256 {sha256}, which the receipt does not name")
    lines = lines_of(raw) if any("text" in source for source in rows) else []
    for source in rows:
        number = int(source["row"])
        if number == 0 or "text" not in source:
            continue
        there = lines[number - 1] if number <= len(lines) else ""
        if there != source["text"]:
            reject(f"{path}, line {number}: it says {there!r}, not {source['text']!r}")
    return (
        f"the source {path.name}",
        f"it is the file that the line came from, {len(rows)} row(s)",
    )


def lines_of(raw: bytes) -> list[str]:
    """The lines of a text file, which may be packed by gzip or zip, and in UTF-16."""
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    elif raw[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            raw = packed.read(next(one for one in packed.infolist() if not one.is_dir()))
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return [line.rstrip("\r") for line in raw.decode("utf-16").split("\n")]
    return [decoded(line) for line in raw.split(b"\n")]


def decoded(line: bytes) -> str:
    """A line as text; what is no UTF-8 is Windows-1252."""
    line = line.rstrip(b"\r")
    try:
        return line.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the receipt of a command line; 0 if it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("receipt", type=Path, help="the receipt, a JSON file")
    parser.add_argument("--key", help="the payer's public key, as they published it")
    parser.add_argument(
        "--source", type=Path, action="append", default=[], help="a report file that it came from"
    )
    chosen = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        held = verify(chosen.receipt.read_bytes(), chosen.key, chosen.source)
    except (Rejected, OSError) as error:
        print(f"\u2717 {error}")
        print("This receipt does NOT hold.")
        return 1
    for what, meaning in held:
        print(f"\u2713 {what}: {meaning}")
    if chosen.key is None:
        print("! compare the key above with the one that the payer published, or give it as --key")
    print("This receipt holds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
