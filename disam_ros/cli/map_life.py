# SPDX-License-Identifier: Apache-2.0
"""The command disam map: looks at a map, checks it, and makes new ones of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from disam_ros.cli.arguments import (
    MODEL_HELP,
    add,
    add_image_limit,
    add_setting,
    add_shared,
    number,
)
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.cli.help import Parser, add_command
from disam_ros.cli.outputs import add_output, add_overwrite
from disam_ros.config import MapBuilderConfig
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import EXPORT, FILE, MAP
from disam_ros.files.paths import find_model
from disam_ros.files.printable import say
from disam_ros.node_config import MapBuilderNodeConfig

FORMATS = ("geojson", "kml", "tum", "colmap", "utm")
FOLDERS = ("colmap", "utm")  # formats that are directories
FRAME_ERRORS = ("matched_id", "error_m", "error_deg")  # columns of results.json
RIGHT = 5.0, 10.0  # errors up to which an answer was right [m], [deg]
NEW_MAP = "map directory to write; a map is never changed in place"


def add_commands(command: Callable[..., Parser]) -> None:
    """Adds the commands that look at a map and make new ones of it."""
    group = command("map", None, "look at a map, check it, make new ones of it")
    commands = group.add_subparsers(required=True, metavar="operation")

    operation = partial(add_command, commands)

    info = operation("info", info_command, "what a map holds, and its history")
    add_shared(info, "map")
    add(info, "--json", "print JSON", bool)

    check = operation("check", check_command, "verify all files of a map, rebuild its indices")
    add_shared(check, "map")

    inspect = operation("inspect", inspect_command, "a page about where a map is weak, and why")
    add_shared(inspect, "map", "--model")
    add_output(inspect, FILE, "HTML file to write", "inspection.html")

    crop = operation("crop", crop_command, "a map of the images inside a polygon")
    add_shared(crop, "map")
    region = crop.add_mutually_exclusive_group(required=True)
    text = "x y x y … of the corners in the map frame [m]"
    add(region, "--polygon", text, number(-1e7, 1e7), nargs="+", metavar="METRES")
    add(region, "--geojson", "file with polygons of longitude and latitude", Path)
    add_output(crop, MAP, NEW_MAP)

    merge = operation("merge", merge_command, "one map of the images of several")
    add(merge, "maps", "map directories; in the first's frame", nargs="+", metavar="map")
    _add_fitting(merge)
    add(merge, "--scale", "other maps are not in metres (with --align)", bool)
    add_output(merge, MAP, NEW_MAP)

    extend = operation("extend", extend_command, "a map with further drives or conditions")
    add_shared(extend, "map", "--pose-topic", "--ray")
    add(extend, "--dataset", "dataset directories of drives", nargs="+", default=[])
    add(extend, "--bag", "rosbag2 directories or files", nargs="+", default=[])
    add_bag_options(extend)
    add_setting(extend, MapBuilderConfig, "domain")
    add_setting(extend, MapBuilderConfig, "keyframe_distance", unset="that of the map")
    add_image_limit(extend)
    _add_fitting(extend)
    add_output(extend, MAP, NEW_MAP)
    add_setting(extend, MapBuilderNodeConfig, "device")

    prune = operation("prune", prune_command, "a map without its least useful images")
    add_shared(prune, "map")
    text = "share of the images of each camera and condition that stay"
    add(prune, "--keep", text, number(0.0, 1.0), default=0.5)
    text = "outputs of disam evaluate with this map: images that were right answers go last"
    add(prune, "--used", text, nargs="+", default=[], metavar="EVALUATION")
    add(prune, "--no-thumbnails", "leave out the pictures of the places", bool)
    add_output(prune, MAP, NEW_MAP)

    align = operation("align", align_command, "a map in another frame")
    add_shared(align, "map")
    frame = align.add_mutually_exclusive_group(required=True)
    add(frame, "--to", "map directory: its frame, by images of the same places")
    text = "table of stamp_ns, latitude, longitude of the drive: east and north of the first one"
    add(frame, "--fixes", text, Path)
    text, names = "of a map that knows its place: its new origin [°]", ("LATITUDE", "LONGITUDE")
    add(frame, "--origin", text, number(-180.0, 180.0), nargs=2, metavar=names)
    add(align, "--model", f"with --to: {MODEL_HELP}", find_model, default="")
    add(align, "--scale", "the map is not in metres (with --to)", bool)
    add_output(align, MAP, NEW_MAP)

    export = operation("export", export_command, "a map's poses for other programs")
    add_shared(export, "map")
    text = (
        "geojson, kml: points; tum: poses of a camera; colmap: text model; utm: folder of "
        "images @east@north@…, as VPR-methods-evaluation reads"
    )
    add(export, "--format", text, required=True, choices=FORMATS)
    add(export, "--camera", "only the images of this camera")
    text = "utm: dataset directory that the map was built from; default: the map's thumbnails"
    add(export, "--images", text, Path)
    add(export, "--output", "file to write, or folder (colmap, utm)", required=True)
    add_overwrite(export, lambda a: {Path(a.output): EXPORT if a.format in FOLDERS else FILE})


def _add_fitting(command: argparse.ArgumentParser) -> None:
    """Adds the options of a command that fits maps to each other."""
    add_shared(command, "--model")
    text = "move maps whose frame differs from the first's; else they are refused"
    add(command, "--align", text, bool)


def info_command(arguments: argparse.Namespace) -> None:
    import json

    from disam_ros.mapping.life.summary import summary
    from disam_ros.mapping.place_map import PlaceMap

    facts = summary(PlaceMap(arguments.map, verify=False))
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return
    history = facts.pop("history")
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:{width}}  {_in_words(value)}")
    for step, entry in enumerate(history, 1):
        rest = {k: v for k, v in entry.items() if k not in ("operation", "settings", "maps")}
        others = ", ".join(str(other.get("name", "")) for other in entry.get("maps") or ())
        text = f"{entry['operation']} {others}".strip()
        say(f"{'history' if step == 1 else '':{width}}  {step}. {text}: {_in_words(rest)}")


def check_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.builder import write_indices
    from disam_ros.mapping.index import FLAT
    from disam_ros.mapping.life.summary import require_sound
    from disam_ros.mapping.place_map import PlaceMap

    place_map = PlaceMap(arguments.map, verify=True)
    require_sound(place_map)
    written = [path.name for path in write_indices(place_map)]
    what = ", ".join(written) or f"no index needed up to {FLAT} images a camera"
    say(f"{arguments.map}: {len(place_map)} images, checksums right; {what}")


def inspect_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.life.inspection import findings, write_inspection
    from disam_ros.mapping.life.merging import fine_shape
    from disam_ros.mapping.place_map import PlaceMap
    from disam_ros.models.model import load_model

    place_map = PlaceMap(arguments.map)
    model = load_model(arguments.model)
    inspection = write_inspection(
        place_map,
        fine_shape(place_map, model),
        model.domain_names(),
        arguments.output,
        arguments.overwrite,
    )
    for finding in findings(inspection):
        say(f"{100 * finding.share:5.1f} % of the images {finding.text}: {finding.remedy}")
    say(f"{len(place_map)} images → {arguments.output}")


def crop_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.life.assembly import Part, assemble
    from disam_ros.mapping.life.regions import polygon, read_geojson, rows_in
    from disam_ros.mapping.place_map import PlaceMap

    place_map = PlaceMap(arguments.map)
    if arguments.geojson:
        rings = read_geojson(arguments.geojson, place_map)
    else:
        rings = [polygon(arguments.polygon)]
    part = Part(place_map, rows_in(place_map, rings))
    operation = {"operation": "crop", "polygons": [ring.tolist() for ring in rings]}
    new_map = assemble([part], arguments.output, operation, arguments.overwrite)
    say(f"{len(new_map)} of {len(place_map)} images → {arguments.output}")


def merge_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.life.merging import merge
    from disam_ros.mapping.place_map import PlaceMap
    from disam_ros.models.model import load_model

    if len(arguments.maps) < 2:
        raise ConfigError("merge expects two or more maps, got one")
    maps = [PlaceMap(path) for path in arguments.maps]
    new_map = merge(
        maps,
        load_model(arguments.model),
        arguments.output,
        align=arguments.align,
        scaled=arguments.scale,
        overwrite=arguments.overwrite,
    )
    say(f"{len(new_map)} images of {len(maps)} maps → {arguments.output}")


def extend_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.bags.pose_sources import TopicPoses
    from disam_ros.datasets.sources import open_bag, open_dataset
    from disam_ros.device import select_device
    from disam_ros.mapping.life.merging import extend, settings_of
    from disam_ros.mapping.place_map import PlaceMap
    from disam_ros.mapping.ray_encoder import ray_encoder
    from disam_ros.models.model import load_model

    options = bag_options_of(arguments)
    drives = [open_dataset(path) for path in arguments.dataset]
    drives += [
        open_bag(path, TopicPoses(arguments.pose_topic), options=options) for path in arguments.bag
    ]
    if not drives:
        raise ConfigError("extend expects drives: --dataset or --bag")
    old_map = PlaceMap(arguments.map)
    config = settings_of(old_map)
    if arguments.keyframe_distance is not None:
        config.keyframe_distance = arguments.keyframe_distance
    config.domain = arguments.domain
    model = load_model(arguments.model)
    new_map = extend(
        arguments.map,
        drives,
        model,
        arguments.output,
        config,
        str(select_device(arguments.device)),
        encoder=partial(ray_encoder, arguments.ray, model) if arguments.ray else None,
        align=arguments.align,
        overwrite=arguments.overwrite,
    )
    added, total = len(new_map) - len(old_map), sum(drive.total for drive in drives)
    say(
        f"{len(new_map)} images, {added} of {total} images of the drives added, revision "
        f"{new_map.revision} → {arguments.output}"
    )


def prune_command(arguments: argparse.Namespace) -> None:
    from disam_ros.evaluation.results import read_results
    from disam_ros.mapping.life.assembly import Part, assemble
    from disam_ros.mapping.life.pruning import kept_rows, stood_for, uses_of
    from disam_ros.mapping.place_map import PlaceMap

    place_map, frames = PlaceMap(arguments.map), []
    for path in arguments.used:
        columns = read_results(path)["frames"]
        frames += list(zip(*(columns[name] for name in FRAME_ERRORS), strict=True))
    uses = uses_of(place_map, frames, *RIGHT)
    rows = kept_rows(place_map, arguments.keep, uses)
    operation = {"operation": "prune", "keep": arguments.keep, "answers": int(uses.sum())}
    means = stood_for(place_map, rows) if len(rows) < len(place_map) else None
    new_map = assemble(
        [Part(place_map, rows, mean_of=means)],
        arguments.output,
        operation,
        arguments.overwrite,
        thumbnails=not arguments.no_thumbnails,
    )
    used = f", {int((uses > 0).sum())} were right answers" if arguments.used else ""
    say(f"{len(new_map)} of {len(place_map)} images{used} → {arguments.output}")


def align_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.life.alignment import align_to_fixes, align_to_map, align_to_origin
    from disam_ros.mapping.place_map import PlaceMap
    from disam_ros.models.model import load_model

    place_map, rest = PlaceMap(arguments.map), (arguments.output, arguments.overwrite)
    if arguments.to:
        if not arguments.model:
            raise ConfigError("--to compares images: name the model of both maps with --model")
        model = load_model(arguments.model)
        text = align_to_map(place_map, PlaceMap(arguments.to), model, arguments.scale, *rest)
    elif arguments.fixes:
        text = align_to_fixes(place_map, arguments.fixes, *rest)
    else:
        text = align_to_origin(place_map, arguments.origin, *rest)
    say(f"{text} → {arguments.output}")


def export_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.life.export import export_map

    count = export_map(
        arguments.map,
        arguments.format,
        arguments.output,
        camera=arguments.camera,
        images=arguments.images,
        overwrite=arguments.overwrite,
    )
    say(f"{count} images → {arguments.output}")


def _in_words(value: Any) -> str:
    """Formats nested values in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return " ".join(_in_words(entry) for entry in value)
    return "unknown" if value is None else str(value)
