"""Tiny tasks of lm-evaluation-harness in folders, as a user would bring them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ixt_workloads.contract.settings import HarnessTask

_FILES = "dataset_path: json\ndataset_kwargs:\n  data_files: {train: train.jsonl, test: test.jsonl}\n"
_SPLITS = "training_split: train\nfewshot_split: train\ntest_split: test\n"
_MEAN = "aggregation: mean\n    higher_is_better: true\n"

GSM = f"""task: tiny_gsm
{_FILES}{_SPLITS}output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
num_fewshot: 0
metric_list:
  - metric: exact_match
    {_MEAN}    regexes_to_ignore: ["(?s).*#### "]
filter_list:
  - name: strict-match
    filter:
      - function: regex
        regex_pattern: "(-?[0-9]+)"
      - function: take_first
"""
"""GSM8K's shape: an answer in words, whose number is looked for."""

MATH = f"""task: tiny_math
{_FILES}{_SPLITS}output_type: generate_until
process_docs: !function lm_eval.tasks.hendrycks_math.utils.process_docs
process_results: !function lm_eval.tasks.hendrycks_math.utils.process_results
doc_to_text: "{{{{problem}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["\\n"], max_gen_toks: 12}}
metric_list:
  - metric: exact_match
    {_MEAN}"""
"""MATH's shape, scored by the harness's own comparison of mathematics."""

CODE = f"""task: tiny_code
{_FILES}test_split: test
output_type: generate_until
unsafe_code: true
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{test}}}}\\ncheck({{{{entry_point}}}})"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
metric_list:
  - metric: !function lm_eval.tasks.humaneval.utils.pass_at_k
    {_MEAN}    k: [1]
filter_list:
  - name: create_test
    filter:
      - function: custom
        filter_fn: !function lm_eval.tasks.humaneval.utils.build_predictions
"""
"""HumanEval's shape: a beginning of code, and tests that the model's code is run against."""

CHOICE = f"""task: tiny_choice
{_FILES}{_SPLITS}output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["3", "4"]
doc_to_target: 0
target_delimiter: ""
metric_list:
  - metric: acc
    {_MEAN}"""
"""One of several answers, by their likelihoods."""

Rows = Sequence[Mapping[str, Any]]

GSM_ROWS: Rows = [{"question": "1+2=", "answer": "1+2=3\n#### 3"}]
MATH_ROWS: Rows = [{"problem": "2*3=", "solution": "It is $\\boxed{6}$."}]
CODE_ROWS: Rows = [
    {"prompt": "def f(): return", "test": "def check(f):\n    assert f() == 7", "entry_point": "f"}
]


def harness_task(folder: Path, text: str, rows: Rows, train: Rows = ()) -> HarnessTask:
    """A task of these items in a folder of its own."""
    name = text.partition("task: ")[2].partition("\n")[0]
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(text)
    for split, items in (("train", train or rows), ("test", rows)):
        (place / f"{split}.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return HarnessTask(name=name, uri=f"file://{place}")


def tiny_tasks(folder: Path) -> tuple[HarnessTask, ...]:
    """One of each shape, of one item each."""
    return (
        harness_task(folder, GSM, GSM_ROWS),
        harness_task(folder, MATH, MATH_ROWS),
        harness_task(folder, CODE, CODE_ROWS),
        harness_task(folder, CHOICE, GSM_ROWS),
    )


KNOWN = [
    (2, "1+2=3"),
    (2, "2*3=6"),
    (2, "def f(): return 7"),
    (1, "1+2=4"),
    (1, "2*3=5"),
    (1, "def f(): return 8"),
]
"""Documents that answer the tasks rightly at the best level, and wrongly at the worst."""
