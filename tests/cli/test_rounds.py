"""`ixt run` carries the rounds of a Rollout stage through, and goes on where a run was interrupted."""

import re
import signal

from make import rollouts, runs
from make.cli import Desk

from ixt_operator.adapters.local.workdir import keys_in, read_run
from ixt_operator.cli import exporting
from ixt_operator.planner.history import latest

OF_ROUND = ("generate", "annotate", "prepare", "train", "evaluate")


def write(desk: Desk, rounds: int) -> None:
    stage = rollouts.stage(
        datasets=[{"name": "prompts", "uri": "./documents.jsonl"}], rollout={"rounds": rounds}
    )
    desk.write(stages=[stage], model={"source": "./model"}, arms=[runs.arm("c")])


def test_rounds_are_carried_through_and_added_to(judged: Desk) -> None:
    write(judged, rounds=1)
    done = judged.run()
    assert done.code == 0, done.err
    first = [f"post/{kind}/c/r1" for kind in OF_ROUND]
    assert re.findall(r"StepStarted: (\S+)", done.out) == ["post/inventory", *first, "report"]
    logs = " ".join(path.name for path in judged.logs.iterdir())
    assert "policy" in logs
    assert "judge" in logs
    before = judged.committed()

    # One round more, of which the training is killed with the whole run, and the run once more.
    write(judged, rounds=2)
    judged.tell({"post/train/c-s0/r2": {"1": {"hang": True}}})
    with judged.started() as process:
        assert process.stdout
        for line in process.stdout:
            if "StepStarted: post/train/c/r2" in line:
                break
        process.send_signal(signal.SIGKILL)
    done = judged.run()
    assert done.code == 0, done.err
    started = re.findall(r"StepStarted: (\S+)", done.out)
    assert "post/generate/c/r2" not in started
    assert started[-2:] == ["post/evaluate/c/r2", "report"]
    assert judged.committed().items() >= before.items(), "what the first round made stays as it is"
    keys = judged.node_keys()
    assert {node for node in keys if node.endswith("/r2")} == {f"post/{kind}/c-s0/r2" for kind in OF_ROUND}
    assert {node: judged.made(node) for node in keys if "/c-s0/" in node} == {
        f"post/{kind}/c-s0/r{number}": 1 for kind in OF_ROUND for number in (1, 2)
    }

    # The stage's model is that of its last round.
    shown = re.findall(r"^model (\S+): \S+/(\w+)$", judged.ixt("status", "run.yaml").out, re.MULTILINE)
    assert shown == [("c-s0@post", keys["post/train/c-s0/r2"])]
    run, newest = read_run(judged.workdir), latest(keys_in(judged.workdir))
    assert run
    assert exporting.chosen(run, newest, "").key == keys["post/train/c-s0/r2"]
