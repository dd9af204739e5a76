"""TensorBoard: event files in the run's storage, at tensorboard/<run>/<stage>/<lane>/<id>/."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ixt_workloads.contract.trackers import TensorBoard
from ixt_workloads.trackers.parts import Parts
from ixt_workloads.trackers.points import Point, Tracked
from ixt_workloads.trackers.sending import Tracker


def opener(_: TensorBoard, of: Tracked) -> Callable[[], Tracker]:
    """What opens a training's event files."""
    return lambda: Events(of)


class Events:
    """The event files of one attempt."""

    def __init__(self, of: Tracked, clock: Callable[[], float] = time.monotonic) -> None:
        from tensorboard.compat.proto import event_pb2

        self._proto: Any = event_pb2
        self._of = of
        name = f"events.out.tfevents.{int(time.time())}.{'train' if of.trains else 'evaluate'}"
        self._parts = Parts(of.store, f"tensorboard/{of.name}/{of.id}", name, clock=clock)
        self._begun = False
        self._open()

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            if not self._begun:
                self._begin(point)
            values = [{"tag": name, "simple_value": value} for name, value in point.figures.items()]
            self._write(time=point.time, step=point.step, values=values)
        if self._parts.keep():
            self._open()

    def close(self, *, succeeded: bool) -> None:
        self._parts.close()

    def _open(self) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._records = RecordWriter(self._parts.file)
        self._event(file_version="brain.Event:2", wall_time=time.time())

    def _begin(self, point: Point) -> None:
        """What comes before an attempt's first point. A training takes back the points that an earlier
        attempt had after its last checkpoint."""
        if self._of.trains:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._event(wall_time=point.time, step=point.step, session_log=start)
            self._text("config", self._of.config, point)
        self._text("lineage", self._of.lineage, point)
        self._begun = True

    def _text(self, tag: str, values: Mapping[str, object], point: Point) -> None:
        text = "\n".join(f"    {name}: {json.dumps(value)}" for name, value in values.items())
        tensor = {"dtype": "DT_STRING", "string_val": [text.encode()], "tensor_shape": {"dim": [{"size": 1}]}}
        plugin = {"plugin_data": {"plugin_name": "text"}}
        value = {"tag": f"{tag}/text_summary", "tensor": tensor, "metadata": plugin}
        self._write(time=point.time, step=point.step, values=[value])

    def _write(self, *, time: float, step: int, values: list[dict[str, Any]]) -> None:
        self._event(wall_time=time, step=step, summary={"value": values})

    def _event(self, **fields: Any) -> None:
        self._records.write(self._proto.Event(**fields).SerializeToString())
