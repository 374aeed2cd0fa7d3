# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the running node on a bag with ground truth."""

from __future__ import annotations

import logging
from pathlib import Path

import rclpy
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import open_images
from disam_ros.entry import WORDS, signal_of
from disam_ros.errors import ConfigError, DisamError
from disam_ros.evaluation.write import describe_setup, finish, mode_of_node
from disam_ros.files.outputs import BAG, EVALUATION, require_output
from disam_ros.image import limit_megapixels
from disam_ros.localization.localizer import Localizer
from disam_ros.node_config import ReplayEvaluationConfig
from disam_ros.nodes.parameters import declare
from disam_ros.nodes.process import Interruption, undisturbed
from disam_ros.nodes.replay.replay_drive import replay_drive
from disam_ros.nodes.starting import starting


def evaluate(config: ReplayEvaluationConfig) -> None:
    """Replay, evaluate and write the results as configured. Raises DisamError.

    Ctrl-C ends the replay; what was answered so far is evaluated and written. Raises
    KeyboardInterrupt where nothing was.
    """
    for name in ("bag", "map", "model", "output"):
        if not getattr(config, name):
            raise ConfigError(f"the parameter '{name}' is empty")
    limit_megapixels(config.max_megapixels)
    remedy = "set the parameter {} to another directory, or overwrite to true"
    require_output(config.output, EVALUATION, config.overwrite, remedy.format("output"))
    if config.record:
        require_output(config.record, BAG, config.overwrite, remedy.format("record"))
    localizer = Localizer.open(config.map, config.model, LocalizerConfig(device="cpu"))
    header = localizer.map.header
    drive = replay_drive(
        localizer.map,
        config.model,
        config.bag,
        source=open_images(config.bag, header.map_frame, mapped=header.cameras),
        name=Path(config.bag).stem,
        rate=config.rate,
        camera=config.camera,
        parameters={"max_megapixels": config.max_megapixels},
        record_to=config.record or None,
        record_images=config.record_images,
        start_node=config.start_node,
        overwrite=config.overwrite,
    )
    setup = describe_setup(localizer, [config.bag], mode_of_node(config.rate))
    with undisturbed():
        finish(config.output, [drive], localizer, setup, overwrite=config.overwrite)


def main(args: list[str] | None = None) -> int:
    """The replay_evaluation executable: status 130 or 143 where a signal left nothing to write."""
    interruption = Interruption()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    node = None
    try:
        with starting():
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
            node = rclpy.create_node("replay_evaluation", enable_rosout=False)
        evaluate(declare(node, ReplayEvaluationConfig))
    except DisamError as error:
        get_logger("replay_evaluation").fatal(str(error))
        return 1
    except KeyboardInterrupt as end:
        number = signal_of(end)
        get_logger("replay_evaluation").warning(
            f"{WORDS[number]} before an answer: nothing is written"
        )
        return 128 + number
    finally:
        interruption.defer()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        interruption.ignore()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
