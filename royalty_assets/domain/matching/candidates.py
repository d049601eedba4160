"""Which recordings are worth comparing with a name: an index of the catalog's names.

A recording comes up for a name in one of three ways. Its artist is similar, in whatever order the
credits and their words stand; of an artist with very many recordings those come up whose title is
similar too. Or its title has the same words. Or it shares a title word that is rare in the catalog.
Of all these a pair is left out whose letters alone show that its titles are too far apart.

What is similar is found as ``texts.SimilarTexts`` promises: of credits of up to 16 letters every
one that could be accepted, of longer ones those that have no more than three letters too many or
too few, or have them all in one half. Of what could only make an accepted name ambiguous, a
recording is lost that has neither such an artist nor the words of the title.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from royalty_assets.domain.matching.normalise import normalise_artists, normalise_titles
from royalty_assets.domain.matching.texts import (
    Hashes,
    Integers,
    SimilarTexts,
    distinct,
    expand,
    in_steps,
    letters_of,
    may_be_similar,
    text_hashes,
    word_hashes,
)

TITLE_SCORE_COMPARED_MIN = 60.0
"""A title farther off than this cannot be accepted, nor come within the margin of one that is."""
TITLE_SCORE_RIVAL_MIN = 76.0
"""Under another artist, a title farther off than this is not worth telling."""
ARTIST_SCORE_FOUND_MIN = 80.0
"""An artist less similar is not looked for; at most the least score that is accepted."""
_TITLE_SCORE_FOUND_MIN = 80.0
KEY_POSTINGS_MAX = 200
"""A title or a word that more recordings share tells nothing."""
ARTIST_RECORDINGS_MAX = 10_000
"""Of an artist with more recordings only those of similar titles come up."""
_WORDS_PER_NAME_MAX = 12

NAME_SCHEMA: dict[str, pl.DataType] = {
    "title": pl.String(),
    "artist": pl.String(),
    "core": pl.String(),
    "version": pl.String(),
    "edition": pl.String(),
    "numbers": pl.String(),
    "guest": pl.String(),
    "first_credit": pl.String(),
    "credits": pl.String(),
}
_INDEXED = ("core", "version", "edition", "numbers", "guest", "first_credit", "credits")


def normal_names(names: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Each (title, artist) with its normal form, ``NAME_SCHEMA``, in the order given."""
    frame = pl.DataFrame(names, schema={"title": pl.String(), "artist": pl.String()}, orient="row")
    return _normal(frame).select(NAME_SCHEMA.keys())


def _normal(names: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(
        [names, normalise_titles(names["title"]), normalise_artists(names["artist"])],
        how="horizontal",
    )


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of numbers by key.

    Attributes:
        starts: where each key's list begins in ``items``, and where the last one ends.
        items: the lists one after the other, each in ascending order.
    """

    starts: Integers
    items: NDArray[np.uint32]

    @classmethod
    def of(cls, keys: Integers, items: Integers, number: int) -> Self:
        """The items of each key from 0 to ``number``."""
        order = np.lexsort((items, keys))
        starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=number))])
        return cls(starts.astype(np.int64), items[order].astype(np.uint32))

    def counts(self, keys: Integers) -> Integers:
        """How long the lists of these keys are."""
        return self.starts[keys + 1] - self.starts[keys]

    def of_keys(self, keys: Integers) -> tuple[Integers, NDArray[np.uint32]]:
        """(position in ``keys``, item) for every item of every key."""
        rows, at = expand(self.starts[keys], self.counts(keys))
        return rows, self.items[at]


@dataclass(frozen=True, slots=True)
class Postings:
    """What brings recordings up; a recording is its row number in the index's names.

    Attributes:
        credits: distinct credits (each credit by itself, and the words of all in order).
        artists_of_credit: artists, which are distinct ``credits`` of names, by such text.
        recordings_of_artist: by artist.
        hashes: of titles and of words, ascending, those that are not too frequent.
        recordings_of_hash: by position in ``hashes``.
        prolific_titles: the distinct titles, words in order, of artists with too many recordings.
        recordings_of_prolific_title: by such title.
        lengths: of each recording's core.
        letters: ``letters_of`` each recording's core.
    """

    credits: SimilarTexts
    artists_of_credit: Lists
    recordings_of_artist: Lists
    hashes: Hashes
    recordings_of_hash: Lists
    prolific_titles: SimilarTexts
    recordings_of_prolific_title: Lists
    lengths: Integers
    letters: Hashes

    @classmethod
    def build(cls, names: pl.DataFrame) -> Self:
        """Index names in normal form."""
        artists, artist_of = _numbered(names["credits"])
        texts, artist, text = _credit_texts(artists)
        recordings = np.arange(names.height)
        recordings_of_artist = Lists.of(artist_of, recordings, len(artists))
        sizes = np.diff(recordings_of_artist.starts)
        prolific = recordings[sizes[artist_of] > ARTIST_RECORDINGS_MAX]
        titles, title_of = _numbered(_words_in_order(names["core"].gather(prolific)))
        hashes, recordings_of_hash = _rare_hashes(names["core"])
        return cls(
            SimilarTexts.build(texts),
            Lists.of(text, artist, len(texts)),
            recordings_of_artist,
            hashes,
            recordings_of_hash,
            SimilarTexts.build(titles),
            Lists.of(title_of, prolific, len(titles)),
            names["core"].str.len_bytes().to_numpy().astype(np.int64),
            letters_of(names["core"]),
        )


def _numbered(texts: pl.Series) -> tuple[pl.Series, Integers]:
    """The distinct texts in order, and which of them each is."""
    distinct = texts.unique().sort().alias("text")
    number = pl.DataFrame({"text": texts}).join(
        pl.DataFrame(distinct).with_row_index("number"),
        on="text",
        how="left",
        maintain_order="left",
    )["number"]
    return distinct, number.to_numpy().astype(np.int64)


def _words_in_order(texts: pl.Series) -> pl.Series:
    return pl.select(
        pl.lit(texts).str.split(" ").list.sort().list.join(" ").alias("text")
    ).to_series()


def _credit_texts(artists: pl.Series) -> tuple[pl.Series, Integers, Integers]:
    """Distinct texts to find artists by, and (artist, text) for every text of every artist."""
    whole = _words_in_order(artists.str.replace_all("|", " ", literal=True))
    listed = pl.DataFrame(
        {"artist": np.arange(len(artists)), "text": artists.str.split("|")}
    ).explode("text")
    both = pl.concat(
        [listed, pl.DataFrame({"artist": np.arange(len(artists)), "text": whole})]
    ).unique(maintain_order=True)
    texts, number = _numbered(both["text"])
    return texts, both["artist"].to_numpy(), number


def _title_hashes(cores: pl.Series) -> tuple[Integers, Hashes]:
    """(row, hash) for each core as a whole and each of its words."""
    owners, words = word_hashes(cores, 2, _WORDS_PER_NAME_MAX)
    return (
        np.concatenate([np.arange(len(cores)), owners]),
        np.concatenate([text_hashes(cores) ^ np.uint64(1), words]),
    )


def _rare_hashes(cores: pl.Series) -> tuple[Hashes, Lists]:
    owners, hashes = _title_hashes(cores)
    order = np.lexsort((owners, hashes))
    owners, hashes = owners[order], hashes[order]
    fresh = np.ones(len(hashes), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    owners, hashes = owners[fresh], hashes[fresh]
    distinct, counts = np.unique(hashes, return_counts=True)
    is_rare = counts <= KEY_POSTINGS_MAX
    kept = np.repeat(is_rare, counts)
    starts = np.concatenate([[0], np.cumsum(counts[is_rare])]).astype(np.int64)
    return distinct[is_rare], Lists(starts, owners[kept].astype(np.uint32))


@dataclass(frozen=True, slots=True)
class CandidateIndex:
    """The catalog by what brings its recordings up.

    Attributes:
        names: normal forms, with ``recording_id`` and ``candidate`` (the row number).
        postings: what brings them up.
    """

    names: pl.DataFrame
    postings: Postings

    @classmethod
    def build(cls, recordings: pl.DataFrame) -> Self:
        """Index recordings given as ``catalog.RECORDING_SCHEMA``."""
        names = (
            _normal(recordings.select("title", "artist"))
            .select(_INDEXED)
            .with_columns(recordings["recording_id"])
            .with_row_index("candidate")
        )
        return cls(names, Postings.build(names))

    def pairs(self, queries: pl.DataFrame) -> pl.DataFrame:
        """(query, candidate) pairs worth comparing, for names with a ``query`` row number."""
        search = _Search(self.postings, queries["core"])
        found = distinct(np.concatenate([search.by_artist(queries["credits"]), search.by_title()]))
        return pl.DataFrame(
            {
                "query": queries["query"].gather(found >> 32),
                "candidate": pl.Series((found & 0xFFFFFFFF).astype(np.uint32)),
            }
        ).sort(pl.all())

    def to_frames(self) -> dict[str, pl.DataFrame]:
        """The index as tables, to be kept."""
        p = self.postings
        return {
            "names": self.names,
            "recordings": _letters_frame(p.lengths, p.letters),
            "hashes": pl.DataFrame({"hash": p.hashes}),
            **_lists_frames("recordings_of_hash", p.recordings_of_hash),
            **_texts_frames("credits", p.credits),
            **_lists_frames("artists_of_credit", p.artists_of_credit),
            **_lists_frames("recordings_of_artist", p.recordings_of_artist),
            **_texts_frames("prolific_titles", p.prolific_titles),
            **_lists_frames("recordings_of_prolific_title", p.recordings_of_prolific_title),
        }

    @classmethod
    def from_frames(cls, frames: Mapping[str, pl.DataFrame]) -> Self:
        """The index that ``to_frames`` gave.

        Raises:
            KeyError: if a table is absent.
            pl.exceptions.ColumnNotFoundError: if a column is.
        """
        recordings = frames["recordings"]
        postings = Postings(
            _texts_of("credits", frames),
            _lists_of("artists_of_credit", frames),
            _lists_of("recordings_of_artist", frames),
            frames["hashes"]["hash"].to_numpy(),
            _lists_of("recordings_of_hash", frames),
            _texts_of("prolific_titles", frames),
            _lists_of("recordings_of_prolific_title", frames),
            recordings["length"].to_numpy(),
            _letters_in(recordings),
        )
        return cls(frames["names"], postings)


class _Search:
    """One search of some names; pairs are ``query << 32 | candidate``, not yet distinct."""

    def __init__(self, postings: Postings, cores: pl.Series) -> None:
        self._postings = postings
        self._cores = cores
        self._lengths = cores.str.len_bytes().to_numpy().astype(np.int64)
        self._letters = letters_of(cores)

    def by_artist(self, credited: pl.Series) -> Integers:
        postings = self._postings
        asked, asked_of = _numbered(credited)
        texts, owners, numbers = _credit_texts(asked)
        text, known = postings.credits.find(texts, ARTIST_SCORE_FOUND_MIN)
        row, artists = postings.artists_of_credit.of_keys(known)
        # (asked artist, known artist): by every text of the one that is similar to one of the other
        texts_of = Lists.of(numbers, owners, len(texts))
        pair, asked_artist = texts_of.of_keys(text[row])
        width = np.int64(len(postings.recordings_of_artist.starts))
        similar = distinct(asked_artist.astype(np.int64) * width + artists[pair])
        similar_to = Lists.of(similar // width, similar % width, len(asked))
        queries, artists = similar_to.of_keys(asked_of)
        sizes = postings.recordings_of_artist.counts(artists.astype(np.int64))
        prolific = sizes > ARTIST_RECORDINGS_MAX
        return np.concatenate(
            [
                self._near(
                    queries[~prolific],
                    postings.recordings_of_artist,
                    artists[~prolific].astype(np.int64),
                ),
                self._of_prolific(np.unique(queries[prolific])),
            ]
        )

    def _of_prolific(self, queries: Integers) -> Integers:
        titles = self._postings.prolific_titles
        row, title = titles.find(
            _words_in_order(self._cores.gather(queries)), _TITLE_SCORE_FOUND_MIN
        )
        return self._near(queries[row], self._postings.recordings_of_prolific_title, title)

    def by_title(self) -> Integers:
        owners, hashes = _title_hashes(self._cores)
        known = self._postings.hashes
        if not len(known):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        there = known[at] == hashes
        return self._near(
            owners[there], self._postings.recordings_of_hash, at[there], TITLE_SCORE_RIVAL_MIN
        )

    def _near(
        self,
        queries: Integers,
        lists: Lists,
        keys: Integers,
        score: float = TITLE_SCORE_COMPARED_MIN,
    ) -> Integers:
        """Those of the keys' recordings whose titles may be similar enough."""
        found = [np.empty(0, np.int64)]
        postings = self._postings
        for part in in_steps(lists.counts(keys)):
            rows, recordings = lists.of_keys(keys[part])
            asked = queries[part][rows]
            near = may_be_similar(
                self._lengths[asked],
                self._letters[asked],
                postings.lengths[recordings],
                postings.letters[recordings],
                score,
            )
            found.append(asked[near] << 32 | recordings[near].astype(np.int64))
        return np.concatenate(found)


def _lists_frames(name: str, lists: Lists) -> dict[str, pl.DataFrame]:
    return {
        f"{name}_starts": pl.DataFrame({"start": lists.starts}),
        f"{name}_items": pl.DataFrame({"item": lists.items}),
    }


def _lists_of(name: str, frames: Mapping[str, pl.DataFrame]) -> Lists:
    return Lists(
        frames[f"{name}_starts"]["start"].to_numpy(), frames[f"{name}_items"]["item"].to_numpy()
    )


def _texts_frames(name: str, texts: SimilarTexts) -> dict[str, pl.DataFrame]:
    return {
        name: _letters_frame(texts.lengths, texts.letters).insert_column(
            0, texts.texts.alias("text")
        ),
        f"{name}_hashes": pl.DataFrame({"hash": texts.hashes}),
        f"{name}_known_starts": pl.DataFrame({"start": texts.hash_starts}),
        f"{name}_known_items": pl.DataFrame({"item": texts.hash_texts}),
    }


def _texts_of(name: str, frames: Mapping[str, pl.DataFrame]) -> SimilarTexts:
    table = frames[name]
    return SimilarTexts(
        table["text"],
        table["length"].to_numpy(),
        _letters_in(table),
        frames[f"{name}_hashes"]["hash"].to_numpy(),
        frames[f"{name}_known_starts"]["start"].to_numpy(),
        frames[f"{name}_known_items"]["item"].to_numpy(),
    )


def _letters_frame(lengths: Integers, letters: Hashes) -> pl.DataFrame:
    return pl.DataFrame(
        {"length": lengths, "letters": letters[:, 0], "more_letters": letters[:, 1]}
    )


def _letters_in(table: pl.DataFrame) -> Hashes:
    return np.column_stack([table["letters"].to_numpy(), table["more_letters"].to_numpy()])
