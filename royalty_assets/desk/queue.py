"""The questions as the desk shows them: kept between pages, filtered, with their candidates."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.adjudication import State
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.matching.words import levels_in_words
from royalty_assets.pipeline.catalog import catalog_in_force, load_catalog, matcher_in_force
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.questions import Question, collect, with_standings

CANDIDATES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recording that a question may mean, and why it scored as it did."""

    recording_id: str
    isrc: str
    title: str
    artist: str
    upc: str
    release_title: str
    score: float | None
    why: Sequence[str]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which questions are wanted; empty for all."""

    state: str = State.OPEN
    kind: str = ""
    feed: str = ""
    text: str = ""

    def wants(self, question: Question) -> bool:
        """Whether the question is among them."""
        shown = f"{question.title} {question.artist} {question.isrc} {question.subject}".casefold()
        return (
            self.state in {"", question.state}
            and self.kind in {"", question.kind}
            and (not self.feed or self.feed in question.feeds)
            and all(word in shown for word in self.text.casefold().split())
        )


class Queue:
    """The questions of the commits in force, made anew when something was committed."""

    def __init__(self, context: PipelineContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._commits: object = None
        self._questions: list[Question] = []
        self._by_subject: dict[str, Question] = {}
        self._recordings: tuple[str, pl.DataFrame] = ("", pl.DataFrame())

    def all(self) -> list[Question]:
        """Every question, in order, each with where it stands now."""
        registry = self._context.registry
        with self._lock:
            commits = [*registry.commits(Stage.MATCHED), *registry.commits(Stage.LEDGER)]
            marker = tuple((c.feed, c.stage, c.partition_key, c.revision) for c in commits)
            if marker != self._commits:
                self._questions = collect(self._context)
                self._by_subject = {one.subject: one for one in self._questions}
                self._commits = marker
            return with_standings(self._context, self._questions)

    def some(self, filters: Filters) -> list[Question]:
        """The questions that are wanted."""
        return [question for question in self.all() if filters.wants(question)]

    def find(self, subject: str) -> Question | None:
        """The question about a subject, if there is one, as it stood when last looked at."""
        if self._commits is None:
            self.all()
        return self._by_subject.get(subject)

    def after(self, subject: str, filters: Filters) -> str | None:
        """The next question to look at after one."""
        known = self.all()
        place = next((n for n, one in enumerate(known) if one.subject == subject), -1)
        later = [one for one in known[place + 1 :] if filters.wants(one)]
        return later[0].subject if later else None

    def recordings(self) -> pl.DataFrame:
        """The catalog in force."""
        version, batch = catalog_in_force(self._context)
        if self._recordings[0] != version:
            self._recordings = (version, load_catalog(self._context, batch).recordings)
        return self._recordings[1]

    def known(self) -> frozenset[str]:
        """The ids of the catalog in force."""
        return frozenset(self.recordings()["recording_id"])

    def names(self, questions: Sequence[Question]) -> dict[str, str]:
        """What the nearest recordings of some questions are called, by id."""
        ids = [question.nearest_id for question in questions if question.nearest_id]
        if not ids:
            return {}
        near = self.recordings().filter(pl.col("recording_id").is_in(ids))
        told = near.select("recording_id", pl.concat_str("title", pl.lit(" · "), "artist"))
        return dict(told.rows())

    def candidates(self, question: Question) -> list[Candidate]:
        """The recordings that come nearest to a question, best first."""
        scored: dict[str, tuple[float | None, str | None]] = {}
        if question.nearest_id:
            scored[question.nearest_id] = (question.nearest_score, question.levels)
        if question.title:
            with self._lock:
                _, matcher = matcher_in_force(self._context)
                found = matcher.candidates(question.title, question.artist, CANDIDATES_SHOWN)
            for row in found.iter_rows(named=True):
                scored[row["recording_id"]] = (row["score"], row["levels"])
        on_release = self._on_release(question.upc)
        for recording_id in on_release:
            scored.setdefault(recording_id, (None, "UPC:equal"))
        return sorted(self._shown(scored), key=lambda one: one.recording_id not in on_release)

    def _on_release(self, upc: str) -> list[str]:
        if not upc:
            return []
        on_it = self.recordings().filter(pl.col("upc") == upc)
        return on_it["recording_id"].head(CANDIDATES_SHOWN).to_list()

    def search(self, text: str) -> list[Candidate]:
        """Recordings whose id, ISRC, title or artist has every word of a text."""
        words = text.casefold().split()
        if not words:
            return []
        recordings = self.recordings()
        told = pl.concat_str(
            "recording_id", "isrc", "title", "artist", "release_title", separator=" "
        ).str.to_lowercase()
        has_all = pl.all_horizontal(told.str.contains(word, literal=True) for word in words)
        ids = recordings.filter(has_all).head(CANDIDATES_SHOWN)["recording_id"]
        return self._shown(dict.fromkeys(ids, (None, None)))

    def _shown(self, scored: dict[str, tuple[float | None, str | None]]) -> list[Candidate]:
        recordings = self.recordings()
        rows = recordings.filter(pl.col("recording_id").is_in(list(scored)))
        shown = [
            Candidate(
                **row,
                score=scored[row["recording_id"]][0],
                why=levels_in_words(scored[row["recording_id"]][1]),
            )
            for row in rows.iter_rows(named=True)
        ]
        return sorted(shown, key=lambda one: (-(one.score or 0.0), one.recording_id))


def shown_money(question: Question) -> list[tuple[str, str]]:
    """(amount, currency) cut to what a person reads."""
    return [(_cut(amount), currency) for currency, amount in question.stake_texts()]


def _cut(amount: str) -> str:
    whole, _, fraction = amount.partition(".")
    sign = "-" if whole.startswith("-") else ""
    digits = f"{int(whole.lstrip('-')):,}"
    return f"{sign}{digits}.{fraction[:4].ljust(2, '0')}"


def summed_money(shown: Sequence[Question]) -> list[tuple[str, str]]:
    """What waits for all of some questions."""
    total = Question("name:")
    for question in shown:
        for currency, atoms in question.stakes.items():
            total.stakes[currency] = total.stakes.get(currency, 0) + atoms
    return shown_money(total)
