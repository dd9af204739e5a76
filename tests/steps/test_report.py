"""The report: the maths of its verdict, and the page that people read."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from make.lanes import ARMS, BASIC, Arm, Invented, invent
from make.tasks import run_step, task

from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.settings import Method, StageType
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.report.__main__ import run
from ixt_workloads.steps.report.curves import Comparison, Curve, band, compare, flops_to, quality_at
from ixt_workloads.steps.report.lines import limits, spread
from ixt_workloads.steps.report.numbers import flops, percent, ratio
from ixt_workloads.steps.report.verdict import Contender, Measure, Verdict, judge
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
        ([(0.6, 0.6, 0.7, 0.6, 0.7)], 0.1 / 3),
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
    assert 0.63 < found.target < 0.67
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


def verdict(*values: Contender, items: int = 1000) -> Verdict:
    return judge(values, Measure.ACCURACY, items)


PLAIN = contender("plain", Method.NEXT_TOKEN, (0.2, 0.4, 0.6))


def test_a_gain_is_told_with_its_price() -> None:
    found = verdict(PLAIN, contender("ixt", Method.CONDITIONED, (0.3, 0.9, 0.9)))
    assert "ixt (asked for the best) reaches 0.90 accuracy against 0.60" in found.headline
    reached = "it reaches plain’s best within its spread, 0.60, with 0.50 of the FLOPs, annotation included"
    assert reached in found.headline
    assert found.seeds == "One seed: no spread among seeds, so no claim."


def test_a_loss_is_told_as_plainly() -> None:
    found = verdict(PLAIN, contender("ixt", Method.CONDITIONED, (0.1, 0.2, 0.3)))
    assert (
        "reaches 0.30 accuracy against 0.60; it does not reach plain’s best within its spread, 0.60."
        in found.headline
    )
    assert found.headline.endswith("ixt does worse here.")


def test_a_gain_that_costs_more_than_it_saves_is_told() -> None:
    late = contender("ixt", Method.CONDITIONED, (0.2, 0.3, 0.5, 0.7))
    needed = "to reach plain’s best within its spread, 0.60, it needs 1.2 times the FLOPs"
    assert needed in verdict(PLAIN, late).headline


def test_a_difference_within_the_noise_of_the_questions_is_called_so() -> None:
    close = contender("ixt", Method.CONDITIONED, (0.2, 0.4, 0.62))
    assert "within the noise of 100 questions" in verdict(PLAIN, close, items=100).headline
    assert "noise" not in verdict(PLAIN, close, items=100_000).headline


def test_annotation_that_costs_more_than_the_whole_baseline_is_told() -> None:
    dear = contender("ixt", Method.CONDITIONED, (0.9, 0.9), start=50)
    found = verdict(PLAIN, dear).headline
    assert "ixt spends 5.0\u00a0×\u00a010¹ FLOPs before it trains, more than plain in all" in found


def test_the_price_is_that_of_the_best_less_its_spread() -> None:
    plain = contender("plain", Method.NEXT_TOKEN, (0.2, 0.6, 0.6, 0.66, 0.6))
    ixt = contender("ixt", Method.CONDITIONED, (0.3, 0.65, 0.65, 0.65, 0.65))
    found = verdict(plain, ixt)
    assert "it reaches plain’s best within its spread, 0.64" in found.headline
    assert "plain’s best, 0.66, given way by its spread, 0.02," in found.equal_quality
    assert "how far its evaluations fall short of the best before them" in found.equal_quality
    plain = contender("plain", Method.NEXT_TOKEN, (0.2, 0.5), (0.2, 0.6))
    ixt = contender("ixt", Method.CONDITIONED, (0.3, 0.5), (0.3, 0.5))
    found = verdict(plain, ixt)
    assert "to reach plain’s best within its spread, 0.48, it needs" in found.headline
    assert "plain’s best, 0.55, given way by its spread, 0.07," in found.equal_quality
    assert "the standard deviation among its 2 seeds" in found.equal_quality


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(1, "no spread"), (3, "Fewer than 5 seeds are not enough"), (5, "every seed agrees on its sign")],
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


def test_pictures_lie_beside_the_page(full: tuple[Invented, Artifact]) -> None:
    _, report = full
    pictures = {path for path in report.paths if path.endswith(".png")}
    assert pictures == {
        f"{what}-pretrain.png" for what in ("accuracy", "loss", "cost", "control", "feedback")
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


def test_a_run_without_judge_tasks_or_evaluations_has_a_page(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, ARMS[:1], tasks=(), points=0)))
    assert "next-token is the only arm that was evaluated" in page.text
    assert "No arm of this stage uses feedback" in page.text
    assert "No task with right answers was given" in page.text


def test_without_tasks_arms_are_compared_by_held_out_documents(tmp_path: Path) -> None:
    page = page_of(reported(invent(tmp_path, tasks=(), points=4)))
    assert "nats a token on held-out documents against" in page.text


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
