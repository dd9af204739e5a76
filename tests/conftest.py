"""What all tests share."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from make.zygote import Zygote
from make.zygote import zygote as serving

# Property tests are told by their own bounds, not by a clock that other work slows.
settings.register_profile("ixt", deadline=None, derandomize=True)
settings.load_profile("ixt")

# Tests send signals to what they start; children of a background job or of nohup are told to ignore some.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A second thread of a small model waits for the first, and burns the processor that another worker needs.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Forks `ixt` and the stubs of its steps."""
    with serving(tmp_path_factory.mktemp("zygote")) as found:
        yield found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Engines first: the longest tests would be left over at the end, with one worker for them all. What a
    module makes for all its tests is made by one worker."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares(item: pytest.Item) -> bool:
    """Whether a test takes a fixture of the scope of its module."""
    assert isinstance(item, pytest.Function)
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(definitions[-1].scope == "module" for definitions in fixtures)
