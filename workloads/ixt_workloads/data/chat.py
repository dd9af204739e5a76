"""Conversations: checked as they are read from data, and as plain text for a judge. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

ROLES = ("system", "user", "assistant", "tool")

REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content")
"""Names that data, engines and templates have for what was thought before an answer."""

_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("thinking", "reasoning")

Turn = dict[str, Any]
"""`role` and `content`, a text; where there are such: `reasoning`, `tool_calls` (as OpenAI's API has them,
with objects as arguments), `name`, `tool_call_id`, and `weight` 0 for an answer that is not to be learnt."""


class Unusable(Exception):  # noqa: N818 - no error: the conversation is dropped and counted
    """A well-formed conversation that cannot be trained on; `str` of it is the reason as counted."""


@dataclass(frozen=True)
class Conversation:
    """Turns, and the tools that the assistant may call (JSON schemas)."""

    turns: list[Turn]
    tools: list[dict[str, Any]] | None = None

    def to_json(self) -> str:
        """How conversations stand in artifacts, in the column `messages`."""
        more = {"tools": self.tools} if self.tools else {}
        return json.dumps({"messages": self.turns, **more}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undoes `to_json`."""
        value = json.loads(text)
        return cls(value["messages"], value.get("tools"))

    def as_text(self) -> str:
        """The conversation as a judge reads it: `User: …`, a blank line, `Assistant: …`."""
        paragraphs = [f"Tools: {_compact(self.tools)}"] if self.tools else []
        for turn in self.turns:
            who = turn["role"].capitalize()
            if turn.get("reasoning"):
                paragraphs.append(f"{who} thinks: {turn['reasoning']}")
            if turn["content"] or not turn.get("tool_calls"):
                paragraphs.append(f"{who}: {turn['content']}")
            for call in turn.get("tool_calls", ()):
                function = call["function"]
                paragraphs.append(f"{who} calls {function['name']}: {_compact(function['arguments'])}")
        return "\n\n".join(paragraphs)


def conversation_of(value: Any, tools: Any = None) -> Conversation:
    """A conversation of data, with what templates and training know of it and nothing else.

    Raises ValueError saying what is malformed, Unusable for what is well-formed and cannot be learnt from.
    """
    turns = turns_of(value)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise Unusable("noAnswer")
    if turns[0]["role"] == "assistant":
        raise Unusable("nothingAsked")
    learnt = [turn for turn in turns if turn["role"] == "assistant" and turn.get("weight") != 0]
    if not learnt:
        raise Unusable("noAnswer")
    if any(not turn["content"].strip() and not turn.get("tool_calls") for turn in learnt):
        raise Unusable("emptyAnswer")
    return Conversation(turns, _tools(tools) if tools else None)


def turns_of(value: Any) -> list[Turn]:
    """The turns of a conversation or of its beginning. Raises ValueError saying what is malformed, Unusable
    for what is no text."""
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of turns that is not empty")
    return [_turn(number, turn) for number, turn in enumerate(value, 1)]


def parts_of(content: Any) -> tuple[str, str]:
    """Text and reasoning of a content: a text, nothing, or a list of parts.

    Raises ValueError for what is none of these, Unusable for parts that are no text, such as images.
    """
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise ValueError("no content that is a text or a list of parts")  # noqa: TRY004
    texts, reasoning = [], []
    for part in content:
        kind = part.get("type") or "text" if isinstance(part, Mapping) else "text"
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            raise ValueError("a part of its content that is neither a text nor an object")  # noqa: TRY004
        elif kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in _REASONING_PARTS:
            said = part.get(kind, part.get("text"))
            reasoning.append(parts_of(said)[0])
        else:
            raise Unusable("notText")
    return "".join(texts), "".join(reasoning)


def reasoning_of(message: Mapping[str, Any]) -> str:
    """What was thought before an answer, under whichever name it stands; empty for nothing."""
    found = next((message[name] for name in REASONING if message.get(name)), "")
    try:
        return parts_of(found)[0]
    except (ValueError, Unusable):
        return ""


def _turn(number: int, turn: Any) -> Turn:
    if not isinstance(turn, Mapping):
        raise ValueError(f"turn {number} must be an object with role and content")  # noqa: TRY004
    role = turn.get("role")
    if role not in ROLES:
        raise ValueError(f"turn {number} has role {role!r}, must be one of {', '.join(ROLES)}")
    try:
        content, thought = parts_of(turn.get("content"))
    except ValueError as error:
        raise ValueError(f"turn {number} has {error}") from None
    if turn.get("content") is None and role != "assistant":
        raise ValueError(f"turn {number} has no content that is a text")
    found: Turn = {"role": str(role), "content": content}
    found |= {name: turn[name] for name in ("name", "tool_call_id") if isinstance(turn.get(name), str)}
    if role != "assistant":
        return found
    if reasoning := reasoning_of(turn) or thought:
        found["reasoning"] = reasoning
    # OpenAI's API before it had several calls.
    calls = turn.get("tool_calls") or ([turn["function_call"]] if turn.get("function_call") else None)
    if calls:
        found["tool_calls"] = _calls(number, calls)
    weight = turn.get("weight")
    if weight not in (None, 0, 1):
        raise ValueError(f"turn {number} has weight {weight!r}, must be 0 or 1")
    return {**found, "weight": 0} if weight == 0 else found


def _calls(number: int, calls: Any) -> list[dict[str, Any]]:
    """The calls with their arguments as objects, which is what chat templates take."""
    found = []
    for call in calls if isinstance(calls, list) else [None]:
        if not isinstance(call, Mapping):
            raise ValueError(f"turn {number} has tool_calls that are no objects")  # noqa: TRY004
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError(f"turn {number} has tool_calls that name no function")  # noqa: TRY004
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments) if arguments.strip() else {}
            except ValueError:
                raise Unusable("toolCallNotJson") from None
        if not isinstance(arguments, Mapping | None):
            raise Unusable("toolCallNotJson")
        made = {"type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
        own = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        found.append({**own, **made})
    return found


def _tools(tools: Any) -> list[dict[str, Any]]:
    if isinstance(tools, str):
        # As datasets of the hub have them, since their columns cannot hold any schema.
        tools = json.loads(tools) if tools.strip() else []
    if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("comes with tools that are no list of objects")
    return [given(tool) for tool in tools]


def given(value: Any) -> Any:
    """A value without empty fields: columns have each field of any value in every one."""
    if isinstance(value, Mapping):
        return {name: given(field) for name, field in value.items() if field is not None}
    return [given(item) for item in value] if isinstance(value, list) else value


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
