"""Verifiers as a step uses them: right and wrong answers, and those that would harm whoever verifies them."""

import os
from pathlib import Path
from typing import Any

import pytest

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.verifiers import Verifier
from ixt_workloads.verify import Sample, Verdict, Verifying, confine, verify

RIGHT = Verdict(1.0)


def verdicts(samples: list[Sample], **fields: Any) -> list[Verdict]:
    return verify(Verifier.model_validate(fields), samples, processes=1)


def scores(pairs: list[tuple[str, Any]], **fields: Any) -> list[float | None]:
    return [
        found.score for found in verdicts([Sample(said, reference=right) for said, right in pairs], **fields)
    ]


# --- What is right ---


def test_an_exact_match_forgives_white_space_and_reasoning_only() -> None:
    pairs = [
        (" two\nwords ", "two words"),
        ("<think>no</think> yes", "yes"),
        ("Yes", "yes"),
        ("b", ["a", "b"]),
    ]
    assert scores(pairs, type="ExactMatch") == [1, 1, 0, 1]


def test_an_answer_is_extracted_by_the_last_match() -> None:
    pairs = [("Answer: 1\nAnswer: 2", "2"), ("The answer is 2", "2")]
    found = verdicts(
        [Sample(said, reference=right) for said, right in pairs], type="ExactMatch", extract=r"^Answer: (.*)$"
    )
    assert found == [RIGHT, Verdict(0.0, "verifier.extract matches nothing")]


def test_numbers_are_compared_as_people_write_them() -> None:
    pairs = [
        ("First 3, then\n#### 1,234.50", "1234.5"),
        (r"So \boxed{\frac{1}{2}} is wrong, \boxed{0.5}.", 0.5),
        ("It is 3/4.", "0.75"),
        ("12 %", "0.12"),
        ("about 1e3", 1000),
        ("x = -7", "7"),
        ("no idea", "7"),
        ("7", "Answer is #### 7"),
    ]
    assert scores(pairs, type="Numeric") == [1, 1, 1, 1, 1, 0, 0, 1]
    assert scores([("3.1416", "3.14159")], type="Numeric", tolerance="1e-4") == [1]
    assert verdicts([Sample("7", reference="seven")], type="Numeric")[0].failed


def test_json_must_be_of_the_schema() -> None:
    schema = {"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}}
    found = verdicts(
        [
            Sample('```json\n{"sum": 4}\n```', reference=schema),
            Sample('{"sum": "4"}', reference=schema),
            Sample("four", reference=schema),
            Sample("1", reference={"type": "nothing"}),
            Sample("1", reference={"$ref": "http://localhost:9/schema"}),
        ],
        type="JsonSchema",
    )
    assert [each.score for each in found] == [1, 0, 0, None, None]
    assert found[1].reason == "$.sum: '4' is not of type 'integer'"
    assert [each.failed for each in found] == [False, False, False, True, True]
    assert scores([("[]", None)], type="JsonSchema", schema='{"type": "array"}') == [1]


def test_mathematics_is_compared_by_meaning() -> None:
    pytest.importorskip("math_verify", reason="the extra `steps` is not installed")
    pairs = [
        (r"so \boxed{\frac{2}{4}}", "1/2"),
        ("$x^2 + 1$", "1 + x^2"),
        (r"The answer is $\sqrt{8}$.", r"$2\sqrt{2}$"),
        (r"\boxed{3}", "4"),
        ("nobody knows", "4"),
    ]
    assert scores(pairs, type="Math") == [1, 1, 1, 0, 0]


# --- Code ---


def test_code_passes_the_tests_of_the_usual_data_sets() -> None:
    add = "Here:\n```python\ndef add(a, b):\n    return a + b\n```"
    found = verdicts(
        [
            Sample(add, reference=["assert add(1, 2) == 3", "assert add(2, 2) == 5"]),
            Sample(add, reference="def check(f):\n    assert f(1, 1) == 2", columns={"entry_point": "add"}),
            Sample(
                "print(int(input()) * 2)", reference='{"inputs": ["4\\n", "5"], "outputs": ["8\\n", "10"]}'
            ),
            Sample("print(7)", reference={"inputs": ["4"], "outputs": ["8"]}),
            Sample(
                "class Solution:\n    def pair(self, a, b):\n        return (a, b)",
                reference={"inputs": [[1, 2]], "outputs": [[[1, 2]]], "fn_name": "pair"},
            ),
            Sample("def f(): pass", reference={"inputs": [[]], "outputs": [5], "fn_name": "f"}),
            Sample(add, reference=7),
        ],
        type="CodeTests",
    )
    assert [each.score for each in found] == [0.5, 1, 1, 0, 1, 0, None]
    assert found[0].reason == "passes 1 of 2 tests: a test fails: assert add(2, 2) == 5"
    assert found[3].reason == "passes 0 of 1 tests: prints '7', not '8'"
    assert found[6].failed


HARM = {
    "network": ("import socket; socket.create_connection(('127.0.0.1', 9))", "Operation not permitted"),
    "a fork": ("import os\nwhile True: os.fork()", "Operation not permitted"),
    "a thread": ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
    "a program": ("import os; os.execv('/bin/true', ['true'])", "Operation not permitted"),
    "a signal": ("import os; os.kill(os.getppid(), 9)", "Operation not permitted"),
    "another's limits": (
        "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "Operation not permitted",
    ),
    "a new file": ("open('new', 'w')", "Permission denied"),
    "a deletion": ("import os; os.unlink(__import__('json').__file__)", "Operation not permitted"),
    "memory": ("x = bytearray(2**31)", "MemoryError"),
    "output": ("while True: print('x' * 10**6)", "File too large"),
    "an early end": ("import os; os._exit(0)", "it ends before its test does"),
    "a false word": ("import os; os.write(3, b'0' * 16); os._exit(0)", "0" * 16),
    "an endless loop": ("while True: pass", "takes more than 5 s"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "it ends before its test does"),
}


def test_code_that_would_do_harm_fails_its_test_and_nothing_else(tmp_path: Path) -> None:
    samples = [Sample(code, reference="assert True") for code, _ in HARM.values()]
    found = verdicts(samples, type="CodeTests", timeoutSeconds=5, memoryMiB=512)
    for (name, (_, reason)), verdict in zip(HARM.items(), found, strict=True):
        assert (verdict.score, verdict.failed) == (0, False), name
        assert reason in verdict.reason, name


def test_code_reads_no_data_where_the_kernel_can_forbid_it(tmp_path: Path) -> None:
    if not _has_landlock():
        pytest.skip("this kernel has no Landlock")
    secret = tmp_path / "secret"
    secret.write_text("s")
    codes = [f"open({str(secret)!r})", "open('/proc/self/environ')", "import decimal, json.tool"]
    found = verdicts([Sample(code, reference="assert True") for code in codes], type="CodeTests")
    assert [each.score for each in found] == [0, 0, 1]


def _has_landlock() -> bool:
    return bool(confine._libc().syscall(444, 0, 0, 1) > 0)


# --- Functions of the image ---

REWARDS = """
import os, socket, time

def like_verl(data_source, solution_str, ground_truth, extra_info):
    assert data_source == "sums" and extra_info == {"index": 1}
    return {"score": float(solution_str == ground_truth)}

def like_trl(prompts, completions, answer, **kwargs):
    assert kwargs["data_source"] == ["sums"]
    return [1.0 if said[0]["content"] == right else None for said, right in zip(completions, answer)]

async def later(completions, **columns):
    return [0.25]

def hostile(solution_str, **rest):
    print("x" * 10**6)
    if solution_str == "raise":
        raise RuntimeError("no such answer")
    if solution_str == "hang":
        time.sleep(1000)
    if solution_str == "exit":
        os._exit(3)
    if solution_str == "leave":
        raise SystemExit(3)
    if solution_str == "fork":
        os.fork()
    if solution_str == "network":
        socket.socket()
    if solution_str == "write":
        open("file", "w")
    if solution_str == "memory":
        bytearray(2**31)
    return {"many": 7, "words": "good", "nothing": None}.get(solution_str, 1)

def other(question):
    return 1
"""


@pytest.fixture(scope="module")
def rewards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("image")
    (folder / "my_rewards.py").write_text(REWARDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield


def sample(said: str) -> Sample:
    columns = {"data_source": "sums", "extra_info": {"index": 1}, "answer": "4"}
    return Sample(said, [{"role": "user", "content": "2 + 2 ="}], "4", columns)


@pytest.mark.usefixtures("rewards")
def test_a_function_has_either_usual_signature() -> None:
    two = [sample("4"), sample("5")]
    assert [each.score for each in verdicts(two, type="Function", function="my_rewards.like_verl")] == [1, 0]
    found = verdicts(two, type="Function", function="my_rewards.like_trl")
    assert found == [RIGHT, Verdict(None, "does not apply")]
    (later,) = verdicts(two[:1], type="Function", function="my_rewards.later", min="-1", max="1")
    assert later == Verdict(0.625, "my_rewards.later says 0.25")


@pytest.mark.usefixtures("rewards")
def test_a_function_that_does_harm_loses_one_sample() -> None:
    words = {
        "raise": "RuntimeError: no such answer",
        "hang": "took too long",
        "exit": "ended by exit code 3",
        "leave": "SystemExit: 3",
        "fork": "Operation not permitted",
        "network": "Operation not permitted",
        "write": "Permission denied",
        "memory": "MemoryError",
        "many": "returned 7, beyond verifier.min and max (0 to 1)",
        "words": "returned str, not a number or None",
    }
    said = [each for word in words for each in (word, "good")]
    verifier = Verifier.model_validate(
        {"type": "Function", "function": "my_rewards.hostile", "timeoutSeconds": 3, "memoryMiB": 512}
    )
    with Verifying(verifier, processes=1) as verifying:
        found = verifying.verify([sample(each) for each in said])
    assert found[1::2] == [RIGHT] * len(words)
    for (word, reason), verdict in zip(words.items(), found[::2], strict=True):
        assert (verdict.score, verdict.failed) == (None, True), word
        assert reason in verdict.reason, word


@pytest.mark.usefixtures("rewards")
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("my_rewards.other", "my_rewards.other takes question; it must take data_source, solution_str"),
        ("my_rewards.absent", "cannot be imported: AttributeError"),
        ("no_such_module.f", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_at_once(function: str, words: str) -> None:
    with pytest.raises(StepError) as refused:
        verdicts([sample("4")], type="Function", function=function)
    assert refused.value.code is Exit.CONFIG
    assert words in refused.value.message


# --- Bounds ---


def test_a_pattern_that_never_ends_loses_its_sample_only() -> None:
    found = verdicts(
        [Sample("a" * 40 + "!", reference="^(a+)+$"), Sample("ab", reference="b$")],
        type="Pattern",
        timeoutSeconds=3,
    )
    assert found == [Verdict(None, "the verifier took too long", failed=True), RIGHT]


def test_where_code_cannot_be_confined_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not confine.problem()
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(StepError) as refused:
        verdicts([Sample("4", reference="4")], type="CodeTests")
    assert "cannot confine: its kernel or processor is not known" in refused.value.message
    assert scores([("4", "4")], type="ExactMatch") == [1]


def test_a_verifier_says_what_it_needs() -> None:
    for name in ("ExactMatch", "Numeric", "Math", "CodeTests", "Pattern", "JsonSchema"):
        assert Verifier.model_validate({"type": name}).needs_reference
    for fields in ({"type": "Pattern", "pattern": "x"}, {"type": "JsonSchema", "schema": "{}"}):
        assert not Verifier.model_validate(fields).needs_reference
    assert not Verifier.model_validate({"type": "Function", "function": "a.b"}).needs_reference
