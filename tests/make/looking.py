"""What looks at a run: a Runs with its cache, and the API server's double."""

import time
from typing import Any

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import JOBS, RUNS, RUNTIMES
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.api.status import rfc3339
from ixt_operator.controller.look import RunName, Runs
from ixt_operator.controller.queue import Behind
from make import runs
from make.api import Api
from make.objects import Object

KEY = RunName("default", "test")
PLACE = RUNS.path(*KEY)


class Operator:
    """What looks at a run, and the API server's double."""

    def __init__(self, **spec: Any) -> None:
        self.api, self.cache = Api(), Cache()
        runtime = runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)
        runtime["metadata"]["uid"] = "uid-cpu"
        self.cache.put(RUNTIMES, self.api.put(runtime, RUNTIMES.path("", "cpu")))
        self.cache.put(RUNS, self.api.put(runs.manifest(**spec), PLACE))
        self.restart()

    def restart(self, ttl: int | None = None) -> None:
        explainer = Explainer(self.api, self.cache, lambda *_: None)
        self._runs = Runs(self.api, self.cache, {}, explainer, ttl)

    async def look(self) -> float | None:
        """Look, and once more if that is to be at once."""
        again = await self.look_once()
        if isinstance(again, Behind) or again == 0.0:
            again = await self.look_once()
        assert not isinstance(again, Behind)
        return again

    async def look_once(self) -> float | Behind | None:
        return await self._runs.look(KEY)

    def condition(self, type_: str) -> Object:
        """A condition of the run, as the API server has it."""
        conditions = self.api.objects[PLACE]["status"]["conditions"]
        found: Object = next(each for each in conditions if each["type"] == type_)
        return found

    def events(self) -> list[tuple[str, str, str]]:
        """Type, reason and message of the events that were posted, in their order."""
        posted = (each for each in self.api.objects.values() if each.get("kind") == "Event")
        return [(each["type"], each["reason"], each["message"]) for each in posted]

    @property
    def known(self) -> Object | None:
        return self.cache.get(RUNS, *KEY)

    def suspend(self, suspend: bool = True) -> Object:
        """Edit the run, and have the cache know; the run."""
        return self.edit(suspend=suspend)

    def edit(self, **spec: Any) -> Object:
        """Change fields of the spec, and have the cache know; the run."""
        run = self.api.objects[PLACE]
        metadata = {**run["metadata"], "generation": run["metadata"]["generation"] + 1}
        edited = {**run, "metadata": metadata, "spec": {**run["spec"], **spec}}
        self.cache.put(RUNS, self.api.put(edited, PLACE))
        return self.api.objects[PLACE]

    def finish(self, ttl: int | None) -> Object:
        """Have the run be one that completed a minute ago, and the cache know; the run."""
        now = rfc3339(time.time() - 60)
        done = {"type": "Complete", "status": "True", "reason": "RunComplete", "lastTransitionTime": now}
        status = {"observedGeneration": 1, "phase": "Complete", "completionTime": now, "conditions": [done]}
        run = self.api.objects[PLACE]
        spec = {**run["spec"], **({} if ttl is None else {"ttlSecondsAfterFinished": ttl})}
        finished = self.api.put({**run, "spec": spec, "status": status}, PLACE)
        self.cache.put(RUNS, finished)
        return finished

    def collect(self) -> None:
        """What the garbage collector does for a run that is gone."""
        self.api.objects = {
            path: each for path, each in self.api.objects.items() if "ownerReferences" not in each["metadata"]
        }
        for job in self.cache.all(JOBS):
            self.cache.drop(JOBS, job)
