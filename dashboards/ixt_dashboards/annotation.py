"""The part of a run's dashboard about annotation: what the judge makes of the documents, and how it fares."""

from ixt_dashboards import foreign, look, panels
from ixt_dashboards.page import Section
from ixt_dashboards.panels import Query, Style, lines, now
from ixt_dashboards.queries import RATE, STEP, buckets, by, in_stage, last, per_second, rate, series
from ixt_workloads.contract import metrics as m

INVALID = f'result!="{m.DocumentResult.OK}"'
ANNOTATES = 'kind="Annotate"'
GATES = 'gate=~"Invalid|Overlap"'
SERVED = ('namespace="$namespace"', f'{foreign.JUDGE_RUN}="$run"')
"""Matchers of the judges of the run that a dashboard shows: they are scraped from their pods."""
TYPES = {
    "prompt": "blue",
    "cached": look.IDLE,
    "reasoning": "purple",
    "feedback": look.GOOD,
    "wasted": look.BAD,
}


def _share(*matchers: str) -> str:
    whole, part = (
        by(["stage"], by((*STEP, "result"), rate(m.DOCUMENTS, *in_stage(*more), window="30m")), "sum")
        for more in ((), matchers)
    )
    # Results that there were none of yet are no series.
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def annotation() -> Section:
    """The row."""
    idle = "No judge works in this time"
    score_buckets = by(["le"], by((*STEP, "le"), last(buckets(m.SCORES), *in_stage())), "sum")
    prepared = by(["level"], by((*STEP, "level"), last(m.PREPARED_DOCUMENTS, *in_stage())), "sum")
    return Section("Annotation", (
        lines(
            "Documents", "Documents a second by what came of asking the judge.",
            [Query(per_second(m.DOCUMENTS, "result"), "{{result}}")],
            Style(decimals=1, low=0, colours=look.DOCUMENTS, empty=idle), (12, 8), stacked=True,
        ),
        lines(
            "Invalid share and copied share", "Documents without valid feedback, over half an hour, and "
            "8-grams of the "
            "critiques that stand in their documents; with the gates beyond which the run fails.",
            [
                Query(_share(INVALID), "{{stage}} invalid"),
                Query(by(["stage"], series(m.OVERLAP, *in_stage())), "{{stage}} copied"),
                Query(by(["gate"], series(m.STEP_GATE, *in_stage(GATES))), "Gate {{gate}}"),
            ],
            Style("percentunit", low=0, colours={"Gate Invalid": look.BAD, "Gate Overlap": look.FAIR},
            empty=idle), (12, 8),
        ),
        panels.bars(
            "Scores", "Documents by raw score, up to each bound, of all that are judged so far. Scores that "
            "pile up in one "
            "place teach nothing.",
            [Query(score_buckets, "{{le}}", panels.HEATMAP, now=True)],
            Style(decimals=0, low=0, empty="No document is judged yet"), (12, 8), upright=True,
        ),
        panels.heat(
            "Scores over time", "Documents by raw score, as they were judged: a judge that changes its mind "
            "shows.",
            by(["le"], by((*STEP, "le"),
            f"increase({series(buckets(m.SCORES), *in_stage(), window=RATE)})"), "sum"),
            Style(empty=idle), (12, 8),
        ),
        lines(
            "Tokens of the judge", "Tokens a second by type. Those that are cached are part of the "
            "prompt's; wasted are "
            "those of answers that were not valid.",
            [Query(per_second(m.TOKENS, "type"), "{{type}}")],
            Style(low=0, colours=TYPES, empty=idle), (8, 8),
        ),
        lines(
            "Requests to the judge", "Open at the clients; running and waiting at the servers, as clients "
            "and vLLM count "
            "them. Many that wait: more replicas would help.",
            [
                Query(by(["state"], by((*STEP, "state"), series(m.REQUESTS_OPEN, *in_stage(ANNOTATES))),
                "sum"), "{{state}}"),
                Query(by((), series(foreign.VLLM_RUNNING, *SERVED), "sum"), "vLLM running"),
                Query(by((), series(foreign.VLLM_WAITING, *SERVED), "sum"), "vLLM waiting"),
            ],
            Style(decimals=0, low=0, empty=idle), (8, 8),
        ),
        lines(
            "Replicas and their KV cache", "Replicas of the judge by state, and how full the fullest KV "
            "cache is.",
            [
                Query(by(["stage", "state"], series(m.SERVER_REPLICAS, *in_stage())), "{{stage}} {{state}}"),
                Query(by((), series(foreign.VLLM_KV_CACHE, *SERVED)), "KV cache"),
            ],
            Style(decimals=0, low=0, overrides={"KV cache": {
                "unit": "percentunit", "max": 1, "custom.axisPlacement": "right", "color": {"mode": "fixed",
                "fixedColor": "purple"},
            }}, empty=idle), (8, 8),
        ),
        lines(
            "Sent again, and cut", "Requests a second that were sent again by why, and documents that were "
            "cut to fit the "
            "judge's context.",
            [
                Query(per_second(m.RETRIES, "reason", ANNOTATES), "{{reason}}"),
                Query(by((), by(STEP, rate(m.DOCUMENTS_CUT, *in_stage())), "sum"), "Cut"),
            ],
            Style(low=0, empty="None"), (8, 8),
        ),
        panels.bars(
            "Prepared documents by level", "Documents by the level that their score became; those without "
            "feedback have none.",
            [now(f'label_replace({prepared}, "level", "none", "level", "")', "Level {{level}}")],
            Style(low=0, empty="Nothing is prepared in this time"), (8, 8),
        ),
        lines(
            "Prepared tokens by type", "Tokens of packed sequences: of documents, of the feedback before "
            "them, and padding.",
            [
                Query(by(["type"], by((*STEP, "type"), series(m.PREPARED_TOKENS, *in_stage())), "sum"),
                "{{type}}"),
                Query(by((), by(STEP, series(m.CONVERSATIONS_CUT, *in_stage())), "sum"), "Cut conversations"),
            ],
            Style(decimals=1, low=0, colours={"Padding": look.IDLE}, empty="Nothing is prepared in this "
            "time"), (8, 8),
        ),
    ))  # fmt: skip
