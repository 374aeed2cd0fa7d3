# SPDX-License-Identifier: Apache-2.0
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from support.browser import CHROMIUM, browser
from support.data import camera_pose, of_single_images, texture

from disam_ros.config import DomainConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ImageError
from disam_ros.evaluation import Criteria, Drive, judge, tables
from disam_ros.evaluation.answers import QueryResult, localize_all
from disam_ros.evaluation.report import svg, write_report
from disam_ros.evaluation.report.curves import normalized_errors
from disam_ros.evaluation.report.examples import BEST, WORST, choose, load, overlay
from disam_ros.evaluation.report.plots import ground, log_odds, plan
from disam_ros.evaluation.report.timeline import MAX_ROWS, changes, labelled_domains
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import KNOWN, MISSING, UNKNOWN

AWKWARD = "<night & rain> $x$"


@pytest.fixture(scope="module")
def source(world):
    return open_dataset(world / "data")


@pytest.fixture(scope="module")
def localizer(world):
    config = of_single_images(domain=DomainConfig(override="day"))
    return Localizer.open(world / "map", world / "model", config)


def drive(localizer, source, name, moved=(), posed=True):
    """Every image of the map asked for again; `moved` ones were in truth taken 100 m away."""
    answers = []
    for number, answer in enumerate(localize_all(localizer, source, ranks=10)):
        truth = camera_pose(number + 100 * (number in moved)) if posed else None
        record = replace(answer.record, domain="", map_from_camera=truth)
        answers.append(replace(answer, record=record))
    return Drive(name, source, answers, seconds=1.0)


def evaluate(localizer, *drives, **setup):
    return judge(localizer.map, drives, setup)


def written(tmp_path, localizer, evaluation, references=None):
    examples = load(choose(evaluation), localizer, references)
    path = tmp_path / "report.html"
    write_report(path, evaluation, examples, localizer.map)
    return path.read_text()


@pytest.fixture(scope="module")
def evaluation(localizer, source):
    drives = drive(localizer, source, "day", moved=(3, 7)), drive(localizer, source, AWKWARD)
    return evaluate(localizer, *drives, model="tiny <m>", command="disam evaluate 'a b'")


@pytest.fixture(scope="module")
def page(tmp_path_factory, localizer, source, evaluation):
    """The report of the evaluation."""
    return written(tmp_path_factory.mktemp("page"), localizer, evaluation, source)


def test_the_report_holds_every_condition_its_figures_and_the_setup(page, evaluation):
    text = unescape(page)
    for name, condition in evaluation.conditions.items():
        assert name in text
        assert f"{100 * condition.metrics.within['5 m 10°']:.1f}" in text
        assert f"{condition.metrics.median_error_m:.2f}" in text
        p99 = condition.latency_ms["total"]["p99"]
        assert f"{p99:.1f}" in text or f"{p99:.0f}" in text  # without decimals from 100 ms on
    assert "tiny <m>" in text and "disam evaluate 'a b'" in text
    plans = re.findall(r'<figure class="plan">.*?<svg', page, flags=re.DOTALL)
    assert len(plans) == len(evaluation.conditions)
    assert page.count("<img") == 3 * len(choose(evaluation))


@pytest.fixture(scope="module")
def tracked_page(tmp_path_factory, localizer, source):
    """The report of a sequence, with a note."""
    noted = replace(drive(localizer, source, "day"), notes=["half the images <were> lost"])
    result = evaluate(localizer, noted, settings={"sequence": {"enabled": True}})
    return written(tmp_path_factory.mktemp("tracked"), localizer, result)


def test_the_report_names_what_to_mind(tracked_page):
    assert "half the images &lt;were&gt; lost" in tracked_page


class Addresses(HTMLParser):
    """What a page would load or lead to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.values = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        keys = ("src", "href", "xlink:href", "srcset", "poster", "data", "action")
        self.values += [value for key, value in attrs if key in keys]


def test_the_report_loads_nothing_from_elsewhere(page):
    addresses = Addresses(page)
    assert all(address.startswith(("data:image/", "#")) for address in addresses.values)
    assert not addresses.tags & {"script", "link", "iframe", "object", "base"}
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"\w+://[^\"'<\s]*", page)) <= namespaces
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_the_contents_lead_to_every_part_that_is_there(page):
    nav = page[page.index("<nav") : page.index("</nav>")]
    linked = re.findall(r'href="#(\w+)"', nav)
    sections = re.findall(r'<section id="(\w+)"', page)
    assert linked == sections


def test_a_marker_of_an_example_leads_to_its_match(page):
    plans = page[page.index('id="plans"') : page.index('id="route"')]
    linked = re.findall(r'<a href="#(example-\d+)">', plans)
    articles = re.findall(r'<article class="example" id="([\w-]+)"', page)
    assert len(articles) == len(set(articles)) and sorted(linked) == sorted(articles)


def test_bound_and_answered_are_explained_where_they_first_stand(page):
    assert page.index("The upper bound is the score of") < page.index('id="figures"')
    first = page[page.index("<h3>Poses</h3>") :]
    assert "<dt>answered</dt><dd>Share of the queries whose place counts as known" in first


def test_probabilities_are_drawn_as_log_odds_and_ranks_of_a_sequence_explained(page, tracked_page):
    assert "log-odds" in page and "log-odds" in tracked_page
    assert "R@5 may equal R@1" in tracked_page and "R@5 may equal R@1" not in page
    values = log_odds(np.array([0.0, 0.5, 0.99, 1.0]))
    assert values == pytest.approx([-13.8, 0, 4.6, 13.8], abs=0.1)


def test_many_lines_of_wrong_answers_fade(localizer, source):
    def opacity(count, times=1):
        result = evaluate(localizer, drive(localizer, source, "day", moved=range(count)))
        frames = result.overall.frames * times
        condition = replace(result.overall, frames=frames)
        drawn = plan("day", condition, ground(localizer.map, frames), result.criteria)
        (line,) = re.findall(r"stroke: var\(--wrong\); stroke-opacity: ([\d.]+)", drawn)
        return float(line)

    assert opacity(2) == pytest.approx(0.6) and 0.15 <= opacity(12, times=5) < 0.4


def test_names_are_escaped(page):
    assert "<night" not in page and "&lt;night &amp; rain&gt;" in page


def test_ids_are_unique_and_those_referred_to_exist(page):
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) <= set(ids)


def test_the_same_evaluation_gives_the_same_report(tmp_path, localizer, source, evaluation, page):
    assert written(tmp_path, localizer, evaluation, source) == page


def test_without_true_poses_there_is_a_report_without_errors(tmp_path, localizer, source):
    blind = evaluate(localizer, drive(localizer, source, "bag", posed=False))
    text = written(tmp_path, localizer, blind, source)
    assert "there are no errors" in text and "100.0" in text
    assert "Consistency." not in text and "error (m)" not in text and "wrong" not in body(text)
    assert text.count("<svg") == 3  # where answers lie, scores, domains


def body(text):
    return text[text.index("<body>") :]


@pytest.mark.parametrize("outcome", [KNOWN, UNKNOWN, MISSING])
def test_one_image_is_enough(tmp_path, localizer, source, outcome):
    whole = drive(localizer, source, "one")
    answer = replace(whole.answers[5], outcome=outcome)
    if outcome == MISSING:
        answer = QueryResult(answer.record, MISSING)
    text = written(tmp_path, localizer, evaluate(localizer, replace(whole, answers=[answer])))
    assert "1 image against a map of 12" in text


def test_the_best_are_right_and_spread_and_the_worst_are_wrong(evaluation):
    chosen = choose(evaluation)
    numbers = {
        kind: [c.frame.answer.record.id for c in chosen if (c.condition, c.kind) == ("day", kind)]
        for kind in (BEST, WORST)
    }
    assert len(numbers[BEST]) == 3 and not set(numbers[BEST]) & {3, 7}
    assert np.diff(numbers[BEST]).min() > 0
    frames = evaluation.conditions["day"].frames
    probable = {f.answer.record.id: f.answer.probability for f in frames}
    assert numbers[WORST] == sorted([3, 7], key=lambda n: -probable[n])
    assert not [c for c in chosen if (c.condition, c.kind) == (AWKWARD, WORST)]


def test_wrong_answers_come_first_and_are_not_all_of_one_place(localizer, source):
    result = evaluate(localizer, drive(localizer, source, "day", moved=range(8)))
    frames = list(result.overall.frames)
    pose = Transform(frames[7].truth.translation + [0, 100, 0], frames[7].truth.quaternion)
    frames[7] = replace(frames[7], truth=pose)
    condition = replace(result.conditions["day"], frames=frames)
    chosen = choose(replace(result, conditions={"day": condition}))
    assert [c.kind for c in chosen] == [WORST] * 6 + [BEST] * 3
    assert 7 in [c.frame.answer.record.id for c in chosen[:2]]  # the others are of one place


def test_the_wrong_answers_are_the_first_card_and_a_column(page, evaluation):
    judged = evaluation.overall.judged
    assert (judged.images, judged.wrong) == (24, 2) and 99 < judged.worst_m < 101
    cards = body(page)[body(page).index('<article class="card') :]
    assert cards.startswith('<article class="card danger">') and ">2</div>" in cards[:400]
    assert "8.3 %" in cards[:900] and f"{judged.worst_m:.1f} m" in cards[:900]
    poses = page[page.index("<h3>Poses</h3>") : page.index("<h3>On and off the map</h3>")]
    assert "wrong" in poses and f"{100 * 2 / 12:.1f}" in poses


def test_images_off_the_map_have_numbers_of_their_own(localizer, source):
    condition = evaluate(localizer, drive(localizer, source, "day", moved=(3, 7))).overall
    assert (condition.on_map.images, condition.on_map.known, condition.on_map.wrong) == (10, 10, 0)
    assert (condition.off_map.images, condition.off_map.wrong) == (2, 2)
    criteria = Criteria(thresholds=((150.0, 10.0),))  # on the map up to the largest threshold
    wide = judge(localizer.map, [drive(localizer, source, "day", moved=(3, 7))], {}, criteria)
    assert wide.overall.off_map.images == 0 and math.isnan(wide.overall.off_map.known_share)


def test_stages_are_rows_of_the_latency_with_the_images_that_needed_them(evaluation):
    (latency,) = (t for t in tables(evaluation) if t.title.startswith("Latency"))
    rows = dict(latency.rows)
    assert {"encode", "fine", "total", "total, day"} <= set(rows)
    assert rows["total"][0] == "24" and rows["total, day"][0] == "12"
    assert len(rows["total"]) == 5


@pytest.mark.parametrize(
    ("scale", "words"), [(1.0, None), (1e-4, "trusts these poses too much"), (1e4, "could")]
)
def test_a_covariance_far_from_the_errors_is_noted_with_what_it_means(
    localizer, source, scale, words
):
    whole = drive(localizer, source, "day")
    answers = [
        replace(
            a,
            covariance=scale * np.eye(6),
            pose=Transform(a.pose.translation + np.sqrt([1.0, 1.0, 1.0]), a.pose.quaternion),
        )
        for a in whole.answers
    ]
    notes = evaluate(localizer, replace(whole, answers=answers)).notes
    matches = [note for note in notes if "NEES" in note]
    assert [words in note for note in matches] == ([] if words is None else [True])


def test_without_true_poses_the_least_and_the_most_probable_are_shown(localizer, source):
    blind = evaluate(localizer, drive(localizer, source, "bag", posed=False))
    kinds = [c.kind for c in choose(blind)]
    assert kinds == [WORST] * 6 + [BEST] * 3
    worst = [c.frame.answer.probability for c in choose(blind)[:6]]
    assert worst == sorted(worst)


def test_examples_show_query_activation_and_match(localizer, source, evaluation):
    for example in load(choose(evaluation), localizer, source):
        number = example.frame.answer.record.id
        assert np.array_equal(example.query, texture(number))
        assert np.array_equal(example.match, texture(example.frame.answer.best.id))
        assert example.heat.shape == (6, 8) and example.heat.max() == pytest.approx(1.0)


def test_examples_without_the_images_of_the_map_have_no_match(localizer, evaluation):
    assert {e.match is None for e in load(choose(evaluation), localizer, None)} == {True}


def test_a_map_image_without_stamp_is_found_by_its_source(localizer, source, evaluation):
    unstamped = [replace(i, record=replace(i.record, stamp_ns=0)) for i in source.images]
    examples = load(choose(evaluation), localizer, replace(source, images=unstamped))
    assert all(np.array_equal(e.match, texture(e.frame.answer.best.id)) for e in examples)
    topic = [replace(i, record=replace(i.record, source="/image")) for i in unstamped]
    examples = load(choose(evaluation), localizer, replace(source, images=topic))
    assert {e.match is None for e in examples} == {True}


def test_images_that_cannot_be_read_are_left_out(localizer, source):
    def fail():
        raise ImageError("truncated")

    whole = drive(localizer, source, "day")
    chosen = choose(evaluate(localizer, whole))
    number = chosen[0].frame.answer.record.id
    images = [replace(i, load=fail) if i.record.id == number else i for i in source.images]
    broken = replace(whole, source=replace(source, images=images))
    examples = load(choose(evaluate(localizer, broken)), localizer, broken.source)
    assert [e.frame.answer.record.id for e in examples] == [
        c.frame.answer.record.id for c in chosen[1:]
    ]


def test_heat_colours_only_where_it_is_hot():
    picture = np.full((40, 60, 3), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[:2, :3] = 1.0
    shown = overlay(picture, heat).astype(int)
    assert shown.shape == picture.shape
    assert np.ptp(shown[5, 5]) > 60 and np.ptp(shown[35, 55]) < 10


def test_reasons_are_listed_as_they_change_and_are_not_too_many(localizer, source):
    whole = drive(localizer, source, "day")

    def changed(domains, reasons):
        pairs = zip(whole.answers * 5, domains, reasons, strict=False)
        answers = [replace(a, domain=d, domain_reason=f"{d}: {r}") for a, d, r in pairs]
        return changes(replace(whole, answers=answers))

    rows, left_out = changed(["day"] * 4 + ["night"] * 4, ["sun 5°"] * 2 + ["sun 4°"] * 6)
    expected = [("day", "sun 5°"), ("day", "sun 4°"), ("night", "sun 4°")]
    assert [(r.domain, r.reason) for r in rows] == expected
    assert not left_out
    rows, left_out = changed(["day"] * 30 + ["night"] * 10, map(str, range(40)))
    assert [r.domain for r in rows] == ["day", "night"] and "39 times" in left_out
    rows, left_out = changed(["day", "night"] * 30, map(str, range(60)))
    assert len(rows) == MAX_ROWS and f"the first {MAX_ROWS} of 60" in left_out


def test_a_drive_is_labelled_by_its_images_or_by_its_name(localizer, source):
    whole = drive(localizer, source, "night")
    assert labelled_domains(whole, {"day"}) is None
    assert labelled_domains(whole, {"day", "night"}) == ["night"] * 12
    answers = [replace(a, record=replace(a.record, domain="rain")) for a in whole.answers]
    assert labelled_domains(replace(whole, answers=answers), set()) == ["rain"] * 12


def test_every_marker_of_the_plan_has_the_number_of_its_image(localizer, evaluation):
    frames = evaluation.conditions["day"].frames
    area = ground(localizer.map, frames)
    drawn = plan("day", evaluation.conditions["day"], area, evaluation.criteria)
    titles = re.findall(r"<title>image (\d+), ([\d.]+) m", drawn)
    assert sorted(int(number) for number, _ in titles) == list(range(12))
    assert {int(number) for number, metres in titles if float(metres) > 5} == {3, 7}


def test_many_markers_are_rasterized(localizer, evaluation, monkeypatch):
    condition, area = evaluation.conditions["day"], ground(localizer.map, evaluation.overall.frames)
    assert "<image" not in plan("day", condition, area, evaluation.criteria)
    monkeypatch.setattr("disam_ros.evaluation.report.plots.MAX_VECTORS", 5)
    assert "<image" in plan("day", condition, area, evaluation.criteria)


def test_colours_follow_the_page(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not [name for name, colour in svg.COLOURS.items() if colour in drawn]
    assert set(re.findall(r"var\(--([\w]+)\)", drawn)) <= set(svg.COLOURS)


def test_the_consistency_plot_shows_the_errors_that_are_averaged(evaluation):
    for condition in evaluation.conditions.values():
        mean = normalized_errors(condition).mean() / 3
        assert mean == pytest.approx(condition.consistency.position_mean)


# --- in a browser -----------------------------------------------------------------------------

SHOWN = """(() => {
  const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1
    && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  const clipped = [...document.querySelectorAll("svg")].flatMap(svg =>
    [...svg.querySelectorAll("text")].filter(text =>
      !inside(text.getBoundingClientRect(), svg.getBoundingClientRect())));
  const wide = [...document.querySelectorAll(".scroll")]
    .filter(e => e.scrollWidth > e.clientWidth + 1);
  return {
    pictures: [...document.images].filter(i => i.complete && i.naturalWidth > 0).length,
    clipped: clipped.map(text => text.textContent),
    wide: wide.map(e => e.closest("section").querySelector("h3").textContent),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
})()"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
def test_a_browser_shows_every_picture_and_no_text_or_table_beyond_its_frame(tmp_path, page):
    pytest.importorskip("websockets.sync.client")
    (tmp_path / "report.html").write_text(page)
    whole = {"pictures": page.count("<img"), "clipped": [], "wide": [], "overflow": 0}
    with browser(tmp_path / "browser") as tab:
        tab.open((tmp_path / "report.html").as_uri())
        for width in (1200, 1000, 500):  # the last stacks the cells of a row
            tab.show(width, 1200)
            tab.until(lambda w=width: tab.value("innerWidth") == w, "that width")
            assert tab.value(SHOWN) == whole
        assert tab.complaints == []
