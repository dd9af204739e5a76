"""Leader election on a Lease: one process at a time may write.

Each process goes by its own monotonic clock: a holder counts from before it sent its last renewal, a
candidate from when it last saw the Lease change, so clocks that differ or step do no harm. A process that was
stopped (SIGSTOP, a frozen machine) finds its time over when it goes on, and `fence` refuses its writes. Every
request has a deadline. Losing the Lease ends the process, since what it was about to do is no longer safe.
(The elector of kubernetes.aio survives neither a network error nor a hanging call.)
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from ixt_operator.adapters.kubernetes.client import LEASES, ApiError, Client, Object

log = logging.getLogger("ixt.lease")

LEASE_SECONDS = 10.0
"""A candidate takes over a Lease that did not change for this long."""
HELD_SECONDS = 7.0
"""The holder stops writing this long after its last renewal: before any candidate may start."""
PERIOD_SECONDS = 2.0
"""Between two renewals; also the deadline of one."""
RETRY_SECONDS = 0.5
"""Between a renewal that failed and the next: three fit into the time that the Lease is held."""


class LostLease(BaseException):
    """This process is not the leader any more. It is no Exception, so that no handler catches it and goes
    on."""


class Elector:
    """Acquires and renews one Lease."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._clock = clock
        self.holder_seen = ""
        """Who held the Lease when it was last looked at."""
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] = ("", clock())
        """Version of the Lease as last seen, and since when it has been that."""

    @property
    def leading(self) -> bool:
        """Whether this process may write."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + HELD_SECONDS

    def fence(self) -> None:
        """Raise LostLease unless this process may write."""
        if not self.leading:
            raise LostLease(f"{self.identity} does not hold the Lease {self._name} any more")

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while not await self._try():
            await asyncio.sleep(PERIOD_SECONDS * random.uniform(0.6, 1.0))
        log.info("%s leads", self.identity)

    async def keep(self) -> None:
        """Renew for ever. Raises LostLease when that failed for too long."""
        renewed = True
        while True:
            await asyncio.sleep(PERIOD_SECONDS if renewed else RETRY_SECONDS)
            self.fence()
            renewed = await self._try()
            if not renewed and self.holder_seen != self.identity:
                raise LostLease(f"{self.holder_seen} took the Lease {self._name} over")

    async def release(self) -> None:
        """Give the Lease back, so that the next process takes over at once. Only after the last write."""
        if not self.leading:
            return
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(PERIOD_SECONDS):
                lease = await self._read()
                if lease and _holder(lease) == self.identity:
                    await self._write(lease, holder="")
        self._renewed_at = None

    async def _try(self) -> bool:
        """Acquire or renew once; whether that succeeded."""
        started = self._clock()
        try:
            async with asyncio.timeout(PERIOD_SECONDS):
                lease = await self._read()
                if lease is None:
                    done = await self._create()
                elif _holder(lease) in ("", self.identity) or self._expired(lease):
                    await self._write(lease, holder=self.identity)
                    done = True
                else:
                    done = False
        except TimeoutError:
            log.warning("the API server did not answer about the Lease %s", self._name)
            return False
        except ApiError as error:
            log.warning("the Lease %s cannot be had: %s", self._name, error)
            return False
        if done:
            self._renewed_at, self.holder_seen = started, self.identity
        return done

    def _expired(self, lease: Object) -> bool:
        self.holder_seen = _holder(lease)
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        return self._clock() >= self._seen[1] + LEASE_SECONDS

    async def _read(self) -> Object | None:
        return await self._client.get(LEASES, self._namespace, self._name)

    async def _create(self) -> bool:
        metadata = {"name": self._name, "namespace": self._namespace}
        lease = {"apiVersion": LEASES.group_version, "kind": "Lease", "metadata": metadata}
        return await self._client.create({**lease, "spec": self._spec(self.identity, 0)}) is not None

    async def _write(self, lease: Object, holder: str) -> None:
        """Replace the Lease as it was read. Of two processes that try, one gets a conflict (ApiError 409)."""
        old = lease.get("spec", {})
        changes = int(old.get("leaseTransitions") or 0) + (holder != old.get("holderIdentity"))
        spec = self._spec(holder, changes)
        if holder == old.get("holderIdentity") and old.get("acquireTime"):
            spec["acquireTime"] = old["acquireTime"]
        await self._client.replace({**lease, "spec": spec})

    def _spec(self, holder: str, changes: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": changes,
        }


def _holder(lease: Object) -> str:
    return str(lease.get("spec", {}).get("holderIdentity") or "")
