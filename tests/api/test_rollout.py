"""A Rollout stage in the API: its bounds and relations."""

import json
from pathlib import Path

import pytest
from make import runs
from make.limits import Limit
from make.rollouts import HERE, LIMITS, base, stage

from ixt_operator.manifests.loading import ManifestError, loads


def ids(limit: Limit) -> str:
    return f"{limit.path.removeprefix('spec.')}: {limit.message}"[:100]


@pytest.mark.parametrize("limit", LIMITS, ids=ids)
def test_a_good_value_is_accepted_and_a_bad_one_refused(limit: Limit) -> None:
    loads(json.dumps(limit.manifest(limit.good)), "run.yaml", Path("/"))
    with pytest.raises(ManifestError) as refused:
        loads(json.dumps(limit.manifest(limit.bad)), "run.yaml", Path("/"))
    (problem,) = refused.value.problems
    assert limit.message in problem.message
    assert problem.field.startswith(limit.at or limit.path)


def test_arguments_of_the_policys_server_that_open_holes_are_refused() -> None:
    given = runs.manifest(**base(stages=[stage(rollout={"engine": {"args": ["--model=evil/model"]}})]))
    with pytest.raises(ManifestError) as refused:
        loads(json.dumps(given), "run.yaml", Path("/"))
    (problem,) = refused.value.problems
    assert (problem.field, problem.message) == (
        f"{HERE}.engine.args[0]",
        "--model is set by ixt: leave it out",
    )
