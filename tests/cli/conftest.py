"""A desk for every test; whatever happened on it, no process is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from make import cli
from make.cli import Desk
from make.processes import marked
from make.zygote import Zygote


@pytest.fixture
def desk(tmp_path: Path, zygote: Zygote) -> Iterator[Desk]:
    """The smallest run: no judge, one arm, one stage."""
    found = cli.desk(tmp_path, zygote, **cli.PLAIN)
    yield found
    assert marked(found.workdir) == []


@pytest.fixture
def judged(tmp_path: Path, zygote: Zygote) -> Iterator[Desk]:
    """A run with a judge and one arm, Conditioned."""
    found = cli.desk(tmp_path, zygote)
    yield found
    assert marked(found.workdir) == []
