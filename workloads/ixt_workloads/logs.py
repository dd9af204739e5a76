"""Logs of a process of ours on stderr: lines for people, or with IXT_LOG=json one JSON object a line.

Libraries whose loggers have handlers of their own, and exceptions that nobody caught, go the same way.
"""

import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType

from ixt_workloads.contract.foreign import plain
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.results import POINT

log = logging.getLogger("ixt")

_about: dict[str, str | int] = {}
"""Fields of every line: which run, step and process it is of."""


_last: deque[str] = deque(maxlen=40)
"""The last lines."""


def start(level: str = "info") -> None:
    """Set up the logs of this process."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = os.environ.get("IXT_LOG") == "json"
    handler.setFormatter(_Json() if as_json else _Plain("%(asctime)s %(levelname)s %(name)s %(message)s"))
    last = _Last()
    last.setFormatter(_Plain("%(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler, last], force=True)
    logging.captureWarnings(as_json)
    take_over()
    _about.clear()
    if namespace := os.environ.get("IXT_NAMESPACE"):
        _about["namespace"] = namespace
    for variable, name in (("IXT_INDEX", "pod"), ("RANK", "rank")):
        if number := os.environ.get(variable):
            _about[name] = int(number)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def take_over() -> None:
    """Send the lines of libraries that are imported by now, and write to stderr themselves, our way."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if not isinstance(logger, logging.Logger):
            continue
        if any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            logger.handlers.clear()
            logger.propagate = True


def about(task: Task) -> None:
    """Say in every line from now on what it is of."""
    fields = {"run": task.run, "stage": task.stage, "step": task.step, "arm": task.arm, "seed": task.seed}
    _about.update({name: value for name, value in fields.items() if value not in ("", None)})


def tail(most: int) -> str:
    """The last lines of this process's log, in at most so many bytes of UTF-8."""
    return "\n".join(_last).encode(errors="replace")[-most:].decode(errors="ignore")


def remember(lines: str) -> None:
    """Take the last lines of another process, which has shown them itself, for this one's."""
    _last.append(lines)


def point(message: str, fields: Mapping[str, object]) -> None:
    """Write a point of a curve: a JSON object in a line, wherever this process logs to. No tail has it."""
    logging.getLogger("ixt.curve").info("%s", message, extra={POINT: dict(fields)})


class _Last(logging.Handler):
    """Keeps the last lines."""

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, POINT):
            _last.append(self.format(record))


class _Plain(logging.Formatter):
    """For terminals: what they would take for a command is taken out of what data and servers said."""

    def format(self, record: logging.LogRecord) -> str:
        return _Json().format(record) if hasattr(record, POINT) else plain(super().format(record))


class _Json(logging.Formatter):
    """The message and the exception come last: a line whose beginning is cut off still has them."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": time.replace("+00:00", "Z"), "level": record.levelname, "logger": record.name}
        told = {POINT: getattr(record, POINT)} if hasattr(record, POINT) else {}
        line = {**fields, **_about, **told, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.critical("unforeseen error: %s", error, exc_info=(kind, error, traceback))
