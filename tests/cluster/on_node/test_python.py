"""This checkout's Python in pods of the restricted Pod Security level: engines find each other and train."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import python
from cluster.kubectl import Kubectl
from cluster.on_node.operating import until
from make import pods

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
STEP = """
import os, pathlib, ixt_workloads.contract.settings as steps
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
print(os.getuid(), *[line for line in lines if line.startswith(("Seccomp:", "NoNewPrivs:", "CapEff:"))])
print("read-only" if os.statvfs(steps.__file__).f_flag & os.ST_RDONLY else "writable")
"""
IMPORTING = """
import time, ixt_workloads
print("importing", flush=True)
time.sleep(600)
"""
REDUCE = """
import os, torch, torch.distributed as group
group.init_process_group("gloo")
total = torch.tensor([group.get_rank() + 1.0])
group.all_reduce(total)
# Ranks share their pod's output: a line is whole that is one write.
os.write(1, f"rank {group.get_rank()} of {group.get_world_size()} sum {total.item()}\\n".encode())
group.destroy_process_group()
"""


@pytest.fixture
def mounted(restricted: Kubectl) -> Iterator[python.Mounted]:
    with python.mounted(restricted) as found:
        yield found


def container(mounted: python.Mounted, *arguments: str) -> dict[str, Any]:
    home = [{"name": "HOME", "value": "/tmp"}, {"name": "OMP_NUM_THREADS", "value": "1"}]
    mounts = [*mounted.mounts, {"name": "tmp", "mountPath": "/tmp"}]
    fields = {"env": home, "volumeMounts": mounts, "securityContext": SECURITY}
    return pods.container(python.EXECUTABLE, *arguments, image=python.IMAGE, **fields)


def spec(mounted: python.Mounted) -> dict[str, Any]:
    volumes = [*mounted.volumes, {"name": "tmp", "emptyDir": {}}]
    return {"securityContext": POD_SECURITY, "volumes": volumes}


def test_the_hosts_folders_are_refused_but_claims_of_them_are_not(
    restricted: Kubectl, mounted: python.Mounted
) -> None:
    volumes = [{"name": "usr", "hostPath": {"path": "/usr"}}]
    refused = pods.pod("refused", container(mounted, "-c", ""), **{**spec(mounted), "volumes": volumes})
    refused["spec"]["containers"][0]["volumeMounts"] = []
    with pytest.raises(AssertionError, match=r"violates PodSecurity .*restricted volume types"):
        restricted.apply(refused)
    restricted.apply(pods.pod("step", container(mounted, "-c", STEP), **spec(mounted)))
    restricted("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/step", "--timeout=60s")
    assert restricted("logs", "step").splitlines() == [
        "65532 CapEff:\t0000000000000000 NoNewPrivs:\t1 Seccomp:\t2",
        "read-only",
    ]


def test_a_step_that_is_stopped_while_it_imports_ends_before_its_grace(
    restricted: Kubectl, mounted: python.Mounted
) -> None:
    filled = {**spec(mounted), "terminationGracePeriodSeconds": 300}
    restricted.apply(pods.pod("step", container(mounted, "-c", IMPORTING), **filled))
    until(lambda: restricted.run("logs", "step").stdout == "importing\n")
    restricted("delete", "pod", "step", "--timeout=60s")


def test_torch_trains_over_two_pods(restricted: Kubectl, mounted: python.Mounted) -> None:
    program = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "program"},
        "data": {"main.py": REDUCE},
    }
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    main = container(mounted, *torchrun, "--rdzv-endpoint=train-0.train:29500", "--rdzv-id=x", "/app/main.py")
    main["volumeMounts"].append({"name": "program", "mountPath": "/app"})
    filled = spec(mounted)
    filled["volumes"].append({"name": "program", "configMap": {"name": "program"}})
    restricted.apply(program, pods.headless("train"), pods.indexed_job("train", 2, main, **filled))
    restricted("wait", "--for=condition=Complete", "job/train", "--timeout=240s")
    logs = restricted("logs", "--selector=app=train", "--tail=-1")
    assert sorted(re.findall(r"rank \d of \d sum [\d.]+", logs)) == [
        f"rank {rank} of 4 sum 10.0" for rank in range(4)
    ]
