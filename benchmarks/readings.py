"""What a benchmark reads off a control plane: writes, processor time, memory."""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
from cluster.control_plane import ControlPlane

from ixt_operator.adapters.kubernetes.client import Client, Object, Resource

SPACE = "default"
REST_SECONDS = 6.0
"""Without a write for this long, a control plane rests."""


async def count(client: Client, resource: Resource) -> int:
    """How many there are, without reading them."""
    page = await client.request("GET", resource.path(SPACE), query={"limit": "1"})
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))


async def until_rest(plane: ControlPlane, before: dict[str, float]) -> dict[str, float]:
    """Wait until nothing but Leases is written; seconds of processor time until then, by program."""

    def others() -> int:
        return sum(number for what, number in writes_of(plane).items() if what.split()[1] != "leases")

    written, since, used = others(), time.monotonic(), processor_seconds(plane)
    while time.monotonic() < since + REST_SECONDS:
        await asyncio.sleep(2)  # each count costs the API server a few hundredths of a second
        if (now := others()) != written:
            written, since, used = now, time.monotonic(), processor_seconds(plane)
    return difference(used, before)


async def watch(plane: ControlPlane, resource: Resource, saw: Callable[[Object], None]) -> None:
    """Every object of a kind, as it is and whenever it changes."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as http:
        url = f"{plane.server}{resource.path(SPACE)}?watch=true"
        async with http.get(url, ssl=plane.credentials()) as answer:
            async for line in answer.content:
                saw(json.loads(line)["object"])


_WRITE = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def writes_of(plane: ControlPlane) -> Counter[str]:
    """Writes that the API server has answered, by verb and resource."""
    found = Counter[str]()
    for labels, number in _WRITE.findall(plane.get("/metrics").decode()):
        said = dict(_LABEL.findall(labels))
        if said["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"):
            what = "/".join(part for part in (said["resource"], said["subresource"]) if part)
            # Reviews of access are questions.
            if not what.endswith("reviews"):
                found[f"{said['verb']} {what}"] += int(float(number))
    return found


def processor_seconds(plane: ControlPlane) -> dict[str, float]:
    """Seconds of processor time that each program has used."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for name in plane.programs():
        # proc(5): after the name in parentheses, utime and stime are the 12th and 13th.
        fields = Path(f"/proc/{plane.pid(name)}/stat").read_text().rpartition(")")[2].split()
        found[name] = (int(fields[11]) + int(fields[12])) / tick
    return found


def memory_mb(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def difference(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """What was used since."""
    return {name: round(seconds - before.get(name, 0.0), 2) for name, seconds in now.items()}


def in_words(used: dict[str, float]) -> str:
    """Seconds of processor time, for people."""
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())
    return f"{sum(used.values()):.1f} s of processor time ({parts})"
