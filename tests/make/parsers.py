"""Every parser of bytes that somebody else wrote, as a function of bytes.

Each returns what it makes of them or raises what it says that it raises, whatever the bytes are; anything
else is a fault. `tests/contract/test_foreign_bytes.py` tries them by hypothesis, `tests/fuzz` by atheris.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from ixt_operator.adapters.kubernetes.pod import Heard, process_of
from ixt_operator.controller.references import Named, NotAccepted, put_together
from ixt_operator.manifests.loading import ManifestError, loads
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.figures import sound
from ixt_workloads.contract.foreign import answer_of, gunzipped, listed, plain, shallow
from ixt_workloads.contract.results import Progress, Result
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.versions import read_known, read_task
from ixt_workloads.data.chat import Unusable, conversation_of
from ixt_workloads.feedback.answers import parse
from ixt_workloads.steps.annotate.wire import gauges_of, message_of, models_of, pause_of, reply_of
from ixt_workloads.store.artifact import Artifact
from ixt_workloads.store.base import Store
from ixt_workloads.store.claim import Claim
from ixt_workloads.store.errors import ContentMismatch
from make import runs
from make.bombs import GOOD, LAUGHS
from make.children import SUCCEED, tasks
from make.objects import pod

KEY = "0" * 32
RUN = runs.run(judge={"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "r", "key": "text"}}})
RUNTIME = runs.runtime().model_dump_json(exclude_none=True)


class Parser(NamedTuple):
    """One parser."""

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()
    """What it may raise."""
    seeds: tuple[bytes, ...] = (b"", b"{}")
    """What it reads, or nearly; others are made of these."""


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


class _OneFile:
    """A store whose every file has the same content."""

    uri = "memory"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def get(self, _: str, most: int | None = None) -> bytes:
        return self._content

    def list(self, folder: str) -> list[Any]:
        return [SimpleNamespace(path=f"{folder}/00000003.json")]


def _store(content: bytes) -> Store:
    return cast(Store, _OneFile(content))


def _rubric(content: bytes) -> object:
    return put_together(RUN, Named(RUNTIME, _text(content)))


def _reply(content: bytes) -> object:
    reply = reply_of(content)
    return reply and parse(reply.content, reply.finish_reason, BUILTIN_RUBRICS["quality"])


def _progress(content: bytes) -> object:
    return sound(read_known(Progress, content).figures)


def _terminated(content: bytes) -> object:
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "message": _text(content)}}}
    found = process_of(0, pod(tasks("a", SUCCEED), phase="Failed", containerStatuses=[ended]), Heard({}, {}))
    assert "\x1b" not in found.last_log
    return found


def _claim(content: bytes) -> object:
    return Claim(_store(content), KEY, run="a", run_uid="b", attempt=1)._top()


def _conversation(content: bytes) -> object:
    value = answer_of(content)
    return conversation_of(value, value.get("tools") if isinstance(value, dict) else None)


def _shown(content: bytes) -> object:
    found = plain(_text(content))
    assert plain(found) == found
    return found


def _cut(content: bytes) -> object:
    found = shallow(content)
    assert len(found) <= len(content) + 4 * content.count(b"[") + 4 * content.count(b"{")
    return found


def _seed(value: Any) -> bytes:
    return json.dumps(value).encode()


_MANIFEST = {
    "key": KEY, "kind": "Prepare", "preimage": {}, "files": [], "contentHash": "e3b0c442" * 8, "summary": {},
    "fingerprint": {}, "createdBy": {"run": "a", "attempt": 1}, "createdAt": "2026-01-01T00:00:00Z",
}  # fmt: skip
_HOLDER = {"run": "a", "runUid": "b", "attempt": 1, "host": "h", "heartbeat": "2026-01-01T00:00:00Z"}
_REPLY = {
    "choices": [{"message": {"content": '{"critique":"a"}', "reasoning": "b"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}
_CHAT = [
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
]

PARSERS = {
    "manifests": Parser(
        lambda content: loads(_text(content), "run.yaml", Path("/")),
        (ManifestError,),
        (json.dumps(runs.applied()).encode(), LAUGHS.encode(), b"a: {<<: *b}\n---\n- !!python/none\n"),
    ),
    "rubrics": Parser(_rubric, (NotAccepted,), (GOOD.encode(), LAUGHS.encode(), b"axes: [a, a]\n")),
    "judge replies": Parser(_reply, (), (_seed(_REPLY), b'{"choices":[]}')),
    "judge models": Parser(models_of, (), (b'{"data":[{"id":"judge","max_model_len":8}]}',)),
    "judge errors": Parser(message_of, (), (b'{"error":{"message":"\\u001b[2Jno"}}',)),
    "judge pauses": Parser(lambda content: pause_of(_text(content)), (), (b"3", b"nan", b"1e999")),
    "gauges": Parser(
        lambda content: gauges_of(_text(content)), (), (b'vllm:num_requests_running{engine="0"} 3.0\n',)
    ),
    "progress": Parser(
        _progress, (ValueError,), (b'{"done":1,"figures":{"ixt_training_loss":{"":NaN}}}', b"[[[[")
    ),
    "results": Parser(
        lambda content: read_known(Result, content),
        (ValueError,),
        (b'{"outcome":"Committed","message":"\\u001b]0;a\\u0007"}', b'{"flops":{"a":1e400}}'),
    ),
    "termination messages": Parser(_terminated, (), (b'{"outcome":"Failed"}', b"\x1b[2J" + b"[" * 300)),
    "claims": Parser(_claim, (), (_seed(_HOLDER), b'{"attempt":-1}')),
    "artifact manifests": Parser(
        lambda content: Artifact.open(_store(content), KEY), (ContentMismatch,), (_seed(_MANIFEST),)
    ),
    "chat data": Parser(_conversation, (ValueError, Unusable), (_seed(_CHAT), b'{"messages":[]}')),
    "tasks": Parser(read_task, (StepError,), (b"{}", b"\x1f\x8b\x08\x00")),
    "gzip": Parser(lambda content: gunzipped(content, 4096), (ValueError,), (b"\x1f\x8b\x08\x00",)),
    "answers of the API server": Parser(_cut, (), (b'{"a":["\\"]["]}', b"[" * 300 + b"]" * 300)),
    "lists of the API server": Parser(
        lambda content: listed(content, lambda item: item),
        (ValueError,),
        (b'{"items":[{"a":[]},1],"b":"["}',),
    ),
    "what people read": Parser(_shown, (), (b"\x1b[31mred\x1b]8;;http://a\x07", b"\xe2\x80\xaea")),
}
"""By what they read."""
