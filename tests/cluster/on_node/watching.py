"""A Prometheus that watches the node's runs as docs/monitoring.md says, and what it must have seen of one.

Every question of dashboards and rules is put to it for each moment of the run. It must have an answer at one
of them at least, unless it stands in EMPTY or MAYBE, or is an alert's: those are silent while all is well,
and tests/monitoring has each of them fire.
"""

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from cluster.base import Cluster
from cluster.kubectl import Kubectl
from cluster.on_node.empty import EMPTY, MAYBE, NOT_TOLD
from cluster.on_node.operating import OPERATOR, Site, until
from cluster.prometheus import prometheus
from grafana.prometheus import Source, Span
from make.chart import NAMESPACE
from monitoring.asked import asked, names
from monitoring.promtool import promtool

ROOT = Path(__file__).parents[3]
SCRAPE_SECONDS = 2
"""Between two scrapes: steps of the tests are short."""
KEPT = "IXT_KEEP_METRICS"
"""Names a folder for what Prometheus sees: its series in `data`, the run's name and times in `run.json`."""
STEP_PORT, OPERATOR_PORT = "progress", "metrics"


@contextmanager
def watching(cluster: Cluster, folder: Path) -> Iterator[Source]:
    """A Prometheus that watches the cluster."""
    rules = yaml.safe_load((ROOT / "dashboards" / "rules.yaml").read_text())
    for group in rules["groups"]:
        # As often as figures come: what is recorded of a step would be there by chance, were it shorter.
        group["interval"] = f"{SCRAPE_SECONDS}s"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    configuration = documented()
    for job in configuration["scrape_configs"]:
        for discovery in job["kubernetes_sd_configs"]:
            discovery["kubeconfig_file"] = str(cluster.kubeconfig)
    kept = os.environ.get(KEPT)
    data = Path(kept, "data").absolute() if kept else None
    with prometheus(folder, configuration, data, scrape_interval=SCRAPE_SECONDS) as source:
        yield source


def documented() -> dict[str, Any]:
    """What the documentation tells people to give to a Prometheus on a cluster."""
    text = (ROOT / "docs" / "monitoring.md").read_text()
    blocks = re.findall("```yaml\n(.*?)```", text, re.DOTALL)
    (found,) = (block for block in blocks if "kubernetes_sd_configs" in block)
    return dict(yaml.safe_load(found))


def check_expositions(cluster: Cluster, site: Site) -> None:
    """promtool finds no fault with what a pod that trains and the operator tell meanwhile."""

    def told() -> bool:
        texts.extend(_texts(site.kubectl, "ixt.dev/kind=Train", STEP_PORT, "ixt_training_loss"))
        return bool(texts)

    texts: list[str] = []
    until(told, seconds=400)
    texts += _texts(cluster.kubectl(NAMESPACE), OPERATOR, OPERATOR_PORT, "ixt_operator_leader 1.0")
    for text in texts:
        promtool("check", "metrics", text=text)


def _texts(kubectl: Kubectl, pods: str, port: str, metric: str) -> Iterator[str]:
    """What pods tell Prometheus in which there is a metric."""
    for pod in kubectl.json("get", "pods", "-l", pods)["items"]:
        (main,) = pod["spec"]["containers"]
        numbers = {each["name"]: each["containerPort"] for each in main["ports"]}
        with suppress(OSError):
            address = f"http://{pod['status'].get('podIP')}:{numbers[port]}/metrics"
            text = urllib.request.urlopen(address, timeout=5).read().decode()
            if metric in text:
                yield text


def prove(source: Source, site: Site, start: float, run: str = "test") -> None:
    """A run that is complete was seen as it should be."""
    own = f'namespace="{site.name}", run="{run}"'
    until(lambda: bool(source.at(f'ixt_run_phase{{{own}, phase="Complete"}} == 1', time.time())))
    span = Span(start, time.time())
    given = {"namespace": site.name, "run": run}
    if kept := os.environ.get(KEPT):
        Path(kept, "run.json").write_text(json.dumps({**given, "start": span.start, "end": span.end}))
    questions = asked(source, span, given)
    silent = {each.place for each in questions if not source.over(each.text, span, SCRAPE_SECONDS)}
    silent = {place for place in silent if not place.startswith("alert ")}
    silent -= MAYBE.keys()
    assert (silent - EMPTY.keys(), EMPTY.keys() - silent) == (set(), set())
    wanted = {name for each in questions for name in names(each.text)}
    not_told = wanted - set(source.get("label/__name__/values", {}))
    not_told -= {"ALERTS", *MAYBE}
    assert (not_told - NOT_TOLD.keys(), NOT_TOLD.keys() - not_told) == (set(), set())
    assert source.over(f'ALERTS{{alertstate="firing", {own}}}', span, SCRAPE_SECONDS) == []
