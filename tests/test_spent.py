"""How a step says that its time went."""

from ixt_workloads.contract.results import Spent
from ixt_workloads.progress import Reporter


def test_the_parts_of_a_processs_time_are_all_of_it() -> None:
    now = 100.0
    reporter = Reporter(clock=lambda: now, age=4)
    now += 6
    assert reporter.spent() == Spent(starting=10)
    reporter.update(0, 10, "tokens")
    now += 20
    reporter.waited(5)
    assert reporter.spent() == Spent(starting=10, waiting=5, unsaved=15)
    reporter.saved()
    now += 8
    reporter.waited(2)
    assert reporter.spent() == Spent(starting=10, waiting=7, saved=15, unsaved=6)


def test_a_process_knows_how_old_it_is() -> None:
    """Its reporter is made after its imports, which take long."""
    assert 0 < Reporter.from_environment().spent().starting < 3600
