"""A desk for every test; whatever happened on it, no process is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from make import cli
from make.cli import Desk
from make.processes import marked


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The smallest run: no judge, one arm, one stage."""
    found = cli.desk(tmp_path, **cli.PLAIN)
    yield found
    assert marked(found.workdir) == []


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Desk]:
    """A run with a judge and one arm, Conditioned."""
    found = cli.desk(tmp_path)
    yield found
    assert marked(found.workdir) == []
