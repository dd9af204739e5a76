"""Weights & Biases: a run of a project for each training, which the next attempt resumes by its id."""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from ixt_workloads.contract.credentials import entries_of
from ixt_workloads.contract.trackers import Wandb
from ixt_workloads.trackers.points import TOKENS, Point, Tracked
from ixt_workloads.trackers.sending import CLOSE_SECONDS, TIMEOUT_SECONDS, Tracker


def opener(settings: Wandb, of: Tracked) -> Callable[[], Tracker]:
    """What opens a training's run. Nothing goes anywhere but to the address of the settings."""
    key = entries_of(settings.credentials_secret_ref, os.environ).get("WANDB_API_KEY")
    os.environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    return lambda: Run(settings, of, key)


class Run:
    """A training's run on the server."""

    def __init__(self, settings: Wandb, of: Tracked, key: str | None) -> None:
        import wandb

        self._trains = of.trains
        only_what_we_send = {
            "console": "off",
            "disable_code": True,
            "disable_git": True,
            "save_code": False,
            "x_disable_machine_info": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
        }
        bounds = {
            "init_timeout": 3 * TIMEOUT_SECONDS,
            "login_timeout": TIMEOUT_SECONDS,
            "finish_timeout": CLOSE_SECONDS,
            "x_graphql_timeout_seconds": TIMEOUT_SECONDS,
            "x_file_stream_timeout_seconds": TIMEOUT_SECONDS,
        }
        self._run: Any = _begun(
            project=settings.project,
            entity=settings.entity,
            id=of.id,
            name=of.name,
            group=of.run,
            job_type=of.stage,
            resume="allow",
            config={**of.config, **{f"lineage/{name}": value for name, value in of.lineage.items()}},
            allow_val_change=True,
            reinit="create_new",
            dir=os.environ.get("WANDB_DIR") or tempfile.mkdtemp(prefix="ixt-wandb-"),
            settings=wandb.Settings(
                base_url=settings.base_url, api_key=key, **only_what_we_send, **bounds, silent=True
            ),
        )
        self._run.define_metric(TOKENS)
        self._run.define_metric("*", step_metric=TOKENS)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            # The server keeps the first of each step: a resume tells nothing twice. The evaluation comes
            # after the last of them.
            step = {"step": point.step} if self._trains else {}
            self._run.log({**point.figures, TOKENS: point.tokens}, **step)

    def close(self, *, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)


def _begun(**arguments: Any) -> Any:
    """A run that has begun. After a failure the library is stopped, else it takes the run's id for taken."""
    import wandb

    try:
        return wandb.init(**arguments)
    except Exception:
        wandb.teardown(exit_code=1)
        raise
