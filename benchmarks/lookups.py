"""`make bench-lookups`: dirty names looked up in a catalog of a million recordings.

The catalog is made up, from a seed: words by Zipf's law, so that titles collide; many recordings
of few artists and few of most; live takes, remixes and remasters beside the song; covers under the
same title. Of what is looked up, nineteen in twenty are recordings of the catalog as a sender
might spell them, and one is a recording that the catalog has lost, whose other versions are still
there. The truth is known: recall is of those in the catalog, precision of those accepted.

Each part is a process of its own: names are made in one, and looked up in another, whose CPU
seconds (user and system) and peak memory are told. What a name comes to by itself is not measured
here; that is ``royalty_assets_tests``.
"""

import html
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

RECORDINGS = 1_000_000
LOOKUPS = 20_000
_SEED = 20250301
_HELD_BACK_PER_MILLE = 50

_STARTS = "b br c ch cl d dr f fl g gr h j k l m n p pr qu r s sh sl st t th tr v w y".split()
_VOWELS = "a a e e i i o o u ai ea ee ia io ou é ö".split()
_ENDS = " n r l s t m nd ng rk st ck ss ll".split(" ")
_VERSIONS = (
    (" (Live)", 0.05),
    (" - Live at {word}", 0.02),
    (" ({word} Remix)", 0.05),
    (" - Acoustic", 0.02),
    (" (Instrumental)", 0.02),
    (" - Remastered {year}", 0.05),
    (" (Radio Edit)", 0.02),
    (", Pt. 2", 0.01),
)
_EDITIONS = (" - Remastered {year}", " (Radio Edit)")

Name = tuple[str, str]


class Words:
    """A vocabulary of made-up words; the k-th is drawn in proportion to 1 / (k + 3)."""

    def __init__(self, generator: np.random.Generator, number: int) -> None:
        chance = random.Random(int(generator.integers(1 << 30)))  # noqa: S311 - made up from a seed
        known: dict[str, None] = {}
        while len(known) < number:
            # What is said often is short.
            syllables = 1 + (len(known) > 150) + (chance.random() < 0.35)
            word = "".join(
                chance.choice(_STARTS) + chance.choice(_VOWELS) for _ in range(syllables)
            )
            known[word + chance.choice(_ENDS)] = None
        self.words = np.array(list(known), dtype=object)
        weights = 1.0 / (np.arange(number) + 3.0)
        self._cumulative = np.cumsum(weights / weights.sum())
        self._generator = generator

    def draw(self, number: int) -> list[str]:
        """So many words."""
        at = np.searchsorted(self._cumulative, self._generator.random(number))
        return list(self.words[np.minimum(at, len(self.words) - 1)])

    def phrases(self, number: int, lengths: list[float]) -> list[str]:
        """So many phrases; ``lengths`` are the probabilities of one word, two words, ..."""
        counts = self._generator.choice(len(lengths), number, p=lengths) + 1
        words = self.draw(int(counts.sum()))
        ends = np.cumsum(counts)
        return [
            " ".join(words[end - count : end]).title()
            for end, count in zip(ends, counts, strict=True)
        ]


def make_recordings(number: int) -> pl.DataFrame:
    """A catalog with what is held back from it (``is_held_back``), in ``RECORDING_SCHEMA``."""
    generator = np.random.default_rng(_SEED)
    words = Words(generator, 25_000)
    artists = _artists(generator, max(number // 12, 50))
    songs = words.phrases(int(number * 0.85), [0.14, 0.30, 0.28, 0.16, 0.08, 0.04])
    # An artist's songs: few have very many. A cover is a song's title under another artist.
    shares = 1.0 / (np.arange(len(artists)) + 30.0) ** 0.8
    drawn = generator.choice(len(artists), len(songs), p=shares / shares.sum())
    # Issues of one recording (a remaster, an edit) share a number: they are held back together.
    rows: list[tuple[str, str, int]] = []
    chances = generator.random((len(songs), len(_VERSIONS) + 3))
    for song, title in enumerate(songs):
        artist = artists[drawn[song]]
        if chances[song, -1] < 0.12:
            artist += (", ", " & ", " feat. ")[song % 3] + artists[drawn[-song - 1]]
        rows.append((title, artist, song))
        if chances[song, -2] < 0.06:
            rows.append((title, artists[drawn[-song - 2]], -len(rows)))
        for (form, share), chance in zip(_VERSIONS, chances[song], strict=False):
            if chance < share:
                word = words.words[(song * 7919) % len(words.words)].title()
                name = title + form.format(word=word, year=1990 + song % 33)
                rows.append((name, artist, song if form in _EDITIONS else -len(rows)))
        if len(rows) >= number:
            break
    rows = [rows[i] for i in generator.permutation(len(rows))]
    is_held_back = generator.integers(0, 1000, 2 * len(rows)) < _HELD_BACK_PER_MILLE
    ids = [f"R{i:07d}" for i in range(len(rows))]
    return pl.DataFrame(
        {
            "recording_id": ids,
            "isrc": [f"QZ{i:010d}" for i in range(len(rows))],
            "title": [title for title, _, _ in rows],
            "artist": [artist for _, artist, _ in rows],
            "is_held_back": is_held_back[[song for _, _, song in rows]],
        }
    )


def _artists(generator: np.random.Generator, number: int) -> list[str]:
    given, family = Words(generator, 3_000), Words(generator, 20_000)
    people = zip(given.draw(number), family.draw(number), strict=True)
    bands = family.phrases(number, [0.3, 0.5, 0.2])
    kinds = generator.random(number)
    names = [
        band if kind < 0.3 else f"The {band}" if kind < 0.4 else f"{first} {last}".title()
        for kind, band, (first, last) in zip(kinds, bands, people, strict=True)
    ]
    return list(dict.fromkeys(names))


def _typo(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text)) if text else 0
    letter = chance.choice("abcdefghijklmnopqrstuvwxyz")
    return chance.choice(
        (
            text[:at] + letter + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[:at] + letter + text[at:],
            text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :],
        )
    )


def _typo_in_title(name: Name, chance: random.Random) -> Name:
    return _typo(name[0], chance), name[1]


def _typo_in_artist(name: Name, chance: random.Random) -> Name:
    return name[0], _typo(name[1], chance)


def _swapped_words(name: Name, chance: random.Random) -> Name:
    head, bracket, tail = name[0].partition(" (")
    words = head.split(" ")
    if len(words) > 1 and "-" not in words:
        at = chance.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words) + bracket + tail, name[1]


def _swapped_artist(name: Name, _: random.Random) -> Name:
    words = name[1].split(" ")
    return name[0], f"{words[-1]} {' '.join(words[:-1])}" if len(words) == 2 else name[1]


def _featuring(name: Name, chance: random.Random) -> Name:
    for separator in (" feat. ", " & ", ", "):
        first, found, guest = name[1].partition(separator)
        if found:
            return f"{name[0]} ({chance.choice(('feat.', 'ft.'))} {guest})", first
    return f"{name[0]} (feat. {chance.choice(('Mina', 'DJ Olo', 'The Choir'))})", name[1]


def _remaster(name: Name, chance: random.Random) -> Name:
    year = chance.randrange(1995, 2025)
    form = chance.choice((" - Remastered {}", " ({} Remaster)", " [Remastered {}]"))
    return name[0] + form.format(year), name[1]


def _casing(name: Name, chance: random.Random) -> Name:
    return (
        (name[0].upper(), name[1].upper()) if chance.random() < 0.5 else (name[0].lower(), name[1])
    )


def _accents(name: Name, chance: random.Random) -> Name:
    if not (name[0] + name[1]).isascii():
        plain = [unicodedata.normalize("NFKD", text) for text in name]
        left, right = ("".join(c for c in text if not unicodedata.combining(c)) for text in plain)
        return left, right
    letter = chance.choice("aeiou")
    accented = unicodedata.normalize("NFC", letter + chance.choice("\u0301\u0308\u0300"))
    return name[0].replace(letter, accented, 1), name[1]


def _truncated(name: Name, chance: random.Random) -> Name:
    """As a column of fixed width leaves it."""
    return name[0][: max(int(len(name[0]) * chance.uniform(0.8, 0.97)), 8)], name[1]


def _punctuation(name: Name, chance: random.Random) -> Name:
    if "&" in "".join(name) and chance.random() < 0.5:
        return html.escape(name[0]), html.escape(name[1])
    return name[0].replace(" ", chance.choice(("  ", ", ", "_", " \u200b")), 1), f" {name[1]}."


_DIRT: dict[Callable[[Name, random.Random], Name], float] = {
    _typo_in_title: 0.22,
    _typo_in_artist: 0.18,
    _swapped_words: 0.06,
    _swapped_artist: 0.06,
    _featuring: 0.12,
    _remaster: 0.08,
    _casing: 0.25,
    _accents: 0.12,
    _truncated: 0.06,
    _punctuation: 0.15,
}


def make_lookups(recordings: pl.DataFrame, number: int) -> pl.DataFrame:
    """(title, artist, truth): names as sent; ``truth`` is null for what the catalog has lost."""
    chance = random.Random(_SEED)  # noqa: S311 - the same names each time
    kept, lost = (
        recordings.filter(pl.col("is_held_back") == is_held_back)
        .sample(count, seed=_SEED)
        .select("recording_id", "title", "artist")
        .rows()
        for is_held_back, count in ((False, number * 19 // 20), (True, number // 20))
    )
    sent: dict[Name, str | None] = {}
    for recording_id, title, artist in (*kept, *((None, *row[1:]) for row in lost)):
        name = (title, artist)
        while name == (title, artist):
            for soil, share in _DIRT.items():
                if chance.random() < share:
                    name = soil(name, chance)
        sent.setdefault(name, recording_id)
    return pl.DataFrame(
        [(*name, truth) for name, truth in sent.items()],
        schema={"title": pl.String, "artist": pl.String, "truth": pl.String},
        orient="row",
    )


def write_names(folder: Path, number: int, lookups: int) -> None:
    """The catalog and what is looked up in it, as files."""
    recordings = make_recordings(number * 1000 // (1000 - _HELD_BACK_PER_MILLE) + 1)
    make_lookups(recordings, lookups).write_parquet(folder / "lookups.parquet")
    recordings.filter(~pl.col("is_held_back")).drop("is_held_back").write_parquet(
        folder / "recordings.parquet"
    )


def look_up(folder: Path) -> dict[str, object]:
    """Build the index, look everything up, and judge it by the truth."""
    from royalty_assets.domain.matching.candidates import CandidateIndex
    from royalty_assets.domain.matching.cascade import decide_names

    recordings = pl.read_parquet(folder / "recordings.parquet")
    lookups = pl.read_parquet(folder / "lookups.parquet")
    start = time.process_time()
    index = CandidateIndex.build(recordings)
    built = time.process_time()
    built_peak = _peak_memory_mib()
    decided = [
        decide_names(index, chunk.select("title", "artist").rows())
        for chunk in lookups.iter_slices(2_000)
    ]
    seconds = time.process_time() - built
    judged = lookups.with_columns(pl.concat(decided).drop("title", "artist"))
    judged.write_parquet(folder / "judged.parquet")
    accepted = judged.filter(pl.col("method") != "exception")
    right = accepted.filter(pl.col("recording_id") == pl.col("truth").fill_null("")).height
    there = judged["truth"].is_not_null().sum()
    reasons = judged.filter(pl.col("truth").is_not_null())["reason"].drop_nulls().value_counts()
    return {
        "recordings": recordings.height,
        "lookups": lookups.height,
        "build_cpu_seconds": round(built - start, 1),
        "build_peak_memory_mib": built_peak,
        "cpu_seconds": round(seconds, 2),
        "lookups_per_cpu_second": round(lookups.height / seconds),
        "recall": round(right / there, 4),
        "precision": round(right / accepted.height, 5),
        "exceptions": dict(reasons.sort("reason").iter_rows()),
        "peak_memory_mib": _peak_memory_mib(),
    }


def _peak_memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(number: int = RECORDINGS, lookups: int = LOOKUPS) -> dict[str, object]:
    """Make the names in one process, look them up in another."""
    with tempfile.TemporaryDirectory() as folder:
        _run("write", folder, str(number), str(lookups))
        return json.loads(_run("look-up", folder))  # type: ignore[no-any-return]


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.lookups", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def table_of(measured: dict[str, object]) -> Table:
    """What was measured, figure by figure."""
    table = Table(title="Look-ups of dirty names", title_justify="left", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure, value in measured.items():
        if isinstance(value, dict):
            for reason, count in value.items():
                table.add_row(f"  exception: {reason}", f"{count:,}")
        else:
            table.add_row(figure.replace("_", " "), f"{value:,}")
    return table


def main() -> None:
    """Measure and show."""
    scale = float(os.environ.get("SCALE", "1"))
    Console().print(table_of(measure(int(RECORDINGS * scale))))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", target, recordings_text, lookups_text]:
            write_names(Path(target), int(recordings_text), int(lookups_text))
        case ["look-up", target]:
            print(json.dumps(look_up(Path(target))))
        case _:
            main()
