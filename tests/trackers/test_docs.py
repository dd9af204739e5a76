"""The example of docs/trackers.md is what the API takes."""

import re
from pathlib import Path

import yaml
from make import runs

from ixt_operator.planner.building import credentials
from ixt_workloads.trackers import NAMES

DOCS = Path(__file__).parents[2] / "docs" / "trackers.md"


def test_the_example_sets_every_tracker_and_names_its_secrets() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    run = runs.run(**yaml.safe_load(example)["spec"])
    assert run.spec.trackers
    assert all(getattr(run.spec.trackers, field) for field in NAMES)
    assert credentials(run, run.spec) == ("mlflow", "wandb")
