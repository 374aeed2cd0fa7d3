# SPDX-License-Identifier: Apache-2.0
"""`disam view`: what a page is sent, what the server refuses, and a real localizer in a browser."""

import asyncio
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("websockets", reason="pip install -e '.[view]'")

from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.browser import CHROMIUM, browser
from support.data import texture
from support.maps import base_pose, beside
from support.messages import image_message
from support.node_process import RELIABLE, SINGLE, CommandProcess
from support.robot import NODE

from disam_ros.cli import main
from disam_ros.entry import WORDS
from disam_ros.errors import ConfigError
from disam_ros.nodes.conversions import pose_to_transform
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.view import server as server_module
from disam_ros.nodes.view.connections import listen
from disam_ros.nodes.view.listener import ellipse, faults
from disam_ros.nodes.view.recording import MOST, TITLE, Recording
from disam_ros.nodes.view.scene import HISTORY, TRACK, Cursor, Scene
from disam_ros.nodes.view.server import Server, is_own

PATIENCE = 120.0  # seconds after which something that should happen counts as not happening


# What a page is sent.


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 900), st.none()), max_size=30))
def test_whatever_a_page_reads_when_it_ends_with_all_that_is_kept(steps):
    scene, cursor, read, sent = Scene("/localizer"), Cursor(), [], 0
    for step in [*steps, None]:
        for _ in range(step or 0):
            scene.add_position(float(sent), 0.0)
            sent += 1
        if step is None:
            news = json.loads(scene.news(cursor, always=True)[0])
            read = (read if not news["restart"] else []) + news["track"]
    assert [position[0] for position in read][-TRACK:] == list(range(sent))[-TRACK:]


def test_nothing_grows_without_bound_and_nothing_is_sent_twice():
    scene, cursor = Scene("/localizer"), Cursor()
    for number in range(2 * TRACK):
        scene.add_position(float(number), 0.0)
        scene.add_outcome("known", 0.5)
    news = json.loads(scene.news(cursor)[0])
    assert len(news["track"]) == TRACK and len(news["history"]) == HISTORY
    assert scene.news(cursor) == ("", [])
    assert json.loads(scene.news(cursor, always=True)[0])["track"] == []


def test_an_unknown_place_ends_the_line_once_and_another_map_all_of_it():
    scene, cursor = Scene("/localizer"), Cursor()
    scene.break_track()
    scene.add_position(1.0, 2.0)
    for _ in range(3):
        scene.break_track()
    scene.add_position(3.0, 4.0)
    assert json.loads(scene.news(cursor)[0])["track"] == [[1.0, 2.0], None, [3.0, 4.0]]
    scene.set_map("town", [(0.0, 0.0)])
    news = json.loads(scene.news(cursor)[0])
    assert news["restart"] and news["track"] == [] and news["map"]["points"] == [[0.0, 0.0]]
    scene.set_map("town", [(0.0, 0.0)])  # the latched message of a node that began again
    assert scene.news(cursor) == ("", [])


def test_candidates_have_the_scores_of_the_answer_to_their_image():
    values = {"candidates": "7,3", "candidate scores": "0.910,0.873"}
    assert answer_status.candidate_scores(values) == [0.910, 0.873]
    assert answer_status.candidate_scores({}) == []


def test_numbers_that_json_lacks_never_reach_a_page():
    scene = Scene("/localizer")
    scene.set(pose={"x": float("nan"), "ellipse": [float("inf"), 1.0]})
    scene.add_position(float("nan"), 0.0)
    scene.add_outcome("known", float("-inf"))
    news = json.loads(scene.news(Cursor())[0])
    assert news["pose"] == {"x": None, "ellipse": [None, 1.0]} and news["track"] == []
    assert news["history"][0][1] is None


@settings(deadline=None)
@given(st.floats(0.1, 9.0), st.floats(0.1, 9.0), st.floats(-3.0, 3.0), st.integers(0, 2**32 - 1))
def test_the_ellipse_holds_95_percent(major, minor, turn, seed):
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s], [s, c]])
    covariance = rotation @ np.diag([major**2, minor**2]) @ rotation.T
    a, b, angle = ellipse(covariance)
    assert a >= b > 0
    points = np.random.default_rng(seed).multivariate_normal([0, 0], covariance, 4000)
    c, s = np.cos(angle), np.sin(angle)
    along, across = points @ [c, s], points @ [-s, c]
    assert np.mean((along / a) ** 2 + (across / b) ** 2 <= 1) == pytest.approx(0.95, abs=0.025)


def test_faults_are_the_words_after_the_state():
    sound = DiagnosticStatus(level=DiagnosticStatus.OK, message="active")
    faulty = DiagnosticStatus(level=DiagnosticStatus.WARN, message="active: no image: start it")
    assert faults(sound) == "" and faults(faulty) == "no image: start it"


# The server.


@contextmanager
def serving(scene: Scene) -> Iterator[int]:
    """The port of a server in a thread."""
    ready: Future[int] = Future()
    running = []

    async def run() -> None:
        running.extend((asyncio.get_running_loop(), asyncio.current_task()))
        with suppress(asyncio.CancelledError):
            await Server(scene).run("127.0.0.1", 0, ready)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        yield ready.result(PATIENCE)
    finally:
        loop, task = running
        loop.call_soon_threadsafe(task.cancel)
        thread.join(PATIENCE)
    assert not thread.is_alive()


def exchange(port: int, path: str, **headers: str) -> tuple[int, Message, str]:
    """Status, headers and body of the answer to a request."""
    with closing(HTTPConnection("127.0.0.1", port, PATIENCE)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def test_every_file_is_served_with_a_strict_policy_and_nothing_else_is():
    with serving(Scene("/localizer")) as port:
        pages = ("/", "/page.css", "/page.js", "/map.js", "/plot.js", "/icon.svg")
        for path in pages:
            status, headers, body = exchange(port, path)
            assert status == 200 and len(body.encode()) == int(headers["Content-Length"])
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'") and "unsafe" not in policy
            assert "http:" not in body.replace("http://www.w3.org", "") and "https:" not in (
                body.replace('"https:"', "")
            )
        for path in ("/../server.py", "/..%2fserver.py", "/nowhere", "/page.css/"):
            assert exchange(port, path)[0] == 404


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Host": "evil.example"}),
        ("/live", {"Host": "evil.example:8087", **UPGRADE}),
        ("/live", {"Origin": "http://evil.example", **UPGRADE}),
        ("/live", {"Origin": "null", **UPGRADE}),
    ],
)
def test_pages_of_other_sites_see_nothing(path, headers):
    scene = Scene("/localizer")
    with serving(scene) as port:
        status, _, body = exchange(port, path, **headers)
    assert status == 403 and "is shown" not in body and scene.viewers == 0


def test_hosts_are_addresses_or_this_machine():
    own = socket.gethostname()
    for host in ("127.0.0.1:80", "[::1]:8087", "10.0.0.7", "localhost:1", f"{own}:8087"):
        assert is_own(host)
    for host in ("", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"):
        assert not is_own(host)


@pytest.fixture
def connect():
    """Opens the WebSocket of a page."""
    client = pytest.importorskip("websockets.sync.client")

    def connect(port: int, **options: Any) -> Any:
        return client.connect(f"ws://127.0.0.1:{port}/live", proxy=None, **options)

    return connect


def test_a_page_that_does_not_read_is_sent_the_newest_and_not_all(connect, monkeypatch):
    monkeypatch.setattr(server_module, "PERIOD", 0.001)
    scene, count, size = Scene("/localizer"), 100, 1_000_000
    with (
        serving(scene) as port,
        connect(port, max_size=None, max_queue=1) as slow,
        connect(port, max_size=None) as fast,
    ):
        for number in range(count):
            scene.set_pictures([bytes([number]) * size])
            until(fast, lambda data, n=number: data[4] == n)
        assert scene.viewers == 2
        taken = until(slow, lambda data: data[4] == count - 1)
    assert taken < count / 3


def until(page, condition) -> int:
    """Read a page's messages up to pictures that fulfil a condition; how many pictures came."""
    taken = 0
    while True:
        data = page.recv(PATIENCE)
        if isinstance(data, bytes):
            taken += 1
            if condition(data):
                return taken


def test_more_pages_than_a_few_are_turned_away_and_leave_no_trace(connect, monkeypatch):
    from websockets.exceptions import ConnectionClosed

    monkeypatch.setattr(server_module, "MOST", 2)
    monkeypatch.setattr(server_module, "HEARTBEAT", 0.01)
    scene = Scene("/localizer")
    with serving(scene) as port:
        pages = [connect(port) for _ in range(2)]
        assert all(json.loads(page.recv(PATIENCE))["node"] == "/localizer" for page in pages)
        with connect(port) as third, pytest.raises(ConnectionClosed):
            third.recv(PATIENCE)
        pages[0].close()
        while scene.viewers != 1:
            pages[1].recv(PATIENCE)
        with connect(port) as fourth:
            assert fourth.recv(PATIENCE)
        pages[1].close()


def test_a_connection_that_does_not_close_does_not_keep_the_server(monkeypatch):
    async def deaf(*_: object) -> None:
        await asyncio.Event().wait()

    def listen_deaf(_, *arguments, **options):
        return listen(deaf, *arguments, **options)

    monkeypatch.setattr(server_module, "CLOSING", 0.05)
    monkeypatch.setattr(server_module, "listen", listen_deaf)
    with serving(Scene("/localizer")) as port:
        assert exchange(port, "/live", **UPGRADE)[0] == 101


def test_a_port_that_is_taken_is_refused_with_the_remedy():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match=r"cannot be served: .*choose another --port"),
    ):
        asyncio.run(Server(Scene("/localizer")).run("127.0.0.1", taken.getsockname()[1]))


# The command.


def test_a_missing_package_and_a_wrong_name_are_one_line_with_the_remedy(monkeypatch, capsys):
    assert main(["view", "--node", "no name", "--port", "0"]) == 1
    assert "--node expects a name such as /localizer, got '/no name'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "websockets", None)
    for name in ("server", "view"):
        monkeypatch.delitem(sys.modules, f"disam_ros.nodes.view.{name}", raising=False)
    assert main(["view"]) == 1
    assert "pip install 'websockets>=10.0'" in capsys.readouterr().err


@contextmanager
def viewing(log: Path, port: int = 0, signum: int = signal.SIGINT) -> Iterator[int]:
    """The port of a running `disam view`, which a signal must end cleanly."""
    line = ["view", "--node", NODE, "--port", str(port)]
    process = CommandProcess(log, line, fresh=True)
    try:
        while not (served := process.log.partition("http://127.0.0.1:")[2].partition("/")[0]):
            assert process.returncode is None, process.log
            time.sleep(0.05)
        yield int(served)
    finally:
        code = process.stop(signum)
    assert code == 0 and "Traceback" not in process.log, process.log


@pytest.mark.parametrize("signum", WORDS)
def test_a_signal_ends_it_while_a_page_is_open(connect, tmp_path, signum):
    with ExitStack() as pages, viewing(tmp_path / "log", signum=signum) as port:
        assert pages.enter_context(connect(port)).recv(PATIENCE)


def test_a_recording_has_a_frame_for_each_match_and_stays_small(tmp_path):
    scene, cursor = Scene("/localizer"), Cursor()
    recording = Recording(scene, tmp_path / "drive.gif")
    recording.take(cursor)
    assert recording.write() == 0 and not (tmp_path / "drive.gif").exists()
    scene.set_map("town", [(float(x), 0.0) for x in range(9)])
    jpegs = [cv2.imencode(".jpg", texture(number))[1].tobytes() for number in range(9)]
    for number in range(2 * MOST):
        scene.set(state="known", pose={"x": float(number), "y": 0.0}, answer={"domain": "day"})
        scene.add_position(float(number % 9), 0.0)
        scene.set_pictures([jpegs[number % 9]] * 3)
        recording.take(cursor)
    count = recording.write()
    assert MOST / 2 <= count <= MOST  # of more, every second one goes
    with Image.open(tmp_path / "drive.gif") as picture:
        height, width = texture(3).shape[:2]
        assert picture.n_frames == count and picture.size == (2 * width + height, TITLE + height)


def test_a_recording_of_another_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a name that ends with \.gif"):
        Recording(Scene("/localizer"), tmp_path / "drive.mp4")


# In a browser.


@pytest.fixture
def tab(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt install chromium")
    pytest.importorskip("websockets.sync.client")
    with browser(tmp_path / "browser") as tab:
        tab.show(1280, 800)
        yield tab


def loaded(element: str) -> str:
    """Whether a picture is shown, in the page's language."""
    return f"document.getElementById('{element}').naturalWidth > 0"


@pytest.mark.slow
def test_a_browser_shows_the_localizer_and_finds_it_again(start_localizer, tmp_path, tab):
    with viewing(tmp_path / "view") as port:
        tab.open(f"http://127.0.0.1:{port}/")
        words = f"No localizer called {NODE} is found in ROS domain"
        tab.until(lambda: words in tab.text("notice"), "words that there is no localizer")
        for _ in range(2):  # the node ends and begins again
            tab.until(lambda: tab.text("state") == "no localizer", "no localizer")
            with start_localizer({**RELIABLE, **SINGLE}) as robot:

                def drive(robot=robot):
                    robot.localize(3)

                def shown(robot=robot):
                    at, text = robot.poses[-1].pose.position, tab.text("pose")
                    return f"x {at.x:.2f} m" in text and f"y {at.y:.2f} m" in text

                tab.until(lambda: tab.text("state") == "place known", "a known place", drive)
                tab.until(shown, "the pose", drive)
                assert beside(pose_to_transform(robot.poses[-1].pose), base_pose(3))
                for element in ("query", "match", "heat"):
                    tab.until(lambda e=element: tab.value(loaded(e)), f"{element}'s picture", drive)
                assert tab.text("notice") and tab.value("document.getElementById('notice').hidden")
                robot.send(image_message(np.zeros((48, 64, 3), np.uint8)))
                tab.until(lambda: tab.text("state") == "image unreadable", "a blank image")
        assert tab.complaints == []
    tab.until(lambda: tab.text("state") == "no connection", "that the server is gone")
    with viewing(tmp_path / "again", port=port):
        tab.until(lambda: tab.text("state") == "no localizer", "the server again")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_texts_are_shown_as_texts_and_the_page_is_sound(tab, dark):
    html = "<img src=x onerror=\"document.title='broken'\"><script>1</script>"
    scene = Scene("/" + html)
    scene.set(
        found=True,
        state=html,
        faults=html,
        facts={"map": html, "model": html, "images in (Hz)": html},
        answer={"outcome": html, "domain": html, "prior": html, "map image": html, "camera": html},
        pose={"x": 1.0, "y": 2.0, "z": 0.0, "yaw": 0.0, "frame": html, "ellipse": [2.0, 1.0, 0.0]},
        candidates=[(0.0, 1.0)],
    )
    scene.set_map(html, [(float(x), 0.0) for x in range(50)])
    with serving(scene) as port:
        tab.show(1280, 800, dark=dark)
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(lambda: tab.text("faults") == html, "the faults")
        assert tab.text("map-name") == tab.text("domain") == html
        assert tab.value("document.querySelectorAll('img').length") == 3
        assert tab.value("document.querySelectorAll('script').length") == 1
        assert html in tab.value("document.title")
        for width in (1280, 800, 390, 320):
            tab.show(width, 844, dark=dark)
            tab.until(lambda w=width: tab.value("innerWidth") == w, "that width")
            assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value(UNNAMED) == [] and tab.value(FAINT_TEXTS) == []
        assert tab.complaints == []


@pytest.mark.slow
def test_the_map_is_steered_by_keys(tab):
    scene = Scene("/localizer")
    scene.set(found=True, pose=dict.fromkeys(("x", "y", "z", "yaw"), 0.0) | {"ellipse": [1, 1, 0]})
    scene.set_map("town", [(float(x), 0.0) for x in range(50)])
    with serving(scene) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(lambda: "Map from above" in tab.value(LABEL), "a map")
        tab.value("document.getElementById('map').focus()")
        for key, what in (("+", "zoom in"), ("ArrowLeft", "to the left"), ("0", "the whole map")):
            before = tab.value(PIXELS)
            tab.press(key)
            tab.until(lambda b=before: tab.value(PIXELS) != b, what)
        assert tab.value(PRESSED) == "false"
        tab.press("f")
        assert tab.until(lambda: tab.value(PRESSED) == "true", "to follow again")
        assert tab.complaints == []


@pytest.mark.slow
def test_pictures_open_large_and_come_first_on_a_phone(tab):
    top = "document.getElementById({!r}).getBoundingClientRect().top"
    large = "document.getElementById('match').getBoundingClientRect().width > 0.8 * innerWidth"
    with serving(Scene("/localizer")) as port:
        tab.open(f"http://127.0.0.1:{port}/")
        tab.until(lambda: tab.text("node") == "/localizer", "the page")
        tab.value("document.getElementById('match').closest('button').click()")
        assert tab.value(large)
        tab.press("Escape")
        tab.until(lambda: not tab.value(large), "the picture to close")
        tab.show(390, 844, mobile=True)
        tab.until(lambda: tab.value("innerWidth") == 390, "that width")
        assert tab.value(top.format("match")) < tab.value(top.format("map"))


LABEL = "document.getElementById('map').getAttribute('aria-label')"
PIXELS = "document.getElementById('map').toDataURL()"
PRESSED = "document.getElementById('follow').getAttribute('aria-pressed')"
# Buttons, pictures and drawings that a screen reader could not name.
UNNAMED = """[...document.querySelectorAll('button, img, canvas')].filter(
  (e) => !(e.textContent.trim() || e.alt || e.getAttribute('aria-label'))).map((e) => e.id)"""
# Elements whose text has a contrast below 4.5 with what is behind it (WCAG 2.2, AA).
FAINT_TEXTS = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter((e) => {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility()) return false;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort();
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((e) => e.id || e.tagName);
})()"""
