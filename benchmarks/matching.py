"""`make bench-matching`: how well matching does on public benchmarks, beside splink.

Each measurement is a process of its own: ours is the command ``royalty-assets bench-matching``,
splink's is ``splink_peer``, run by an interpreter that has it. Both learn from the training file,
their thresholds too, and are counted on the same test file; CPU seconds are user and system from
the first byte read, imports left out, on one thread each.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "matching.json"
DATA = Path(os.environ.get("MATCHING_DATA") or HERE.parents[1] / "shared/data")
SPLINK_PYTHON = HERE.parent / ".venv/splink/bin/python"
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A pair of files.

    Attributes:
        name: for people.
        kind: ``clusters`` or ``pairs``.
        train: what is learnt from.
        test: what is counted on.
        fields: what may be looked at; everything if empty.
    """

    name: str
    kind: str
    train: Path
    test: Path
    fields: str = ""

    @property
    def arguments(self) -> list[str]:
        """The same for ours and the peer."""
        options = ["--kind", self.kind, "--train", str(self.train), "--test", str(self.test)]
        return options + (["--fields", self.fields] if self.fields else [])


def benchmarks(data: Path, folder: Path) -> list[Benchmark]:
    """All of them; ``folder`` takes what is made of the data."""
    splits = ("train", "valid")
    records, others = (data / f"musicbrainz20k/ee_er-{split}.csv" for split in splits)
    train, valid = (data / f"itunes_amazon/Structured.{split}.txt" for split in splits)
    unseen = folder / "unseen.txt"
    found = []
    if records.is_file() and others.is_file():
        found += [
            Benchmark("MusicBrainz-20K, all fields", "clusters", records, others),
            Benchmark(
                "MusicBrainz-20K, title and artist", "clusters", records, others, "title,artist"
            ),
        ]
    if train.is_file() and valid.is_file():
        known = set(_lines(train))
        unseen.write_text("".join(line for line in _lines(valid) if line not in known), "utf-8")
        found += [
            Benchmark("iTunes-Amazon", "pairs", train, valid),
            Benchmark("iTunes-Amazon, pairs not in train", "pairs", train, unseen),
        ]
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines(keepends=True)


def measure(command: list[str]) -> dict[str, float]:
    """Run a command that tells its figures as JSON."""
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent
    )
    told = json.loads(done.stdout)
    return {name: told[name] for name in ("precision", "recall", "f1", "cpu_seconds")}


def main() -> None:
    """Measure, show a table, and leave the figures in matching.json."""
    console = Console()
    commands = {"royalty_assets": [sys.executable, "-m", "royalty_assets.cli", "bench-matching"]}
    if SPLINK_PYTHON.exists():
        commands["splink 5.0.0"] = [str(SPLINK_PYTHON), str(HERE / "splink_peer.py")]
    else:
        console.print("splink is not installed: `make bench-matching` puts it into .venv/splink")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for benchmark in benchmarks(DATA, Path(folder)):
            for who, command in commands.items():
                json_wanted = ["--json"] if who == "royalty_assets" else []
                figures = measure([*command, *benchmark.arguments, *json_wanted])
                rows.append({"benchmark": benchmark.name, "who": who, **figures})
    if not rows:
        console.print(
            f"Nothing was measured: the public benchmarks are not in {DATA}.\n"
            "Wanted are musicbrainz20k/ee_er-{train,valid}.csv and "
            "itunes_amazon/Structured.{train,valid}.txt;\n"
            "name another folder with MATCHING_DATA=...",
            markup=False,
            soft_wrap=True,
        )
        return
    show(console, rows)
    RESULTS.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def show(console: Console, rows: list[dict[str, object]]) -> None:
    """The table."""
    table = Table(title="Matching on public benchmarks", title_justify="left")
    table.add_column("benchmark")
    table.add_column("who")
    for name in ("precision", "recall", "F1", "CPU s"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        cpu = f"{row['cpu_seconds']:.2f}"
        table.add_row(str(row["benchmark"]), str(row["who"]), *figures, cpu)
    console.print(table)


if __name__ == "__main__":
    main()
