"""What is removed is what runs left that died, and never what is committed."""

import itertools
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.domain.batches import Batch, LakeObject, Stage
from royalty_assets.domain.feeds import Project
from royalty_assets.pipeline.context import PipelineContext, StageBlockedError
from royalty_assets.pipeline.leftovers import GRACE, SHORTEST_GRACE, LeftoverKind, leftovers
from royalty_assets.storage.lake import HALF_WRITTEN, LocalLake
from royalty_assets.storage.registry import Registry, open_registry
from royalty_assets_tests.lakes import LakeOver
from royalty_assets_tests.s3_stores import moto_store, put_at, s3_lake

START = datetime(2025, 3, 1, tzinfo=UTC)
PROJECT = Project.model_validate(
    {
        "feeds": [
            {
                "name": "f",
                "records": "report_lines",
                "cadence": "monthly",
                "start": "2020-01-01",
                "source": {"dialect": "inbox", "folder": "inbox"},
            }
        ]
    }
)


@pytest.fixture(scope="module")
def moto():
    with moto_store() as endpoint:
        yield endpoint


@pytest.fixture(params=["local", "s3"])
def lake(request, tmp_path):
    if request.param == "local":
        yield LocalLake(tmp_path / "lake")
    else:
        with s3_lake(request.getfixturevalue("moto"), tmp_path) as lake:
            yield lake


@pytest.fixture
def context(lake, tmp_path):
    registry = open_registry(f"sqlite:///{tmp_path}/registry.db")
    yield context_of(tmp_path, lake, registry)
    registry.close()


def context_of(home, lake, registry, now=lambda: datetime.now(UTC)):
    return PipelineContext(PROJECT, home, lake, registry, (), now=now)


def put(lake, content, folder="f/raw"):
    return lake.put(folder, "w", 1, lambda path: path.write_bytes(content))


def commit(registry: Registry, number, *objects):
    """A batch of a partition of its own."""
    batch = Batch(
        feed="f",
        stage=Stage.RAW,
        partition_key=f"p{number}",
        window_start=START,
        window_label=f"w{number}",
        revision=0,
        input_sha256="",
        objects=objects,
        counts={},
    )
    turn = registry.take_turn(batch.feed, batch.stage, batch.partition_key)
    registry.commit_batch(batch, turn)


def days_ago(number):
    return datetime.now(UTC) - timedelta(days=number)


def remove_all(found):
    return [each.remove() for each in found]


def test_orphans_of_an_age_are_found_and_removed_and_nothing_else_is(context):
    old, young, listed = (put(context.lake, each) for each in (b"old", b"young", b"listed"))
    commit(context.registry, 1, listed)
    for stored, days in ((old, 8), (young, 6), (listed, 400)):
        put_at(context.lake, stored.path, days_ago(days))
    (found,) = leftovers(context)
    assert (found.kind, found.name, found.size_bytes) == (LeftoverKind.ORPHAN, old.path, 3)
    assert found.remove()
    assert set(context.lake.paths()) == {young.path, listed.path}
    assert leftovers(context) == []


def test_an_object_of_a_superseded_batch_is_no_orphan(context):
    first, second = put(context.lake, b"first"), put(context.lake, b"second")
    commit(context.registry, 1, first)
    commit(context.registry, 2, second)
    for stored in (first, second):
        put_at(context.lake, stored.path, days_ago(100))
    assert leftovers(context) == []


def test_an_old_orphan_that_a_run_puts_again_is_there_when_it_commits(context):
    """A run finds an equal object of a dead one; what comes between put and commit spares it."""
    commit(context.registry, 0, put(context.lake, b"other"))
    stored = put(context.lake, b"content")
    put_at(context.lake, stored.path, days_ago(8))
    before = leftovers(context)
    assert put(context.lake, b"content") == stored
    assert remove_all(before) == [False]
    assert leftovers(context) == []
    commit(context.registry, 1, stored)
    assert context.lake.sha256(stored) == stored.sha256


def test_half_written_files_and_spools_go_by_their_age(context, tmp_path):
    commit(context.registry, 0, put(context.lake, b"listed"))
    folder = tmp_path / ("lake" if isinstance(context.lake, LocalLake) else "cache")
    for days in (6, 8):
        spool = context.spool() / f"run{days}"
        spool.mkdir()
        for path in (folder / f"{HALF_WRITTEN}{days}", spool / "rows"):
            path.write_bytes(b"half")
        for path in (folder / f"{HALF_WRITTEN}{days}", spool / "rows", spool):
            os.utime(path, (days_ago(days).timestamp(),) * 2)
    os.utime(context.spool() / "run8", None)  # an old folder with something young in it stays
    found = leftovers(context)
    assert [each.name for each in found] == [str(folder / f"{HALF_WRITTEN}8")]
    os.utime(context.spool() / "run8", (days_ago(8).timestamp(),) * 2)
    assert remove_all(leftovers(context)) == [True, True]
    assert [path.name for path in context.spool().iterdir()] == ["run6"]
    assert [path.name for path in folder.glob(f"{HALF_WRITTEN}*")] == [f"{HALF_WRITTEN}6"]


def test_a_registry_that_is_not_this_lakes_removes_nothing(context):
    put_at(context.lake, put(context.lake, b"content").path, days_ago(8))
    with pytest.raises(StageBlockedError, match="Is ROYALTY_ASSETS_REGISTRY_URL that of this"):
        leftovers(context)


class InterruptedLake(LakeOver):
    """Others go on between the listing of the lake and the reading of the registry."""

    meanwhile = staticmethod(lambda: None)

    def listing(self):
        listed = list(self.beneath.listing())
        self.meanwhile()
        return iter(listed)


BEFORE, LISTED, PLANNED, AFTER = range(4)
"""Points of a sweep: before it, the lake listed, the leftovers known, all of them removed."""


@dataclass(frozen=True)
class Run:
    """One that puts an object at a point of a sweep and commits at a later one, or dies."""

    content: bytes
    puts_at: int
    commits_at: int | None


@dataclass
class SweptProject:
    """A project whose runs go on beside its sweeps; its folder in the lake is its own."""

    context: PipelineContext
    folder: str
    committed: dict = field(default_factory=dict)
    commits: int = 0

    def sweep(self, grace, runs):
        stored = {}

        def others_go_on(point):
            for number, run in enumerate(runs):
                if run.puts_at == point:
                    stored[number] = put(self.context.lake, run.content, self.folder)
                if run.commits_at == point:
                    self.commits += 1
                    commit(self.context.registry, f"{self.folder}.{self.commits}", stored[number])
                    self.committed[stored[number].path] = run.content
            for path, content in self.committed.items():
                assert (self.context.lake._root / path).read_bytes() == content

        others_go_on(BEFORE)
        self.context.lake.meanwhile = lambda: others_go_on(LISTED)
        found = leftovers(self.context, grace)
        others_go_on(PLANNED)
        remove_all(found)
        others_go_on(AFTER)


_points = st.sampled_from([BEFORE, LISTED, PLANNED, AFTER])
_runs = st.builds(
    lambda content, points, dies: Run(content, min(points), None if dies else max(points)),
    st.sampled_from([b"a", b"bb"]),
    st.tuples(_points, _points),
    st.booleans(),
)
_sweeps = st.tuples(
    st.sampled_from([1, 25, 170]),
    st.sampled_from([SHORTEST_GRACE, SHORTEST_GRACE, GRACE]),
    st.lists(_runs, max_size=2),
)


@pytest.fixture(scope="module")
def one_registry(tmp_path_factory):
    registry = open_registry(f"sqlite:///{tmp_path_factory.mktemp('registry')}/registry.db")
    commit(registry, "none", LakeObject("elsewhere", "", 0, 0))
    yield registry
    registry.close()


_numbers = itertools.count()


@settings(max_examples=100)
@given(st.lists(_sweeps, min_size=1, max_size=4))
def test_whatever_happens_nothing_committed_is_lost_and_no_orphan_stays(
    tmp_path_factory, one_registry, sweeps
):
    """Runs put, commit and die at every point of sweeps that follow each other in time."""
    home, now = tmp_path_factory.mktemp("home"), [START]
    lake = InterruptedLake(LocalLake(home / "lake", lambda: now[0]))
    context = context_of(home, lake, one_registry, lambda: now[0])
    project = SweptProject(context, f"f{next(_numbers)}")
    put(lake, b"a", project.folder)  # of a run that died long ago
    for hours, grace, runs in sweeps:
        now[0] += timedelta(hours=hours)
        project.sweep(grace, runs)
    now[0] += timedelta(hours=1)
    project.sweep(timedelta(0), [])
    assert set(lake.paths()) == set(project.committed)
