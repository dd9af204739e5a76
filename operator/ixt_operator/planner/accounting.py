"""What a run's time was spent on, in seconds of GPUs and processors: `cost` and `goodputPercent`. Pure.

An account is kept of each child that holds a machine, and what it grows by goes into the run's totals, which
therefore never fall. No second is counted twice, whatever is seen in whatever order: an account grows up to
what its child has held and no further, and says from when on it counts (`since`) and up to when it has
(`until`).

Of a step, all that it has held is put down anew at each look from what its processes say (`Spent`), and the
account grows towards that. What they have not said is `unsaved`: it is counted when the step says so, ends or
is gone. Of a server, each look puts down what passed since the one before: it starts until it is ready, then
it works while a step runs that talks to it, else it waits.

The account of a child that has ended or is gone stays for a while, since it may be seen again. Where there
are more than MAX_ACCOUNTS the oldest are forgotten; a child without one has counted up to `accounted_until`.

Times of processes are of other machines' clocks: an interval ends now at the latest, and may be empty.
docs/adr/0011-time.md says what is exact and what is not.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ixt_operator.api.status import MAX_ACCOUNTS, Account, Cost, RunStatus
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_operator.planner.retry import meaning
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.metrics import Spending
from ixt_workloads.contract.results import Spent

STEP_SECONDS = 15
"""What goes on is counted in steps of this, so that a status in which only time has passed is not written at
every look."""

Interval = tuple[float, float]
"""From and to, in Unix seconds."""


class Books(NamedTuple):
    """What is known of a run's time: fields of `Cost` and `Internal`."""

    gpu_seconds: dict[Spending, int]
    cpu_seconds: dict[Spending, int]
    accounts: dict[str, Account]
    accounted_until: int


def booked(observed: Observed, previous: RunStatus, stopping: Collection[str], now: float) -> Books:
    """The books after a look. `stopping` are the children that are being stopped with it: as it may see
    nothing more of them, they are counted to the second, and what they have not saved they save now."""
    totals, accounts, forgotten = _opened(previous, now)
    at = int(now) if stopping else int(now // STEP_SECONDS) * STEP_SECONDS
    holding: set[str] = set()
    for child in observed.all:
        held_from = [process.held_since for process in child.processes if process.held_since is not None]
        if not held_from or child.kind not in KINDS:
            continue
        name = hashlib.sha256(child.name.encode()).hexdigest()[:8]
        holding.add(name)
        gpus = any(process.gpus for process in child.processes)
        before = accounts.get(name, Account(since=forgotten, until=forgotten, gpus=gpus))
        if min(held_from) >= before.until:
            # Its processes are others than those that were counted: a queue had taken their place away.
            _pay(totals, before, _closed(before))
            before = Account(since=before.until, until=before.until, gpus=gpus)
        if child.server:
            after = _server(child, before, _clients(child, observed, at), at)
        else:
            after = _step(child, before, at, now, stops=child.deleting or child.name in stopping)
        _pay(totals, before, after)
        accounts[name] = after
    for name in accounts.keys() - holding:
        _pay(totals, accounts[name], _closed(accounts[name]))
        accounts[name] = _closed(accounts[name])
    by_age = sorted(accounts, key=lambda name: (name in holding, accounts[name].until, name))
    for name in by_age[:-MAX_ACCOUNTS]:
        gone = accounts.pop(name)
        _pay(totals, gone, _closed(gone))
        forgotten = max(forgotten, gone.until)
    return Books(totals[True], totals[False], accounts, forgotten)


def goodput_percent(cost: Cost) -> int | None:
    """The productive share of the time on GPUs, or on processors where no GPU was held; None before any."""
    seconds = cost.gpu_seconds or cost.cpu_seconds
    total = sum(seconds.values())
    return int(100 * sum(n for spent, n in seconds.items() if spent.productive) / total) if total else None


def saved_flops(observed: Observed, previous: RunStatus) -> dict[str, str]:
    """What Inventories found made already, summed over the stages, and never less than was shown. One that is
    asked again finds the same again: answers of a stage are not added up."""
    of_stage: dict[str, Counter[str]] = {}
    for child in observed.all:
        for process in child.processes if child.kind == "Inventory" else ():
            found = process.result.saved_flops if process.result else {}
            of_stage[child.stage] = of_stage.get(child.stage, Counter()) | Counter(found)
    return at_least(sum(of_stage.values(), Counter()), previous.cost.saved_flops)


def at_least(flops: Mapping[str, int], shown: Mapping[str, str]) -> dict[str, str]:
    """FLOPs by purpose as a status has them, none less than was shown."""
    most = {purpose: max(flops.get(purpose, 0), int(shown.get(purpose, 0))) for purpose in {*flops, *shown}}
    return {purpose: str(number) for purpose, number in sorted(most.items())}


Totals = dict[bool, dict[Spending, int]]
"""Seconds by what they were spent on; of GPUs under True, of processors under False."""


def _opened(previous: RunStatus, now: float) -> tuple[Totals, dict[str, Account], int]:
    """Totals, accounts and `accounted_until` as they were left."""
    cost, internal = previous.cost, previous.internal
    totals = {True: dict(cost.gpu_seconds), False: dict(cost.cpu_seconds)}
    # Where there is something counted there are accounts, unless a version wrote them that had others.
    lost = not internal.accounts and any(totals.values())
    return totals, dict(internal.accounts), int(now) if lost else internal.accounted_until


def _pay(totals: Totals, before: Account, after: Account) -> None:
    """Add to the totals what an account has grown by, in whole seconds."""
    of = totals[after.gpus]
    for spending, counted in after.counted.items():
        more = counted // 1000 - before.counted.get(spending, 0) // 1000
        if more:
            of[spending] = of.get(spending, 0) + more


def _closed(account: Account) -> Account:
    """The account of a child that is gone: what it had not saved is lost."""
    if not account.unsaved:
        return account
    counted = dict(account.counted)
    counted[Spending.LOST] = counted.get(Spending.LOST, 0) + account.unsaved
    return account.model_copy(update={"counted": counted, "unsaved": 0, "work": None})


# --- Steps.


def _step(child: ChildState, before: Account, at: int, now: float, *, stops: bool) -> Account:
    """The account of a step: all that its processes have held, by what they say."""
    work = KINDS[child.kind].spending
    wanted: dict[Spending, float] = defaultdict(float)
    held, until = 0.0, before.until
    for process in child.processes:
        if process.held_since is None:
            continue
        begin = max(process.held_since, before.since)
        end = max(begin, float(at) if process.ended_at is None else min(process.ended_at, now))
        weight = 1000 * (process.gpus if before.gpus else process.cpus)
        held += weight * (end - begin)
        until = max(until, math.ceil(end))
        told = _word(child, process)
        for spending, seconds in _parts(process, told, begin, end, work, stops=stops).items():
            wanted[spending] += weight * seconds
    # What was held at an earlier look was held, also when nobody says any more what became of it.
    known = sum(before.counted.values()) + before.unsaved
    if child.ended and known > held:
        wanted[Spending.LOST if child.failed else work] += known - held
    held = max(held, known)
    counted = _grown(before.counted, wanted, held)
    unsaved = 0 if child.ended else int(held) - sum(counted.values())
    at_risk = {"unsaved": unsaved, "work": work if unsaved else None}
    return before.model_copy(update={"until": until, "counted": counted, **at_risk})


def _word(child: ChildState, process: ProcessState) -> Spent | None:
    """How a process says that it spent its time. Where processes do not share their work, as ranks, index 0
    speaks for all."""
    if not KINDS[child.kind].shares_work:
        process = next((each for each in child.processes if each.index == 0), process)
    said = process.result or process.progress
    return said.spent if said else None


def _parts(
    process: ProcessState, told: Spent | None, begin: float, end: float, work: Spending, *, stops: bool
) -> dict[Spending, float]:
    """What a process spent the seconds from `begin` to `end` on, as far as that is known."""
    ended = process.phase in (ProcessPhase.SUCCEEDED, ProcessPhase.FAILED)
    done = process.phase is ProcessPhase.SUCCEEDED or (ended and meaning(process).done)
    up = process.up_since
    if up is None:  # what was never seen to run, and is not to come, is not told of as a start
        up = begin if told or ended else math.inf
    began = up + (told.starting if told else 0.0)
    starting = max(0.0, min(began, end) - begin)
    rest = end - begin - starting
    parts = {Spending.STARTING: starting}
    if told:
        # Its word may be about more time than is counted here.
        said = told.waiting + told.saved + told.unsaved
        scale = min(1.0, rest / said) if said else 0.0
        parts |= {Spending.WAITING: told.waiting * scale, work: told.saved * scale}
        rest -= (told.waiting + told.saved) * scale
    if ended or stops:
        rest_is = work if done or (stops and told) else Spending.LOST
        parts[rest_is] = parts.get(rest_is, 0.0) + rest
    return parts


def _grown(
    counted: Mapping[Spending, int], wanted: Mapping[Spending, float], held: float
) -> dict[Spending, int]:
    """What was counted, grown towards what is wanted as far as what was held has room. Nothing shrinks: where
    it turns out that something was counted as another, there is less room, and work comes last."""
    grown = dict(counted)
    room = held - sum(counted.values())
    for spending in reversed(Spending):
        more = int(max(0.0, min(wanted.get(spending, 0.0) - grown.get(spending, 0), room)))
        if more:
            grown[spending] = grown.get(spending, 0) + more
            room -= more
    return grown


# --- Servers.


def _server(server: ChildState, before: Account, busy: list[Interval], at: int) -> Account:
    """The account of a server: what its processes held since `until`. `busy` is when it was worked with."""
    spent: Counter[Spending] = Counter(before.counted)
    for process in server.processes:
        if process.held_since is None:
            continue
        begin = max(process.held_since, before.until)
        end = max(begin, at)
        up = begin if server.deleting else process.up_since
        ready = end if up is None else min(max(up, begin), end)
        works = sum(max(0.0, min(stop, end) - max(start, ready)) for start, stop in busy)
        weight = 1000 * (process.gpus if before.gpus else process.cpus)
        spent[Spending.STARTING] += int(weight * (ready - begin))
        spent[KINDS[server.kind].spending] += int(weight * works)
        spent[Spending.WAITING] += int(weight * (end - ready - works))
    counted = {spending: number for spending, number in spent.items() if number}
    return before.model_copy(update={"until": max(before.until, at), "counted": counted})


def _clients(server: ChildState, observed: Observed, at: int) -> list[Interval]:
    """When steps ran that talk to a server, in intervals that do not overlap."""
    ran = (
        (process.up_since, float(at) if process.ended_at is None else process.ended_at)
        for child in observed.all
        if not child.server and child.kind == server.kind and child.stage == server.stage
        for process in child.processes
        if process.up_since is not None
    )
    return _united(ran)


def _united(intervals: Iterable[Interval]) -> list[Interval]:
    found: list[Interval] = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        elif stop > start:
            found.append((start, stop))
    return found
