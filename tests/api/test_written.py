"""Values without quotes are read as kubectl reads them."""

from pathlib import Path

import pytest
from make.written import AMOUNT, WRITTEN, Written, at

from ixt_operator.manifests.documents import dump, yaml_documents
from ixt_operator.manifests.loading import ManifestError, loads


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: f"{case.path}: {case.text}")
def test_a_value_is_what_it_is_in_the_cluster(case: Written) -> None:
    if case.message:
        with pytest.raises(ManifestError) as refused:
            loads(case.manifest(), "run.yaml", Path("/"))
        (problem,) = refused.value.problems
        assert problem.message.startswith(case.message)
        assert problem.field == case.path
    else:
        (run,) = loads(case.manifest(), "run.yaml", Path("/"))
        read = at(run.model_dump(mode="json", exclude_none=True), case.path)
        assert read == case.value or (case.path == AMOUNT and read == str(case.value))


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: f"{case.path}: {case.text}")
def test_text_is_written_so_that_it_stays_text(case: Written) -> None:
    text = dump({case.text: [case.text]})
    assert next(yaml_documents(text)).value == {case.text: [case.text]}


@pytest.mark.parametrize(
    ("key", "name"),
    [("yes", "true"), ("n", "false"), ("0x10", "16"), ("1.50", "1.5"), ("1:30", "1:30"), ("'1'", "1")],
)
def test_names_of_fields_become_text(key: str, name: str) -> None:
    (document,) = yaml_documents(f"{key}: 1\n")
    assert document.value == {name: 1}
    assert document.problems == []
