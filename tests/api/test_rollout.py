"""A Rollout stage in the API: its bounds and relations."""

import json
from pathlib import Path

import pytest
from make import rollouts, runs
from make.limits import Limit
from make.rollouts import HERE, LIMITS, SOURCE

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


def test_options_of_the_policys_server_are_checked_as_the_judges() -> None:
    """By the models alone, which know vLLM's options."""
    manifest = runs.manifest(**SOURCE, stages=[rollouts.stage(rollout={"engine": {"args": ["--model=x"]}})])
    with pytest.raises(ManifestError, match="--model is set by ixt") as refused:
        loads(json.dumps(manifest), "run.yaml", Path("/"))
    assert refused.value.problems[0].field == f"{HERE}.engine.args[0]"
