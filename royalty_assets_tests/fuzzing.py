"""Coverage-guided fuzzing of the report readers: ``make fuzz``.

Not a part of ``make test``, which fuzzes with Hypothesis: atheris is not there for every platform.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["royalty_assets.sources"]):
    from royalty_assets.sources.inspection import inspect_file
    from royalty_assets.sources.templates import bundled_templates

HERE = Path(__file__).parent / "sources"
SEEDS = [path.read_bytes() for path in sorted(HERE.glob("statements/*"))]
SEEDS += [path.read_bytes() for path in sorted(HERE.glob("dsr/*.tsv"))]
TARGET = Path(tempfile.mkdtemp()) / "fuzzed_202503.csv"


def one(data: bytes) -> None:
    """A statement with a part of it replaced: rows in = lines + rejected, and no exception."""
    choice = atheris.FuzzedDataProvider(data)
    body = SEEDS[choice.ConsumeIntInRange(0, len(SEEDS) - 1)]
    start = choice.ConsumeIntInRange(0, len(body))
    length = choice.ConsumeIntInRange(0, 40)
    TARGET.write_bytes(body[:start] + choice.ConsumeBytes(200) + body[start + length :])
    found = inspect_file(TARGET, bundled_templates())
    if found.rows_read != found.lines + found.rejected:
        raise AssertionError(found.as_json())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
