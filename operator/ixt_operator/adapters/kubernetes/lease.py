"""Leader election on a Lease: one process at a time may write.

Each process goes by its own monotonic clock: a holder counts from before it sent its last renewal, a
candidate from when it last saw the Lease change, so clocks that differ or step do no harm. A process that was
stopped (SIGSTOP, a frozen machine) finds its time over when it goes on, and `fence` refuses its writes. Every
request has a deadline. Who has lost the Lease stops all that it was about to do, which is no longer safe.
(The elector of kubernetes.aio survives neither a network error nor a hanging call.)
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from ixt_operator.adapters.kubernetes.client import LEASES, ApiError, Client, Object

log = logging.getLogger("ixt.lease")


class Times(NamedTuple):
    """Times of a Lease in seconds, with the names and defaults of Kubernetes' own controllers."""

    lease_duration: float = 15.0
    """A candidate takes over a Lease that did not change for this long."""
    renew_deadline: float = 10.0
    """The holder stops writing this long after its last renewal: before any candidate may start."""
    retry_period: float = 2.0
    """Between two renewals, and two tries to acquire it."""

    @property
    def sound(self) -> bool:
        """Whether a holder stops before another may start, and may fail once without losing the Lease."""
        return 0 < 2 * self.retry_period <= self.renew_deadline <= self.lease_duration - self.retry_period

    @property
    def request(self) -> float:
        """Deadline of a try: two of them fit into the time that the Lease is held."""
        return (self.renew_deadline - self.retry_period) / 2


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
        times: Times = Times(),  # noqa: B008 - it is immutable
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._times = times
        self._clock = clock
        self.holder_seen = ""
        """Who held the Lease when it was last looked at."""
        self._renewed_at: float | None = None
        self._read_at: float | None = None
        self._seen: tuple[str, float] = ("", clock())
        """Version of the Lease as last seen, and since when it has been that."""

    @property
    def leading(self) -> bool:
        """Whether this process may write."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + self._times.renew_deadline

    @property
    def in_touch(self) -> bool:
        """Whether the Lease could be read lately."""
        return self._read_at is not None and self._clock() < self._read_at + self._times.lease_duration

    def fence(self) -> None:
        """Raise LostLease unless this process may write."""
        if not self.leading:
            raise LostLease(f"{self.identity} does not hold the Lease {self._name} any more")

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while not await self._try():
            await asyncio.sleep(self._times.retry_period * random.uniform(0.6, 1.0))
        log.info("%s leads", self.identity)

    async def keep(self) -> None:
        """Renew for ever. Raises LostLease when that failed for too long."""
        renewed = True
        while True:
            # After a failure soon, since more than one more try is to fit into the time that it is held.
            await asyncio.sleep(self._times.retry_period / (1 if renewed else 4))
            self.fence()
            renewed = await self._try()
            if not renewed and self.holder_seen != self.identity:
                raise LostLease(f"{self.holder_seen} took the Lease {self._name} over")

    async def release(self) -> None:
        """Give the Lease back, so that the next process takes over at once. Only after the last write."""
        if not self.leading:
            return
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._times.request):
                lease = await self._read()
                if lease and _holder(lease) == self.identity:
                    await self._write(lease, holder="")
        self._renewed_at = None

    async def _try(self) -> bool:
        """Acquire or renew once; whether that succeeded."""
        started = self._clock()
        try:
            async with asyncio.timeout(self._times.request):
                lease = await self._read()
                self._read_at = self._clock()
                free = not lease or _holder(lease) in ("", self.identity) or self._expired(lease)
                done = free and await self._write(lease, holder=self.identity)
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
        return self._clock() >= self._seen[1] + self._times.lease_duration

    async def _read(self) -> Object | None:
        return await self._client.get(LEASES, self._namespace, self._name)

    async def _write(self, lease: Object | None, holder: str) -> bool:
        """Replace the Lease as it was read, or create it; False if another process created it. Of two that
        replace it, one gets a conflict (ApiError 409)."""
        old = lease.get("spec", {}) if lease else {"holderIdentity": holder}
        stays = holder == old.get("holderIdentity")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(self._times.lease_duration),
            "acquireTime": (stays and old.get("acquireTime")) or now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (not stays),
        }
        if lease:
            await self._client.replace({**lease, "spec": spec})
            return True
        made = {
            "apiVersion": LEASES.group_version,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        return await self._client.create(made) is not None


def _holder(lease: Object) -> str:
    return str(lease.get("spec", {}).get("holderIdentity") or "")
