"""Runs on a cluster as the operator's /metrics has them, and what a scrape reads there."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS, Object
from ixt_operator.adapters.kubernetes.pod import INDEX
from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.status import rfc3339
from ixt_operator.controller.poll import Progresses
from ixt_operator.render.names import ATTEMPT, CHILD, OF_NODE, RUN, RUN_UID
from ixt_workloads.contract.metrics import METRICS, NODE, STEP_METRICS
from ixt_workloads.contract.results import Progress
from make import runs

START = 1_800_000_000.0
"""When every run here began, in Unix seconds."""

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


class Exposed(Samples):
    """Values by the name of a series and its labels."""

    def of(self, name: str, **labels: str) -> dict[str, float]:
        """The values of series with these labels, by the values of the others, with commas between them."""
        return {
            ",".join(value for key, value in sorted(own) if key not in labels): value
            for own, value in self.get(name, {}).items()
            if labels.items() <= dict(own).items()
        }

    def about(self, run: str) -> set[str]:
        """Names of the series of a run."""
        return {name for name, all_ in self.items() for own in all_ if ("run", run) in own}


def read(body: bytes) -> Exposed:
    """What a scraper takes from an exposition, but for `process_…`. Fails for a series that is there twice, a
    metric that no row has, and labels that its row lacks."""
    text, found = body.decode(), Exposed()
    rows = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    for family in (read_openmetrics if text.endswith("# EOF\n") else read_plain)(text):
        if family.name.startswith("process_"):
            continue
        row = rows[family.name]
        assert family.documentation == row.help
        assert family.type == row.type
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert sample.labels.keys() - {"le"} == set(row.labels) | _before(row.name)
            values = found.setdefault(sample.name, {})
            assert labels not in values, f"{sample.name} {sample.labels} is there twice"
            values[labels] = sample.value
    return found


def _before(name: str) -> set[str]:
    """Labels of a step's figures that say of which step they are."""
    return set(NODE) if name in STEP_METRICS else set()


def manifest(name: str = "test", phase: str = "Running", *, version: int = 1, **status: Any) -> Object:
    """A run with a status, as the API server has it."""
    found = runs.manifest(name=name, **status.pop("spec", {}))
    metadata = {**found["metadata"], "uid": f"uid-{name}", "resourceVersion": str(version)}
    given = {"phase": phase, "startTime": rfc3339(START), **status}
    return {**found, "metadata": metadata, "status": given}


def step(name: str, kind: str, arm: str = "", **fields: Any) -> Object:
    """A step of a status."""
    return {"name": name, "kind": kind, "arm": arm, "state": "Running", **fields}


class Cluster:
    """A cache, and what pods told."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.progress = Progresses()
        self.positions: dict[str, int] = {}
        self._version = 1

    def run(self, name: str = "test", phase: str = "Running", **status: Any) -> Object:
        """Have a run, or have it anew."""
        found = manifest(name, phase, version=self._next(), **status)
        self.cache.put(RUNS, found)
        return found

    def attempt(
        self, child: str, run: str = "test", number: int = 0, created_at: float = START, **node: str
    ) -> Object:
        """Have the Job of an attempt at a node of a run."""
        labels = {
            RUN: run, RUN_UID: f"uid-{run}", CHILD: child, ATTEMPT: str(number),
            **{OF_NODE[field]: value for field, value in node.items()},
        }  # fmt: skip
        owner = {"apiVersion": API_VERSION, "kind": "IXTRun", "name": run, "uid": f"uid-{run}"}
        job = {
            "metadata": self._metadata(child, labels, {**owner, "controller": True}, created_at),
            "spec": {"completions": 1},
        }
        self.cache.put(JOBS, job)
        return job

    def pod(
        self,
        job: Object,
        index: int = 0,
        phase: str = "Running",
        told: Progress | None = None,
        result: str = "",
        *,
        company: bool = False,
    ) -> str:
        """Have a pod of a Job, or have it anew; its uid. `told`: what it answered, just now. `company`: a
        second container runs on beside its main one."""
        name = f"{job['metadata']['name']}-{index}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "controller": True}
        labels = {**job["metadata"]["labels"], INDEX: str(index)}
        metadata = self._metadata(name, labels, {**owner, "uid": job["metadata"]["uid"]}, START)
        ended = {"exitCode": 0, "message": result, "finishedAt": rfc3339(START)}
        main = {"name": "main", "state": {"terminated": ended} if phase in ("Succeeded", "Failed") else {}}
        whole = "Running" if company else phase
        status = {"phase": whole, "podIP": "127.0.0.1", "containerStatuses": [main]}
        self.cache.put(PODS, {"metadata": metadata, "spec": {}, "status": status})
        if told:
            self.hear(metadata["uid"], told)
        return str(metadata["uid"])

    def hear(self, uid: str, told: Progress, at: float = START) -> None:
        """A pod answers."""
        self.progress[uid], self.progress.told_at[uid] = told, at

    def _metadata(self, name: str, labels: Mapping[str, str], owner: Object, created_at: float) -> Object:
        return {
            "name": name, "namespace": "default", "uid": f"uid-{name}", "labels": dict(labels),
            "ownerReferences": [owner], "creationTimestamp": rfc3339(created_at),
            "resourceVersion": str(self._next()),
        }  # fmt: skip

    def _next(self) -> int:
        self._version += 1
        return self._version


def conditions(**reasons: Iterable[str]) -> list[Object]:
    """Conditions by type: status, reason, and perhaps a message."""
    return [
        {
            "type": type_, "status": status, "reason": reason, "message": "".join(message),
            "lastTransitionTime": rfc3339(START),
        }
        for type_, (status, reason, *message) in reasons.items()
    ]  # fmt: skip
