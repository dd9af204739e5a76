"""Options of vLLM in judge.engine.args: known, warned of, or refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from make import runs

from ixt_operator.api.engine import ENGINE_ARGUMENTS, option, refusal
from ixt_operator.api.run import IXTRun
from ixt_operator.manifests.loading import ManifestError, Problem, loads
from ixt_operator.planner.spec import judge_of

HERE = Path(__file__).parent
ASKS_VLLM = pytest.mark.xdist_group("vllm")


def manifest(*arguments: str) -> str:
    return json.dumps(runs.manifest(judge={"model": "file:///judge", "engine": {"args": list(arguments)}}))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--trust-remote-code",
            "--trust-remote-code loads code: only an administrator may set it, in the "
            "engineArgs of an IXTRuntime",
        ),
        ("--model=evil/model", "--model is set by ixt: leave it out"),
        ("--worker_extension_cls=evil.Worker", "--worker-extension-cls loads code"),
        ("--worker-e=evil.Worker", "--worker-extension-cls loads code"),
        ("--no-trust-rem", "--trust-remote-code loads code"),
        ("--kv_transfer_config.kv_connector=evil", "--kv-transfer-config loads code"),
        ("--spec", "--spec-* loads another model"),
        ("--some-future-plugin=evil", "--some-future-plugin loads code"),
        ('--compilation-config={"backend": "evil.Backend"}', "--compilation-config loads code"),
        ("--compilation_config.backend=evil.Backend", "--compilation-config loads code"),
        ("--chat-template=/etc/passwd", "--chat-template reads or writes files"),
        ("--otlp-traces-endpoint=http://evil", "--otlp-traces-endpoint talks to other servers"),
        ('--allowed-origins=["*"]', "--allowed-origins lets clients do more"),
        ("--ssl-keyfile=key", "--ssl-keyfile keeps ixt from reaching the judge: leave it out"),
    ],
)
def test_what_opens_holes_is_refused(argument: str, message: str) -> None:
    with pytest.raises(ManifestError) as refused:
        loads(manifest("--max-num-seqs=8", argument), "run.yaml", Path("/"))
    (problem,) = refused.value.problems
    assert problem.field == "spec.judge.engine.args[1]"
    assert problem.message.startswith(message)


def test_what_nobody_here_knows_is_passed_on_with_a_warning() -> None:
    said: list[Problem] = []
    known = ("--max-model-len=8192", "--no-enable-prefix-caching", "--hf_overrides.rope_theta=1")
    (run,) = loads(manifest(*known, "--max-loras=3", "--made-up"), "run.yaml", Path("/"), said.append)
    assert isinstance(run, IXTRun)
    assert run.spec.judge is not None
    assert run.spec.judge.engine.args == (*known, "--max-loras=3", "--made-up")
    assert [str(warning) for warning in said] == [
        f"run.yaml:1: spec.judge.engine.args[{index}]: warning: {name} is not among the options that ixt "
        "knows: it is passed to vLLM as it is"
        for index, name in ((3, "--max-loras"), (4, "--made-up"))
    ]


def test_warnings_come_beside_problems() -> None:
    said: list[Problem] = []
    with pytest.raises(ManifestError) as refused:
        loads(manifest("--made-up", "--host=::", "8"), "run.yaml", Path("/"), said.append)
    assert [problem.field for problem in refused.value.problems] == [
        "spec.judge.engine.args[1]",
        "spec.judge.engine.args[2]",
    ]
    assert [warning.field for warning in said] == ["spec.judge.engine.args[0]"]


def test_an_administrator_may_set_every_option() -> None:
    spec = {"roles": [{"name": "Judge"}], "engineArgs": ["--trust-remote-code", "-tp", "2"]}
    runtime = {
        "apiVersion": "ixt.dev/v1alpha1",
        "kind": "IXTRuntime",
        "metadata": {"name": "r"},
        "spec": spec,
    }
    assert loads(json.dumps(runtime), "runtime.yaml", Path("/"))


@pytest.fixture(scope="module")
def forms() -> dict[str, list[str]]:
    """What vLLM's own parser takes for which of its options."""
    out = subprocess.run(
        [sys.executable, HERE / "vllm_parser.py"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, list[str]] = json.loads(out.splitlines()[-1])
    return found


@ASKS_VLLM
def test_a_refused_option_is_refused_in_every_form_that_vllm_takes(forms: dict[str, list[str]]) -> None:
    refused = {name for names in forms.values() for name in names if refusal(name)}
    assert len(refused) > 80
    passed = {form for form, names in forms.items() if refused & set(names) and not refusal(form)}
    assert passed == set()


@ASKS_VLLM
def test_no_option_is_refused_for_the_name_of_another(forms: dict[str, list[str]]) -> None:
    names = {name for found in forms.values() for name in found}
    assert {name for name in names if refusal(name) and not refusal(name).startswith(f"{name} ")} == set()
    assert {f"--{name}" for name in ENGINE_ARGUMENTS} <= names
    assert {name for name in ENGINE_ARGUMENTS if refusal(f"--{name}") or option(f"--{name}") != name} == set()


HOLES = ("cls", "plugin", "path", "dir", "file", "url", "endpoint", "addr", "address", "host", "port", "key")


@ASKS_VLLM
def test_options_that_sound_like_holes_are_refused(forms: dict[str, list[str]]) -> None:
    """A new version of vLLM brings new ones: look at each, then add it to REFUSED, or to `harmless`."""
    harmless = {"--max-lora-cls-labels"}
    names = {name for found in forms.values() for name in found}
    sound = {name for name in names if set(HOLES) & set(name.removeprefix("--").split("-"))}
    assert {name for name in sound if not refusal(name)} == harmless


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (["--max-num-seqs=8", "--enforce-eager", "--gpu-memory-utilization=0.8"], []),
        (["--quantization=fp8", "--max-num-seqs=8"], ["--quantization=fp8"]),
        (["--quantization=fp8", "--dtype=half"], ["--dtype=half", "--quantization=fp8"]),
        (["--dtype=float32", "--dtype=half"], ["--dtype=half"]),
        (["--max-model-len=8192"], ["--max-model-len=8192"]),
        (["--something-new=1"], ["--something-new=1"]),
    ],
)
def test_options_that_change_what_a_judge_says_are_part_of_its_key(
    arguments: list[str], telling: list[str]
) -> None:
    found = judge_of(runs.run(judge={"model": "file:///judge", "engine": {"args": arguments}}))
    assert found and [*found.engine_args] == telling


@pytest.mark.parametrize(
    ("sampling", "warned"), [({}, True), ({"temperature": "0"}, False), ({"temperature": "0.6"}, False)]
)
def test_a_judge_that_reasons_and_is_greedy_unasked_is_warned_of(
    sampling: dict[str, str], warned: bool
) -> None:
    judge = {"model": "file:///judge", "reasoningParser": "deepseek_r1", "sampling": sampling}
    told: list[Problem] = []
    loads(json.dumps(runs.manifest(judge=judge)), "run.yaml", HERE, told.append)
    assert [problem.field for problem in told] == ["spec.judge.sampling.temperature"] * warned
