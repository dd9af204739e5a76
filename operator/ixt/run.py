"""A run from Python: a thin hand on `ixt run` and kubectl, which do the work in processes of their own."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ixt.cluster import Cluster, RunError
from ixt.progress import shown
from ixt_operator.adapters.local import workdir as local
from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import Phase, RunStatus
from ixt_operator.cli import artifacts, exporting
from ixt_operator.manifests import loading
from ixt_operator.manifests.problems import ManifestError, Problem
from ixt_operator.planner.nodes import stage_nodes
from ixt_operator.planner.spec import storage_uri
from ixt_workloads.contract.graph import Node
from ixt_workloads.contract.scores import held_out_loss

if TYPE_CHECKING:
    import pandas as pd

    from ixt_workloads.asking import Asker
    from ixt_workloads.store import Artifact

SECONDS = 1.0
"""Between two looks at a run that is waited for."""
IXT = (sys.executable, "-P", "-c", "from ixt_operator.cli.main import main; main()")
LOG = "ixt.log"
"""In the workdir: what `ixt run` says."""
TAIL = 2000
"""Characters of it that an error tells."""


class Report(NamedTuple):
    """A run's report; a notebook shows the page."""

    path: Path
    """The page."""

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text())
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:80vh;border:0"></iframe>'


class LaneModel(NamedTuple):
    """A lane's trained model."""

    model: Any
    """A causal language model of transformers, on the CPU."""
    asker: Asker
    """Makes the tokens of a prompt for a level; has the tokenizer."""


class Run:
    """A run, as its manifest says it.

    On this machine it is carried out by an `ixt run` of its own, which outlives a notebook's kernel: `run`
    again finds it, or goes on from where it stopped. On a cluster the operator carries it out.
    """

    def __init__(
        self, manifest: IXTRun, *, workdir: str | Path | None = None, runtime: str | Path | None = None
    ) -> None:
        """`workdir`: folder of its state and logs on this machine, .ixt/NAME unless told. `runtime`: file of
        an IXTRuntime, instead of the built-in one."""
        self.manifest = manifest
        self.workdir = Path(workdir) if workdir else local.workdir_of(manifest)
        self.runtime = Path(runtime) if runtime else None
        self._written: tuple[Path, list[str]] | None = None
        """The file that it is from, and what is set in it."""
        self._process: subprocess.Popen[bytes] | None = None
        self._cluster: Cluster | None = None

    @classmethod
    def from_file(
        cls,
        file: str | Path,
        *,
        settings: Mapping[str, object] | None = None,
        workdir: str | Path | None = None,
        runtime: str | Path | None = None,
    ) -> Run:
        """The one run of a file. `settings` are fields by their paths, as for `ixt run --set`.

        Raises RunError with all that is wrong, each with its file, line and field.
        """
        told = [f"{path}={_text(value)}" for path, value in (settings or {}).items()]
        try:
            found = [each for each in loading.load(Path(file), settings=told) if isinstance(each, IXTRun)]
        except ManifestError as error:
            raise RunError(str(error)) from None
        if len(found) != 1:
            raise RunError(f"{file}: has {len(found)} IXTRuns, needs exactly one")
        run = cls(found[0], workdir=workdir, runtime=runtime)
        run._written = Path(file).absolute(), told
        return run

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.manifest.metadata.name

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.status().phase.value}>"

    def validate(self) -> list[str]:
        """Check the run, and that the files are there that its file names from itself; what is no error, but
        perhaps not meant. Raises RunError with all problems."""
        warned: list[Problem] = []
        try:
            if self._written:
                file, settings = self._written
                loading.load(file, warned.append, here=True, settings=settings)
            else:
                loading.loads(json.dumps(self._document()), self.name, Path.cwd(), warned.append)
        except ManifestError as error:
            raise RunError(str(error)) from None
        return [str(each) for each in warned]

    # --- Carried out.

    def run(self, *, wait: bool = True) -> RunStatus:
        """Carry the run out on this machine, from where it is; with `wait` to its end.

        One that goes on already, started here or by another kernel or `ixt run`, is found. Raises RunError
        when it fails, with what to do.
        """
        self._cluster = None
        if self._goes_on():
            if self._process is not None and self._process.poll() is not None:
                self._process = None  # another one is at work now
            started = local.read_run(self.workdir)
            if started is not None and started.spec != self.manifest.spec:
                raise RunError(f"{self.name} goes on with other fields: wait() for it, or stop() it first")
        else:
            self._start()
        return self.wait() if wait else self.status()

    def submit(self, *, namespace: str | None = None, context: str | None = None) -> RunStatus:
        """Apply the run to a cluster by kubectl, with the user's own configuration. Raises RunError."""
        document = self._document()
        # Said in full, so that a run that was suspended goes on.
        document["spec"].setdefault("suspend", False)
        if namespace:
            document["metadata"]["namespace"] = namespace
        self._cluster = Cluster(self.name, document["metadata"].get("namespace"), context)
        self._cluster.apply(document)
        return self.status()

    def wait(self) -> RunStatus:
        """Wait for the run's end and show how far it is. Ctrl-C (a kernel's interrupt) ends the waiting, the
        run goes on. Raises RunError when it fails or is stopped."""
        with shown(self.name, self.workdir) as show:
            while True:
                over = not self._goes_on()
                found = self.status()
                show(found)
                if over:
                    break
                time.sleep(SECONDS)
        refused = not self._cluster and self._process is not None and self._process.returncode != 0
        if refused or found.phase is not Phase.COMPLETE:
            raise RunError(self._why(found))
        return found

    def stop(self) -> None:
        """Stop the run: what runs saves its state, and `run` or `submit` goes on. On a cluster it is
        suspended."""
        if self._cluster:
            self._cluster.suspend()
            return
        while (pid := local.holder(self.workdir)) is not None:
            if not pid:
                raise RunError(f"{self.name} is carried out by a process that cannot be seen from here")
            os.kill(pid, signal.SIGTERM)
            for _ in range(60):
                if not local.in_use(self.workdir):
                    break
                time.sleep(SECONDS)

    def status(self) -> RunStatus:
        """How far the run is: the fields of an IXTRun's status."""
        found = self._cluster.status() if self._cluster else local.current_status(self.workdir)
        return found or RunStatus()

    # --- What there is of it.

    def report(self) -> Report:
        """The report of a run that is complete. Raises RunError."""
        if self._cluster:
            return Report(self._cluster.report(self.workdir))
        run = local.with_volumes(self._carried_out, self.workdir)
        try:
            page = artifacts.fetch_report(run, self.status(), self.workdir)
        except typer.Exit:
            raise RunError(f"the report cannot be fetched from {storage_uri(run)}") from None
        if page is None:
            raise RunError(f"{self.name} has no report yet: it is {self.status().phase.value}")
        return Report(page)

    def curves(self) -> pd.DataFrame:
        """The curves of all trainings that are complete: a row for each point.

        Columns: stage, lane, arm, seed, step, tokens, flops, loss, learningRate; where it was evaluated
        heldOutLoss, and task/prefix with accuracies.
        """
        import pandas as pd

        rows = [
            {"stage": node.stage, "lane": node.lane, "arm": node.arm, "seed": node.seed, **_point(point)}
            for node, trained in self._trained()
            for point in trained.read_json("curve.json")["points"]
        ]
        return pd.DataFrame(rows)

    def load(self, lane: str = "", stage: str = "") -> LaneModel:
        """A lane's model after a stage; the first lane and the last stage unless told. An arm's name means
        its first seed. Raises RunError with what is nearest."""
        try:
            wanted = exporting.training_of(self._carried_out, f"{lane}@{stage}" if stage else lane)
        except LookupError as error:
            raise RunError(error.args[0]) from None
        trained = next((artifact for node, artifact in self._trained() if node.name == wanted.name), None)
        if trained is None:
            raise RunError(f"{wanted.lane}@{wanted.stage} is not trained yet: status() says how far it is")
        # Imported here: they take seconds.
        from ixt_workloads.asking import Asker
        from ixt_workloads.models import gathered, load_model

        with gathered(trained) as folder:
            return LaneModel(load_model(folder, dtype=None).eval(), Asker(folder))

    def _trained(self) -> list[tuple[Node, Artifact]]:
        """The trainings that are committed, in order."""
        from ixt_workloads.store import Artifact, StoreError, committed, open_storage

        run, keys = self._carried_out, self._keys()
        try:
            store = open_storage(storage_uri(local.with_volumes(run, self.workdir)))
            return [
                (node, Artifact.open(store, keys[node.name]))
                for place in range(len(run.spec.stages))
                for node in stage_nodes(run, place)
                if node.kind == "Train" and node.name in keys and committed(store, keys[node.name])
            ]
        except StoreError as error:
            raise RunError(str(error)) from None

    def _keys(self) -> dict[str, str]:
        """Keys by nodes: on a cluster those that the report was made of."""
        if not self._cluster:
            return {name: entry.key for name, entry in local.newest_keys(self.workdir).items()}
        from ixt_workloads.store import Artifact, open_storage

        key = artifacts.report_key(self.status())
        if key is None:
            raise RunError(f"{self.name} has no report yet: it is {self.status().phase.value}")
        store = open_storage(storage_uri(self._carried_out))
        return dict(Artifact.open(store, key).manifest.preimage["inputs"])

    # --- How.

    @property
    def _carried_out(self) -> IXTRun:
        """The run as it was carried out last."""
        if self._cluster:
            return self._cluster.manifest()
        return local.read_run(self.workdir) or self.manifest

    def _document(self) -> dict[str, Any]:
        """The run as kubectl and `ixt run` take it."""
        found = self.manifest.model_dump(mode="json", exclude_defaults=True)
        return {**found, "apiVersion": API_VERSION, "kind": "IXTRun"}

    def _start(self) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        file = self.workdir / "manifest.json"
        local.write(file, json.dumps(self._document(), indent=1))
        options = ["--runtime", str(self.runtime)] if self.runtime else []
        with (self.workdir / LOG).open("wb") as log:
            # A session of its own: neither an interrupt of the kernel nor its end reaches it.
            self._process = subprocess.Popen(
                [*IXT, "run", str(file), "--workdir", str(self.workdir), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Whether or not anybody waits for it, its end is noticed.
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _goes_on(self) -> bool:
        if self._cluster:
            found = self.status()
            return not found.ended and found.phase is not Phase.SUSPENDED
        return (self._process is not None and self._process.poll() is None) or local.in_use(self.workdir)

    def _why(self, found: RunStatus) -> str:
        """Why a run that does not go on is not complete."""
        if self._cluster:
            return self._cluster.why(found)
        log = self.workdir / LOG
        said = log.read_text(errors="replace")[-TAIL:].strip() if log.exists() else ""
        return said or f"{self.name} is {found.phase.value}: run() goes on from where it is"


def _text(value: object) -> str:
    """A value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of a curve as columns."""
    found = {name: point.get(name) for name in ("step", "tokens", "flops", "loss", "learningRate")}
    evaluation = point.get("evaluation") or {}
    loss = held_out_loss(evaluation)
    found |= {"heldOutLoss": loss} if loss is not None else {}
    for task, asked in (evaluation.get("tasks") or {}).items():
        found |= {f"{task}/{prefix}": score["accuracy"] for prefix, score in asked.items()}
    return found
