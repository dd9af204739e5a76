"""Which model `ixt export`, `sample` and `eval` mean, over stubs; steps/test_export.py has real ones."""

from pathlib import Path

import pytest
from make import cli, runs
from make.cli import Desk

from ixt_operator.adapters.local.workdir import current_status, keys_in, read_run
from ixt_operator.cli import evaluating, exporting
from ixt_operator.planner.history import latest


@pytest.fixture
def trained(desk: Desk) -> Desk:
    """Two lanes of two stages, of which the last is not trained yet."""
    arms = [runs.arm("plain", "NextToken", seeds=[0, 1])]
    desk.write(judge=None, arms=arms, stages=[cli.stage(), cli.stage("more", type="Midtrain")])
    desk.tell({"more/train/plain-s1": {"*": {"exit": 78, "message": "no more"}}})
    assert desk.run().code == 1
    return desk


def test_models_and_their_names(trained: Desk) -> None:
    run, status = read_run(trained.workdir), current_status(trained.workdir)
    newest = latest(keys_in(trained.workdir))
    assert run and status
    keys = trained.node_keys()

    def meant(name: str) -> str:
        return exporting.chosen(run, newest, name).key

    assert meant("") == meant("plain") == meant("plain-s0@more") == keys["more/train/plain-s0"]
    assert meant("plain-s1@pretrain") == keys["pretrain/train/plain-s1"]
    assert meant("@pretrain") == keys["pretrain/train/plain-s0"]
    place = f"model plain-s0@pretrain: file://{trained.storage}/artifacts/{keys['pretrain/train/plain-s0']}"
    assert place in trained.ixt("status", "run.yaml").out
    one = exporting.chosen(run, newest, "plain-s0@more")
    asked = exporting.question(run, newest, status, one, "best", "hf://owner/name")
    assert (asked.target, asked.name) == ("hf://owner/name", "test plain-s0@more")
    assert [*asked.lineage][-1] == "more/train/plain-s0"
    assert "pretrain/train/plain-s0" in asked.lineage
    harness = evaluating.harness_of("gsm8k,own=./own", 8, None, 2)
    evaluated = evaluating.eval_question(run, one, harness)
    assert (evaluated.train, evaluated.config.seed) == (one.key, 0)
    assert evaluated.config.evaluate.harness == harness
    assert [task.uri for task in harness.tasks] == [None, (Path.cwd() / "own").as_uri()]
    assert asked.datasets == ("documents.jsonl", "documents.jsonl"), "no path of this machine"
    for words, said in (
        (["export", "plane", "./m"], "no lane plane: did you mean plain?; there are plain-s0, plain-s1"),
        (["export", "plain@pretrian", "./m"], "no stage pretrian: did you mean pretrain?"),
        (["export", "./m", "--prefix", "worst"], "for --prefix best, none or level=N"),
        (["sample", "--prompt", "1", "--levels", "low"], "--levels: must be numbers such as 1,5, not 'low'"),
        (["eval", "plane", "--tasks", "gsm8k"], "no lane plane: did you mean plain?"),
        (["eval", "--tasks", "gsm8k,a/b"], "--tasks: a/b: "),
        (["eval", "--tasks", "gsm8k,gsm8k"], "--tasks: gsm8k is named twice"),
        (["eval", "--tasks", ","], "--tasks: must be names of the harness's tasks"),
    ):
        done = trained.ixt(words[0], "run.yaml", *words[1:])
        assert done.code == 2
        assert said in done.err
    assert not (trained.folder / "m").exists()
