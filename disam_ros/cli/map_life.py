# SPDX-License-Identifier: Apache-2.0
"""`disam map`: look at a map, check it, and make new ones of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from disam_ros.cli.arguments import number
from disam_ros.cli.help import HelpFormatter
from disam_ros.cli.outputs import add_output, add_overwrite
from disam_ros.files.outputs import EXPORT, FILE, MAP

FORMATS = ("geojson", "kml", "tum", "colmap", "utm")
FOLDERS = ("colmap", "utm")  # formats that are directories
NEW_MAP = "map directory to write; a map is never changed in place"


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The life of a map."""
    group = command("map", lambda _: None, "look at a map, check it, make new ones of it")
    commands = group.add_subparsers(required=True, metavar="operation")

    def operation(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
        sub.set_defaults(run=run)
        return sub

    info = operation("info", info_command, "what a map holds, and its history")
    info.add_argument("map", help="map directory")
    info.add_argument("--json", action="store_true", help="print JSON")

    check = operation("check", check_command, "verify all files of a map, rebuild its indices")
    check.add_argument("map", help="map directory")

    crop = operation("crop", crop_command, "a map of the images inside a polygon")
    crop.add_argument("map", help="map directory")
    region = crop.add_mutually_exclusive_group(required=True)
    region.add_argument(
        "--polygon",
        type=number(-1e7, 1e7),
        nargs="+",
        metavar="METRES",
        help="x y x y … of the corners in the map frame [m]",
    )
    region.add_argument("--geojson", type=Path, help="file with polygons of longitude and latitude")
    add_output(crop, MAP, NEW_MAP)

    export = operation("export", export_command, "a map's poses for other programs")
    export.add_argument("map", help="map directory")
    export.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="geojson, kml: points; tum: poses of a camera; colmap: text model; utm: folder of "
        "images @east@north@…, as VPR-methods-evaluation reads",
    )
    export.add_argument("--camera", default="", help="only the images of this camera")
    export.add_argument(
        "--images",
        type=Path,
        help="utm: dataset directory that the map was built from; default: the map's thumbnails",
    )
    export.add_argument("--output", required=True, help="file to write, or folder (colmap, utm)")
    add_overwrite(export, lambda a: {Path(a.output): EXPORT if a.format in FOLDERS else FILE})


def info_command(arguments: argparse.Namespace) -> None:
    import json

    from disam_ros.mapping.life.summary import summary
    from disam_ros.mapping.place_map import PlaceMap

    found = summary(PlaceMap(arguments.map, verify=False))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    history = found.pop("history")
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {_in_words(value)}")
    for number_, entry in enumerate(history, 1):
        rest = {k: v for k, v in entry.items() if k not in ("operation", "settings", "maps")}
        others = ", ".join(other["name"] for other in entry.get("maps", ()))
        text = f"{entry['operation']} {others}".strip()
        print(f"{'history' if number_ == 1 else '':{width}}  {number_}. {text}: {_in_words(rest)}")


def check_command(arguments: argparse.Namespace) -> None:
    from disam_ros.mapping.builder import write_indices
    from disam_ros.mapping.index import FLAT
    from disam_ros.mapping.life.summary import require_sound
    from disam_ros.mapping.place_map import PlaceMap

    place_map = PlaceMap(arguments.map, verify=True)
    require_sound(place_map)
    written = [path.name for path in write_indices(place_map)]
    what = ", ".join(written) or f"no index needed up to {FLAT} images a camera"
    print(f"{arguments.map}: {len(place_map)} images, checksums right; {what}")


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
    found = assemble([part], arguments.output, operation, arguments.overwrite)
    print(f"{len(found)} of {len(place_map)} images → {arguments.output}")


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
    print(f"{count} images → {arguments.output}")


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return " ".join(_in_words(entry) for entry in value)
    return "unknown" if value is None else str(value)
