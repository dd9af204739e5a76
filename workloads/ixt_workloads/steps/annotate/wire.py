"""Reads addresses and bodies of OpenAI's API and of vLLM's metrics."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ixt_workloads.contract.foreign import json_of, plain
from ixt_workloads.data.chat import Unusable, parts_of, reasoning_of

MAX_REPLY_BYTES = 8 * 2**20
"""Of a chat completion: reasoning of a million tokens."""
MAX_BODY_BYTES = 4 * 2**20
"""Of any other answer."""
MAX_TOKENS = 2**31 - 1
"""Columns of tokens have 32 bits."""
MAX_AMOUNT = 2.0**53
MAX_NAME = 256
LONGEST_PAUSE = 30.0
"""Seconds."""

_GAUGE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|prompt_tokens_total|generation_tokens_total)"
    r"(?:\{[^}\n]*\})? ([^\s]{1,64})$",
    re.MULTILINE,
)
"""No part of it leaves its line, so that a text is read once."""
_HIGH, _LOW = rb"u[dD][89abAB][0-9a-fA-F]{2}", rb"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(
    rb"\\(?:" + _HIGH + rb"\\" + _LOW + rb"|(?P<half>" + _HIGH + b"|" + _LOW + rb")|.)", re.DOTALL
)


@dataclass(frozen=True)
class ServedModel:
    """What a server says about the model it serves."""

    name: str
    engine: str
    """Engine, version and dtype, where our own server tells them."""
    context: int | None
    """Tokens of prompt and answer together."""
    root: str = ""
    """What is behind the name, a folder or a repository; empty where the server does not tell it."""


@dataclass(frozen=True)
class Reply:
    """One answer, valid or not."""

    content: str | None
    reasoning: str
    finish_reason: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    """As the server counts them; 0 when it does not."""
    refusal: str = ""
    """What the model says instead of an answer, where the API tells that apart."""
    model: str = ""
    """The name that the server gives the model that answered."""


@dataclass(frozen=True)
class Completions:
    """Several continuations of one prompt."""

    texts: tuple[tuple[str, str], ...]
    """Each with why it ended: `stop`, `length` …"""
    prompt_tokens: int
    """Counted once, however many continuations there are."""
    cached_tokens: int
    completion_tokens: int
    """Of all together."""


def api(url: str) -> str:
    """Base of the API: the URL itself where it ends in a version, else with /v1."""
    url = url.rstrip("/")
    return url if re.search(r"/v\d+(beta)?$", url) else f"{url}/v1"


def displayed(url: str) -> str:
    """A URL for messages: without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def addresses(url: str) -> list[str]:
    """The URL with each address of its host name in place of the name; none if it does not resolve."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return [url]
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port or 80)
    except OSError:
        return []
    addresses = {(family, address[0]) for family, _, _, _, address in answers}
    # A name with addresses of both families has each replica twice.
    families = sorted({family for family, _ in addresses})
    hosts = sorted(str(host) for family, host in addresses if family == families[0])
    port = parts.port or 80
    return [f"http://{f'[{host}]' if ':' in host else host}:{port}{parts.path}" for host in hosts]


def gauges_of(text: str) -> dict[str, float]:
    """vLLM's figures that pacing needs, summed over engines. Text as Prometheus reads it; what is no amount
    is left out."""
    found: dict[str, float] = {}
    for name, value in _GAUGE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if 0 <= number <= MAX_AMOUNT:
            found[name] = found.get(name, 0.0) + number
    return found


def reply_of(text: bytes) -> Reply | None:
    """The answer in a chat completion; None for a body that is none."""
    try:
        value = json_of(_whole(text), MAX_REPLY_BYTES)
        choice, usage = value["choices"][0], _fields(value.get("usage"))
        message = choice["message"]
        content, thought = _said(message.get("content"))
        prompt = _fields(usage.get("prompt_tokens_details"))
        completion = _fields(usage.get("completion_tokens_details"))
        asked, answered = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        return Reply(
            content=content,
            reasoning=reasoning_of(message) or thought,
            finish_reason=_text(choice.get("finish_reason")),
            prompt_tokens=asked,
            cached_tokens=min(asked, _count(prompt.get("cached_tokens"))),
            completion_tokens=answered,
            reasoning_tokens=min(answered, _count(completion.get("reasoning_tokens"))),
            refusal=(_text(message.get("refusal")) or "")[:300],
            model=_name_or_none(value.get("model")),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def completions_of(text: bytes) -> Completions | None:
    """The continuations in a text completion, in their order; None for a body that is none."""
    try:
        value = json_of(_whole(text), MAX_REPLY_BYTES)
        usage = _fields(value.get("usage"))
        asked = _count(usage.get("prompt_tokens"))
        details = _fields(usage.get("prompt_tokens_details"))
        choices = sorted(value["choices"], key=lambda choice: _count(choice.get("index")))
        return Completions(
            texts=tuple(
                (_text(choice["text"]) or "", (_text(choice.get("finish_reason")) or "")[:16])
                for choice in choices
            ),
            prompt_tokens=asked,
            cached_tokens=min(asked, _count(details.get("cached_tokens"))),
            completion_tokens=_count(usage.get("completion_tokens")),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def models_of(text: bytes) -> dict[str, ServedModel]:
    """The models that a server has, by their names."""
    try:
        found = [
            ServedModel(
                name=_name(entry["id"]),
                engine="",
                context=_count(entry.get("max_model_len")) or None,
                root=_name_or_none(entry.get("root")),
            )
            for entry in json_of(text, MAX_BODY_BYTES)["data"]
        ]
        return {each.name: each for each in found}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def message_of(text: bytes) -> str:
    """The words of an error, at most 300 characters, for people."""
    try:
        value = json_of(text, MAX_BODY_BYTES)
        value = value.get("error", value)
        words = value.get("message", value) if isinstance(value, dict) else value
    except (ValueError, AttributeError):
        words = text[:MAX_BODY_BYTES].decode(errors="replace")
    return plain(re.sub(r"\s+", " ", str(words)[:2000]))[:300]


def pause_of(retry_after: str | None) -> float:
    """Seconds that a header Retry-After asks for, at most LONGEST_PAUSE; 0 for what is no number of them."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else 0.0


def _said(content: Any) -> tuple[str | None, str]:
    """Text and reasoning of a content, which may be a list of parts; parts that are no text say nothing."""
    if not isinstance(content, list):
        return (None, "") if content is None else parts_of(content)
    texts, thoughts = "", ""
    for part in content:
        with suppress(ValueError, Unusable):
            text, thought = parts_of([part])
            texts, thoughts = texts + text, thoughts + thought
    return texts, thoughts


def _fields(value: Any) -> Mapping[str, Any]:
    """An object, empty for anything else: what counts tokens is no part of the answer."""
    return value if isinstance(value, dict) else {}


def _whole(text: bytes) -> bytes:
    """JSON in which halves of surrogate pairs, which it can escape and UTF-8 does not have, are replaced."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], text)


def _text(value: Any) -> str | None:
    """A text or nothing. Raises TypeError for anything else."""
    if value is not None and not isinstance(value, str):
        raise TypeError("no text")
    return value


def _name(value: Any) -> str:
    """The name of a model, which goes into every row. Raises TypeError or ValueError."""
    name = _text(value)
    if not name or len(name) > MAX_NAME or name != plain(name):
        raise ValueError("no name")
    return name


def _name_or_none(value: Any) -> str:
    """The same; empty for what is no name."""
    try:
        return _name(value)
    except (TypeError, ValueError):
        return ""


def _count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    # bool is a subclass of int.
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0
