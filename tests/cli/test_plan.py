"""`ixt plan`: what a run costs and takes, and what is refused because it cannot fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from make import cli, rollouts, runs
from make.cli import Desk
from make.zygote import Zygote

from ixt_operator.planner.nodes import stage_nodes
from ixt_workloads.contract.graph import PlanQuestion
from ixt_workloads.plan import plan

STUDENT = {
    "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
    "tie_word_embeddings": False,
}  # fmt: skip
JUDGE = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "vocab_size": 151_936,
    "tie_word_embeddings": False,
}  # fmt: skip


def folder(place: Path, config: dict[str, Any]) -> None:
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))


def write(desk: Desk, **spec: Any) -> None:
    """Write the run of an 8B student and a 30B judge of which 3B are active, on 64 GPUs."""
    model, judge = (f"file://{desk.folder.parent}/{name}" for name in ("student", "judge"))
    train = {"maxTokens": 10**10, "batchTokens": 4_194_304, "numNodes": 8, "numProcPerNode": 8}
    arms = [runs.arm("conditioned"), runs.arm("plain", "NextToken", seeds=[0, 1])]
    given = {"model": {"config": model, "tokenizer": model}, "judge": {"model": judge}, "arms": arms}
    stages = [cli.stage(train=train, prepare={"sequenceLength": 8192})]
    desk.write(**{**given, "stages": stages, **spec})


@pytest.fixture
def real(tmp_path: Path, zygote: Zygote) -> Desk:
    """The folder of that run, and those of its models."""
    desk = cli.desk(tmp_path / "desk", zygote)
    folder(tmp_path / "student", STUDENT)
    folder(tmp_path / "judge", JUDGE)
    write(desk)
    return desk


def test_rounds_count_generation_and_judging(
    tmp_path: Path,
) -> None:
    folder(tmp_path / "student", STUDENT)
    folder(tmp_path / "judge", JUDGE)
    model = f"file://{tmp_path}/student"
    settings = {
        "train": {"maxTokens": 10**9, "batchTokens": 4_194_304, "numNodes": 8, "numProcPerNode": 8},
        "prepare": {"sequenceLength": 8192},
    }
    asked = {"rounds": 4, "promptsPerRound": 10_000, "samplesPerPrompt": 8, "maxTokens": 400}
    run = runs.run(
        model={"source": model},
        judge={"model": f"file://{tmp_path}/judge"},
        stages=[rollouts.stage(rollout=asked, evaluate={}, **settings)],
        arms=[runs.arm("c", seeds=[0, 1]), runs.arm("r", "RejectionSampling", seeds=[0, 1])],
    )
    lines = [*plan(PlanQuestion(stages=(stage_nodes(run, 0),), gpu="H100"))]
    assert any("  4 rounds, each of 80,000 answers of 400 tokens" in line for line in lines)
    title = next(place for place, line in enumerate(lines) if "generation" in line and "seeds" in line)
    rows = {
        line.split()[0]: figures(line[line.index(line.split()[0]) + 1 :]) for line in lines[title + 1 :][:2]
    }
    seeds, tokens, _, training, annotation, _, generation = rows["c"][:7]
    # By hand: 600 tokens of each prompt and 8 times 400 of its answers, 2 N of each and attention.
    parameters, attention = 7_568_097_280, 4 * 36 * 4096 * 1000
    assert generation == pytest.approx(4 * 10_000 * 3800 * (2 * parameters + attention), rel=0.01)
    assert (seeds, tokens) == (2, 4 * (10**9 // 4_194_304) * 4_194_304)
    # The other arm asks no judge, and has its FLOPs for training.
    assert rows["r"][4] == 0
    assert rows["r"][3] == pytest.approx(training + annotation, rel=0.02)


def figures(line: str) -> list[float]:
    return [float(each.replace(",", "")) for each in re.findall(r"[0-9][0-9,.]*(?:e[+][0-9]+)?", line)]


def test_a_plan_tells_cost_and_memory_and_what_it_assumes(real: Desk) -> None:
    code, out, err = real.ixt("plan", "run.yaml", "--gpu", "H100")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("model: 8,190,726,144 parameters, of which 7,568,097,280 are multiplied")
    active = figures(lines[1])[0]
    assert 3.0e9 < active < 3.4e9
    memory = next(line for line in lines if "memory of a rank" in line)
    assert "sharded over 64 ranks" in memory
    total, *parts = figures(memory)[:6]
    assert total == pytest.approx(sum(parts), abs=0.3)
    assert total < 80
    # r = N_judge (T_prompt + T_out) / (3 N_student T_doc), and attention.
    r = figures(next(line for line in lines if " r (" in line))[-1]
    assert r == pytest.approx(active * 1800 / (3 * 7.568e9 * 1000), rel=0.1)
    arm = next(line for line in lines if line.lstrip().startswith("conditioned"))
    plain = next(line for line in lines if line.lstrip().startswith("plain"))
    seeds, tokens, steps, training, annotation, share, hours, judging = figures(arm)
    assert (seeds, tokens, steps) == (1, 2384 * 4_194_304, 2384)
    assert training == pytest.approx(6 * 7.568e9 * 10**10, rel=0.05)
    assert annotation == pytest.approx(0.15 * r * training, rel=0.05)
    assert share == pytest.approx(100 * annotation / (annotation + training), abs=0.1)
    assert hours == pytest.approx(training / (0.4 * 9.89e14) / 3600, rel=0.01)
    assert judging == pytest.approx(annotation / (0.15 * 9.89e14) / 3600, rel=0.05)
    assert "all arms end at the FLOPs of conditioned" in out
    # Without annotation it may train further, in whole steps.
    seeds, tokens, steps, plain_training, plain_annotation, _, plain_hours, _ = figures(plain)
    assert (seeds, tokens, plain_annotation) == (2, steps * 4_194_304, 0)
    assert plain_training == pytest.approx(training + annotation, rel=0.01)
    assert steps == pytest.approx(2384 * (training + annotation) / training, rel=0.01)
    assert plain_hours == pytest.approx(2 * hours * steps / 2384, rel=0.01)
    assert sum(line.startswith("assumed: ") for line in lines) == 3
    assert "documents of 1,000 tokens" in out


def test_what_is_assumed_can_be_told(real: Desk) -> None:
    told = [
        real.ixt("plan", "run.yaml", "--document-tokens", "500", "--answer-tokens", answer).out
        for answer in ("100", "2000")
    ]
    few, many = (figures(re.search(r"r \(.*", out)[0])[-1] for out in told)  # type: ignore[index]
    assert many / few == pytest.approx((500 + 300 + 2000) / (500 + 300 + 100), rel=0.2)


def test_arms_of_given_tokens_are_planned_with_these(real: Desk) -> None:
    write(real, comparison="EqualTokens")
    out = real.ixt("plan", "run.yaml").out
    plain = next(line for line in out.splitlines() if line.lstrip().startswith("plain"))
    assert figures(plain)[:3] == [2, 2384 * 4_194_304, 2384]
    assert "all arms end" not in out


def test_an_arm_that_annotation_leaves_nothing_is_told(real: Desk) -> None:
    write(real, arms=[runs.arm("conditioned"), runs.arm("dear", "Filtered", samplePercent=100)])
    out = real.ixt("plan", "run.yaml", "--answer-tokens", "20000").out
    assert re.search(r"dear +1 +0 +0 ", out)
    assert "nothing would be left to train dear with: it has spent" in out


def test_what_cannot_fit_is_refused(real: Desk) -> None:
    text = (real.folder / "run.yaml").read_text()
    (real.folder / "run.yaml").write_text(
        text.replace("numNodes: 8", "numNodes: 1").replace("Node: 8", "Node: 1")
    )
    code, _, err = real.ixt("plan", "run.yaml", "--gpu", "A100")
    assert code == 1
    assert "8,190,726,144 parameters do not fit: a rank would need" in err
    assert "has 80.0 GB; train on more ranks (train.numNodes, train.numProcPerNode)" in err
    # This machine has no GPU of that size, and fewer gigabytes than all that takes.
    code, _, err = real.ixt("run", "run.yaml")
    assert (code, "parameters do not fit" in err) == (1, True)
    assert not (real.workdir / "status.json").exists()


def test_a_gpu_that_nobody_knows_and_a_model_that_is_not_there(real: Desk, tmp_path: Path) -> None:
    assert real.ixt("plan", "run.yaml", "--gpu", "Z80").err == (
        "no GPU called Z80 is known; name one such as H100 or H200\n"
    )
    (tmp_path / "student/config.json").unlink()
    code, _, err = real.ixt("plan", "run.yaml")
    assert (code, "config.json is not there; name a folder with a model" in err) == (1, True)


def test_validate_tells_the_plan_where_the_models_are_here(real: Desk, tmp_path: Path) -> None:
    code, out, _ = real.ixt("validate", "run.yaml")
    assert code == 0
    assert out.startswith("run.yaml: IXTRun test is valid\nmodel: 8,190,726,144 parameters")
    (tmp_path / "judge/config.json").unlink()
    assert real.ixt("validate", "run.yaml").out == "run.yaml: IXTRun test is valid\n"
