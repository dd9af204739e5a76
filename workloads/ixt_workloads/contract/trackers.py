"""Where the curves of a run's trainings go besides its report. Never part of a key."""

from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import Model, NotInKey
from ixt_workloads.contract.credentials import SecretRef

TRACKER_URL = r"^https?://[^\s@?#]+$"
"""Credentials in it would be shown with it."""

TrackerUrl = Annotated[str, Field(pattern=TRACKER_URL, max_length=1024)]


class TensorBoard(Model):
    """TensorBoard event files in the run's storage, below tensorboard/<run>/."""


class MLflow(Model):
    """An MLflow tracking server."""

    uri: Annotated[TrackerUrl, NotInKey]
    """Address of the server, for example https://mlflow.example.com."""
    experiment: Annotated[str, NotInKey, Field(min_length=1, max_length=256)] = "ixt"
    """Name of the experiment; it is made when there is none."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret in the run's namespace with MLFLOW_TRACKING_TOKEN, or with MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD. Unset: these variables of the pods, if they have them."""


class Wandb(Model):
    """Weights & Biases."""

    project: Annotated[str, NotInKey, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=128)]
    """Name of the project; it is made when there is none."""
    entity: Annotated[str | None, NotInKey, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=128)] = None
    """User or team that the project belongs to. Unset: the key's default."""
    base_url: Annotated[TrackerUrl, NotInKey] = "https://api.wandb.ai"
    """Address of the server."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret in the run's namespace with WANDB_API_KEY. Unset: this variable of the pods."""


class Trackers(Model):
    """Experiment trackers; none of them unless it is set. Each gets a run of its own for every training, that
    is for a lane in a stage. One that cannot be reached neither slows nor fails a step."""

    tensorboard: Annotated[TensorBoard | None, NotInKey] = None
    """Write event files; {} is enough."""
    mlflow: Annotated[MLflow | None, NotInKey] = None
    """Send to an MLflow server."""
    wandb: Annotated[Wandb | None, NotInKey] = None
    """Send to Weights & Biases."""
