"""What `kubectl ixt top` says of pods and Jobs."""

from typing import Any

from make.children import SUCCEED, server, tasks
from make.objects import NOW, Object, condition, container, pod, time, workload

from ixt_operator.cli.top import HEAD, rows, table

TRAIN = tasks("train", SUCCEED, indexes=2, kind="Train", arm="plain", seed=3)
JUDGE = server("judge", "serve()")
QUEUED = tasks("queued", SUCCEED, kind="Train", arm="other", seed=0)


def holds(found: Object, gpus: int, since: float) -> Object:
    found["spec"]["containers"] = [
        {"resources": {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "4"}}}
    ]
    found["status"] |= {
        "conditions": [condition("PodScheduled", after=since)],
        "startTime": time(since),
    }
    return found


def running_pod(child: Any, index: int, gpus: int, since: float) -> Object:
    return holds(
        pod(child, index, phase="Running", **container(running={"startedAt": time(since)})), gpus, since
    )


def test_what_holds_most_comes_first_and_what_waits_says_for_what() -> None:
    said = "0/8 nodes are available: 8 Insufficient nvidia.com/gpu."
    pending = pod(JUDGE, conditions=[condition("PodScheduled", "Unschedulable", "False", said)])
    pending["spec"]["containers"] = [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]
    done = pod(TRAIN, 1, name="old", phase="Succeeded")
    job = workload(QUEUED)
    job["spec"]["suspend"] = True
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    pods = [pending, running_pod(TRAIN, 0, 8, 30.0), running_pod(TRAIN, 1, 8, 60.0), done]
    head, trains, *waiting = table(rows(pods, [job]), NOW + 7230)
    assert head == HEAD
    assert trains == ("default", "test", "stage/train/plain-s3", "2", "16", "8", "2h", "")
    assert [line[2:5] for line in waiting] == [("stage/judge", "1", "4"), ("stage/train/other-s0", "1", "0")]
    assert waiting[0][-1] == f"Unschedulable: {said}"
    assert waiting[1][-1].startswith("Queued: waits for queue gpus")


def test_nothing_is_a_head_alone() -> None:
    assert table(rows([], []), NOW) == [HEAD]
