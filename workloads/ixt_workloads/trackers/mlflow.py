"""MLflow: a run of an experiment for each training, found again by its tag."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ixt_workloads.contract.credentials import entries_of
from ixt_workloads.contract.trackers import MLflow
from ixt_workloads.trackers.points import Point, Tracked
from ixt_workloads.trackers.sending import TIMEOUT_SECONDS, RefusedError, Tracker

TAG = "ixt.id"
"""Tag that a run is found by."""

CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

MAX_METRICS, MAX_PARAMS, MAX_PARAM = 1000, 100, 6000
"""What the server takes in one request, and characters of a parameter."""

STEP = "training/steps"

T = TypeVar("T")


def opener(settings: MLflow, of: Tracked) -> Callable[[], Tracker]:
    """What opens a training's run. The library takes its credentials and limits from the environment."""
    if entries := entries_of(settings.credentials_secret_ref, os.environ):
        for name in CREDENTIALS:
            os.environ.pop(name, None)
        os.environ |= {name: value for name, value in entries.items() if name in CREDENTIALS}
    os.environ |= {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT_SECONDS),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    return lambda: Run(settings, of)


class Run:
    """A training's run on the server."""

    def __init__(self, settings: MLflow, of: Tracked) -> None:
        from mlflow import MlflowClient, entities

        self._entities: Any = entities
        self._client = MlflowClient(tracking_uri=settings.uri)
        experiment = self._experiment(settings.experiment)
        found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{of.id}'", max_results=1)
        if found:
            self._id, told = found[0].info.run_id, found[0].data.metrics
            self._client.update_run(self._id, status="RUNNING")
        else:
            tags = {TAG: of.id, "ixt.run": of.run, "ixt.stage": of.stage, "ixt.lane": of.lane}
            self._id = self._client.create_run(experiment, tags=tags, run_name=of.name).info.run_id
            told = {}
        # What an earlier attempt told after its last checkpoint is not told again.
        self._told = int(told.get(STEP, -1)) if of.trains else -1
        self._describe(of, found[0].data.params if found else {})

    def log(self, points: Sequence[Point]) -> None:
        new = [point for point in points if point.step > self._told]
        metrics = [
            self._entities.Metric(name, value, int(point.time * 1000), point.step)
            for point in new
            for name, value in {**point.figures, STEP: point.step}.items()
        ]
        for some in _parts(metrics, MAX_METRICS):
            self._send(metrics=some)

    def close(self, *, succeeded: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if succeeded else "KILLED")

    def _experiment(self, name: str) -> str:
        """Id of an experiment, which another step may make at the same moment."""
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:
            if found := self._client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def _describe(self, of: Tracked, known: Mapping[str, str]) -> None:
        """Tell config and lineage. Parameters that stand there already stay: they cannot be changed."""
        params = [
            self._entities.Param(name, str(value)[:MAX_PARAM])
            for name, value in of.config.items()
            if name not in known
        ]
        for some in _parts(params, MAX_PARAMS):
            self._send(params=some)
        lineage = [self._entities.RunTag(f"ixt.{name}", value) for name, value in of.lineage.items()]
        self._send(tags=lineage)

    def _send(self, **values: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._id, synchronous=True, **values)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise RefusedError(error.message) from None
            raise


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
