"""`ixt` as a user starts it, in a folder of its own, over stub steps: the real program, or one that is forked
from where it was read once (zygote.py).

THE way to make every step of a run a stub is the runtime `stubs()`: a runtime's command is put before the
step's own, and `stub.py` takes no notice of what follows it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ixt_operator.api.meta import API_VERSION
from ixt_operator.manifests.documents import dump
from ixt_workloads.contract.kinds import Role
from ixt_workloads.contract.versions import read_task

from . import runs
from .processes import PATIENCE_SECONDS
from .zygote import Done, Zygote

IXT = Path(sys.executable).with_name("ixt")
STUB = ("python", "-P", str(Path(__file__).with_name("stub.py")))
"""Without its folder among those of modules: `operator.py` stands there too."""
PLAIN: dict[str, Any] = {"judge": None, "arms": [runs.arm("plain", "NextToken")]}
"""Fields of the smallest run: no judge, one arm, one stage."""
PLAIN_NODES = (
    "pretrain/inventory",
    "pretrain/prepare/plain",
    "pretrain/train/plain-s0",
    "pretrain/evaluate/plain-s0",
    "report",
)


class File(NamedTuple):
    """A file as it must stay."""

    inode: int
    written: int
    """Nanoseconds."""
    sha256: str


@dataclass(frozen=True)
class Desk:
    """A folder in which a user works: run.yaml, stubs.yaml, data, storage and .ixt are in it."""

    folder: Path
    zygote: Zygote | None = None
    """Forks `ixt` where it is run to its end, and the stubs; without it they are read anew each time."""

    @property
    def manifest(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def workdir(self) -> Path:
        """Of the run named `test`."""
        return self.folder / ".ixt" / "test"

    @property
    def logs(self) -> Path:
        return self.workdir / "logs"

    # --- Files.

    def write(self, *, file: str = "run.yaml", **fields: Any) -> Path:
        """Write a run's manifest, with fields as in `runs.manifest`, and the data that it names."""
        for place in ("documents.jsonl", "model", "judge"):
            (self.folder / place).touch()
        found = runs.applied(
            **{
                "storage": {"uri": "./storage"},
                "model": {"config": "./model", "tokenizer": "./model"},
                "judge": {"model": "./judge"},
                "stages": [stage()],
                **fields,
            }
        )
        return self.dump(file, found)

    def dump(self, file: str, *documents: Any) -> Path:
        """Write documents as YAML."""
        path = self.folder / file
        path.write_text("---\n".join(map(dump, documents)))
        return path

    def tell(self, script: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell the stubs to misbehave (see stub.py)."""
        (self.folder / "script.json").write_text(json.dumps(script))

    # --- Programs.

    def environment(self, **more: str) -> dict[str, str]:
        """What a program is started with: nothing of the test's own settings of ixt."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IXT_")}
        script = {"IXT_STUB_SCRIPT": str(self.folder / "script.json")}
        return {**kept, **(script if (self.folder / "script.json").exists() else {}), **more}

    def ixt(self, *arguments: str | Path, **env: str) -> Done:
        """Run `ixt` to its end."""
        if self.zygote:
            return self.zygote.run("ixt", list(map(str, arguments)), self.folder, self.environment(**env))
        return self.program([IXT, *arguments], **env)

    def run(self, *arguments: str | Path, **env: str) -> Done:
        """`ixt run run.yaml` over stubs."""
        return self.ixt("run", "run.yaml", "--runtime", "stubs.yaml", *arguments, **env)

    def program(self, command: Sequence[str | Path], **env: str) -> Done:
        """Run any program to its end."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str | Path, **env: str) -> "Iterator[subprocess.Popen[str]]":
        """`ixt run run.yaml` over stubs while it runs; killed at the end unless it has ended."""
        command = [IXT, "run", "run.yaml", "--runtime", "stubs.yaml", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment(**env), stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    # --- What there is afterwards.

    def status(self) -> dict[str, Any]:
        """What `ixt status -o json` says."""
        found: dict[str, Any] = json.loads(self.ixt("status", "run.yaml", "-o", "json").out)
        return found

    def node_keys(self) -> dict[str, str]:
        """The newest key of every node."""
        lines = (self.workdir / "keys.jsonl").read_text().splitlines()
        return {entry["node"]: entry["key"] for entry in map(json.loads, lines)}

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Manifests of the committed artifacts, by key."""
        found = self.storage.glob("artifacts/*/manifest.json")
        return {path.parent.name: json.loads(path.read_text()) for path in found}

    def committed(self) -> dict[str, File]:
        """The files of committed artifacts, by path."""
        return {
            f"{key}/{path.name}": _file(path)
            for key in self.manifests()
            for path in (self.storage / "artifacts" / key).iterdir()
        }

    def made(self, node: str) -> int:
        """How many processes said that they committed a node's artifact: one that was killed says nothing."""
        task_files = self.workdir.glob("children/*/task.json")
        children = {path.parent.name for path in task_files if read_task(path.read_bytes()).node == node}
        logs = {
            log for child in children for log in self.logs.glob(f"{child.rpartition('-')[0]}-*.log")
        }  # of every attempt
        return sum(log.read_text().count(" INFO ixt Committed") for log in logs)

    def told_twice(self) -> list[str]:
        """Logs to which two processes said how they ended: attempts whose number was given twice. Servers,
        which are started anew within their attempt, may."""
        ends = re.compile(r"^.* ixt (Committed|Cached|Shared|Failed):", re.MULTILINE)
        servers = ("-judge-", "-policy-")
        logs = (log for log in self.logs.glob("*.log") if not any(each in log.name for each in servers))
        return [log.name for log in logs if len(ends.findall(log.read_text())) > 1]


def desk(folder: Path, zygote: Zygote | None = None, **fields: Any) -> Desk:
    """A folder with stubs.yaml and a run.yaml of these fields."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Desk(folder, zygote)
    found.dump("stubs.yaml", stubs(command=zygote.command("stub") if zygote else STUB))
    found.write(**fields)
    return found


def stubs(name: str = "cpu", command: Sequence[str] = STUB) -> dict[str, Any]:
    """A runtime of which every step is a stub."""
    roles = [{"name": role.value, "command": list(command)} for role in Role]
    return {
        "apiVersion": API_VERSION,
        "kind": "IXTRuntime",
        "metadata": {"name": name},
        "spec": {"roles": roles},
    }


def stage(name: str = "pretrain", **fields: Any) -> dict[str, Any]:
    """A stage that reads the desk's documents; in FP32, of which no machine is warned."""
    fields["train"] = {"precision": "FP32", **fields.get("train", {})}
    return runs.stage(name, **{"datasets": [{"name": "documents", "uri": "./documents.jsonl"}], **fields})


def _file(path: Path) -> File:
    found = path.stat()
    return File(found.st_ino, found.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
