"""What several steps' tests start from."""

from pathlib import Path

import pytest
from make.corpora import texts
from make.feedback import inventory
from make.models import tokenizer_folder

from ixt_workloads.store import Artifact


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of characters."""
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def corpus(tmp_path: Path) -> Artifact:
    """An inventory of 55 short texts, and 5 held out."""
    return inventory(tmp_path, texts(60, words=(2, 8)), holdout_documents=5)
