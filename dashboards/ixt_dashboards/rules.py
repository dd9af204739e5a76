"""Recording rules and alerts as files: one for any Prometheus, and a template of the chart."""

import re
from typing import Any

from ixt_dashboards.alerts import Alert, Threshold, alerts, alerts_of_runs, default
from ixt_dashboards.page import RUNBOOKS
from ixt_dashboards.recordings import INTERVAL_SECONDS, RECORDINGS
from ixt_operator.manifests.documents import dump

GENERATED = "Generated: make dashboards"


def recordings_group() -> dict[str, Any]:
    """The group of recording rules."""
    rules = [{"record": each.name, "expr": each.expression} for each in RECORDINGS]
    return {"name": "ixt.recordings", "interval": f"{INTERVAL_SECONDS}s", "rules": rules}


def alerts_group(threshold: Threshold = default, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The group of all alerts."""
    return _group(alerts(threshold), runbooks)


def _group(found: list[Alert], runbooks: str) -> dict[str, Any]:
    return {"name": "ixt.alerts", "rules": [_rule(alert, runbooks) for alert in found]}


def _rule(alert: Alert, runbooks: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.wait,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.first,
            "runbook_url": f"{runbooks}/{alert.name}.md",
        },
    }


def file() -> str:
    """Rules for a Prometheus that reads files, with the default thresholds."""
    return _file(alerts_group())


def file_of_runs() -> str:
    """The same for `ixt run`, which has no operator that could be missing."""
    return _file(_group(alerts_of_runs(), RUNBOOKS))


def _file(group: dict[str, Any]) -> str:
    return f"# {GENERATED}\n" + dump({"groups": [recordings_group(), group]})


HEAD = """\
{{- /* Generated: make dashboards */ -}}
{{- if or .Values.alerts.enabled (and .Values.dashboards.enabled .Values.metrics.monitors.enabled) }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "ixt.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "ixt.labels" . | nindent 4 }}
    {{- with .Values.alerts.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  groups:
"""


def template() -> str:
    """The chart's template: thresholds and the address of runbooks are its values."""
    every = _escaped(_listed(recordings_group()))
    alarms = _escaped(_listed(alerts_group(lambda name: f"<thresholds.{name}>", "<runbooks>")))
    end = "{{- end }}\n"
    return f"{HEAD}{every}    {{{{- if .Values.alerts.enabled }}}}\n{alarms}    {end}{end}"


def _listed(group: dict[str, Any]) -> str:
    return "".join(f"    {line}\n" for line in dump([group]).splitlines())


def _escaped(text: str) -> str:
    """Text in which helm leaves Prometheus' templates alone and fills in the values that `<…>` names."""
    text = re.sub(r"{{.*?}}", lambda found: "{{ `" + found[0] + "` }}", text, flags=re.DOTALL)
    return re.sub(r"<(thresholds\.\w+|runbooks)>", r"{{ .Values.alerts.\1 }}", text)
