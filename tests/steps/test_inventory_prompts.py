"""Inventory of a stage of rollouts: prompts in one order whatever their files, and which are of no use."""

import json
from pathlib import Path
from typing import Any

import pytest
from make.corpora import arrow, artifact, csv_file, dataset, inventory_task, jsonl, parquet, read
from make.tasks import run_here

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.store import Artifact

NUMERIC = Verifier(type=VerifierType.NUMERIC)
SUMS = [
    {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": f"{n} + {n} ="}],
        "reward_model": {"style": "rule", "ground_truth": str(2 * n)},
        "extra_info": {"index": n},
    }
    for n in range(40)
]


def laid_out(storage: Path, data: Path) -> Artifact:
    job = inventory_task(storage, dataset(data), rollout=True, verifier=NUMERIC, holdout_documents=4)
    return artifact(storage, run_here(job).key)


def test_prompts_are_the_same_from_every_kind_of_file(tmp_path: Path) -> None:
    files = {
        "jsonl": jsonl(tmp_path / "a.jsonl", SUMS),
        "zst": jsonl(tmp_path / "b.jsonl.zst", list(reversed(SUMS))),
        "parquet": parquet(tmp_path / "c.parquet", SUMS),
        "arrow": arrow(tmp_path / "d.arrow", SUMS),
    }
    found = {name: laid_out(tmp_path / f"storage-{name}", path) for name, path in files.items()}
    first = read(found["jsonl"])
    assert (len(first), len(read(found["jsonl"], "holdout"))) == (36, 4)
    for each in found.values():
        assert read(each) == first
        assert each.summary["chat"]
    row = first[0]
    number = json.loads(row["extra"])["columns"]["extra_info"]["index"]
    assert json.loads(row["answer"]) == str(2 * number)
    assert json.loads(row["messages"]) == {"messages": SUMS[number]["prompt"]}
    assert row["text"] == f"User: {number} + {number} ="


def test_a_table_of_texts_has_prompts_too(tmp_path: Path) -> None:
    lines = [{"prompt": f"{n} + 1 =", "answer": n + 1, "note": "x"} for n in range(20)]
    found = laid_out(tmp_path / "storage", csv_file(tmp_path / "a.csv", lines))
    extra = [json.loads(row["extra"]) for row in read(found)]
    assert len(extra) == 18
    assert all(each["plain"] and each["columns"]["note"] == "x" for each in extra)


def test_prompts_that_are_of_no_use_are_counted_by_reason(tmp_path: Path) -> None:
    bad: list[Any] = [{"answer": "4"}, {"prompt": "no answer"}, {"prompt": "x" * 2**24, "answer": "1"}]
    data = jsonl(tmp_path / "a.jsonl", [*SUMS, *SUMS[:3], *bad])
    found = laid_out(tmp_path / "storage", data)
    assert found.summary["dropped"] == {"noAnswer": 1, "noPrompt": 1, "tooLong": 1}
    assert (found.summary["duplicates"], found.summary["documents"]) == (3, 36)


def test_the_same_prompt_with_another_answer_is_another(tmp_path: Path) -> None:
    lines = [{"prompt": "Name an odd number.", "answer": str(answer)} for answer in range(1, 41, 2)]
    found = laid_out(tmp_path / "storage", jsonl(tmp_path / "a.jsonl", lines))
    assert len(read(found)) + len(read(found, "holdout")) == 20


def test_too_few_prompts_to_hold_any_out_are_refused(tmp_path: Path) -> None:
    lines = [{"prompt": f"{n} + 1 =", "answer": n + 1} for n in range(9)]
    with pytest.raises(StepError, match="none of 9 prompts can be held out") as refused:
        laid_out(tmp_path / "storage", jsonl(tmp_path / "a.jsonl", lines))
    assert "holdoutDocuments to 0" in refused.value.hint


def test_none_left_is_refused_with_words(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "a.jsonl", [{"prompt": "2 + 2 ="}, {"question": "?"}])
    with pytest.raises(StepError) as refused:
        laid_out(tmp_path / "storage", data)
    assert refused.value.code is Exit.DATA
    assert refused.value.message == "no usable prompt in corpus: 1 noAnswer, 1 noPrompt"
    assert refused.value.hint == "check promptField, answerField and the files of the datasets"
