"""`ixt validate` and what the other verbs say about manifests and arguments that are no good."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from make import cli, runs
from make.cli import IXT, Desk

from ixt_operator.adapters.local.machine import gpus_here

HEAVY = (
    "torch",
    "transformers",
    "pyarrow",
    "numpy",
    "obstore",
    "vllm",
    "kopf",
    "kubernetes",
    "aiohttp",
    "matplotlib",
    "asyncio",
)
VERBS = (
    "init",
    "run",
    "validate",
    "plan",
    "render",
    "status",
    "watch",
    "logs",
    "why",
    "diff",
    "report",
    "compare",
    "export",
    "sample",
    "eval",
    "gc",
    "crd",
)

WRONG = """\
apiVersion: ixt.dev/v1alpha1
kind: IXTRun
metadata:
  name: {name}
spec:
  storage:
    uri: ./storage
  model: {{config: ./model, tokenizer: ./model}}
  arms:
    - name: plain
      method: NexToken
  stages:
    - name: pretrain
      type: Pretrain
      datasets:
        - name: documents
          uri: ./documents.jsonl
          textFeild: body
      train:
        maxTokens: many
        batchTokens: 4096
"""


def test_valid_manifests(desk: Desk) -> None:
    desk.write(file="other.yaml", name="other")
    done = desk.ixt("validate", "run.yaml", "other.yaml", "stubs.yaml")
    assert done == (
        0,
        "run.yaml: IXTRun test is valid\n"
        "other.yaml: IXTRun other is valid\n"
        "stubs.yaml: IXTRuntime cpu is valid\n",
        "",
    )


def test_every_problem_is_named(desk: Desk) -> None:
    """Of every file, with line and field and what was probably meant."""
    (desk.folder / "wrong.yaml").write_text(WRONG.format(name="x" * 64))
    (desk.folder / "broken.yaml").write_text("kind: IXTRun\n\tspec: 1\n")
    done = desk.ixt("validate", "wrong.yaml", "run.yaml", "broken.yaml", "missing.yaml")
    assert done.code == 2
    assert done.out == "run.yaml: IXTRun test is valid\n"
    assert done.err.splitlines() == [
        "wrong.yaml:1: metadata.name must have at most 63 characters: it becomes a label",
        "wrong.yaml:11: spec.arms[0].method: must be Conditioned, NextToken, Filtered, Annealed, Shuffled or "
        "RejectionSampling, not 'NexToken': did you mean NextToken?",
        "wrong.yaml:18: spec.stages[0].datasets[0].textFeild: unknown field: did you mean textField?",
        "wrong.yaml:20: spec.stages[0].train.maxTokens: must be a whole number, not 'many'",
        "broken.yaml:2: not valid YAML: while scanning a plain scalar found a tab character that violates "
        "indentation",
        "missing.yaml:1: cannot be read: No such file or directory",
        "6 problems",
    ]


def test_what_is_passed_to_vllm_unknown_is_warned_of(desk: Desk) -> None:
    desk.write(judge={"model": "./judge", "engine": {"args": ["--max-num-seqs=8", "--made-up=1"]}})
    text = (desk.folder / "run.yaml").read_text()
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "--made-up" in each)
    assert desk.ixt("validate", "run.yaml") == (
        0,
        "run.yaml: IXTRun test is valid\n",
        f"run.yaml:{line}: spec.judge.engine.args[1]: warning: --made-up is not among the options that ixt "
        "knows: it is passed to vLLM as it is\n",
    )


@pytest.mark.skipif(gpus_here() > 0, reason="this machine has a GPU")
def test_bf16_without_a_gpu_is_warned_of_once(desk: Desk) -> None:
    """Before a run starts, not when it goes on; a manifest alone may be for another machine."""
    slow = [cli.stage(train={"precision": "BF16"}), cli.stage("more", type="Midtrain")]
    desk.write(**cli.PLAIN, stages=slow)
    told = (
        "warning: this machine has no GPU, and many processors train in BF16 several times slower than in "
        "FP32: set train.precision to FP32 in pretrain (--set stages.pretrain.train.precision=FP32)\n"
    )
    assert desk.ixt("validate", "run.yaml").err == ""
    assert desk.run().err == told
    assert desk.run().err == ""


def test_standard_input_is_a_manifest_too(desk: Desk) -> None:
    desk.write()
    with (desk.folder / "run.yaml").open() as manifest:
        done = subprocess.run(
            [IXT, "validate", "-"],
            stdin=manifest,
            capture_output=True,
            text=True,
            check=True,
            cwd=desk.folder,
        )
    assert done.stdout == "-: IXTRun test is valid\n"


def test_standard_input_is_merged_too(desk: Desk) -> None:
    desk.write()
    with (desk.folder / "run.yaml").open() as manifest:
        done = subprocess.run(
            [IXT, "render", "-", "--merged"],
            stdin=manifest,
            capture_output=True,
            text=True,
            check=True,
            cwd=desk.folder,
        )
    assert done.stdout == desk.ixt("render", "run.yaml", "--merged").out
    assert "name: test\n" in done.stdout


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "x" * 64}, "metadata.name must have at most 63 characters"),
        ({"stages": [cli.stage("s" * 25)]}, "spec.stages[0].name: must have at most 24 characters, has 25"),
        (
            {"stages": [cli.stage(type="Rollout")]},
            "spec.stages[0].rollout: a stage of type Rollout needs rollout, and no other stage has it",
        ),
        ({"judge": None}, "spec.judge: a judge is needed"),
        ({"maxParallelLanes": "2"}, "spec.maxParallelLanes: must be a whole number, not '2'"),
    ],
)
def test_one_problem(desk: Desk, fields: dict[str, Any], said: str) -> None:
    desk.write(**fields)
    for verb in (["validate", "run.yaml"], ["run", "run.yaml"]):
        done = desk.ixt(*verb)
        assert done.code == 2
        assert said in done.err
        assert done.err.startswith("run.yaml:")
    assert not desk.workdir.exists()


def test_files_with_more_or_less_than_a_run(desk: Desk) -> None:
    one, other = runs.applied(**cli.PLAIN), runs.applied(name="other", **cli.PLAIN)
    desk.dump("two.yaml", one, other)
    done = desk.ixt("run", "two.yaml")
    assert done.code == 2
    assert done.err == (
        "two.yaml: has 2 IXTRuns (test, other), needs exactly one: give each run a file of its own\n"
    )
    assert "has 0 IXTRuns, needs exactly one" in desk.ixt("run", "stubs.yaml").err
    (desk.folder / "empty.yaml").touch()
    assert "nothing in it: write a document of kind IXTRun" in desk.ixt("run", "empty.yaml").err
    (desk.folder / "words.yaml").write_text("just words")
    assert "must be a mapping with apiVersion, kind" in desk.ixt("run", "words.yaml").err
    (desk.folder / "bytes.yaml").write_bytes(b"\xff\xfe")
    assert "not a text file in UTF-8" in desk.ixt("run", "bytes.yaml").err
    assert "cannot be read: Is a directory" in desk.ixt("run", ".").err


def test_runtimes(desk: Desk) -> None:
    desk.write(**cli.PLAIN, runtimeRef={"name": "amd"})
    done = desk.ixt("run", "run.yaml")
    assert done.code == 2
    assert "runtime amd is not built in (there are cpu, nvidia): give its file with --runtime" in done.err
    desk.dump("others.yaml", cli.stubs("one"), cli.stubs("two"))
    done = desk.ixt("run", "run.yaml", "--runtime", "others.yaml")
    assert done.code == 2
    assert "has the runtimes one, two, but not amd" in done.err
    assert "run.yaml: has no IXTRuntime" in desk.ixt("run", "run.yaml", "--runtime", "run.yaml").err
    desk.dump("named.yaml", cli.stubs("one", ["false"]), cli.stubs("amd"))
    assert desk.ixt("run", "run.yaml", "--runtime", "named.yaml").code == 0


def test_a_run_that_needs_a_cluster(desk: Desk) -> None:
    desk.write(judge={"model": "./judge", "rubric": {"configMapKeyRef": {"name": "rubrics"}}})
    for verb, *rest in (("run",), ("diff",), ("status",), ("why", "train"), ("report",), ("gc",)):
        done = desk.ixt(verb, "run.yaml", *rest)
        assert done.code == 2
        assert "configMapKeyRef needs a cluster: write the rubric out under inline" in done.err
    done = desk.ixt("render", "run.yaml")
    assert (done.code, done.err) == (0, "")
    assert "rubric in ConfigMap rubrics, key rubric.yaml." in done.out


def test_a_suspended_run(desk: Desk) -> None:
    desk.write(**cli.PLAIN, suspend=True)
    done = desk.run()
    assert (done.code, done.err) == (2, "test is suspended: set spec.suspend to false to run it\n")
    assert not desk.workdir.exists()


@pytest.mark.parametrize("verb", ["status", "report"])
def test_a_workdir_without_a_run(desk: Desk, verb: str) -> None:
    done = desk.ixt(verb, "run.yaml")
    assert done == (2, "", ".ixt/test has no run yet: start it with `ixt run run.yaml`\n")
    assert not desk.workdir.exists()


def test_a_workdir_of_another_run(desk: Desk) -> None:
    assert desk.run().code == 0
    before = desk.committed()
    desk.write(**cli.PLAIN, name="other")
    for verb in (["run"], ["status"], ["diff"], ["report"]):
        done = desk.ixt(*verb, "run.yaml", "-w", ".ixt/test")
        assert done.code == 2, verb
        assert ".ixt/test holds the run test, not other: choose another --workdir" in done.err
    assert desk.committed() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage: ixt"),
        (["runn", "run.yaml"], "No such command 'runn'"),
        (["run"], "Missing argument"),
        (["run", "run.yaml", "--workers", "3"], "No such option: --workers"),
        (["status", "run.yaml", "-o", "xml"], "'xml' is not one of 'tree', 'json'"),
        (["gc", "run.yaml", "--older-than-days", "-1"], "should be greater than or equal to 0"),
    ],
)
def test_bad_usage(desk: Desk, arguments: list[str], said: str) -> None:
    done = desk.ixt(*arguments, COLUMNS="200")
    assert done.code == 2
    assert said in done.out + done.err


# --- Help.


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(desk: Desk, verb: str) -> None:
    done = desk.ixt(verb, "--help", COLUMNS="80", TERM="dumb")
    assert done.code == 0
    assert f"Usage: ixt {verb}" in done.out
    assert f"Example: ixt {verb}" in done.out or "$(ixt report" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out == desk.ixt(verb, "-h", COLUMNS="80", TERM="dumb").out


def test_help_names_the_verbs_and_exit_codes(desk: Desk) -> None:
    told = desk.ixt("--help", COLUMNS="80", TERM="dumb").out
    for verb in VERBS:
        assert f" {verb} " in told
    assert "Exit codes: 0 done, 1 the run failed" in told
    assert "--install-completion" in told


def test_shell_completion(desk: Desk) -> None:
    done = desk.ixt(_IXT_COMPLETE="complete_bash", COMP_WORDS="ixt re", COMP_CWORD="1")
    assert done.out.split() == ["report", "render"] or done.out.split() == ["render", "report"]
    # The shell is the one that called.
    script = desk.program(["bash", "-c", f"{IXT} --show-completion; true"]).out
    assert "complete" in script
    assert "_IXT_COMPLETE=complete_bash" in script


# --- Speed.


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "run.yaml"], ["run", "missing.yaml"]])
def test_answers_soon(desk: Desk, arguments: list[str]) -> None:
    """No engine, no client library is imported for the sake of a manifest."""
    program = (
        "import sys; from ixt_operator.cli.main import main\n"
        "try: main()\nexcept SystemExit: print('\\n', *sorted(sys.modules), file=sys.stderr)"
    )
    done = desk.program([sys.executable, "-c", program, *arguments])
    modules = done.err.splitlines()[-1].split()
    assert "ixt_operator.cli.ixt" in modules
    assert [name for name in modules if name.partition(".")[0] in HEAVY] == []


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"]])
def test_help_is_shown_soon(desk: Desk, arguments: list[str]) -> None:
    """No model of the API is built for it."""
    program = (
        "import sys; from ixt_operator.cli.main import main\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = desk.program([sys.executable, "-c", program, *arguments])
    assert "Usage: ixt" in done.out
    assert {"yaml", "ixt_operator.api.run", *HEAVY} & set(done.err.split()) == set()


def test_the_version_is_told_at_once(desk: Desk) -> None:
    program = (
        "import sys; from ixt_operator.cli.main import main; main(); print(*sys.modules, file=sys.stderr)"
    )
    done = desk.program([sys.executable, "-c", program, "--version"])
    assert done.out == "ixt 0.1.0\n"
    assert not {"typer", "pydantic", "yaml", *HEAVY} & set(done.err.split())


# --- Manifests to print.


def test_render_prints_what_kubectl_takes(judged: Desk) -> None:
    done = judged.ixt("render", "run.yaml", "-n", "team")
    assert done.code == 0
    found = list(yaml.safe_load_all(done.out))
    kinds = [document["kind"] for document in found]
    assert (
        {"ConfigMap", "Job", "Deployment", "Service", "NetworkPolicy", "Secret"}
        >= set(kinds)
        >= {"ConfigMap", "Job"}
    )
    assert kinds.count("Job") == 7
    assert {document["metadata"]["namespace"] for document in found} == {"team"}
    jobs = [document for document in found if document["kind"] == "Job"]
    nodes = [job["metadata"]["annotations"]["ixt.dev/node"] for job in jobs]
    assert nodes == [
        "pretrain/inventory",
        "pretrain/annotate/0-15",
        "pretrain/annotate/holdout",
        "pretrain/prepare/conditioned",
        "pretrain/train/conditioned-s0",
        "pretrain/evaluate/conditioned-s0",
        "report",
    ]
    assert not judged.workdir.exists()


def test_render_merged_prints_the_run_itself(desk: Desk) -> None:
    """As `ixt run` takes it and kubectl too: without `extends`, with what is set, paths written out."""
    head = {"apiVersion": "ixt.dev/v1alpha1", "kind": "IXTRun", "extends": "run.yaml"}
    desk.dump("over.yaml", {**head, "metadata": {"name": "over"}, "spec": {"maxParallelLanes": 2}})
    setting = "stages.pretrain.train.optimizer.learningRate=1e-3"
    done = desk.ixt("render", "over.yaml", "--merged", "-n", "team", "--set", setting)
    assert (done.code, done.err) == (0, "")
    (desk.folder / "merged.yaml").write_text(done.out)
    (found,) = yaml.safe_load_all(done.out)
    assert found["metadata"] == {"name": "over", "namespace": "team"}
    assert found["spec"]["maxParallelLanes"] == 2
    assert found["spec"]["stages"][0]["train"]["optimizer"] == {"learningRate": "1e-3"}
    assert found["spec"]["storage"]["uri"] == desk.storage.as_uri()
    assert desk.ixt("validate", "merged.yaml").out == "merged.yaml: IXTRun over is valid\n"


def test_every_verb_that_takes_settings_refuses_those_that_are_none(desk: Desk) -> None:
    for verb in ("run", "validate", "plan", "render"):
        done = desk.ixt(verb, "run.yaml", "--set", "stages.pretain.train.maxTokens=1")
        assert done.code == 2
        assert "spec.stages has no pretain: did you mean pretrain?" in done.err


def test_crd(desk: Desk) -> None:
    printed = list(yaml.safe_load_all(desk.ixt("crd").out))
    assert [document["metadata"]["name"] for document in printed] == [
        "ixtruns.ixt.dev",
        "ixtruntimes.ixt.dev",
    ]
    assert desk.ixt("crd", "made/crds").code == 0
    files = sorted((desk.folder / "made/crds").iterdir())
    assert [yaml.safe_load(file.read_text()) for file in files] == printed
    done = desk.ixt("crd", "run.yaml/crds")
    assert done.code == 2
    assert "cannot be written: Not a directory" in done.err


def test_a_manifest_in_json(desk: Desk) -> None:
    text = json.dumps(runs.applied(**cli.PLAIN))
    (desk.folder / "run.json").write_text(text)
    assert desk.ixt("validate", "run.json").code == 0


def test_a_pipe_that_ends_early(desk: Desk) -> None:
    """`ixt crd | head -1` says nothing of it."""
    command = f"{cli.IXT} crd | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("---\n", "")
