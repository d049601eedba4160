"""Which recording is meant, by the release that it was used from.

Two steps of the cascade: a UPC and the title on it, before names are compared; and the release's
title, where several recordings share a name that the usage does not tell apart.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from royalty_assets.domain.matching.candidates import normal_names
from royalty_assets.domain.matching.normalise import normalise_title
from royalty_assets.domain.matching.scoring import guests_agree, pairwise

TITLE_SCORE_MIN = 88.0
MARGIN_MIN = 3.0
ARTIST_SCORE_MIN = 50.0
"""A UPC says much, but not that the song of another artist is the one on it."""
_SAME_NAME = ["core", "version", "numbers", "credits"]


class ReleaseIndex:
    """The catalog's recordings by UPC, and by name and release title."""

    def __init__(self, recordings: pl.DataFrame) -> None:
        """Index ``catalog.RECORDING_SCHEMA`` rows; those that tell no release are left out."""
        told = recordings.filter((pl.col("upc") != "") | (pl.col("release_title") != ""))
        names = normal_names(told.select("title", "artist").rows()).drop("title", "artist")
        self._recordings = names.with_columns(
            told["recording_id"],
            told["upc"],
            release=_release_cores(told["release_title"]),
        )

    def by_upc(self, uses: pl.DataFrame) -> pl.DataFrame:
        """Decide uses by UPC and title.

        Args:
            uses: distinct ``upc``, ``title``, ``artist``.

        Returns:
            Those that are decided, with ``recording_id``, ``score`` (of the title, in percent),
            ``runner_up_id``, ``runner_up_score`` and ``margin``.
        """
        on_release = self._recordings.filter(pl.col("upc") != "")
        asked = uses.filter((pl.col("upc") != "") & (pl.col("title") != "")).join(
            on_release.select("upc").unique(), on="upc", how="semi"
        )
        asked = asked.sort(pl.all()).with_row_index("use")
        names = normal_names(asked.select("title", "artist").rows()).drop("title", "artist")
        pairs = asked.hstack(names).join(on_release, on="upc", suffix="_known")
        score = pairwise(pairs["core"], pairs["core_known"])
        ranked = (
            pairs.with_columns(pl.Series("score", score, dtype=pl.Float64).round(2))
            .filter(
                (pl.col("score") >= TITLE_SCORE_MIN)
                & (pl.col("core") != "")
                & (pl.col("numbers") == pl.col("numbers_known"))
                & (pl.col("version") == pl.col("version_known"))
                & guests_agree()
                & pl.Series(_artists_may_agree(pairs), dtype=pl.Boolean)
            )
            .sort("use", "score", "recording_id", descending=[False, True, False])
            .with_columns(pl.int_range(pl.len()).over("use").alias("rank"))
        )
        second = ranked.filter(pl.col("rank") == 1).select(
            "use",
            pl.col("recording_id").alias("runner_up_id"),
            pl.col("score").alias("runner_up_score"),
        )
        first = ranked.filter(pl.col("rank") == 0).join(second, on="use", how="left")
        margin = (pl.col("score") - pl.col("runner_up_score")).round(2)
        return (
            first.with_columns(margin.alias("margin"))
            .filter(pl.col("margin").is_null() | (pl.col("margin") >= MARGIN_MIN))
            .select(
                "upc", "title", "artist",
                "recording_id", "score", "runner_up_id", "runner_up_score", "margin",
            )
        )  # fmt: skip

    def by_release_title(self, uses: pl.DataFrame) -> pl.DataFrame:
        """Tell recordings of one name apart by the title of the release.

        Args:
            uses: distinct ``title``, ``artist`` and ``release_title``.

        Returns:
            ``title``, ``artist``, ``release_title`` and ``recording_id`` of those where exactly
            one recording of that very name is on a release of that title.
        """
        names = normal_names(uses.select("title", "artist").rows()).drop("title", "artist")
        asked = uses.hstack(names).with_columns(release=_release_cores(uses["release_title"]))
        found = (
            asked.filter(pl.col("core") != "")
            .join(
                self._recordings.select(
                    *_SAME_NAME,
                    "release",
                    "recording_id",
                    guest_known="guest",
                    credits_known="credits",
                ),
                on=[*_SAME_NAME, "release"],
            )
            .filter(guests_agree())
        )
        return found.select("title", "artist", "release_title", "recording_id").unique(
            ["title", "artist", "release_title"], keep="none", maintain_order=True
        )


def _artists_may_agree(pairs: pl.DataFrame) -> NDArray[np.bool_]:
    """Whether the artists are not quite different; one that is not told may be any."""
    untold = ((pairs["credits"] == "") | (pairs["credits_known"] == "")).to_numpy()
    return untold | (pairwise(pairs["credits"], pairs["credits_known"]) >= ARTIST_SCORE_MIN)


def _release_cores(titles: pl.Series) -> pl.Series:
    """What releases are called, without the edition: "Album (Deluxe)" is "album"."""
    distinct = titles.unique().to_list()
    cores = [normalise_title(title).core for title in distinct]
    return titles.replace_strict(distinct, cores, return_dtype=pl.String)
