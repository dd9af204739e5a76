"""Report: a page over all lanes of a run, its conclusion as Markdown, its numbers as JSON, charts as PNG."""

import json
from functools import cache

from ixt_workloads.contract.configs import ReportConfig
from ixt_workloads.contract.results import MAX_GAINS, Gain, Outcome, Result
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.report.build import build
from ixt_workloads.steps.report.figures import pictures
from ixt_workloads.steps.report.markdown import markdown
from ixt_workloads.steps.report.page import render
from ixt_workloads.steps.report.read import Json, read_lanes


def run(step: Step) -> Result:
    """Read every node of the run and write the report."""
    config: ReportConfig = step.config
    step.reporter.update(0, len(config.lanes), "lanes", "reading them")
    artifact = cache(step.input)
    nodes = {name: artifact(name) for name in step.task.inputs}
    lanes = read_lanes(config.lanes, artifact)
    report = build(config.title, lanes, nodes, config.missing)
    drawn = {stage["name"]: pictures(stage) for stage in report["stages"]}
    files = {
        "report.html": render(report, drawn).encode(errors="replace"),
        "report.md": markdown(report).encode(errors="replace"),
        "report.json": json.dumps(report, indent=1, allow_nan=False).encode(),
        **{f"{picture.name}.png": picture.png() for stage in drawn.values() for picture in stage.values()},
    }
    writer = step.writer()
    for name, data in files.items():
        writer.add(name, data)
    verdict = next(stage["verdict"] for stage in report["stages"] if stage["name"] == report["verdictOf"])
    message = f"{report['headline']} {verdict['seeds']}".strip()
    committed = writer.commit({"verdict": message, "lanes": len(lanes)}, files)
    return Result(
        outcome=Outcome.COMMITTED, key=committed.key, message=message[:2048], gains=gains_of(report)
    )


def gains_of(report: Json) -> tuple[Gain, ...]:
    """What the verdicts say that arms gain at equal FLOPs, the stage of the headline first."""
    stages = sorted(report["stages"], key=lambda stage: stage["name"] != report["verdictOf"])
    found = [
        Gain(
            stage=stage["name"],
            arm=arm,
            baseline=stage["verdict"]["baseline"],
            measure=stage["verdict"]["metric"],
            gain=comparison["gain"],
        )
        for stage in stages
        for arm, comparison in stage["verdict"]["comparisons"].items()
        if comparison["gain"] is not None
    ]
    return tuple(found[:MAX_GAINS])


if __name__ == "__main__":
    main(run)
