"""Manifests as people write them: what is read, and what they are told when it is wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from make import runs
from make.limits import put
from make.schemas import RUN, schemas

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.manifests.documents import dump
from ixt_operator.manifests.loading import ManifestError, load, loads

HEAD = "apiVersion: ixt.dev/v1alpha1\nkind: IXTRun\nmetadata: {name: a}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ManifestError) as refused:
        loads(text, "run.yaml", Path("/work"))
    return [str(problem) for problem in refused.value.problems]


def test_every_problem_is_named_at_once_with_its_line_and_what_to_write() -> None:
    text = """\
# A run with many mistakes.
apiVersion: ixt.dev/v1alpha1
kind: IXTRun
metadata:
  name: My_R
spec:
  storage: {uri: ./out, shared: enabled}
  model:
    source: hf://a/b
    config: ./model
  judge:
    model: ./judge
    engin: {maxReplicas: 2}
  stages:
  - name: pre
    type: Pretain
    datasets:
    - name: a
      uri: data.jsonl
      weight: 1.5
    train:
      maxTokens: 1e-1
      batchTokens: "4096"
      optimizer: {learningRate: 3e-4}
  - type: SFT
    datasets: []
    train: 5
"""
    assert problems(text) == [
        "run.yaml:5: metadata.name: must be lower-case letters, digits and '-', such as my-name, not 'My_R'",
        "run.yaml:7: spec.storage.shared: must be Enabled or Disabled, not 'enabled': did you mean Enabled?",
        "run.yaml:8: spec.model: exactly one of source, or config with tokenizer, must be set",
        "run.yaml:13: spec.judge.engin: unknown field: did you mean engine?",
        "run.yaml:16: spec.stages[0].type: must be Pretrain, Midtrain, SFT or Rollout, not 'Pretain': "
        "did you mean Pretrain?",
        "run.yaml:19: spec.stages[0].datasets[0].uri: must be a URI without spaces (s3://bucket/path, "
        "gs://bucket/path, pvc://claim/path, hf://owner/name, file:///path) or a path that starts with ./, "
        "not 'data.jsonl'",
        "run.yaml:20: spec.stages[0].datasets[0].weight: must be a whole number, not 1.5",
        "run.yaml:22: spec.stages[0].train.maxTokens: must be a whole number, not 0.1",
        "run.yaml:23: spec.stages[0].train.batchTokens: must be a whole number, not '4096': write 4096",
        "run.yaml:24: spec.stages[0].train.optimizer.learningRate: must be text, not 0.0003: "
        "put it in quotes",
        "run.yaml:25: spec.stages[1].name: is required",
        "run.yaml:26: spec.stages[1].datasets: must have at least 1 item(s)",
        "run.yaml:27: spec.stages[1].train: must be a mapping, not 5",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["run.yaml:1: nothing in it: write a document of kind IXTRun"]),
        ("# only words\n---\n", ["run.yaml:1: nothing in it: write a document of kind IXTRun"]),
        ("- a", ["run.yaml:1: must be a mapping with apiVersion, kind, metadata and spec"]),
        (
            "a:\n  - [b\n",
            ["run.yaml:3: not valid YAML: while parsing a flow sequence did not find expected ',' or ']'"],
        ),
        (
            "a:\n\tb: 1\n",
            [
                "run.yaml:2: not valid YAML: while scanning for the next token found character that cannot "
                "start any token (indent with spaces, not tabs)"
            ],
        ),
        (
            "apiVersion: v1\nkind: ixtrun\n",
            [
                "run.yaml:1: apiVersion: must be ixt.dev/v1alpha1, not 'v1'",
                "run.yaml:2: kind: must be IXTRun or IXTRuntime, not 'ixtrun': did you mean IXTRun?",
            ],
        ),
        (HEAD, ["run.yaml:1: spec: is required"]),
        (HEAD + "spec: 3\n", ["run.yaml:4: spec: must be a mapping, not 3"]),
        (HEAD + "kind: IXTRun\nspec: {}\n", ["run.yaml:4: kind: is given in line 2 already"]),
        (
            HEAD + "spec: &spec [*spec]\n",
            ["run.yaml:4: the alias *spec is not taken: write out what it stands for"],
        ),
        (HEAD + "spec: {? [a] : b}\n", ["run.yaml:4: spec: a field's name must be plain text"]),
        (HEAD + "spec: !secret x\n", ["run.yaml:4: spec: cannot be read as !secret"]),
        (
            HEAD + "spec: {<<: {a: 1}}\n",
            ["run.yaml:4: the merge key << is not taken: write out what it merges"],
        ),
    ],
)
def test_a_broken_file_says_where_and_what(text: str, found: list[str]) -> None:
    assert set(found) <= set(problems(text))


def test_every_document_of_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text(
        "---\n".join(dump(json.loads(one.model_dump_json())) for one in (runs.runtime(), runs.run()))
    )
    runtime, run = load(file)
    assert isinstance(runtime, IXTRuntime)
    assert isinstance(run, IXTRun)
    assert (runtime, run) == (runs.runtime(), runs.run())


def test_problems_of_later_documents_have_their_own_lines() -> None:
    first = dump(runs.manifest())
    line = first.count("\n") + 5
    assert problems(f"{first}---\n{HEAD}spec: {{storag: 1}}\n")[-1] == (
        f"run.yaml:{line}: spec.storage: is required"
    )


def test_paths_are_meant_from_the_manifest_on(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "run.json"
    file.parent.mkdir()
    manifest = runs.manifest(
        storage={"uri": "../out"},
        model={"config": "./my model", "tokenizer": "/models/t"},
        judge={"endpoint": {"url": "http://127.0.0.1:1/v1", "model": "/models/judge"}},
    )
    file.write_text(json.dumps(manifest))
    (run,) = load(file)
    assert isinstance(run, IXTRun)
    assert run.spec.storage.uri == f"file://{tmp_path}/out"
    assert run.spec.model.config == f"file://{tmp_path}/runs/my%20model"
    assert run.spec.model.tokenizer == "file:///models/t"
    assert run.spec.judge is not None
    assert run.spec.judge.endpoint is not None
    assert run.spec.judge.endpoint.model == "/models/judge"


@pytest.mark.parametrize("made", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read(tmp_path: Path, made: bytes | None) -> None:
    file = tmp_path / "run.yaml"
    if made:
        file.write_bytes(made)
    with pytest.raises(ManifestError, match=f"{file}:1: cannot be read: "):
        load(file)


def test_validation_takes_well_under_a_second(tmp_path: Path) -> None:
    """In a process of its own, imports included, as `ixt validate` runs it; the largest run that there is."""
    stages = [runs.stage(f"s{i}", datasets=[runs.dataset(f"d{j}") for j in range(32)]) for i in range(16)]
    file = tmp_path / "run.yaml"
    file.write_text(dump(runs.manifest(stages=stages)))
    code = (
        "import resource, sys; from pathlib import Path; from ixt_operator.manifests.loading import load;"
        f"load(Path({str(file)!r})); usage = resource.getrusage(resource.RUSAGE_SELF);"
        "heavy = {'torch', 'numpy', 'aiohttp', 'kopf', 'kubernetes'} & set(sys.modules);"
        "print(usage.ru_utime + usage.ru_stime, *heavy)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(out[0]) < 1.0  # CPU seconds, so that a busy machine changes nothing
    assert out[1:] == []


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
stage_lists = st.lists(names, min_size=1, max_size=4, unique=True).map(
    lambda given: [runs.stage(name, train={"optimizer": {"learningRate": "1e-3"}}) for name in given]
)
arm_lists = st.lists(
    st.fixed_dictionaries(
        {"name": names, "method": st.sampled_from(["Conditioned", "Filtered", "Annealed", "Shuffled"])},
        optional={
            "seeds": st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5, unique=True),
            "samplePercent": st.integers(1, 100),
        },
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda arm: arm["name"],
)


@given(
    name=names,
    stages=stage_lists,
    arms=arm_lists,
    suspend=st.booleans(),
    text=st.text(min_size=1, max_size=40),
)
@settings(deadline=None, max_examples=60)
def test_a_valid_run_survives_json_and_yaml(
    name: str, stages: list, arms: list, suspend: bool, text: str
) -> None:
    run = runs.run(
        name=name, stages=stages, arms=arms, suspend=suspend, conditioning={"inferenceFeedback": text}
    )
    assert IXTRun.model_validate_json(run.model_dump_json(exclude_defaults=True)) == run
    assert IXTRun.model_validate(yaml.safe_load(dump(run.model_dump(mode="json")))) == run


@given(
    st.sampled_from(sorted(IXTRun.model_fields["spec"].annotation.model_json_schema()["properties"])),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_a_slip_of_the_finger_is_answered_with_the_field_that_was_meant(
    field: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(1, len(field) - 1))
    slip = field[:place] + field[place + 1 :]
    (message,) = [line for line in problems(dump(runs.manifest(**{slip: 1}))) if f"spec.{slip}:" in line]
    assert message.endswith(f"unknown field: did you mean {field}?")


NAMES = {
    path: sorted(schema["properties"])
    for path, schema in schemas(RUN["properties"]["spec"])
    if "properties" in schema
}


@pytest.mark.parametrize("path", NAMES, ids=lambda path: path or "spec")
def test_a_name_of_python_is_no_field_and_answered_with_the_one_that_is(path: str) -> None:
    """Wherever a field may stand in a run."""
    for name in NAMES[path]:
        snake = re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)
        if snake != name:
            place = f"spec.{path}.{snake}".replace("[]", "[0]").replace("..", ".")
            found = problems(json.dumps(put(runs.manifest(), place, 1)))
            assert f"run.yaml:1: {place}: unknown field: did you mean {name}?" in found


def test_a_status_is_ignored_as_the_api_server_does(tmp_path: Path) -> None:
    manifest = tmp_path / "run.json"
    manifest.write_text(json.dumps({**runs.applied(), "status": {"phase": "OfAnotherVersion"}}))
    (run,) = load(manifest)
    assert run == IXTRun.model_validate(runs.applied())
