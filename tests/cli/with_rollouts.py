"""`ixt` that accepts Rollout stages, which the API still refuses."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from make import rollouts

from ixt_operator.cli.main import main

with pytest.MonkeyPatch.context() as patch:
    rollouts.allow(patch)
    main()
