"""Checkpoints of a training job: torch's DCP folders, private to the run.

They lie at work/<key>/<run>/<attempt>/step-<number>/, complete once `state.json` is there. Any attempt
of the run resumes from the newest complete one, with any number of ranks; with the same number it goes on
bit for bit.
"""

import json
import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from ixt_workloads.frame import Step

log = logging.getLogger("ixt.train")

_STATE = "state.json"
_NAME = re.compile(r"/(?P<attempt>\d+)/step-(?P<step>\d+)/state\.json$")


class Checkpoints:
    """Saves beside training, one checkpoint at a time. Every rank calls every method, in the same order."""

    def __init__(self, step: Step, keep: int, local_rank: int) -> None:
        self._work, self._run = step.work, step.work_of_run
        self._store = step.store
        self._keep = keep
        self._first_on_machine = local_rank == 0
        # Its collectives run in a thread: in the group of the training they would meet those of the steps.
        self._group = dist.new_group(backend="gloo")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[str, dict[str, Any], Future[None]] | None = None

    def load(self, tensors: dict[str, Any]) -> dict[str, Any] | None:
        """Fill `tensors` in place from the newest checkpoint; returns the state saved beside them."""
        found: list[Any] = [None]
        if dist.get_rank() == 0:
            complete = self._complete()
            found = [complete[-1] if complete else None]
        dist.broadcast_object_list(found, 0, group=self._group)
        folder = found[0]
        if folder is None:
            return None
        if self._first_on_machine:
            self._store.download_dir(folder)
        dist.barrier(self._group)
        state: dict[str, Any] = json.loads(self._store.get(f"{folder}/{_STATE}"))
        load(tensors, checkpoint_id=self._store.local_dir(folder), process_group=self._group)
        log.info("resumed from %s", folder)
        return state

    def save(self, tensors: dict[str, Any], state: dict[str, Any]) -> None:
        """Start saving; training may go on at once, since the tensors are copied first."""
        self.finish()
        folder = f"{self._work}/step-{state['step']:09d}"
        local = self._store.local_dir(folder)
        saving = async_save(tensors, checkpoint_id=local, process_group=self._group)
        assert isinstance(saving, Future)
        self._pending = folder, state, self._pool.submit(self._upload, saving, folder)

    def ready(self) -> bool:
        """Whether this rank's part of the pending checkpoint is written."""
        return self._pending is not None and self._pending[2].done()

    def finish(self) -> None:
        """Wait for the pending checkpoint on every rank, make it count, and delete old ones."""
        if self._pending is None:
            return
        folder, state, uploaded = self._pending
        self._pending = None
        uploaded.result()
        dist.barrier(self._group)
        if dist.get_rank() == 0:
            self._store.put(f"{folder}/{_STATE}", json.dumps(state).encode())
            for old in self._complete()[: -self._keep]:
                self._delete(old)
            log.info("saved %s", folder)

    def clear(self) -> None:
        """Delete the run's unfinished work at this key, once the artifact is committed."""
        if dist.get_rank() == 0:
            self._store.delete_tree(self._run)

    def _upload(self, saving: Future[Any], folder: str) -> None:
        saving.result()
        if self._first_on_machine:
            self._store.upload_dir(folder)

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


def named_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Weights and both moments by name: all that AdamW needs, apart from the number of steps."""
    parameters = dict(model.named_parameters())
    moments = {
        moment: {name: optimizer.state[value][moment] for name, value in parameters.items()}
        for moment in ("exp_avg", "exp_avg_sq")
    }
    return {"model": {name: value.detach() for name, value in parameters.items()}, **moments}
