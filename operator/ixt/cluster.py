"""A run on a cluster, by kubectl: configuration and credentials are the user's own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import ConditionType, Phase, RunStatus
from ixt_operator.cli.cluster import status_in
from ixt_workloads.contract.foreign import answer_of

PLUGIN = (sys.executable, "-P", "-c", "from ixt_operator.cli.kubectl import main; main()")


class RunError(Exception):
    """What keeps a run from being carried out, or from being read: what is wrong and what to do."""


class Cluster:
    """A run by its name, in a namespace of a cluster; both as kubectl has them unless told."""

    def __init__(self, name: str, namespace: str | None, context: str | None) -> None:
        self.name = name
        given = {"--namespace": namespace, "--context": context}
        self._flags = [f"{flag}={value}" for flag, value in given.items() if value]

    def apply(self, document: dict[str, Any]) -> None:
        """Create the run, or change it to what the document says. Raises RunError, as all below."""
        self._kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def suspend(self) -> None:
        """Let the run save its state and free everything."""
        self._kubectl("patch", "ixtrun", self.name, "--type=merge", "-p", '{"spec":{"suspend":true}}')

    def manifest(self) -> IXTRun:
        """The run as the API server has it."""
        try:
            return IXTRun.without_status(self._answer())
        except ValidationError as error:
            raise RunError(f"{self.name} is of another version: {error.errors()[0]['msg']}") from None

    def status(self) -> RunStatus:
        """What the operator says of the run as it is now; nothing of an edit that it has not seen yet."""
        answer = self._answer()
        found = status_in(answer)
        seen = found.observed_generation == answer["metadata"].get("generation")
        return found if seen else found.model_copy(update={"phase": Phase.PENDING})

    def why(self, status: RunStatus) -> str:
        """Why the run is not complete."""
        failed = status.condition(ConditionType.FAILED)
        said = failed.message if failed and status.phase is Phase.FAILED else status.summary.message
        return f"{self.name} is {status.phase.value}: {said or f'see kubectl ixt status {self.name}'}"

    def report(self, folder: Path) -> Path:
        """Fetch the report's page, by a pod with the run's own credentials."""
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "report.html"
        self._run([*PLUGIN, *self._flags, "report", self.name, "--output", str(page)])
        return page

    def _answer(self) -> Any:
        return answer_of(self._kubectl("get", "ixtrun", self.name, "-o", "json").encode())

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self._run(["kubectl", *self._flags, *arguments], stdin)

    def _run(self, command: list[str], stdin: str | None = None) -> str:
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RunError(f"{command[0]} is not on the PATH: install it, then try again") from None
        if done.returncode:
            raise RunError(done.stderr.strip() or f"{' '.join(command[:3])} failed")
        return done.stdout
