"""A large catalog's index is kept, for this catalog and matcher, and made anew when damaged."""

from datetime import date

import polars as pl
import pytest

from royalty_assets.domain.matching.candidates import CandidateIndex
from royalty_assets.pipeline import catalog as catalog_stage
from royalty_assets.pipeline.catalog import matcher_in_force, take_catalog
from royalty_assets_tests.projects import inbox_context

USE = {
    "isrc": "",
    "title": "Silver Rivr",
    "artist": "Marek Lindqvist",
    "territory": "DE",
    "used_on": date(2025, 3, 1),
    "upc": None,
    "release_title": None,
}
USE_SCHEMA = {name: pl.Date if name == "used_on" else pl.String for name in USE}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_stage, "_INDEX_KEPT_FROM_RECORDINGS", 2)
    write_catalog(tmp_path, "Silver River")
    return tmp_path


def write_catalog(home, title):
    (home / "catalog").mkdir(exist_ok=True)
    (home / "catalog" / "recordings.csv").write_text(
        f"isrc,title,artist\nUSUM70600001,{title},Marek Lindqvist\nUSUM70600002,Hour,Ada\n"
    )


def decided(home, monkeypatch):
    """What a process of its own decides, and whether it had to build the index."""
    built = []
    build = CandidateIndex.build

    def noted(recordings):
        built.append(recordings.height)
        return build(recordings)

    monkeypatch.setattr(CandidateIndex, "build", noted)
    context = inbox_context(home)
    take_catalog(context)
    _, matcher = matcher_in_force(context)
    found = matcher.decide(pl.DataFrame([USE], USE_SCHEMA))["recording_id"].item()
    context.registry.close()
    monkeypatch.setattr(CandidateIndex, "build", build)
    return found, bool(built)


def test_the_index_of_a_large_catalog_is_built_once(project, monkeypatch):
    assert decided(project, monkeypatch) == ("USUM70600001", True)
    assert decided(project, monkeypatch) == ("USUM70600001", False)


def test_another_catalog_or_matcher_has_an_index_of_its_own(project, monkeypatch):
    decided(project, monkeypatch)
    write_catalog(project, "Golden Hour")
    assert decided(project, monkeypatch) == (None, True)
    monkeypatch.setattr(catalog_stage, "MATCHER_VERSION", "another")
    assert decided(project, monkeypatch) == (None, True)
    assert len(list((project / "cache" / "candidates").iterdir())) == 1


def test_a_damaged_index_is_built_anew(project, monkeypatch):
    decided(project, monkeypatch)
    (path,) = (project / "cache").rglob("names.arrow")
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    assert decided(project, monkeypatch) == ("USUM70600001", True)
    assert decided(project, monkeypatch) == ("USUM70600001", False)


def test_an_index_that_cannot_be_kept_is_used_all_the_same(project, monkeypatch):
    (project / "cache").write_text("a file where the folder should be")
    assert decided(project, monkeypatch) == ("USUM70600001", True)


def test_the_index_of_a_small_catalog_is_not_kept(project, monkeypatch):
    monkeypatch.setattr(catalog_stage, "_INDEX_KEPT_FROM_RECORDINGS", 3)
    assert decided(project, monkeypatch) == ("USUM70600001", True)
    assert not (project / "cache").exists()
