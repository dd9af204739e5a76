"""The operator carries the rounds of a Rollout stage through, whatever is lost in the middle of one."""

import signal
from pathlib import Path

from cluster.on_control_plane.operating import Field, committed, left_behind, step
from make import cli, rollouts, runs
from make.operator import eventually
from make.zygote import Zygote

from ixt_operator.adapters.kubernetes.client import JOBS

KINDS = ("generate", "annotate", "prepare", "train", "evaluate")
GENERATE = "post/generate/c-s0/r2"


async def test_rounds_go_on_without_operator_and_pod_and_more_are_added(
    field: Field, tmp_path: Path, zygote: Zygote
) -> None:
    def spec(rounds: int) -> dict[str, object]:
        return {
            "model": {"source": _file(tmp_path, "model")},
            "judge": {"model": _file(tmp_path, "judge")},
            "arms": [runs.arm("c")],
            "stages": [
                rollouts.stage(
                    datasets=[{"name": "prompts", "uri": _file(tmp_path, "prompts.jsonl")}],
                    rollout={"rounds": rounds},
                )
            ],
        }

    # The operator dies in the middle of the second round, then the pod that it would have looked after.
    field.hold(GENERATE)
    name = field.apply(**spec(2))
    async with field.operator("--lease-name=first") as operator:
        pod = await field.running(name, GENERATE, attempt=2)  # numbers go on from round to round
        operator.signal(signal.SIGKILL)
        await operator.ended()
    field.kubelet.disrupt(pod, "EvictionByEvictionAPI")
    await field.pod(name, GENERATE, "Failed", attempt=2)
    field.go_on()
    async with field.operator("--lease-name=second"):
        status = await field.until_phase(name, "Complete")
        assert step(status, "generate/c", "post")["attemptsByFault"] == {"Infrastructure": 1}
        before = await keys(field, name)
        assert before.keys() == {f"post/{kind}/c-s0/r{number}" for kind in KINDS for number in (1, 2)}

        # Of a finished run, a round that is added alone is made.
        field.edit(name, stages=spec(3)["stages"])
        status = await field.until(
            name, lambda found: found["phase"] == "Complete" and found["observedGeneration"] == 2
        )
        await eventually(lambda: left_behind(field, name), lambda found: found == [])
    made = await keys(field, name)
    assert made.keys() - before.keys() == {f"post/{kind}/c-s0/r3" for kind in KINDS}
    assert made.items() >= before.items()
    assert set(committed(field).values()) == {1}
    (stage,) = status["stages"]
    assert (stage["rounds"], {entry.get("round", 3) for entry in stage["steps"]}) == (3, {3})

    # On one machine the same run has the same keys.
    desk = cli.desk(tmp_path / "desk", zygote, **spec(3))
    assert desk.run().code == 0
    assert {node: key for node, key in desk.node_keys().items() if "/r" in node} == made


async def keys(field: Field, name: str) -> dict[str, str]:
    """Keys of the nodes of a run's rounds, as its Jobs have them."""
    jobs = await field.client.list(JOBS, field.kubectl.namespace, labels=f"ixt.dev/run={name}")
    found = [(job["metadata"]["annotations"]["ixt.dev/node"], job["metadata"]["labels"]) for job in jobs]
    return {node: labels["ixt.dev/key"] for node, labels in found if "/r" in node}


def _file(folder: Path, name: str) -> str:
    """The URI of an empty file."""
    (folder / name).touch()
    return (folder / name).as_uri()
