"""Every bound, pattern and relation: accepted on one side, refused on the other, in words."""

import json
from pathlib import Path

import pytest
from make.limits import LIMITS, Limit

from ixt_operator.api.run import IXTRun
from ixt_operator.manifests.loading import ManifestError, loads


def ids(limit: Limit) -> str:
    return f"{limit.path.removeprefix('spec.')}: {limit.message}"[:100]


@pytest.mark.parametrize("limit", LIMITS, ids=ids)
def test_a_good_value_is_accepted(limit: Limit) -> None:
    (run,) = loads(json.dumps(limit.manifest(limit.good)), "run.yaml", Path("/"))
    assert isinstance(run, IXTRun)


@pytest.mark.parametrize("limit", LIMITS, ids=ids)
def test_a_bad_value_is_refused_in_words_that_name_the_field(limit: Limit) -> None:
    with pytest.raises(ManifestError) as refused:
        loads(json.dumps(limit.manifest(limit.bad)), "run.yaml", Path("/"))
    (problem,) = refused.value.problems
    assert limit.message in problem.message
    assert problem.field.startswith((limit.at or limit.path).strip())
