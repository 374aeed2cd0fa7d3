# SPDX-License-Identifier: Apache-2.0
"""Replays a bag to a localizer node in its own process and records its answers over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException

from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader, RawMessage
from disam_ros.entry import signal_of
from disam_ros.errors import ConfigError, DisamError
from disam_ros.geometry import Transform
from disam_ros.localization.query import KNOWN
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.node_config import ReplayConfig
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR
from disam_ros.nodes.rclpy_extra.process import undisturbed
from disam_ros.nodes.replay.answer_recorder import AnswerRecorder
from disam_ros.nodes.replay.bag_topics import BagTopics, find_topics
from disam_ros.nodes.replay.domain import own_domain
from disam_ros.nodes.replay.localizer_process import localizer_process, require_alive
from disam_ros.nodes.replay.player import Player

PATIENCE = 3600.0  # time without an image that the node takes without a warning [s]
START_TIMEOUT = 300.0  # time until the node must be active [s]
CONNECT_TIMEOUT = 60.0  # time until it must be connected to the player [s]
DRAIN_TIMEOUT = 30.0  # time for the last images after the bag ended [s]
SETTLE_TIMEOUT = 10.0  # time for the last messages [s]

COUNTS = (
    "images received",
    "images dropped",
    "images undecodable",
    "images blind",
    "inference errors",
    "places known",
    "places unknown",
)
HANDLED = COUNTS[1:]  # outcomes of a received image
ANSWERED = COUNTS[2:]  # those with a message on ~/answer


@dataclass(frozen=True)
class NodeOptions:
    """Settings of a localizer node that is fed with a bag."""

    # Speed relative to the recording; 0: each image after the answer to the last one.
    rate: float = 0.0
    # Name of the camera in the bag, or its image topic; empty: the bag's only camera.
    camera: str = ""
    # Parameters of the node besides map, model and topics.
    parameters: Mapping[str, object] = field(default_factory=dict)
    # What a user says of the bag.
    bag: BagOptions = field(default_factory=BagOptions)


@dataclass(frozen=True)
class NodeRun:
    """Outputs of the node by image stamp [ns]."""

    poses: dict[int, Transform]  # map_from_base
    diagnostics: dict[str, str]  # the node's last values by key
    covariances: dict[int, NDArray[np.float64]]  # [6, 6] as published
    answers: dict[int, dict[str, str]]  # key-values of ~/answer
    outcomes: Counter[str]  # number of images by outcome
    sent: list[int]  # stamps of the images sent, in order
    counts: dict[str, int]  # the node's counters (COUNTS) of this run
    messages: list[RawMessage]  # all that carry a stamp, serialized
    seconds: float  # from the first image to the last answer
    late: int  # number of images that were not answered in time at rate 0
    interrupted: int  # signal after which the rest of the bag was not played; 0: none


def run_node_on_bag(
    bag: Path | str, map_dir: Path | str, model_dir: Path | str, options: NodeOptions
) -> NodeRun:
    """Returns what a freshly started localizer node answers to the images of a bag.

    The node runs in a ROS domain of its own unless ROS_DOMAIN_ID is set.
    Raises DisamError when the bag lacks the camera, the node does not start or ends early; the
    reason is in its log on stderr. Raises KeyboardInterrupt on Ctrl-C.
    """
    topics = find_topics(
        bag, PlaceMap(map_dir, verify=False).cameras(), options.camera, options.bag
    )
    run = replay_to_node(bag, topics, map_dir, model_dir, options)
    if run.interrupted:
        raise KeyboardInterrupt(run.interrupted)
    return run


def replay_to_node(
    bag: Path | str,
    topics: BagTopics,
    map_dir: Path | str,
    model_dir: Path | str,
    options: NodeOptions,
) -> NodeRun:
    """Runs a node as `run_node_on_bag` does, on known topics; Ctrl-C ends it early."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain_id = own_domain()
    parameters: dict[str, object] = {
        "stale_after": PATIENCE,
        **topics.parameters,
        "map": map_dir,
        "model": model_dir,
        **options.parameters,
    }
    if parameters["image_transport"] != topics.transport:
        raise ConfigError(
            f"image_transport is '{parameters['image_transport']}', {topics.image} is "
            f"{topics.transport}: leave the parameter out or name another image topic"
        )
    with (
        AnswerRecorder(domain_id=domain_id) as recorder,
        localizer_process(parameters, topics.remappings, domain_id) as process,
    ):
        _wait_until_active(recorder, process)
        return _play(bag, topics, options.rate, recorder, process)


def _play(
    bag: Path | str,
    topics: BagTopics,
    rate: float,
    recorder: AnswerRecorder,
    process: subprocess.Popen[bytes],
) -> NodeRun:
    config = ReplayConfig(rate=rate, topics=topics.played, start_delay=CONNECT_TIMEOUT)

    def answers(stamp_ns: int) -> int:
        _require_node(recorder, process)
        return recorder.count(stamp_ns)

    def watched(condition: Callable[[], bool]) -> Callable[[], bool]:
        def holds() -> bool:
            _require_node(recorder, process)
            return condition()

        return holds

    def deliver() -> Callable[[], bool]:
        return watched(recorder.barrier())

    before = _counts(recorder)
    interrupted = 0
    with BagReader(bag) as reader:
        player = Player(recorder.node, reader, config, answers, _connected(recorder), deliver)
        try:
            with closing(player):
                player.play()
        except KeyboardInterrupt as end:
            interrupted = signal_of(end)
        except ExternalShutdownException:
            interrupted = int(signal.SIGINT)
        if recorder.node.context.ok():
            with undisturbed() if interrupted else nullcontext():  # the images sent are counted
                drained = _drained(recorder, len(player.sent), before)
                recorder.wait(watched(drained), SETTLE_TIMEOUT if interrupted else DRAIN_TIMEOUT)
                recorder.wait(lambda: _complete(recorder, before), SETTLE_TIMEOUT)
    return NodeRun(
        poses=recorder.poses,
        diagnostics=recorder.diagnostics,
        covariances=recorder.covariances,
        answers=recorder.answers,
        outcomes=recorder.outcomes,
        sent=player.sent,
        counts=_counts(recorder, before),
        messages=[message for message in recorder.messages if message.stamp_ns],
        seconds=max(0.0, recorder.last_answer - player.first_image),
        late=player.unanswered,
        interrupted=interrupted,
    )


def _wait_until_active(recorder: AnswerRecorder, process: subprocess.Popen[bytes]) -> None:
    def active() -> bool:
        require_alive(process)
        state = recorder.diagnostics.get("state")
        if recorder.status is not None and recorder.status.level == ERROR and state != "active":
            raise DisamError(f"the localizer node does not start: {recorder.status.message}")
        return state == "active"

    if not recorder.wait(active, START_TIMEOUT):
        raise DisamError(f"no localizer node became active within {START_TIMEOUT:g} s")
    if (count := recorder.localizers()) > 1:
        raise DisamError(
            f"{count} localizers answer in this ROS domain: stop the others, or set ROS_DOMAIN_ID "
            "to a domain of its own"
        )


def _require_node(recorder: AnswerRecorder, process: subprocess.Popen[bytes]) -> None:
    """Raises DisamError if the localizer is gone."""
    require_alive(process)
    if not recorder.localizers():
        raise DisamError("the localizer node ended; its log says why")


def _connected(recorder: AnswerRecorder) -> Callable[[], bool]:
    """Returns a check: is the node connected to the publishers of images and to its subscribers?

    It reports so from now on, and has answered a request, so that it knows all publishers.
    """
    old = recorder.status
    requests: list[Callable[[], bool]] = []  # a node drops answers to a client it does not know yet

    def connected() -> bool:
        facts = recorder.diagnostics
        links = [int(facts.get(key, 0)) for key in ("image publishers", "answer subscribers")]
        if recorder.status is old or min(*links, recorder.localizers()) == 0:
            return False
        requests.append(recorder.barrier())
        return any(answered() for answered in requests)

    return connected


def _drained(recorder: AnswerRecorder, sent: int, before: Mapping[str, int]) -> Callable[[], bool]:
    """Returns a check: does the node report that all images are processed?

    Images may be lost in transport; then two more statuses must come without another image.
    """
    last, history = [recorder.status], list[int]()  # images received, status by status

    def drained() -> bool:
        counts = _counts(recorder, before)
        received, handled = counts["images received"], sum(counts[key] for key in HANDLED)
        if recorder.status is not last[0]:
            last[0] = recorder.status
            history.append(received)
        idle = len(history) > 2 and len(set(history[-3:])) == 1
        return handled >= received and (received >= sent or idle)

    return drained


def _complete(recorder: AnswerRecorder, before: Mapping[str, int]) -> bool:
    """Returns whether all answers that the node counted have come, with poses of known places."""
    counts = _counts(recorder, before)
    if recorder.outcomes.total() != sum(counts[key] for key in ANSWERED):
        return False
    stamps = [s for s, values in recorder.answers.items() if values.get("outcome") == KNOWN]
    return all(s in recorder.poses and s in recorder.covariances for s in stamps)


def _counts(recorder: AnswerRecorder, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Returns the node's counters, less earlier ones."""
    facts, earlier = recorder.diagnostics, before or {}
    return {key: int(facts.get(key, 0)) - earlier.get(key, 0) for key in COUNTS}
