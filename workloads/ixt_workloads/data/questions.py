"""Questions with one right answer, as they lie in a task's jsonl file."""

from dataclasses import dataclass
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalTask
from ixt_workloads.data.jsonl import parsed
from ixt_workloads.data.locate import local_file, unreadable


@dataclass(frozen=True)
class Question:
    """One item of a task."""

    prompt: str
    answer: str


def read_questions(task: EvalTask) -> list[Question]:
    """Items of a task, at most maxItems. Raises StepError that names file and line."""
    path = local_file(task.uri, task.credentials_secret_ref)
    questions: list[Question] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if len(questions) == task.max_items:
                    break
                if line.strip():
                    questions.append(_question(task, path, number, line))
    except OSError as error:
        raise unreadable(f"task {task.name}: {path}", error) from None
    if not questions:
        raise StepError(Exit.DATA, f"task {task.name}: {path} has no items", "write one question a line")
    return questions


def _question(task: EvalTask, path: Path, number: int, line: bytes) -> Question:
    try:
        value = parsed(line)
        prompt, answer = value["prompt"], value["answer"]
        if not (isinstance(prompt, str) and isinstance(answer, str) and prompt and answer.strip()):
            raise ValueError("prompt and answer must be texts that are not empty")  # noqa: TRY301
        (prompt + answer).encode()
    except UnicodeEncodeError:
        raise StepError(
            Exit.DATA,
            f"task {task.name}: {path}, line {number}: holds half of a surrogate pair, which is no text",
            "repair the line: a character beyond \\uffff is written as two escapes",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        reason = f"has no field {error}" if isinstance(error, KeyError) else str(error)
        raise StepError(
            Exit.DATA,
            f"task {task.name}: {path}, line {number}: {reason}",
            'every line is an object like {"prompt": "2 + 2 =", "answer": " 4"}',
        ) from None
    return Question(prompt, answer)
