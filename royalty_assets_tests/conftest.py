"""What all tests share: a fixed seed for Hypothesis, and the stores that projects are kept in."""

import pytest
from hypothesis import HealthCheck, settings

from royalty_assets_tests import databases

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption(
        "--database",
        choices=databases.DATABASES,
        default="sqlite",
        help="what holds the registry; the tests start a PostgreSQL server by themselves",
    )
    parser.addoption(
        "--lake",
        choices=["local", "s3"],
        default="local",
        help="where projects of tests keep their lakes: a folder, or a server that speaks S3",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "on_databases(*names): runs on these, whatever --database says; on both if none"
    )
    databases.CHOSEN.database = config.getoption("database")
    if not hasattr(config, "workerinput"):
        databases.make_server_folder()


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        databases.remove_server_folder()


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("on_databases")
    if marker is not None:
        names = marker.args or databases.DATABASES
        metafunc.parametrize("database", names, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def database(request):
    """The database that projects are on; fixtures of modules that open one ask for it."""
    with databases.using(getattr(request, "param", request.config.getoption("database"))):
        yield databases.CHOSEN.database


@pytest.fixture(autouse=True)
def _no_databases_left(request):
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        databases.drop_databases_in(folder)


@pytest.fixture(scope="session", autouse=True)
def _lakes(request):
    """Lakes where ``--lake`` says, for all projects and the processes that tests start."""
    if request.config.getoption("--lake") == "local":
        yield
        return
    from royalty_assets_tests.s3_stores import lakes_on_s3

    with lakes_on_s3():
        yield
