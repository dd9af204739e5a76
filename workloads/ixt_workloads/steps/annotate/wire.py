"""Reads addresses and bodies of OpenAI's API and of vLLM's metrics."""

import asyncio
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True)
class ServedModel:
    """What a server says about the model it serves."""

    name: str
    engine: str
    """Engine, version and dtype, where our own server tells them."""
    context: int | None
    """Tokens of prompt and answer together."""


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
    """vLLM's figures that pacing needs, summed over engines. Text as Prometheus reads it."""
    found: dict[str, float] = {}
    for name, value in re.findall(
        r"^vllm:(num_requests_running|num_requests_waiting|prompt_tokens_total|generation_tokens_total)"
        r"(?:\{[^}]*\})? (\S+)",
        text,
        re.MULTILINE,
    ):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def reply_of(text: bytes) -> Reply | None:
    """The answer in a chat completion; None for a body that is none."""
    try:
        value = json.loads(text)
        choice, usage = value["choices"][0], value.get("usage") or {}
        message = choice["message"]
        return Reply(
            content=message.get("content"),
            reasoning=message.get("reasoning") or message.get("reasoning_content") or "",
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            cached_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            reasoning_tokens=int((usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def message_of(text: bytes) -> str:
    """The words of an error, at most 300 characters."""
    try:
        value = json.loads(text)
        value = value.get("error", value)
        words = value.get("message", value) if isinstance(value, dict) else value
    except (ValueError, AttributeError):
        words = text.decode(errors="replace")
    return re.sub(r"\s+", " ", str(words))[:300]
