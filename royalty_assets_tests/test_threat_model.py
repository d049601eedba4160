"""The threat model names tests; they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_defence_names_a_test_that_exists():
    rows = [
        line
        for line in (ROOT / "docs/threat-model.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| threat")
    ]
    assert len(rows) > 40
    for row in rows:
        file, test = re.fullmatch(r".*\| `(test_\w+\.py)::(test_\w+)` \|", row).groups()
        sources = (ROOT / "royalty_assets_tests").rglob(file)
        assert any(f"def {test}(" in path.read_text(encoding="utf-8") for path in sources), row
