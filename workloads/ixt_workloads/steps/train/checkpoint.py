"""Checkpoints of a training job: torch's DCP folders, private to the run.

They lie at work/<key>/<run>/<attempt>/step-<number>/, complete once `state.json` is there, which names key
and run. Any attempt of the run resumes from the newest complete one, with any number of ranks; with the same
number it goes on bit for bit. Nothing in them is read with pickle (`shards.py`).
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_saver import async_save

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.foreign import json_of
from ixt_workloads.contract.metrics import CHECKPOINT_BYTES, CHECKPOINT_SECONDS, CHECKPOINT_TIME
from ixt_workloads.frame import Step
from ixt_workloads.steps.train import shards
from ixt_workloads.steps.train.ranks import World

log = logging.getLogger("ixt.train")

_STATE = "state.json"
_HASHES = "hashes-"
"""Begins the name of what tells the hashes of one machine's files, where documents are signed."""
MAX_STATE_BYTES = 64 * 2**20
"""The points of its curve make most of it."""
_NAME = re.compile(r"/(?P<attempt>\d+)/step-(?P<step>\d+)/state\.json$")


class _Pending(NamedTuple):
    """A checkpoint that is being written."""

    folder: str
    state: dict[str, Any]
    began: float
    """By the monotonic clock."""
    ended: "Future[float]"


class Checkpoints:
    """Saves beside training, one checkpoint at a time. Every rank calls every method, in the same order."""

    def __init__(self, step: Step, keep: int, place: World) -> None:
        self._work, self._run = step.work, step.work_of_run
        self._owner = {"key": step.task.key, "run": step.task.run_uid}
        self._store = step.store
        self._keep = keep
        self._first_on_machine = place.local_rank == 0
        self._ranks_here = range(place.rank, place.rank + place.local_size)
        # Its collectives run in a thread: in the group of the training they would meet those of the steps.
        self._group = dist.new_group(backend="gloo")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._reporter = step.reporter
        self._pending: _Pending | None = None
        self.damaged: list[str] = []
        """What is wrong with checkpoints that `load` found, the newest first."""

    def load(self, tensors: dict[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
        """Fill `tensors` in place from the newest checkpoint that is whole; returns the state saved beside
        them, or `fresh` without a checkpoint. `damaged` are newer ones that cannot be read.

        Raises StepError(DATA) where there are checkpoints and none can be read.
        """
        for candidate in self._candidates(fresh):
            trouble = candidate.get("trouble") or self._fill(tensors, candidate["folder"])
            troubles = [text for text in _from_all(trouble, self._group) if text]
            if not troubles:
                log.info("resumed from %s", candidate["folder"])
                return dict(candidate["state"])
            self.damaged.append(f"checkpoint {candidate['folder']} cannot be read: {troubles[0]}")
            log.warning("%s", self.damaged[-1])
        if self.damaged:
            raise StepError(
                Exit.DATA,
                f"{self.damaged[0]} (none of {len(self.damaged)} in {self._store.uri} can)",
                f"delete {self._run}/ and run again: it is trained anew",
            )
        return dict(fresh)

    def _candidates(self, fresh: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The run's checkpoints, the newest first, as rank 0 finds them: folder, and state or trouble."""
        found: list[dict[str, Any]] = []
        for folder in reversed(self._complete()) if dist.get_rank() == 0 else ():
            try:
                told = json_of(self._store.get(f"{folder}/{_STATE}"), MAX_STATE_BYTES)
                if {name: told[name] for name in self._owner} != self._owner:
                    log.warning("%s is not of this run: it is left out", folder)
                    continue
                state = {name: type(value)(told["state"][name]) for name, value in fresh.items()}
                found.append({"folder": folder, "state": state})
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                found.append({"folder": folder, "trouble": f"{_STATE}: {str(error)[:200]}"})
        from_first: list[dict[str, Any]] = _from_first(found, self._group)
        return from_first

    def _fill(self, tensors: dict[str, Any], folder: str) -> str | None:
        """Fill `tensors` from a checkpoint; what is wrong with it on this rank. Every rank calls it."""
        trouble = None
        if self._first_on_machine:
            self._store.download_dir(folder)
            trouble = self._changed(folder)
        # One machine's ranks wait for its first to have downloaded the files.
        if any(_from_all(trouble, self._group)):
            return trouble
        try:
            shards.load(tensors, self._store.local_dir(folder))
        except shards.DamagedError as error:
            return str(error)
        return None

    def save(self, tensors: dict[str, Any], state: dict[str, Any]) -> None:
        """Start saving; training may go on at once, since the tensors are copied first."""
        self.finish()
        folder = f"{self._work}/step-{state['step']:09d}"
        local = self._store.local_dir(folder)
        writer = shards.Writer(local)
        saving = async_save(tensors, storage_writer=writer, process_group=self._group)
        assert isinstance(saving, Future)
        uploaded = self._pool.submit(self._upload, saving, folder)
        self._pending = _Pending(folder, state, time.monotonic(), uploaded)

    def ready(self) -> bool:
        """Whether this rank's part of the pending checkpoint is written."""
        return self._pending is not None and self._pending.ended.done()

    def finish(self) -> None:
        """Wait for the pending checkpoint on every rank, make it count, and delete old ones."""
        if self._pending is None:
            return
        folder, state, began, ended = self._pending
        self._pending = None
        seconds = ended.result() - began
        dist.barrier(self._group)
        if dist.get_rank() == 0:
            self._store.put(f"{folder}/{_STATE}", json.dumps({**self._owner, "state": state}).encode())
            for old in self._complete()[: -self._keep]:
                self._delete(old)
            log.info("saved %s", folder)
            self._reporter.set(CHECKPOINT_TIME, time.time())
            self._reporter.set(CHECKPOINT_SECONDS, seconds)
            self._reporter.set(CHECKPOINT_BYTES, sum(file.size for file in self._store.list(folder)))
        self._reporter.saved(ago=time.monotonic() - began)

    def clear(self) -> None:
        """Delete the run's unfinished work at this key, once the artifact is committed."""
        if dist.get_rank() == 0:
            self._store.delete_tree(self._run)

    def _upload(self, saving: Future[Any], folder: str) -> float:
        """Finish a checkpoint's part; when that was."""
        saving.result()
        if self._first_on_machine:
            hashes = self._hashes(folder) if self._store.signs else {}
            self._store.upload_dir(folder)
            if self._store.signs:
                told = json.dumps({"files": hashes}).encode()
                self._store.put(f"{folder}/{_HASHES}{self._ranks_here.start}.json", told)
        return time.monotonic()

    def _hashes(self, folder: str) -> dict[str, str]:
        """sha256 of the files that the ranks of this machine wrote; rank 0 also wrote what tells of all."""
        mine = tuple(f"__{rank}_" for rank in self._ranks_here)
        if 0 in self._ranks_here:
            mine += (shards.METADATA,)
        files = [path for path in self._store.local_dir(folder).iterdir() if path.name.startswith(mine)]
        with ThreadPoolExecutor(8) as pool:
            return dict(zip((path.name for path in files), pool.map(_sha256, files), strict=True))

    def _changed(self, folder: str) -> str | None:
        """Says which file's hash nobody with the key has signed, where documents are signed."""
        if not self._store.signs:
            return None
        known: dict[str, str] = {}
        for info in self._store.list(folder):
            if info.path.startswith(f"{folder}/{_HASHES}"):
                known |= json_of(self._store.get(info.path), MAX_STATE_BYTES)["files"]
        place = self._store.local_dir(folder)
        files = [path for path in place.iterdir() if path.suffix == ".distcp" or path.name == shards.METADATA]
        with ThreadPoolExecutor(8) as pool:
            for path, found in zip(files, pool.map(_sha256, files), strict=True):
                if found != known.get(path.name):
                    return f"{path.name} was changed after it was saved"
        return None

    def _complete(self) -> list[str]:
        """Folders of complete checkpoints of all attempts, the newest last."""
        found = []
        for info in self._store.list(self._run):
            match = _NAME.search(info.path)
            if match:
                folder = info.path.removesuffix(f"/{_STATE}")
                found.append((int(match["step"]), int(match["attempt"]), folder))
        return [folder for _, _, folder in sorted(found)]

    def _delete(self, folder: str) -> None:
        # The marker goes first: a half-deleted checkpoint must not count.
        self._store.delete(f"{folder}/{_STATE}")
        self._store.delete_tree(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_first(value: Any, group: dist.ProcessGroup) -> Any:
    """A JSON value of rank 0, on every rank."""
    text = json.dumps(value).encode()
    size = torch.tensor([len(text)])
    dist.broadcast(size, 0, group=group)
    content = torch.zeros(int(size), dtype=torch.uint8)
    if dist.get_rank() == 0:
        content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    dist.broadcast(content, 0, group=group)
    return json.loads(bytes(content.numpy()))


def _from_all(text: str | None, group: dist.ProcessGroup) -> list[str | None]:
    """A text or None of every rank, on every rank; 200 bytes of it."""
    own = torch.zeros(200, dtype=torch.uint8)
    content = torch.frombuffer(bytearray((text or "").encode()[:200] or b"\0"), dtype=torch.uint8)
    own[: len(content)] = content
    every = [torch.zeros_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, own, group=group)
    return [bytes(one.numpy()).rstrip(b"\0").decode(errors="replace") or None for one in every]


def named_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Weights and both moments by name: all that AdamW needs, apart from the number of steps."""
    parameters = dict(model.named_parameters())
    moments = {
        moment: {name: optimizer.state[value][moment] for name, value in parameters.items()}
        for moment in ("exp_avg", "exp_avg_sq")
    }
    return {"model": {name: value.detach() for name, value in parameters.items()}, **moments}
