"""Payloads in the lake: the exact bytes received, in pieces, as Parquet.

A raw object holds whole payloads: several pages, or one file. Columns: payload_name,
payload_sha256, chunk (counted from 0), body. Joining a payload's bodies in order gives the bytes
whose SHA-256 is beside them.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from royalty_assets.domain.batches import Batch, LakeObject
from royalty_assets.sources.payloads import Payload
from royalty_assets.storage.lake import Lake, damaged

_SCHEMA = pa.schema(
    [
        pa.field("payload_name", pa.string(), nullable=False),
        pa.field("payload_sha256", pa.string(), nullable=False),
        pa.field("chunk", pa.int32(), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """A payload as read back: its bytes are to be taken before the next payload is.

    ``size_bytes`` is that of the object that holds it, perhaps with others.
    """

    name: str
    sha256: str
    size_bytes: int
    chunks: Iterator[bytes]


def payload_sha256(payload: Payload) -> str:
    """SHA-256 of the payload's exact bytes."""
    digest = hashlib.sha256()
    for chunk in payload.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def put_payloads(
    lake: Lake, folder: str, label: str, payloads: list[tuple[str, Payload]]
) -> LakeObject:
    """Store payloads, given with their SHA-256, as one object; a row group a piece."""

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for sha256, payload in payloads:
                for number, chunk in enumerate(payload.chunks()):
                    row = {
                        "payload_name": [payload.name],
                        "payload_sha256": [sha256],
                        "chunk": [number],
                        "body": [chunk],
                    }
                    writer.write_table(pa.table(row, schema=_SCHEMA))

    return lake.put(folder, label, len(payloads), write)


def stored_payloads(lake: Lake, objects: Iterable[LakeObject]) -> Iterator[StoredPayload]:
    """The payloads in these objects, each read piece by piece.

    Raises:
        LakeError: if an object is not there, or damaged.
    """
    for stored in objects:
        for (name, sha256), pieces in groupby(
            _rows(lake, stored), key=lambda row: (row["payload_name"], row["payload_sha256"])
        ):
            chunks = (piece["body"] for piece in pieces)
            yield StoredPayload(name, sha256, stored.size_bytes, chunks)


def _rows(lake: Lake, stored: LakeObject) -> Iterator[dict[str, Any]]:
    path = lake.local_path(stored)
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group).to_pylist()
    except pa.ArrowInvalid as error:
        raise damaged(stored, error) from error


def payload_names(lake: Lake, stored: LakeObject) -> list[tuple[str, str, int]]:
    """(name, SHA-256, bytes) of each payload in an object."""
    return [
        (payload.name, payload.sha256, sum(map(len, payload.chunks)))
        for payload in stored_payloads(lake, [stored])
    ]


def altered_payloads(lake: Lake, batch: Batch) -> list[str]:
    """The payloads of a batch whose bytes, read back, no longer have their SHA-256."""
    altered = []
    for payload in stored_payloads(lake, batch.objects):
        digest = hashlib.sha256()
        for chunk in payload.chunks:
            digest.update(chunk)
        if digest.hexdigest() != payload.sha256:
            altered.append(f"{payload.name} was received with SHA-256 {payload.sha256}")
    return altered
