"""Manifests of several sources: `extends` and `--set`."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make import runs

from ixt_operator.api.run import IXTRun
from ixt_operator.manifests.composing import MAX_FILES, Composed, Origin, laid_over
from ixt_operator.manifests.documents import dump
from ixt_operator.manifests.loading import load, merged
from ixt_operator.manifests.problems import ManifestError

ARMS = [runs.arm("conditioned"), runs.arm("plain", "NextToken")]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run with two arms and a stage whose data lie beside its file."""
    (tmp_path / "base.yaml").write_text(
        dump(
            runs.applied(
                arms=ARMS,
                stages=[runs.stage(datasets=[{"name": "documents", "uri": "./documents.jsonl"}])],
            )
        )
    )
    return tmp_path / "base.yaml"


def over(base: Path, name: str = "sub/over.yaml", extends: Any = "../base.yaml", **spec: Any) -> Path:
    """A file that extends another."""
    path = base.parent / name
    path.parent.mkdir(exist_ok=True)
    head = {"apiVersion": "ixt.dev/v1alpha1", "kind": "IXTRun", "extends": extends}
    path.write_text(dump({**head, "metadata": {"name": "over"}, "spec": spec}))
    return path


def one(path: Path, *settings: str) -> IXTRun:
    (found,) = load(path, settings=settings)
    assert isinstance(found, IXTRun)
    return found


def refused(path: Path, *settings: str) -> list[str]:
    with pytest.raises(ManifestError) as error:
        load(path, settings=settings)
    return str(error.value).splitlines()


# --- What is set.


def test_what_is_set_is_as_if_it_were_written(base: Path) -> None:
    """Text needs no quotes of YAML within those of the shell; what a manifest leaves out can be set."""
    found = one(
        base,
        "stages.pretrain.train.optimizer.learningRate=1e-3",
        "stages.pretrain.train.maxTokens=1_000_000",
        "arms.plain.seeds=[0, 1]",
        "spec.stages.pretrain.evaluate.holdoutDocuments=16",
        "metadata.name=yes",
        "metadata.labels.sweep=1",
    )
    stage = found.spec.stages[0]
    assert stage.train.optimizer.learning_rate == "1e-3"
    assert stage.train.max_tokens == 1_000_000
    assert [arm.seeds for arm in found.spec.arms] == [(0,), (0, 1)]
    assert stage.evaluate.holdout_documents == 16
    assert (found.metadata.name, found.metadata.labels) == ("yes", {"sweep": "1"})


def test_null_takes_a_field_away(base: Path) -> None:
    assert one(base, "judge.systemPrompt=Be strict.").spec.judge != one(base).spec.judge
    assert one(base, "judge.systemPrompt=x", "judge.systemPrompt=null") == one(base)


def test_a_path_starts_from_where_one_types_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here := base.parent / "elsewhere").mkdir()
    monkeypatch.chdir(here)
    found = one(base, "stages.pretrain.datasets.documents.uri=./mine.jsonl")
    assert found.spec.stages[0].datasets[0].uri == (here / "mine.jsonl").as_uri()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages.pretain.train.maxTokens=1", "spec.stages has no pretain: did you mean pretrain?"),
        ("stages.0.train.maxTokens=1", "spec.stages has no 0: there are pretrain"),
        ("arms.plan.seeds=[1]", "spec.arms has no plan: did you mean plain?"),
        (
            "stages.pretrain.train.maxToken=1",
            "spec.stages.pretrain.train has no maxToken: did you mean maxTokens?",
        ),
        ("arms.plain.seeds.0=1", "spec.arms.plain.seeds is a list: set it whole, as [1, 2]"),
        ("arms.plain=1", "names an entry of spec.arms: name one of its fields"),
        ("suspend.now=true", "spec.suspend has no fields: set spec.suspend itself"),
        ("suspend", "must be PATH=VALUE, such as stages.pretrain.train.maxTokens=2000000"),
        ("stages..train=1", "must be PATH=VALUE, such as stages.pretrain.train.maxTokens=2000000"),
        ("suspend=[", "not valid YAML: while parsing a flow node did not find expected node content"),
        ("suspend=maybe", "spec.suspend: must be true or false, not 'maybe'"),
    ],
)
def test_what_cannot_be_set_is_said_with_what_is_nearest(base: Path, text: str, said: str) -> None:
    assert refused(base, text) == [f"--set {text}: {said}"]


def test_all_that_is_wrong_is_said_at_once(base: Path) -> None:
    """Of settings and of the file, each where it was written."""
    base.write_text(base.read_text().replace("method: NextToken", "method: NexToken"))
    line = next(n for n, text in enumerate(base.read_text().splitlines(), 1) if "NexToken" in text)
    unknown, wrong, written = refused(base, "maxParallelLanes=many", "nothing=1")
    assert unknown.startswith("--set nothing=1: spec has no nothing: there are activeDeadlineSeconds, arms, ")
    assert wrong == "--set maxParallelLanes=many: spec.maxParallelLanes: must be a whole number, not 'many'"
    assert written.startswith(f"{base}:{line}: spec.arms[1].method: must be ")


def test_runtimes_in_the_same_file_are_left_alone(base: Path) -> None:
    text = dump(runs.runtime().model_dump(mode="json", exclude_defaults=False, exclude_none=True))
    base.write_text(f"{base.read_text()}---\n{text}")
    run, runtime = load(base, settings=["metadata.name=other"])
    assert (run.metadata.name, runtime.metadata.name) == ("other", "cpu")


# --- What is extended.


def test_a_file_is_laid_over_another(base: Path) -> None:
    """By the names of stages, arms and datasets; a path starts from the file that it stands in."""
    path = over(
        base,
        arms=[runs.arm("plain", "NextToken", seeds=[0, 1]), runs.arm("shuffled", "Shuffled")],
        stages=[{"name": "pretrain", "datasets": [{"name": "more", "uri": "./more.jsonl"}]}],
    )
    found = one(path)
    assert found.metadata.name == "over"
    assert [(arm.name, arm.seeds) for arm in found.spec.arms] == [
        ("conditioned", (0,)),
        ("plain", (0, 1)),
        ("shuffled", (0,)),
    ]
    assert {each.name: each.uri for each in found.spec.stages[0].datasets} == {
        "documents": (base.parent / "documents.jsonl").as_uri(),
        "more": (base.parent / "sub" / "more.jsonl").as_uri(),
    }
    assert found.spec.stages[0].train == one(base).spec.stages[0].train


def test_what_is_shown_merged_is_the_run(base: Path) -> None:
    """And needs neither the files nor the settings any more."""
    path = over(base, stages=[{"name": "pretrain", "train": {"maxTokens": 1_000_000}}])
    settings = ["stages.pretrain.train.optimizer.learningRate=1e-3", "metadata.namespace=team"]
    (shown,) = merged(path, settings)
    assert "extends" not in shown
    (base.parent / "elsewhere").mkdir()
    written = base.parent / "elsewhere" / "shown.yaml"
    written.write_text(dump(shown))
    assert one(written) == one(path, *settings)


def test_what_is_wrong_below_is_told_of_the_file_below(base: Path) -> None:
    base.write_text(base.read_text().replace("method: NextToken", "method: NexToken"))
    (told,) = refused(over(base, suspend=True))
    assert told.startswith(f"{base}:")
    assert "spec.arms[1].method: must be" in told


def test_files_that_extend_each_other_in_turn(base: Path) -> None:
    path = over(base)
    base.write_text(base.read_text() + "extends: sub/over.yaml\n")
    (told,) = refused(path)
    assert told.endswith(
        "extends: extends itself (over.yaml -> base.yaml -> over.yaml): take one of them out"
    )


def test_too_many_files(base: Path) -> None:
    last = base
    for number in range(MAX_FILES):
        last = over(base, f"{number}.yaml", last.name)
    (told,) = refused(last)
    assert told.endswith(f"extends: more than {MAX_FILES} files extend each other: write some of them as one")
    assert one(base.parent / f"{MAX_FILES - 2}.yaml").spec == one(base).spec


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.yaml", "missing.yaml cannot be read: No such file or directory"),
        ("hf://owner/name", "must be a file, relative to this one, not 'hf://owner/name'"),
        (["base.yaml"], "must be a file, relative to this one, not a list"),
        ("runtime.yaml", "runtime.yaml must have one document of kind IXTRun, has 0"),
    ],
)
def test_what_cannot_be_extended(base: Path, name: Any, said: str) -> None:
    (base.parent / "runtime.yaml").write_text("kind: IXTRuntime\n")
    (told,) = refused(over(base, "over.yaml", name))
    assert told.startswith(f"{base.parent / 'over.yaml'}:3: extends: ")
    assert told.endswith(said)


def test_the_api_has_no_such_field(base: Path) -> None:
    with pytest.raises(ValueError, match="extends"):
        IXTRun.without_status({**merged(base)[0], "extends": "base.yaml"})


# --- Merging.

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "name"]), inner, max_size=3),
        st.lists(
            st.builds(lambda name, below: {"name": name, "a": below}, st.sampled_from("xyz"), inner),
            max_size=3,
        ),
    ),
    max_leaves=8,
)


def source(value: Any, file: str) -> Composed:
    return Composed(value, {(): Origin(file, 1, Path())})


@given(VALUES, VALUES)
def test_merging_holds_its_laws(lower: Any, upper: Any) -> None:
    """What is laid over itself or over nothing stays; every value comes from one of the two."""
    assert laid_over(source(lower, "lower"), source(lower, "upper")).value == lower
    assert laid_over(source({}, "lower"), source(upper, "upper")).value == upper
    found = laid_over(source(lower, "lower"), source(upper, "upper"))
    again = laid_over(source(found.value, "found"), source(upper, "upper"))
    assert again.value == found.value
    assert {origin.file for origin in found.origins.values()} <= {"lower", "upper"}
