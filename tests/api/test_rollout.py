"""A Rollout stage in the API, which still refuses it: its bounds and relations."""

import json
from pathlib import Path

import pytest
from make import rollouts, runs
from make.limits import Limit
from make.rollouts import LIMITS, SOURCE

from ixt_operator.manifests.loading import ManifestError, loads


def ids(limit: Limit) -> str:
    return f"{limit.path.removeprefix('spec.')}: {limit.message}"[:100]


def test_it_is_refused_as_long_as_no_step_carries_it_through() -> None:
    manifest = runs.manifest(**SOURCE, stages=[rollouts.stage()])
    with pytest.raises(ManifestError, match="Rollout is not supported yet"):
        loads(json.dumps(manifest), "run.yaml", Path("/"))


@pytest.mark.parametrize("limit", LIMITS, ids=ids)
def test_a_good_value_is_accepted_and_a_bad_one_refused(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts.allow(monkeypatch)
    loads(json.dumps(limit.manifest(limit.good)), "run.yaml", Path("/"))
    with pytest.raises(ManifestError) as refused:
        loads(json.dumps(limit.manifest(limit.bad)), "run.yaml", Path("/"))
    (problem,) = refused.value.problems
    assert limit.message in problem.message
    assert problem.field.startswith(limit.at or limit.path)
