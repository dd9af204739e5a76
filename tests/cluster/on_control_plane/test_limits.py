"""Every bound, pattern and relation of the API on a real API server: it draws the line where the models do,
and says which field is wrong and why."""

import json
import re
from typing import Any, NamedTuple

import jsonschema
import pytest
from cluster.base import Cluster
from kubernetes import client, config
from make import rollouts, runs
from make.limits import LIMITS, Limit, put
from make.schemas import RULES, RUN, VALIDATOR, schemas
from make.written import WRITTEN, Written, at

from ixt_operator.api.meta import GROUP, VERSION

WORDS = {
    "pattern": "should match '{}'",
    "minimum": "should be greater than or equal to {}",
    "maximum": "should be less than or equal to {}",
    "minLength": "should be at least {} chars long",
    "maxLength": "may not be more than {} bytes",
    "minItems": "should have at least {} items",
    "maxItems": "must have at most {} items",
    "maxProperties": "must have at most {} items",
    "enum": "Unsupported value",
    "type": "must be of type",
    "required": "Required value",
}
"""What the API server says for each keyword of a schema."""

ALL = [*LIMITS, *rollouts.LIMITS]


class Cause(NamedTuple):
    """One reason for which the API server refuses an object."""

    field: str
    message: str


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(config.new_client_from_config(str(cluster.kubeconfig)))


def create(api: client.CustomObjectsApi, manifest: dict[str, Any]) -> list[Cause]:
    """Create a run without storing it; why it is refused, if it is."""
    try:
        api.create_namespaced_custom_object(
            GROUP, VERSION, "default", "ixtruns", manifest, dry_run="All", field_validation="Strict"
        )
    except client.ApiException as error:
        status = json.loads(error.body)
        assert status["code"] == 422, status
        return [Cause(cause["field"], cause["message"]) for cause in status["details"]["causes"]]
    return []


def ids(limit: Limit) -> str:
    return f"{limit.path.removeprefix('spec.')}: {limit.message}"[:100]


@pytest.mark.parametrize("limit", ALL, ids=ids)
def test_a_good_value_is_accepted(api: client.CustomObjectsApi, limit: Limit) -> None:
    assert create(api, limit.manifest(limit.good)) == []


@pytest.mark.parametrize("limit", ALL, ids=ids)
def test_a_bad_value_is_refused_with_its_field_and_reason(api: client.CustomObjectsApi, limit: Limit) -> None:
    manifest = limit.manifest(limit.bad)
    errors = list(VALIDATOR.iter_errors(manifest))
    causes = create(api, manifest)
    for error in errors:
        words = WORDS[error.validator].format(error.validator_value)
        assert [cause for cause in causes if cause.field == path(error) and words in cause.message], causes
    if not errors:
        (cause,) = causes
        assert cause.field.startswith((limit.at or limit.path).strip().removesuffix(".name"))
        assert limit.message in cause.message or cause.message.startswith("Duplicate value"), causes


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: f"{case.path}: {case.text}")
def test_a_value_without_quotes_is_read_as_validate_reads_it(cluster: Cluster, case: Written) -> None:
    command = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    done = cluster.kubectl().run(*command, stdin=case.manifest())
    if case.message:
        assert done.returncode == 1
        assert case.path in done.stderr or "json: unsupported value" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert at(json.loads(done.stdout), case.path) == case.value


def test_names_of_python_are_refused(cluster: Cluster) -> None:
    manifest = put(runs.applied(), "spec.stages[0].train.num_nodes", 1)
    done = cluster.kubectl().run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    assert 'unknown field "spec.stages[0].train.num_nodes"' in done.stderr


def path(error: jsonschema.ValidationError) -> str:
    """The field of an error as the API server writes it; a missing one is the error's, not its parent's."""
    steps = [*error.absolute_path]
    if error.validator == "required":
        steps.append(next(name for name in error.validator_value if name not in error.instance))
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def test_every_rule_and_pattern_of_the_crd_was_tried() -> None:
    errors = [error for limit in ALL for error in VALIDATOR.iter_errors(limit.manifest(limit.bad))]
    tried = {error.validator_value for error in errors if error.validator == "pattern"}
    spec = RUN["properties"]["spec"]
    assert {schema["pattern"] for _, schema in schemas(spec) if "pattern" in schema} == tried
    messages = [limit.message for limit in ALL]
    assert [rule for rule in RULES if not any(message in rule for message in messages)] == []


def test_the_largest_run_is_stored_as_it_was_given(cluster: Cluster) -> None:
    """Within the cost that the API server allows for rules, and within what etcd stores."""
    manifest = runs.maximal()
    kubectl = cluster.kubectl()
    kubectl("create", "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
    try:
        assert kubectl.json("get", "ixtrun", manifest["metadata"]["name"])["spec"] == manifest["spec"]
    finally:
        kubectl("delete", "ixtrun", manifest["metadata"]["name"])


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"roles": []}, "spec.roles", "should have at least 1 items"),
        ({"roles": [{"name": "Trainor"}]}, "spec.roles[0].name", "Unsupported value"),
        ({"roles": [{"name": "Judge"}, {"name": "Judge"}]}, "spec.roles[1]", "Duplicate value"),
        ({"roles": [{"name": "Judge", "template": 3}]}, "spec.roles[0].template", "must be of type object"),
        ({"roles": [{"name": "Judge"}], "engineArgs": [""]}, "spec.engineArgs[0]", "at least 1 chars"),
    ],
)
def test_a_wrong_runtime_is_refused(cluster: Cluster, spec: dict[str, Any], field: str, message: str) -> None:
    manifest = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "IXTRuntime", "metadata": {"name": "wrong"}}
    done = cluster.kubectl().run(
        "create", "--dry-run=server", "-f", "-", stdin=json.dumps({**manifest, "spec": spec})
    )
    assert done.returncode == 1
    assert re.search(rf"{re.escape(field)}: .*{message}", done.stderr)
