"""What keeps the harness from running code in this process: answers of code tasks run in the verifiers'
sandbox, and templates of tasks reach nothing but their items.

The harness's tasks of code (HumanEval, MBPP) run answers by the metric `code_eval` of the library `evaluate`,
which would be fetched from the hub and execute them here. They are given this one instead.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.rollouts import pass_at
from ixt_workloads.verify import Sample, Verdict, Verifying

_VERIFIER = Verifier(type=VerifierType.CODE_TESTS, extract=r"(?s)\A.*\Z")
"""All that is given is code."""


class CodeEval:
    """`evaluate`'s metric code_eval, by the verifiers' sandbox."""

    def __init__(self) -> None:
        self._verifying: Verifying | None = None

    def compute(
        self,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1,),
        **_: Any,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, Verdict]]]]:
        """pass@k over programs whose tests are `references`, and the verdicts by item.

        Raises StepError where code cannot be confined.
        """
        if self._verifying is None:
            self._verifying = Verifying(_VERIFIER)
        placed = [(item, code) for item, codes in enumerate(predictions) for code in codes]
        samples = [Sample(code, reference=references[item]) for item, code in placed]
        found = defaultdict[int, list[tuple[int, Verdict]]](list)
        for (item, _code), verdict in zip(placed, self._verifying.verify(samples), strict=True):
            found[item].append((len(found[item]), verdict))
        right = {item: sum(verdict.score == 1 for _, verdict in each) for item, each in found.items()}
        passed = {
            f"pass@{most}": fmean(pass_at(len(found[item]), right[item], most) for item in found)
            for most in k
            if found and all(len(each) >= most for each in found.values())
        }
        return passed, dict(found)

    def close(self) -> None:
        """End the sandbox's processes, until there is code again."""
        if self._verifying is not None:
            self._verifying.__exit__()
            self._verifying = None


_CODE = CodeEval()
"""One for all: the harness keeps the modules of its tasks, and what they were given."""


@contextmanager
def sandboxed() -> Iterator[None]:
    """While it is entered, tasks of the harness may be loaded and asked."""
    import evaluate
    from lm_eval import utils
    from lm_eval.api import task

    load, templates, bars = evaluate.load, utils.env, task.tqdm

    def loaded(path: str, *_: Any, **__: Any) -> CodeEval:
        if path == "code_eval":
            return _CODE
        raise ValueError(f"its metric {path} is fetched from the hub and runs here, which ixt does not allow")

    confined = ImmutableSandboxedEnvironment(
        loader=templates.loader, undefined=templates.undefined, keep_trailing_newline=True
    )
    confined.filters.update(templates.filters)
    # Without bars, which are no lines of a log.
    evaluate.load, utils.env, task.tqdm = loaded, confined, lambda rows, **_: rows
    try:
        yield
    finally:
        evaluate.load, utils.env, task.tqdm = load, templates, bars
        _CODE.close()
