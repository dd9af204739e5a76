"""The runs of a cluster as Prometheus gets them: read from the cache and from what pods told, at each scrape.

A run that is gone leaves no series.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import RUNS, Object
from ixt_operator.adapters.kubernetes.pod import (
    Heard,
    label_of,
    phase_of,
    phase_of_main,
    process_of,
    replica_of,
)
from ixt_operator.adapters.kubernetes.translate import Seen
from ixt_operator.api.status import unix
from ixt_operator.controller import series
from ixt_operator.controller.poll import Progresses, speaks
from ixt_operator.controller.series import Attempt, Lines, Process, Server
from ixt_operator.planner.observed import ProcessPhase
from ixt_operator.render.names import ATTEMPT, CHILD, fields_of_node
from ixt_workloads.contract.figures import Figures, sound
from ixt_workloads.contract.graph import OfNode
from ixt_workloads.contract.kinds import KINDS

log = logging.getLogger("ixt.metrics")


class _Kept(NamedTuple):
    version: str
    lines: Lines


_OfPods = Mapping[str, Process]
"""Processes by the uids of their pods."""


class RunSeries:
    """The series of all runs. What a manifest says alone is kept until it is another."""

    def __init__(
        self,
        cache: Cache,
        progress: Progresses,
        positions: Mapping[str, int],
        refused: Callable[[Counter[str]], None],
    ) -> None:
        self._cache = cache
        self._progress = progress
        self._positions = positions
        self._refused = refused
        self._told: dict[str, _Kept] = {}
        """By the uid of the run."""
        self._shown: dict[str, _OfPods] = {}
        """What was shown last, by the uid of the Job, as long as that is there: a pod may go before it."""
        self._nodes: set[tuple[str, str]] = set()
        """Nodes that were shown last, with the uids of their runs."""
        self._begun: dict[str, Figures | None] = {}
        """What pods had counted when they were first heard, by their uid, where what others of the same node
        had counted is not known any more; None until then."""

    def lines(self, now: float) -> Iterator[Lines]:
        """The series, run by run. `now` is in Unix seconds."""
        runs = self._cache.all(RUNS)
        told, self._told = self._told, {}
        shown, self._shown = self._shown, {}
        nodes, self._nodes = self._nodes, set()
        yield series.counted(runs)
        for run in runs:
            try:
                yield from self._of(run, told, shown, nodes, now)
            except Exception:
                # What one run's objects say must not take the series of all others away.
                log.exception("%(namespace)s/%(name)s: its series cannot be told", run["metadata"])
        there = {uid for processes in self._shown.values() for uid in processes}
        self._begun = {uid: figures for uid, figures in self._begun.items() if uid in there}

    def _of(
        self,
        run: Object,
        told: Mapping[str, _Kept],
        shown: Mapping[str, _OfPods],
        nodes: Set[tuple[str, str]],
        now: float,
    ) -> Iterable[Lines]:
        """The series of one run: what its manifest says, and while it is not finished what lives."""
        uid, version = run["metadata"]["uid"], run["metadata"].get("resourceVersion", "")
        kept = told.get(uid)
        if kept is None or kept.version != version:
            kept = _Kept(version, {name: ["".join(of)] for name, of in series.told(run).items()})
        self._told[uid] = kept
        if series.finished(run):
            return (kept.lines,)
        seen = self._cache.of_run(run["metadata"]["namespace"], uid)
        found = list(self._attempts(seen, shown))
        self._begin(uid, seen.jobs, nodes)
        attempts = [self._since(attempt, self._shown[job]) for job, attempt in found]
        return kept.lines, series.live(run, attempts, _servers(seen), now)

    def _begin(self, run: str, jobs: Iterable[Object], nodes: Set[tuple[str, str]]) -> None:
        """Of nodes that are shown for the first time, find those of which counts are lost: pods that another
        operator had heard are gone. Else their counters would fall to what is left, and Prometheus would take
        all that for new, as after a restart."""
        of_node: dict[tuple[str, str], list[Object]] = defaultdict(list)
        for job in jobs:
            of_node[run, _node(job).node].append(job)
        self._nodes.update(of_node)
        for name in of_node.keys() - nodes:
            if any(_is_missed(job, self._shown[job["metadata"]["uid"]]) for job in of_node[name]):
                processes = [
                    each for job in of_node[name] for each in self._shown[job["metadata"]["uid"]].items()
                ]
                self._begun.update(
                    {uid: None for uid, process in processes if process.ended or self._progress.early(uid)}
                )

    def _since(self, attempt: Attempt, processes: _OfPods) -> Attempt:
        """An attempt whose counters go on from 0 where counts of its node are lost."""
        for uid, process in processes.items():
            if uid in self._begun and self._begun[uid] is None and process.figures:
                self._begun[uid] = process.figures
        return attempt._replace(
            processes=[
                process._replace(figures=_less(process.figures, self._begun.get(uid) or {}))
                for uid, process in processes.items()
            ]
        )

    def _attempts(self, seen: Seen, shown: Mapping[str, _OfPods]) -> Iterable[tuple[str, Attempt]]:
        """The attempts whose Jobs are there, with the Jobs' uids. Labels are those that the operator gave
        them: what a pod says of itself is no label."""
        pods: dict[str, list[Object]] = {job["metadata"]["name"]: [] for job in seen.jobs}
        for pod in seen.pods:
            if speaks(pod) and (of_job := pods.get(label_of(pod, CHILD))) is not None:
                of_job.append(pod)
        for job in seen.jobs:
            node, number, uid = _node(job), label_of(job, ATTEMPT), job["metadata"]["uid"]
            before = shown.get(uid, {})
            there = {
                pod["metadata"]["uid"]: self._process(pod, before) for pod in pods[job["metadata"]["name"]]
            }
            self._shown[uid] = {name: _gone(before[name]) for name in before if name not in there} | there
            yield (
                uid,
                Attempt(
                    node.stage,
                    node.step,
                    node.kind,
                    node.arm,
                    "" if node.seed is None else str(node.seed),
                    int(number) if number.isdecimal() else 0,
                    unix(job["metadata"]["creationTimestamp"]),
                    position=self._positions.get(uid),
                    round=node.round or 0,
                ),
            )

    def _process(self, pod: Object, before: _OfPods) -> Process:
        uid, phase = pod["metadata"]["uid"], phase_of_main(pod)
        progress = self._progress.get(uid)
        figures: Figures = progress.figures if progress else {}
        running, ended = phase == "Running", phase in ("Succeeded", "Failed")
        if ended:
            known = before.get(uid)
            figures = known.figures if known and known.ended else self._result(pod, figures)
        return Process(
            running=running,
            ended=ended,
            figures=figures,
            progress=progress,
            told_at=self._progress.told_at.get(uid, 0.0),
            unheard=running and self._progress.unheard(uid),
        )

    def _result(self, pod: Object, before: Figures) -> Figures:
        """Figures of a pod's result; of one that was killed, or whose result has none, those `before`."""
        result = process_of(0, pod, Heard({}, {})).result
        if result is None or not result.figures:
            return before
        figures, why = sound(result.figures)
        if why:
            self._refused(why)
        return figures


def _gone(process: Process) -> Process:
    """A process whose pod is gone: what it had counted stays counted."""
    figures = {name: values for name, values in process.figures.items() if name in series.COUNTS}
    return Process(figures=figures, ended=True)


def _is_missed(job: Object, processes: _OfPods) -> bool:
    """Whether pods of a Job have ended without a last word, or are gone. `processes` are those that speak."""
    counts = (job.get("status", {}).get(name) or 0 for name in ("active", "failed", "succeeded"))
    started, kind = sum(counts), KINDS.get(_node(job).kind)
    speak = started if kind is not None and kind.shares_work else min(started, 1)
    return speak > len(processes) or any(each.ended and not each.figures for each in processes.values())


def _less(figures: Figures, begun: Figures) -> Figures:
    """Figures with what was counted since `begun`."""
    if not begun:
        return figures
    return {
        name: {labels: value - begun.get(name, {}).get(labels, 0.0) for labels, value in values.items()}
        if name in series.COUNTS
        else values
        for name, values in figures.items()
    }


def _servers(seen: Seen) -> Iterable[Server]:
    """The servers whose Deployments are there, with their replicas."""
    pods = [pod for pod in seen.pods if "deletionTimestamp" not in pod["metadata"]]
    for deployment in seen.deployments:
        own = [pod for pod in pods if label_of(pod, CHILD) == deployment["metadata"]["name"]]
        phases = Counter(replica_of(0, pod, Heard({}, {})).phase for pod in own if phase_of(pod) != "Failed")
        ready = phases.pop(ProcessPhase.READY, 0)
        node = _node(deployment)
        yield Server(node.stage, node.short, ready, phases.total())


def _node(child: Mapping[str, Any]) -> OfNode:
    return OfNode(**fields_of_node(child["metadata"].get("labels", {})))
