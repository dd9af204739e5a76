"""The report: the maths of its verdict, and the page that people read."""

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from make.lanes import ARMS, BASIC, Arm, Invented, invent
from make.tasks import run_step, task

from ixt_workloads.card import card
from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.exported import ExportQuestion
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import MAX_GAINS, MAX_RESULT_BYTES, GainMeasure, Outcome, Result
from ixt_workloads.contract.settings import Method, StageType
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.report.__main__ import gains_of, run
from ixt_workloads.steps.report.curves import Comparison, Curve, band, compare, flops_to, quality_at
from ixt_workloads.steps.report.doubts import doubts
from ixt_workloads.steps.report.lines import limits, spread
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.numbers import flops, percent, ratio
from ixt_workloads.steps.report.verdict import Contender, Verdict, judge
from ixt_workloads.store import Artifact, open_store

# --- curves ---

QUALITIES = st.floats(0, 1, width=32)


@st.composite
def curves(draw: st.DrawFn, least: int = 1) -> Curve:
    steps = draw(st.lists(st.integers(1, 1000), min_size=least, max_size=12))
    places = [sum(steps[: end + 1]) * 1e12 for end in range(len(steps))]
    return Curve(tuple(places), tuple(draw(QUALITIES) for _ in places))


def at_once(curve: Curve, found: Comparison) -> bool:
    """Whether a curve is at the target at its first evaluation: when it got there nobody knows."""
    return curve.quality[0] >= found.target


@given(curves(least=2))
def test_a_curve_against_itself_gains_nothing(curve: Curve) -> None:
    found = compare(curve, curve)
    assert found.gain == 0
    assert found.flops_ratio == (None if at_once(curve, found) else 1)
    assert found.reached


@given(curves(least=2), st.floats(0.01, 100))
def test_the_same_curve_at_other_cost_has_that_ratio(curve: Curve, factor: float) -> None:
    other = Curve(tuple(place * factor for place in curve.flops), curve.quality)
    found = compare(other, curve)
    assert found.flops_ratio == (None if at_once(curve, found) else pytest.approx(factor))


@given(curves(), curves())
def test_a_quality_that_is_not_reached_has_no_cost(arm: Curve, baseline: Curve) -> None:
    assume(max(arm.quality) < max(baseline.quality))
    found = compare(arm, baseline)
    assert not found.reached
    assert found.flops_ratio is None


@given(curves(), QUALITIES)
def test_the_first_crossing_is_where_the_quality_is(curve: Curve, quality: float) -> None:
    place = flops_to(curve, quality)
    if place is None:
        assert max(curve.quality) < quality
    elif place > curve.flops[0]:
        assert quality_at(curve, place) == pytest.approx(quality, abs=1e-6)


@given(curves(), QUALITIES, QUALITIES)
def test_more_quality_never_costs_less(curve: Curve, one: float, other: float) -> None:
    low, high = (flops_to(curve, quality) for quality in sorted((one, other)))
    assert high is None or (low is not None and low <= high)


@given(curves(), st.floats(0, 2e16))
def test_between_its_points_a_curve_stays_within_their_range(curve: Curve, place: float) -> None:
    found = quality_at(curve, place)
    assert (found is None) == (not curve.flops[0] <= place <= curve.flops[-1])
    assert found is None or min(curve.quality) - 1e-9 <= found <= max(curve.quality) + 1e-9


def test_quality_is_compared_where_both_curves_are() -> None:
    arm, baseline = Curve((3, 4), (0.5, 0.9)), Curve((1, 2), (0.1, 0.6))
    found = compare(arm, baseline)
    assert found.flops is None
    assert found.gain is None
    assert found.flops_ratio == pytest.approx(3.25 / 2)


def test_single_points_say_nothing_about_cost() -> None:
    found = compare(Curve((2,), (0.9,)), Curve((1,), (0.6,)))
    assert found.reached
    assert found.flops_ratio is None


@given(st.lists(curves(), min_size=1, max_size=4))
def test_the_mean_of_seeds_lies_in_their_range(seeds: list[Curve]) -> None:
    found = band(seeds)
    for low, mean, high in zip(found.low, found.mean, found.high, strict=True):
        assert low - 1e-9 <= mean <= high + 1e-9


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [
        ([(0.1, 0.3, 0.5, 0.7, 0.9)], 0),  # a rise is no noise
        ([(0.3, 0.1, 0.6, 0.6, 0.6)], 0),  # nor is what happens in the first half
        ([(0.1, 0.6, 0.7, 0.6, 0.7)], 0.1),
        ([(0.1, 0.6, 0.5, 0.4, 0.3)], 0),  # nor is a fall, which is over-fitting
        ([(0.6,)], 0),
        ([(0.1, 0.5), (0.3, 0.7)], 0.02**0.5),
        ([(0.1, 0.3, 0.5), (0.9, 0.3, 0.5)], 0),
    ],
)
def test_the_spread_is_that_of_later_evaluations(seeds: list[tuple[float, ...]], spread: float) -> None:
    found = band([Curve(tuple(range(1, len(values) + 1)), values) for values in seeds])
    assert found.spread == pytest.approx(spread)


@pytest.mark.parametrize(
    "values", [(0.2, 0.5, 0.6, 0.7, 0.6), (0.2, 0.5, 0.7, 0.6, 0.7), (0.2, 0.7, 0.6, 0.7, 0.6)]
)
def test_a_lucky_evaluation_of_the_baseline_does_not_decide_what_the_target_costs(
    values: tuple[float, ...],
) -> None:
    """The same level with noise of the same size, wherever its peaks are."""
    plain = band([Curve((1, 2, 3, 4, 5), values)])
    arm = Curve((1, 2, 3, 4, 5), (0.2, 0.65, 0.68, 0.65, 0.66))
    assert not compare(arm, plain.curve).reached
    found = compare(arm, plain.curve, plain.spread)
    assert found.target == pytest.approx(0.7 - plain.spread)
    assert 0.58 < found.target < 0.65
    assert found.flops_ratio == pytest.approx(1, rel=0.5)


@given(curves())
def test_the_mean_of_one_seed_is_that_seed(curve: Curve) -> None:
    assert band([curve]).curve == curve


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_labels_keep_their_order_and_their_distance(wanted: list[float]) -> None:
    placed = spread(wanted, 11, 100)
    for one, other in zip(sorted(placed), sorted(placed)[1:], strict=False):
        assert other - one >= 11 - 1e-9
    assert min(placed) > -1e-9
    assert max(placed) < 100 + 1e-9
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    assert [placed[index] for index in order] == sorted(placed)


def test_an_axis_makes_no_trend_of_a_few_right_answers() -> None:
    low, high = limits([[0.0, 0.0025, 0.0], [0.0, 0.005]], Measure.ACCURACY)
    assert low <= 0 and high >= 0.1


def test_the_loss_before_training_does_not_flatten_what_follows() -> None:
    low, high = limits([[6.5, 1.5, 1.0], [6.5, 1.4, 1.1]], Measure.LOG_PROBABILITY)
    assert 0.9 < low < 1.0 and 1.5 < high < 1.6
    low, high = limits([[1.2, 1.1, 0.9]], Measure.LOG_PROBABILITY)
    assert low < 0.9 and high > 1.2


def test_numbers_read_as_people_write_them() -> None:
    assert flops(3.14e15) == "3.1\u00a0×\u00a010¹⁵"
    assert flops(9.99e8) == "1.0\u00a0×\u00a010⁹"
    assert (flops(0), flops(None)) == ("0", "–")
    assert [ratio(value) for value in (0.4512, 1.31, 17.2, 0.0031)] == ["0.45", "1.3", "17", "0.0031"]
    assert [percent(value) for value in (15, 3.42, 0.071)] == ["15\u202f%", "3.4\u202f%", "0.07\u202f%"]


# --- verdict ---


def contender(name: str, method: Method, *seeds: tuple[float, ...], start: int = 0) -> Contender:
    found = {
        seed: Curve(tuple(start + 1.0 + place for place in range(len(values))), values)
        for seed, values in enumerate(seeds)
    }
    return Contender(name, method, "Best" if method is Method.CONDITIONED else "None", start, found)


def verdict(*values: Contender) -> Verdict:
    return judge(values, Measure.ACCURACY)


PLAIN = contender("plain", Method.NEXT_TOKEN, (0.2, 0.4, 0.6))


def test_a_gain_is_told_with_its_price() -> None:
    found = verdict(PLAIN, contender("ixt", Method.CONDITIONED, (0.3, 0.9, 0.9)))
    assert "ixt (asked for the best) reaches 0.90 accuracy against 0.60" in found.headline
    reached = "it reaches plain’s best within its spread, 0.60, with 0.50 of the FLOPs, annotation included"
    assert reached in found.headline
    assert found.seeds.startswith("One seed: ")
    assert "no claim" in found.seeds


def test_a_loss_is_told_as_plainly() -> None:
    found = verdict(PLAIN, contender("ixt", Method.CONDITIONED, (0.1, 0.2, 0.3)))
    assert (
        "reaches 0.30 accuracy against 0.60; it does not reach plain’s best within its spread, 0.60."
        in found.headline
    )


def test_a_gain_that_costs_more_than_it_saves_is_told() -> None:
    late = contender("ixt", Method.CONDITIONED, (0.2, 0.3, 0.5, 0.7))
    needed = "to reach plain’s best within its spread, 0.60, it needs 1.2 times the FLOPs"
    assert needed in verdict(PLAIN, late).headline


def test_annotation_that_costs_more_than_the_whole_baseline_is_told() -> None:
    dear = contender("ixt", Method.CONDITIONED, (0.9, 0.9), start=50)
    found = verdict(PLAIN, dear).headline
    assert "ixt spends 5.0\u00a0×\u00a010¹ FLOPs before it trains, more than plain in all" in found


def test_the_price_is_that_of_the_best_less_its_spread() -> None:
    plain = contender("plain", Method.NEXT_TOKEN, (0.2, 0.6, 0.6, 0.66, 0.6))
    ixt = contender("ixt", Method.CONDITIONED, (0.3, 0.65, 0.65, 0.65, 0.65))
    found = verdict(plain, ixt)
    assert "it reaches plain’s best within its spread, 0.60" in found.headline
    assert "plain’s best, 0.66, given way by its spread, 0.06," in found.equal_quality
    assert "how far its evaluations lie from the middle of their neighbours" in found.equal_quality
    plain = contender("plain", Method.NEXT_TOKEN, (0.2, 0.5), (0.2, 0.6))
    ixt = contender("ixt", Method.CONDITIONED, (0.3, 0.5), (0.3, 0.5))
    found = verdict(plain, ixt)
    assert "to reach plain’s best within its spread, 0.48, it needs" in found.headline
    assert "plain’s best, 0.55, given way by its spread, 0.07," in found.equal_quality
    assert "the standard deviation among its 2 seeds" in found.equal_quality


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(1, "One seed"), (3, "Fewer than 5 seeds are not enough"), (5, "every seed agrees on its sign")],
)
def test_claims_need_seeds(seeds: int, said: str) -> None:
    plain = contender("plain", Method.NEXT_TOKEN, *[(0.2, 0.5 + seed / 100) for seed in range(seeds)])
    ixt = contender("ixt", Method.CONDITIONED, *[(0.4, 0.8 - seed / 100) for seed in range(seeds)])
    assert said in verdict(plain, ixt).seeds


def test_seeds_that_disagree_are_told() -> None:
    plain = contender("plain", Method.NEXT_TOKEN, *[(0.2, 0.5)] * 5)
    ixt = contender("ixt", Method.CONDITIONED, *[(0.2, 0.45 + seed / 40) for seed in range(5)])
    assert "do not agree on its sign" in verdict(plain, ixt).seeds


def test_a_stronger_baseline_and_the_control_are_named() -> None:
    ixt = contender("ixt", Method.CONDITIONED, (0.3, 0.9, 0.9))
    annealed = contender("annealed", Method.ANNEALED, (0.2, 0.3, 0.95))
    shuffled = contender("shuffled", Method.SHUFFLED, (0.3, 0.8, 0.85))
    notes = " ".join(verdict(PLAIN, ixt, annealed, shuffled).notes)
    assert "annealed is ahead at these FLOPs, with 0.95 accuracy" in notes
    assert "the gain is 0.25 instead of 0.30: most of it does not come from the feedback" in notes


def test_without_arms_or_evaluation_there_is_no_verdict() -> None:
    assert "compared with nothing" in verdict(PLAIN).headline
    assert "no verdict" in verdict().headline


# --- the page ---


class Page(HTMLParser):
    """Text, tags and addresses of a page, as a browser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self._text: list[str] = []
        self.feed(html)
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._text.append(" ")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self._text.append(data)


def reported(made: Invented) -> Artifact:
    """The report of a run, made in this process."""
    asked = task(made.config, made.storage, made.inputs)
    store = open_store(asked.storage)
    result = run(Step(task=asked, index=0, store=store, reporter=Reporter()))
    return Artifact.open(store, result.key)


def page_of(report: Artifact) -> Page:
    return Page(report.file("report.html").read_text())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Invented, Artifact]:
    """Five arms with three seeds, reported by a process of its own."""
    folder = tmp_path_factory.mktemp("full")
    made = invent(folder / "store", ARMS, seeds=(0, 1, 2))
    ran = run_step(task(made.config, made.storage, made.inputs), folder)
    assert (ran.code, ran.result.outcome) == (Exit.OK, Outcome.COMMITTED), ran.log
    assert "Fewer than 5 seeds are not enough for a claim" in ran.result.message
    return made, Artifact.open(open_store(f"file://{made.storage}"), ran.result.key)


def test_the_page_says_what_was_left_out_of_training(full: tuple[Invented, Artifact]) -> None:
    text = page_of(full[1]).text
    assert "Left out of every arm’s training: 2 with 13 words in a row in common with task sums." in text
    assert "1 questions are shorter than that, and were not looked for." in text
    assert "Not looked for in these documents: sums." in text
    assert "3 held-out documents are left out of the evaluation" in text


def test_the_page_shows_intervals_and_the_words_that_follow(full: tuple[Invented, Artifact]) -> None:
    made = json.loads(full[1].file("report.json").read_text())["stages"][0]["verdict"]
    found = made["comparisons"]["conditioned"]
    assert found["gainInterval"]["low"] < found["gain"] < found["gainInterval"]["high"]
    assert found["ratioInterval"]["low"] <= found["flopsRatio"] <= found["ratioInterval"]["high"]
    assert found["word"] == "better"
    assert "(better: a gain of 0.3" in made["headline"]


def test_the_page_names_the_places_of_models(full: tuple[Invented, Artifact]) -> None:
    made, report = full
    trained = {name: key for name, key in made.inputs.items() if "/train/" in name}
    assert trained
    text = page_of(report).text
    assert all(f"{name}: artifacts/{key}" in text for name, key in trained.items())


def summary(made: Invented, node: str) -> dict[str, Any]:
    return Artifact.open(open_store(f"file://{made.storage}"), made.inputs[node]).summary


def test_the_page_shows_the_numbers_of_the_artifacts(full: tuple[Invented, Artifact]) -> None:
    made, report = full
    page, found = page_of(report), report.read_json("report.json")
    arms = {arm["name"]: arm for arm in found["stages"][0]["arms"]}
    store = open_store(f"file://{made.storage}")
    ends = [
        Artifact.open(store, made.inputs[f"pretrain/evaluate/conditioned-s{seed}"]).read_json(
            "evaluation.json"
        )
        for seed in range(3)
    ]
    best = sum(end["scores"]["tasks"]["sums"]["Best"]["accuracy"] for end in ends) / 3
    assert arms["conditioned"]["accuracy"]["Best"] == pytest.approx(best)
    assert f"{best:.3f}" in page.text
    band = summary(made, "pretrain/annotate/0-15")
    assert flops(band["flops"]).replace("\u00a0", " ") in page.text
    assert arms["conditioned"]["flops"]["annotation"] == band["flops"]
    assert all(key[:16] in page.text for key in made.inputs.values())
    assert "What is 12 plus 30? level 5 It is 42." in page.text
    assert "Every column is added correctly" in page.text
    assert "17 exact duplicates were dropped, 3 for empty, 1 for utf8" in page.text


def test_an_arm_pays_for_all_it_uses_before_its_curve_starts(full: tuple[Invented, Artifact]) -> None:
    made, report = full
    arms = {arm["name"]: arm for arm in report.read_json("report.json")["stages"][0]["arms"]}
    both = [summary(made, f"pretrain/annotate/{name}")["flops"] for name in ("0-15", "15-40")]
    assert arms["filtered"]["flops"]["annotation"] == sum(both)
    assert arms["next-token"]["flops"]["annotation"] == 0
    trained = summary(made, "pretrain/train/filtered-s0")["flops"]
    curve = arms["filtered"]["curves"]["Accuracy"][0]
    assert curve["flops"][0] > sum(both)
    assert curve["flops"][-1] == sum(both) + trained
    assert sum(arms["filtered"]["flops"]["annotationByKind"].values()) == pytest.approx(sum(both))


FIELDS = Path(__file__).parents[1] / "golden" / "report-fields.json"
BY_NAME = {
    "Accuracy", "LogProbability", "accuracy", "axes", "comparisons", "dropped", "fingerprint", "flopsByKind",
    "leftOut", "levelCounts", "levels", "logProbability", "nll", "prepared", "scores", "sources", "tasks",
}  # fmt: skip
"""Fields whose values are by names of arms, levels, tasks and the like, or are those of another step."""


def fields_of(value: Any, path: str = "") -> set[str]:
    """Paths of all fields in a JSON value."""
    if isinstance(value, list):
        return set().union(*(fields_of(each, path) for each in value))
    if not isinstance(value, dict):
        return {path}
    by_name = path.rpartition(".")[2] in BY_NAME
    return {path}.union(*(fields_of(v, f"{path}.{'*' if by_name else name}") for name, v in value.items()))


def test_what_a_report_holds_is_what_its_version_says(full: tuple[Invented, Artifact]) -> None:
    """A report that is there is not made again: one with other fields is of another version."""
    found = {
        "version": KINDS["Report"].version,
        "files": sorted({re.sub(r".*\.png", "*.png", path) for path in full[1].paths}),
        "fields": sorted(fields_of(full[1].read_json("report.json")) - {""}),
    }
    if os.environ.get("IXT_GOLDEN") == "write":
        FIELDS.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(FIELDS.read_text())
    assert found == golden, (
        "raise the version of Report in contract/kinds.py, then write the file: IXT_GOLDEN=write"
        if found["version"] == golden["version"] else "write the file: IXT_GOLDEN=write"
    )  # fmt: skip


def test_pictures_lie_beside_the_page(full: tuple[Invented, Artifact]) -> None:
    _, report = full
    pictures = {path for path in report.paths if path.endswith(".png")}
    assert pictures == {
        f"{what}-pretrain.png" for what in ("accuracy", "loss", "cost", "training", "control", "feedback")
    }
    assert all(report.file(path).read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_the_page_needs_nothing_from_outside(full: tuple[Invented, Artifact]) -> None:
    html = full[1].file("report.html").read_text()
    page = Page(html)
    assert "script" not in page.tags
    assert all(address.startswith("#") for address in page.addresses)
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html


def test_the_same_artifacts_give_the_same_report(tmp_path: Path) -> None:
    one, other = (reported(invent(tmp_path / name)) for name in ("one", "other"))
    assert one.key == other.key
    assert one.manifest.content_hash == other.manifest.content_hash


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = ' </title></svg></style><script>alert(1)</script><img src=x onerror="alert(2)">$\\frac{ {{7*7}}'
    page = page_of(reported(invent(tmp_path, text=hostile, points=2)))
    assert not page.tags & {"script", "img"}
    assert not page.handlers
    # Title, documents, critiques, reasoning and generations.
    assert page.text.count(" ".join(hostile.split())) >= 5


def test_later_stages_add_to_the_flops_of_earlier_ones(tmp_path: Path) -> None:
    stages = {"pretrain": StageType.PRETRAIN, "sft": StageType.SFT}
    report = reported(invent(tmp_path, stages=stages, points=3))
    found = report.read_json("report.json")
    first, second = ({arm["name"]: arm for arm in stage["arms"]} for stage in found["stages"])
    for name, arm in second.items():
        assert arm["flops"]["before"] == first[name]["flops"]["total"]
        assert arm["curves"]["Accuracy"][0]["flops"][0] > arm["flops"]["before"] + arm["flops"]["annotation"]
    assert found["verdictOf"] == "sft"
    assert found["headline"].startswith("Stage sft: At ")
    page = page_of(report)
    assert " ".join(found["headline"].split()) in page.text
    assert "sft is the last stage that was evaluated" in page.text
    assert report.summary["verdict"].startswith("Stage sft: At ")


def test_lanes_that_failed_are_named_and_the_others_compared(tmp_path: Path) -> None:
    made = invent(tmp_path / "store", ARMS[:2], seeds=(0, 1))
    lanes = tuple(lane for lane in made.config.lanes if (lane.arm, lane.seed) != (ARMS[0].name, 1))
    less = made.config.model_copy(update={"lanes": lanes, "missing": (f"{ARMS[0].name}-s1",)})
    inputs = {name: made.inputs[name] for lane in lanes for name in lane.nodes}
    report = reported(dataclasses.replace(made, config=less, inputs=inputs))
    assert f"Lanes that failed: {ARMS[0].name}-s1." in page_of(report).text
    seeds = {arm["name"]: arm["seeds"] for arm in report.read_json("report.json")["stages"][0]["arms"]}
    assert seeds == {ARMS[0].name: [0], ARMS[1].name: [0, 1]}


def test_what_arms_gain_is_told_with_the_result(full: tuple[Invented, Artifact]) -> None:
    report = full[1].read_json("report.json")
    verdict = report["stages"][0]["verdict"]
    gains = gains_of(report)
    assert {each.arm: each.gain for each in gains} == {
        arm: found["gain"] for arm, found in verdict["comparisons"].items()
    }
    assert {(each.stage, each.baseline, each.measure) for each in gains} == {
        ("pretrain", "next-token", "Accuracy")
    }
    assert len(gains) == 4
    assert get_args(GainMeasure) == tuple(Measure)


def test_a_report_of_many_stages_tells_the_gains_of_its_verdict(
    full: tuple[Invented, Artifact],
) -> None:
    report = full[1].read_json("report.json")
    stages = [{**report["stages"][0], "name": f"stage-{number}"} for number in range(16)]
    gains = gains_of({**report, "stages": stages, "verdictOf": "stage-15"})
    assert len(gains) == MAX_GAINS
    assert {each.stage for each in gains[:4]} == {"stage-15"}
    message = Result(outcome=Outcome.COMMITTED, key="k" * 32, message="m" * 300, gains=gains)
    longest = {"stage": "s" * 24, "arm": "a" * 24, "baseline": "b" * 24}
    told = message.model_copy(update={"gains": tuple(each.model_copy(update=longest) for each in gains)})
    assert len(json.dumps(told.model_dump(mode="json", exclude_defaults=True))) <= MAX_RESULT_BYTES


def test_a_run_that_compares_nothing_tells_no_gain(tmp_path: Path) -> None:
    assert gains_of(reported(invent(tmp_path, BASIC[:1], points=4)).read_json("report.json")) == ()


def test_a_run_without_judge_tasks_or_evaluations_has_a_page(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, ARMS[:1], tasks=(), points=0)))
    assert "next-token is the only arm that was evaluated" in page.text
    assert "No arm of this stage uses feedback" in page.text
    assert "No task with right answers was given" in page.text


def test_without_tasks_arms_are_compared_by_held_out_documents(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, tasks=(), points=4)))
    assert "nats a token on held-out documents against" in page.text


def test_tasks_of_the_harness_are_compared_at_the_ends(tmp_path: Path) -> None:
    # Without annotation both arms end at the same FLOPs.
    arms = [BASIC[0], BASIC[1]._replace(percent=0)]
    report = reported(invent(tmp_path, arms, points=4, harness=True))
    text = page_of(report).text
    assert "On gsm8k of lm-evaluation-harness: At " in text
    assert "wikitext word_perplexity,none" in text
    stage = json.loads(report.file("report.json").read_text())["stages"][0]
    assert "gsm8k" in stage["notLookedFor"] and "Questions of gsm8k" in " ".join(stage["doubts"])
    verdict = stage["harness"]["verdict"]
    row = verdict["comparisons"][verdict["subject"]]
    # The same items as the questions', so the same gain and interval as theirs at the end.
    own = stage["verdict"]["comparisons"][verdict["subject"]]
    assert (row["gain"], row["gainInterval"]) == (own["gain"], own["gainInterval"])
    assert row["gainInterval"]["low"] < row["gain"] < row["gainInterval"]["high"]


def test_an_endpoint_of_unknown_size_is_not_counted_silently(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, endpoint=True, points=4)))
    assert "annotation not included, as its cost is not known" in page.text
    assert "its FLOPs are missing from every number here" in page.text


def test_arms_that_were_not_asked_for_the_best_are_compared_by_what_all_have(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, points=4, prefixes=("None", "Worst"))))
    assert "conditioned reaches a loss of" in page.text


def test_arms_of_one_method_are_told_apart(tmp_path: Path) -> None:
    arms = (*BASIC, Arm("conditioned-long-name-of-an-ablation", Method.CONDITIONED, 0.8, percent=40))
    report = reported(invent(tmp_path, arms, points=4))
    assert "conditioned-long-name-of-an-ablation" in page_of(report).text
    assert set(report.read_json("report.json")["stages"][0]["verdict"]["comparisons"]) == {
        "conditioned",
        "conditioned-long-name-of-an-ablation",
    }


def test_numbers_are_plain_json(full: tuple[Invented, Artifact]) -> None:
    text = full[1].file("report.json").read_text()
    assert json.loads(text)["title"] == "sums"
    assert "NaN" not in text


# --- what speaks against it ---


def test_over_fitting_is_said_and_a_rising_loss_has_no_price(tmp_path: Path) -> None:
    rising = BASIC[0]._replace(over_fits=0.6)
    report = reported(invent(tmp_path, (rising, BASIC[1]), tasks=(), points=10))
    stage = report.read_json("report.json")["stages"][0]
    row = stage["verdict"]["comparisons"]["conditioned"]
    assert (row["flopsRatio"], row["ratioInterval"]) == (None, None)
    assert row["whyNoRatio"] == "the held-out loss of next-token rises before its end"
    assert row["gain"] > 0
    page = page_of(report)
    assert "next-token over-fits: its held-out loss has risen from 2." in page.text
    assert "Equal quality: " not in page.text
    assert "FLOPs for next-token’s best" not in page.text
    held = {arm["name"]: arm["learning"]["heldOut"] for arm in stage["arms"]}
    assert held["next-token"]["least"] < held["next-token"]["last"]
    assert 40 <= held["next-token"]["atPercent"] <= 70
    assert not held["conditioned"]["rises"]


def stage_of(**changed: Any) -> dict[str, Any]:
    """A stage of one arm with nothing to doubt, changed."""
    arm = {
        "name": "ixt", "method": "Conditioned", "seeds": [0], "training": {"epochs": 1.0},
        "accuracy": {"Best": 0.9, "Worst": 0.2},
        "tasks": {"sums": {"items": 500}}, "levelCounts": {"1": 30, "2": 40, "3": 30}, "prepared": {},
        "learning": {"heldOut": None},
    }  # fmt: skip
    stage = {"verdict": {"subject": "ixt"}, "annotation": None, "notLookedFor": []}
    of_stage = {name: value for name, value in changed.items() if name in stage}
    arm |= {name: value for name, value in changed.items() if name not in stage}
    return {**stage, **of_stage, "arms": [arm]}


def held(*, rises: bool = True, over_fits: bool = True) -> dict[str, Any]:
    return {
        "heldOut": {
            "least": 1.8, "atPercent": 40.0, "last": 2.0, "rises": rises, "overFits": over_fits,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"training": {"epochs": 12.0}, "learning": held()},
         "ixt over-fits: its held-out loss has risen from 1.800 after 40\u202f% of the training to 2.000 "
         "nats a token at its end, after 12.0 epochs, while its training loss fell."),
        ({"learning": held(over_fits=False)}, "its training loss does not fall meanwhile"),
        ({"training": {"epochs": 5.0}}, "ixt reads its documents 5.0 times: beyond 4"),
        ({"accuracy": {"Best": 0.52, "Worst": 0.5}},
         "ixt is hardly better asked for the best (0.520) than for the worst (0.500)"),
        ({"levelCounts": {"1": 4, "2": 0, "3": 96}},
         "96\u202f% of the documents with feedback are of level 3 and none is of level 2."),
        ({"prepared": {"warnings": ["7 scores lie beyond the scale"]}}, "7 scores lie beyond the scale."),
        ({"annotation": {"warnings": [], "costKnown": False}}, "The judge’s size is not known"),
        ({"notLookedFor": ["sums"]}, "Questions of sums were not looked for"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_comparison_is_said_in_words(changed: dict[str, Any], said: str) -> None:
    (found,) = doubts(stage_of(**changed))
    assert said in found


def test_nothing_is_doubted_for_its_own_sake() -> None:
    assert doubts(stage_of(learning=held(rises=False))) == []
    assert doubts(stage_of(method="RejectionSampling", levelCounts={"1": 90, "2": 0, "5": 10})) == []


def test_the_comparison_stands_first_then_why_to_believe_it(full: tuple[Invented, Artifact]) -> None:
    text = page_of(full[1]).text
    headings = ["The comparison:", "Why to believe it, or not", "How they trained", "What was fed", "Lineage"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "2 reasons to doubt it, told after the comparison." in text
    assert "Doubt: filtered reads its documents 20.1 times" in text
    assert "Doubt: Questions of sums were not looked for" in text


def test_feedback_that_the_data_had_makes_no_table_of_zeros(tmp_path: Path) -> None:
    text = page_of(reported(invent(tmp_path, existing=True, points=4))).text
    assert "The feedback came with the data: no judge read anything, and annotation costs no FLOPs." in text
    assert "prompt, computed" not in text
    assert "the judge saw only" not in text
    plain = page_of(reported(invent(tmp_path / "plain", ARMS[:1], points=4))).text
    for column in ("Annotation FLOPs", "With feedback", "Feedback tokens", "Masked tokens", "Best − worst"):
        assert column not in plain


def test_a_phone_has_charts_of_its_own(full: tuple[Invented, Artifact]) -> None:
    html = full[1].file("report.html").read_text()
    assert html.count('<div class="picture narrow"') == html.count('<div class="picture wide"') == 6
    widths = {float(found) for found in re.findall(r'<svg[^>]* width="([\d.]+)pt"', html)}
    assert max(widths) > 1.5 * min(widths)
    ids = re.findall(r'<(?:clipPath|path) id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_pull_request_gets_the_conclusion(full: tuple[Invented, Artifact]) -> None:
    made, report = full
    text, found = report.file("report.md").read_text(), report.read_json("report.json")
    stage = found["stages"][0]
    row = stage["verdict"]["comparisons"]["conditioned"]
    table = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line[:1] == "|"}
    assert set(table) == {"Arm", "---", *(arm.name for arm in ARMS)}
    assert len({line.count("|") for line in table.values()}) == 1
    assert f"{row['gain']:.3f} (better: {row['gainInterval']['low']:.3f} to " in table["conditioned"]
    assert f"{row['flopsRatio']:.2f} ×" in table["conditioned"]
    assert "- **Doubt:** filtered reads its documents 20.1 times" in text
    assert all(f"`artifacts/{key}`" in text for name, key in made.inputs.items() if "/train/" in name)
    assert len(text) < 8000


def test_markdown_shows_text_as_text_and_calls_nobody(tmp_path: Path) -> None:
    hostile = " | <img src=x> @team [a](http://b) `c` **d**"
    text = reported(invent(tmp_path, text=hostile, points=2)).file("report.md").read_text()
    assert text.startswith(
        "# sums \\| \\<img src=x\\> @\u200bteam \\[a\\](http://b) \\`c\\` \\*\\*d\\*\\*: report\n"
    )


# --- the card of a model ---


def test_the_figures_of_a_models_card_are_those_of_the_report(tmp_path: Path) -> None:
    made = invent(tmp_path, points=3)
    report = reported(made)
    store = open_store(f"file://{made.storage}")
    trained, evaluated = (
        Artifact.open(store, made.inputs[f"pretrain/{kind}/conditioned-s0"]) for kind in ("train", "evaluate")
    )
    question = ExportQuestion(
        storage=store.uri, train=trained.key, prefix="best", target="file:///m", name="test conditioned-s0",
        stage="pretrain", model="hf://o/n",
    )  # fmt: skip
    text = card(question, trained, Prefixes.read(trained), evaluated, report)
    found = report.read_json("report.json")["stages"][0]
    arm = next(arm for arm in found["arms"] if arm["name"] == "conditioned")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| sums")]
    assert {row[1]: row[2] for row in rows} == {
        prefix: f"{value:.3f}" for prefix, value in arm["tasks"]["sums"]["accuracy"].items()
    }
    for _, _, accuracy, interval, questions in rows:
        low, high = map(float, interval.split(" to "))
        assert low < float(accuracy) < high
        assert questions == "500"
    for prefix, nats in arm["logProbability"].items():
        assert f"- {prefix}: {nats:.4f}" in text
    assert f"- {found['verdict']['headline']}" in text
