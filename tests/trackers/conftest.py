"""One MLflow server for all tests: it takes long to start."""

from collections.abc import Iterator

import pytest
from make.trackers import mlflow_server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address
