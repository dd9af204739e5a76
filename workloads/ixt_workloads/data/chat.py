"""Conversations: checked as they are read from data, and as plain text for a judge. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


def checked(value: Any) -> list[dict[str, str]]:
    """The turns of a conversation with only role and content. Raises ValueError saying what is wrong."""
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of turns that is not empty")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise ValueError(f"turn {number} must be an object with role and content")  # noqa: TRY004
        role, content = turn.get("role"), turn.get("content")
        if role not in ROLES:
            raise ValueError(f"turn {number} has role {role!r}, must be one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise ValueError(f"turn {number} has no content that is a text")  # noqa: TRY004
        turns.append({"role": str(role), "content": content})
    if turns[0]["role"] == "assistant":
        raise ValueError("begins with the assistant: nothing was asked")
    if all(turn["role"] != "assistant" for turn in turns):
        raise ValueError("has no turn of the assistant, so nothing to learn")
    return turns


def as_text(turns: Sequence[Mapping[str, str]]) -> str:
    """A conversation as a judge reads it: `User: …`, a blank line, `Assistant: …`."""
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)
