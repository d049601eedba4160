"""Verification's hashing beside plain SHA-256: ``python -m benchmarks.verifying``.

Both read the same objects from a warm cache, in this process, in turn, several times; of each the
fewest CPU seconds count. ``verify`` also looks objects up, checks their lengths and lists the lake.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from royalty_assets.domain.batches import LakeObject
from royalty_assets.pipeline.verify import check_objects
from royalty_assets.storage.lake import LocalLake

OBJECTS = 64
OBJECT_BYTES = 8 << 20
ROUNDS = 5


def main() -> None:
    """Measure and print both rates."""
    with tempfile.TemporaryDirectory() as folder:
        lake = LocalLake(Path(folder))
        stored = [_object(lake, number) for number in range(OBJECTS)]
        paths = {each.path for each in stored}

        def ours() -> None:
            if check_objects(lake, stored, paths, lambda *_: None).differences:
                raise AssertionError("nothing was touched")

        def plain() -> None:
            for each in stored:
                if hashlib.sha256(lake.local_path(each).read_bytes()).hexdigest() != each.sha256:
                    raise AssertionError("nothing was touched")

        seconds = _fewest(ours, plain)
    mebibytes = OBJECTS * OBJECT_BYTES >> 20
    for name, fewest in zip(("verify", "plain sha256"), seconds, strict=True):
        print(f"{name:<14}{mebibytes / fewest:>8,.0f} MiB per CPU s")
    print(f"verify at {seconds[1] / seconds[0]:.0%} of plain sha256")


def _object(lake: LocalLake, number: int) -> LakeObject:
    return lake.put("bench", f"{number}", 1, _fill)


def _fill(path: Path) -> None:
    path.write_bytes(os.urandom(OBJECT_BYTES))


def _fewest(*calls: Callable[[], None]) -> list[float]:
    fewest = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for number, call in enumerate(calls):
            start = time.process_time()
            call()
            fewest[number] = min(fewest[number], time.process_time() - start)
    return fewest


if __name__ == "__main__":
    main()
