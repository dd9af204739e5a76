"""Report: one page over all lanes of a run, its numbers as JSON, its charts as PNG."""

import json
from functools import cache

from ixt_workloads.contract.configs import ReportConfig
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.report.build import build
from ixt_workloads.steps.report.figures import pictures
from ixt_workloads.steps.report.page import render
from ixt_workloads.steps.report.read import read_lane


def run(step: Step) -> Result:
    """Read every node of the run and write the report."""
    config: ReportConfig = step.config
    artifact = cache(step.input)
    nodes = {name: artifact(name) for name in step.task.inputs}
    lanes = [read_lane(spec, artifact) for spec in config.lanes]
    report = build(config.title, lanes, nodes)
    drawn = {stage["name"]: pictures(stage) for stage in report["stages"]}
    files = {
        "report.html": render(report, drawn).encode(errors="replace"),
        "report.json": json.dumps(report, indent=1, allow_nan=False).encode(),
        **{f"{picture.name}.png": picture.png for stage in drawn.values() for picture in stage.values()},
    }
    writer = step.writer()
    for name, data in files.items():
        writer.add(name, data)
    verdict = next(stage["verdict"] for stage in report["stages"] if stage["name"] == report["verdictOf"])
    message = f"{report['headline']} {verdict['seeds']}".strip()
    committed = writer.commit({"verdict": message, "lanes": len(lanes)}, files)
    return Result(outcome=Outcome.COMMITTED, key=committed.key, message=message[:2048])


if __name__ == "__main__":
    main(run)
