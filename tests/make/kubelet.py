"""A double of the kubelet, for a control plane without a node.

It runs the main container of each pod of a namespace as a process of this machine, at an address of its own
on loopback, and tells the API server what a kubelet would.

It has two nodes, and is their scheduler too: a pod gets the first that its affinity lets it have. Unlike a
real one it can be told to fall silent, as on a node that was lost. Pods on real nodes are tested with real
kubelets (tests/cluster/on_node).
"""

import asyncio
import base64
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, PODS, ApiError, Client, Object, Resource
from ixt_operator.api.status import rfc3339

NODES = Resource("v1", "nodes")
SECRETS = Resource("v1", "secrets")
POLL_SECONDS = 0.1
PROBE_SECONDS = 1.0
LAST_LOG_BYTES = 2048

BACKOFF_SECONDS = (0.2, 0.2, 10.0)
"""Before a container's first, second and each later restart: so long it is seen waiting."""


class Kubelet:
    """Runs pods until it is left (`async with`)."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        volumes: Path,
        namespace: str,
        env: dict[str, str],
        loopback: int,
    ) -> None:
        self.client = client
        self.folder = folder
        self.volumes = volumes
        self.namespace = namespace
        self.env = env
        self.loopback = loopback
        """Part of loopback in which pods have their addresses (make.loopback)."""
        self.nodes = [f"{namespace}-{letter}" for letter in "ab"]
        """Names of its nodes."""
        self.lost: set[str] = set()
        """Nodes of which nothing is heard any more; what runs on them goes on."""
        self.silent = False
        """Nothing is told any more, and nothing is started or ended."""
        self.lingering = False
        """Pods that ended stay, although they are deleted, as while their volumes are torn down."""
        self.started: list[str] = []
        """Names of the pods that were started, in order."""
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        """The last process of each pod that had one, by the pod's name."""
        self._stops: dict[str, asyncio.Event] = {}
        self._places: dict[str, str] = {}
        """Node of each pod, by uid."""
        self._disruptions: dict[str, str] = {}
        self._number = 0
        self._left = False

    async def __aenter__(self) -> "Kubelet":
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        for node in self.nodes:
            manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
            await self.client.request("POST", NODES.path(), manifest)
            await self.client.merge(NODES, "", node, {"status": {"conditions": [ready]}}, "status")
        self._loop = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Nothing is cancelled: a connection that is being made would be left open.
        self._left = True
        await self._loop
        for stop in self._stops.values():
            stop.set()
        await asyncio.gather(*self._pods.values())
        await self.client.request("DELETE", PODS.path(self.namespace), {"gracePeriodSeconds": 0})
        for node in self.nodes:
            await self.client.delete(NODES, "", node)

    def alive(self) -> list[str]:
        """Names of the pods whose process runs."""
        return [name for name, process in self._processes.items() if process.returncode is None]

    def disrupt(self, pod: Object, reason: str) -> None:
        """End a pod from outside, and tell why as the condition DisruptionTarget."""
        uid = pod["metadata"]["uid"]
        self._disruptions[uid] = reason
        self._stops[uid].set()

    def results(self) -> list[Any]:
        """What pods wrote as their results, as values."""
        return [json.loads(path.read_text()) for path in self.folder.glob("*/result")]

    async def _watch(self) -> None:
        while not self._left:
            with suppress(ApiError):
                for pod in await self.client.list(PODS, self.namespace):
                    self._see(pod)
            await asyncio.sleep(POLL_SECONDS)

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if self._quiet(uid):
            return
        stop = self._stops.setdefault(uid, asyncio.Event())
        if "deletionTimestamp" in pod["metadata"]:
            if uid not in self._pods:
                self._pods[uid] = asyncio.create_task(self._remove(pod))
            stop.set()
        elif uid not in self._pods and pod["status"].get("phase", "Pending") == "Pending":
            node = self._node_for(pod)
            if not node or pod["spec"].get("schedulingGates"):
                return
            self._places[uid] = node
            self._pods[uid] = asyncio.create_task(self._life(pod))

    def _node_for(self, pod: Object) -> str:
        """The first node that a pod may have; empty when there is none."""
        required = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        terms = required.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
            "nodeSelectorTerms", ()
        )
        avoided = {
            value for term in terms for field in term.get("matchFields", ()) for value in field["values"]
        }
        return next((node for node in self.nodes if node not in avoided | self.lost), "")

    def _quiet(self, uid: str) -> bool:
        return self.silent or self._left or self._places.get(uid) in self.lost

    async def _life(self, pod: Object) -> None:
        """All of a pod's life: its container's runs, and its end."""
        stop = self._stops[pod["metadata"]["uid"]]
        self._number += 1
        address = f"127.{self.loopback}.{self._number // 250}.{1 + self._number % 250}"
        place = self.folder / pod["metadata"]["name"]
        place.mkdir(parents=True)
        await self._bind(pod, self._places[pod["metadata"]["uid"]])
        again = pod["spec"]["restartPolicy"] == "Always"
        restarts, last = 0, None
        while True:
            env = await self._environment(pod, place, address)
            self.started.append(pod["metadata"]["name"])
            ended = await self._container(pod, place, address, env, stop, restarts, last)
            if self._left:
                return
            if stop.is_set() or not again:
                break
            waiting = {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": ended},
            }
            await self._tell(pod, "Running", address, {**waiting, "restartCount": restarts}, ready=False)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), BACKOFF_SECONDS[min(restarts, 2)])
            if self._left:
                return
            if stop.is_set():
                break
            restarts, last = restarts + 1, ended
        phase = "Succeeded" if ended["exitCode"] == 0 else "Failed"
        state = {"state": {"terminated": ended}, "restartCount": restarts}
        if pod["metadata"]["uid"] in self._disruptions:
            stop.clear()  # its remains are left until they are deleted
        await self._tell(pod, phase, address, state, ready=False)
        if not self._left:
            await stop.wait()
        await self._remove(pod)

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}}
        path = PODS.path(metadata["namespace"], metadata["name"], "binding")
        with suppress(ApiError):  # it is deleted already
            await self.client.request("POST", path, {**binding, "target": target})

    async def _container(
        self,
        pod: Object,
        place: Path,
        address: str,
        env: dict[str, str],
        stop: asyncio.Event,
        restarts: int,
        last: Any,
    ) -> Any:
        """One run of the main container; how it ended."""
        main = pod["spec"]["containers"][0]
        command = [sys.executable if word == "python" else word for word in main["command"]]
        result, log = Path(env["IXT_RESULT"]), place / "log"
        result.unlink(missing_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(*command, env=env, stdout=output, stderr=output)
        self._processes[pod["metadata"]["name"]] = process
        told = {"state": {"running": {"startedAt": now()}}, "restartCount": restarts}
        told |= {"lastState": {"terminated": last}} if last else {}
        over = asyncio.Event()
        try:
            await self._tell(pod, "Running", address, told, ready=False)
            ended = asyncio.create_task(process.wait())
            stopped = asyncio.create_task(stop.wait())
            ready = asyncio.create_task(self._readiness(pod, address, told, over))
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            over.set()
            stopped.cancel()
            if not ended.done() and not self._left:
                with suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait({ended}, timeout=pod["spec"]["terminationGracePeriodSeconds"])
            await ready
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        message = result.read_text() if result.exists() else ""
        if code and not message:
            message = log.read_bytes()[-LAST_LOG_BYTES:].decode(errors="replace")
        return {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": message[:4096],
            "startedAt": now(),
            "finishedAt": now(),
        }

    async def _readiness(self, pod: Object, address: str, told: Any, over: asyncio.Event) -> None:
        """Ready as soon as the readiness probe of a judge answers 200, unless its run is over before."""
        main = pod["spec"]["containers"][0]
        if "readinessProbe" not in main:
            return
        port = next(entry["containerPort"] for entry in main["ports"] if entry["name"] == "http")
        url = f"http://{address}:{port}{main['readinessProbe']['httpGet']['path']}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as http:
            while not over.is_set():
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(url) as answer:
                        if answer.status == 200 and not over.is_set():
                            await self._tell(pod, "Running", address, told, ready=True)
                            return
                await asyncio.sleep(POLL_SECONDS)

    async def _tell(self, pod: Object, phase: str, address: str, container: Any, *, ready: bool) -> None:
        conditions = [
            {"type": type_, "status": status, "lastTransitionTime": now()}
            for type_, status in (("PodScheduled", "True"), ("Ready", "True" if ready else "False"))
        ]
        if reason := self._disruptions.get(pod["metadata"]["uid"]):
            conditions.append(
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": reason,
                    "lastTransitionTime": now(),
                }
            )
        status = {
            "phase": phase,
            "podIP": address,
            "startTime": now(),
            "conditions": conditions,
            "containerStatuses": [
                {"name": "main", "image": "i", "imageID": "", "ready": ready, "lastState": {}, **container}
            ],
        }
        metadata = pod["metadata"]
        while not self._quiet(metadata["uid"]):
            try:
                await self.client.merge(
                    PODS, metadata["namespace"], metadata["name"], {"status": status}, "status"
                )
            except ApiError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _remove(self, pod: Object) -> None:
        metadata = pod["metadata"]
        while self.lingering and not self._left:
            await asyncio.sleep(POLL_SECONDS)
        while not self._quiet(metadata["uid"]):
            try:
                await self.client.delete(
                    PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"], grace=0
                )
            except ApiError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _secret(self, namespace: str, name: str, key: str) -> str:
        """An entry of a Secret, which is waited for."""
        while not self._left:
            with suppress(ApiError):
                if found := await self.client.get(SECRETS, namespace, name):
                    return base64.b64decode(found["data"][key]).decode()
            await asyncio.sleep(POLL_SECONDS)
        return ""

    async def _environment(self, pod: Object, place: Path, address: str) -> dict[str, str]:
        """The container's environment, with the places of this machine for those of a pod."""
        metadata, main = pod["metadata"], pod["spec"]["containers"][0]
        config = None
        for volume in pod["spec"]["volumes"]:
            if volume["name"] == "ixt-task":
                while config is None and not self._left:
                    with suppress(ApiError):
                        config = await self.client.get(
                            CONFIG_MAPS, metadata["namespace"], volume["configMap"]["name"]
                        )
                    if config is None:
                        await asyncio.sleep(POLL_SECONDS)
        task = place / "task.json"
        task.write_text((config or {}).get("data", {}).get("task.json", "{}"))
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        for entry in main.get("env", ()):
            if "value" in entry:
                env[entry["name"]] = entry["value"]
            elif reference := entry["valueFrom"].get("secretKeyRef"):
                env[entry["name"]] = await self._secret(metadata["namespace"], **reference)
            elif "fieldRef" in entry["valueFrom"]:
                annotations = metadata.get("annotations", {})
                env[entry["name"]] = annotations["batch.kubernetes.io/job-completion-index"]
        # One place on this machine stands for the termination log and the volumes of each pod.
        return (
            env
            | self.env
            | {
                "IXT_TASK": str(task),
                "IXT_RESULT": str(place / "result"),
                "IXT_HOST": address,
                "IXT_PVC_ROOT": str(self.volumes),
            }
        )


def now(ago: float = 0.0) -> str:
    """The time of the API now, or some seconds ago."""
    return rfc3339(time.time() - ago)
