"""Tasks of lm-evaluation-harness: what they are pinned by, what is refused, where code runs."""

import json
import re
from pathlib import Path

import pytest
import yaml
from make.harness import CHOICE, CODE, CODE_ROWS, GSM, GSM_ROWS, harness_task, tiny_tasks

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Dataset, Evaluate, Harness, HarnessTask
from ixt_workloads.harness.sandbox import CodeEval, sandboxed
from ixt_workloads.harness.tasks import loaded
from ixt_workloads.steps.inventory.pins import pins_of


def pin_of(*tasks: HarnessTask, chat: bool = False) -> str:
    with sandboxed(), loaded(Harness(tasks=tasks), chat=chat) as found:
        return found.pin


def test_a_pin_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    one = pin_of(*tiny_tasks(tmp_path / "one"))
    assert pin_of(*tiny_tasks(tmp_path / "two")) == one
    with (tmp_path / "two" / "tiny_gsm" / "test.jsonl").open("a") as file:
        file.write(json.dumps(GSM_ROWS[0]))
    assert pin_of(*tiny_tasks(tmp_path / "one")[:1]) != one
    other = harness_task(tmp_path / "two", GSM.replace("max_gen_toks: 8", "max_gen_toks: 9"), GSM_ROWS)
    assert pin_of(other) != pin_of(*tiny_tasks(tmp_path / "one")[:1])


def test_code_runs_in_the_sandbox_alone(tmp_path: Path) -> None:
    code = CodeEval()
    target = tmp_path / "written"
    programs = [f"open({str(target)!r}, 'w')\nf = 1", "f = 1", "f = 2", "import os\nf = len(os.environ)"]
    try:
        passed, found = code.compute(["assert f == 1"], [programs], k=[1, 4])
    finally:
        code.close()
    assert [verdict.score for _, verdict in found[0]] == [0, 1, 0, 0]
    assert passed == {"pass@1": 0.25, "pass@4": 1.0}
    assert not target.exists()


PYTHON = GSM.replace("doc_to_text: ", "process_docs: !function utils.process\ndoc_to_text: ")
OUTSIDE = GSM.replace("test.jsonl", "../test.jsonl")
SELF = CODE.replace("lm_eval.tasks.humaneval.utils.pass_at_k", "lm_eval.tasks.cruxeval.utils.pass_at_k")
ROLLING = CHOICE.replace("multiple_choice", "loglikelihood_rolling").replace(
    "doc_to_target: 0", "doc_to_target: x"
)
ROLLING = ROLLING.replace("metric: acc", "metric: word_perplexity").replace('doc_to_choice: ["3", "4"]\n', "")
HUB = GSM.replace("dataset_path: json", "dataset_path: nobody/nothing").replace(
    "dataset_kwargs:\n  data_files: {train: train.jsonl, test: test.jsonl}\n", ""
)
ESCAPE = GSM.replace("{{question}}", "{{ ''.__class__.__mro__[1].__subclasses__() }}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PYTHON, "names the function utils.process, which is not the harness's"),
        (OUTSIDE, r"data_files ../test.jsonl leads out of the folder"),
        (SELF, "cannot be (loaded|asked)"),
        (ROLLING, "task tiny_choice cannot be asked: it scores running text"),
        (HUB, "data of task tiny_gsm cannot be reached"),
        (ESCAPE, "tiny_gsm cannot be loaded: SecurityError"),
        ("task: tiny_gsm\nmetric_list: [", "is no YAML"),
    ],
    ids=["python", "outside", "runs-code", "no-prefix", "offline", "template", "yaml"],
)
def test_what_cannot_be_asked_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    found = harness_task(tmp_path, text, CODE_ROWS if "tiny_code" in text else GSM_ROWS)
    with pytest.raises(StepError, match=said) as caught:
        pin_of(found, chat=True)
    assert caught.value.code in (Exit.CONFIG, Exit.NO_INPUT)


def test_tasks_that_there_are_not_are_told_the_nearest(tmp_path: Path) -> None:
    gsm = harness_task(tmp_path, GSM, GSM_ROWS)
    with pytest.raises(StepError, match="has no task tiny_gms") as caught:
        pin_of(gsm.model_copy(update={"name": "tiny_gms"}))
    assert caught.value.hint == "did you mean tiny_gsm?"
    (tmp_path / "tiny_gsm" / "utils.py").write_text("import os")
    with pytest.raises(StepError, match=r"has Python \(utils.py\), which is not run"):
        pin_of(gsm)


def test_an_inventory_pins_them(tmp_path: Path) -> None:
    tasks = tiny_tasks(tmp_path)[:1]
    dataset = Dataset(name="web", uri="file:///web.jsonl")
    found = pins_of(InventoryConfig(datasets=(dataset,), harness=Harness(tasks=tasks, limit=1)), {})
    assert found["harness"] == pin_of(*tasks)


def test_the_docs_own_task_and_fields(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (own,) = re.findall(r"^```yaml\n(task: sums\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert pin_of(harness_task(tmp_path, own, GSM_ROWS))
    (fields,) = re.findall(r"^ +(evaluate:\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = Evaluate.model_validate(yaml.safe_load(fields.replace("./tasks", "file:///tasks"))["evaluate"])
    assert found.harness
    assert [task.name for task in found.harness.tasks] == ["gsm8k", "sums"]
