"""The part of a run's dashboard about rounds: what a policy answers, how right that is, and how it fares."""

from ixt_dashboards import look
from ixt_dashboards.page import Section
from ixt_dashboards.panels import Query, Style, lines
from ixt_dashboards.queries import STEP, by, in_arms, in_stage, per_second, rate, series
from ixt_workloads.contract import metrics as m

ARM = ("stage", "arm")
GENERATES = 'kind="Generate"'
HELD_OUT = 'task="held-out prompts"'
PROMPTS = {
    m.PromptResult.ANSWERED: look.GOOD,
    m.PromptResult.TOO_LONG: look.FAIR,
    m.PromptResult.TEMPLATE: "purple",
    m.PromptResult.REFUSED: look.BAD,
}
SAMPLES = {
    m.SampleResult.COMPLETE: look.GOOD,
    m.SampleResult.CUT: look.FAIR,
    m.SampleResult.EMPTY: look.BAD,
}
VERDICTS = {
    m.VerifierResult.RIGHT: look.GOOD,
    m.VerifierResult.WRONG: look.FAIR,
    m.VerifierResult.NOT_APPLICABLE: look.IDLE,
    m.VerifierResult.RAISED: look.BAD,
    m.VerifierResult.TIMED_OUT: "purple",
    m.VerifierResult.NO_VERDICT: "dark-red",
}
TYPES = {"prompt": "blue", "cached": look.IDLE, "completion": look.GOOD}


def rounds() -> Section:
    """The row."""
    idle = "No policy answers in this time"
    unverified = "No answer is verified in this time"
    return Section("Rounds", (
        lines(
            "Round", "The newest round that has begun, of how many, by stage.",
            [
                Query(by(["stage"], series(m.STAGE_ROUND, *in_stage())), "{{stage}}"),
                Query(by(["stage"], series(m.STAGE_ROUNDS, *in_stage())), "{{stage}} in all"),
            ],
            Style(decimals=0, low=0, empty="No stage has rounds"), (12, 6),
        ),
        lines(
            "Time left in rounds", "Seconds until a stage's rounds are done, if each takes as long as the "
            "last one.",
            [Query(by(["stage"], series(m.STAGE_ETA, *in_stage())), "{{stage}}")],
            Style("s", low=0, empty="No round is done yet, or all are"), (12, 6),
        ),
        lines(
            "Right answers", "Share of the newest round's answers that the verifier finds right, by arm: it "
            "should rise from round to round.",
            [Query(by(ARM, series(m.RIGHT, *in_arms()), "avg"), "{{stage}} {{arm}}")],
            Style("percentunit", low=0, high=1, empty=unverified), (12, 8),
        ),
        lines(
            "Held-out prompts solved", "Share of the answers to held-out prompts that are right (pass@1), by "
            "arm and by what the model is asked for, after each round.",
            [Query(by((*ARM, "prefix"), series(m.SCORE, *in_arms(HELD_OUT)), "avg"),
            "{{stage}} {{arm}} {{prefix}}")],
            Style("percentunit", low=0, high=1, empty="No round is evaluated yet"), (12, 8),
        ),
        lines(
            "Answers by verdict", "Answers a second by what the verifier said; those that it raised on, took "
            "too long for or "
            "ended at are invalid.",
            [Query(per_second(m.VERIFIED, "result"), "{{result}}")],
            Style(decimals=1, low=0, colours=VERDICTS, empty=unverified), (12, 8), stacked=True,
        ),
        lines(
            "Judge against verifier", "Share of the newest round's answers on which the judge says the "
            "opposite of the "
            "verifier, and of its critiques that quote the reference; with the gates beyond which the run "
            "fails.",
            [
                Query(by(ARM, series(m.CONTRADICTED, *in_arms())), "{{stage}} {{arm}} contradicts"),
                Query(by(ARM, series(m.QUOTED, *in_arms())), "{{stage}} {{arm}} quotes"),
                Query(by(["gate"], series(m.STEP_GATE, *in_stage('gate=~"Contradiction|Quoting"'))),
                "Gate {{gate}}"),
            ],
            Style("percentunit", low=0, colours={"Gate Contradiction": look.BAD, "Gate Quoting": look.FAIR},
            empty=unverified), (12, 8),
        ),
        lines(
            "Prompts", "Prompts a second by what came of having the policy answer them.",
            [Query(per_second(m.PROMPTS, "result"), "{{result}}")],
            Style(decimals=1, low=0, colours=PROMPTS, empty=idle), (8, 8), stacked=True,
        ),
        lines(
            "Samples", "Answers a second by how they ended. Many that are cut: raise rollout.maxTokens.",
            [Query(per_second(m.SAMPLES, "result"), "{{result}}")],
            Style(decimals=1, low=0, colours=SAMPLES, empty=idle), (8, 8), stacked=True,
        ),
        lines(
            "Prompts whose answers are all alike", "Share of the prompts that have an answer: a policy that "
            "says one thing only "
            "has nothing left to learn from itself.",
            [Query(
                f"{by(ARM, by(STEP, rate(m.ALIKE, *in_arms(), window='30m')), 'sum')} / "
                f"({by(ARM, by(STEP, rate(m.PROMPTS, *in_arms(_is_answered()), window='30m')), 'sum')} > 0)",
                "{{stage}} {{arm}}",
            )],
            Style("percentunit", low=0, high=1, empty=idle), (8, 8),
        ),
        lines(
            "Tokens of the policy", "Tokens a second by type. Those that are cached are part of the "
            "prompts'.",
            [Query(per_second(m.GENERATED_TOKENS, "type"), "{{type}}")],
            Style(low=0, colours=TYPES, empty=idle), (12, 8),
        ),
        lines(
            "Requests to the policy", "Open at the clients; running and waiting at the servers, as clients "
            "count them; and those "
            "a second that were sent again by why.",
            [
                Query(by(["state"], by((*STEP, "state"), series(m.REQUESTS_OPEN, *in_stage(GENERATES))),
                "sum"), "{{state}}"),
                Query(per_second(m.RETRIES, "reason", GENERATES), "Again: {{reason}}"),
            ],
            Style(decimals=1, low=0, empty=idle), (12, 8),
        ),
    ), collapsed=True)  # fmt: skip


def _is_answered() -> str:
    return f'result="{m.PromptResult.ANSWERED}"'
