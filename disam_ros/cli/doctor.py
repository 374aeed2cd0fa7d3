# SPDX-License-Identifier: Apache-2.0
"""Checks what is installed and names the commands that install the rest. Needs no package."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from disam_ros.cli import machine
from disam_ros.cli.arguments import add, add_shared, number
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.device import has_cuda_driver
from disam_ros.errors import ConfigError
from disam_ros.files.paths import shipped_models
from disam_ros.files.printable import say
from disam_ros.nodes import require_middleware

OK, MISSING, OLD, BROKEN = "ok", "missing", "too old", "broken"


@dataclass(frozen=True)
class Package:
    """A Python package that disam_ros imports."""

    module: str
    requirement: str  # as pip takes it; empty for a package of ROS
    use: str  # what it is for
    required: bool = True


@dataclass(frozen=True)
class Finding:
    """State of a package."""

    package: Package
    state: str  # OK, MISSING, OLD or BROKEN
    detail: str  # its version, or why it cannot be imported


PACKAGES = (
    Package("numpy", "numpy>=1.24", "arrays"),
    Package("cv2", "opencv-python>=4.6", "images, keypoints, poses"),
    Package("torch", "torch>=2.2", "encoders on a GPU, training", required=has_cuda_driver()),
    Package("onnxruntime", "onnxruntime>=1.18", "encoders on a CPU"),
    Package("onnx", "onnx>=1.17", "writing ONNX files, importing models", required=False),
    Package("faiss", "faiss-cpu>=1.8", "indices of maps of over 20000 images", required=False),
    Package("safetensors", "safetensors>=0.4", "weights of models"),
    Package("yaml", "pyyaml>=6.0", "parameter files"),
    Package("scipy", "scipy>=1.11", "rotations, estimation"),
    Package("PIL", "pillow>=9.1", "time and place of photos"),
    Package("pymap3d", "pymap3d>=3.1", "latitude and longitude"),
    Package("rich", "rich>=13.0", "tables"),
    Package("tqdm", "tqdm>=4.65", "progress bars"),
    Package("jinja2", "jinja2>=3.1", "reports"),
    Package("matplotlib", "matplotlib>=3.7", "plots"),
    Package("rosbags", "rosbags>=0.11.9", "reading and writing bags", required=False),
    Package("av", "av>=12.0", "reading video", required=False),
    Package("websockets", "websockets>=10.0", "the page of disam view", required=False),
)
ROS_MESSAGES = ("sensor", "geometry", "nav", "std", "diagnostic", "visualization", "lifecycle")
ROS_PACKAGES = (
    Package("rclpy", "", "ROS 2 nodes"),
    *(Package(f"{name}_msgs", "", "ROS 2 messages") for name in ROS_MESSAGES),
    Package("std_srvs", "", "ROS 2 services"),
    Package("tf2_msgs", "", "TF of map → odom", required=False),
    Package("tf2_ros", "", "extrinsics from TF", required=False),
    Package("cv_bridge", "", "images by ROS's own converter", required=False),
    Package("launch_ros", "", "ros2 launch", required=False),
)
NO_WHEEL = {"tf2_msgs", "tf2_ros", "launch_ros"}  # an installed ROS 2 alone brings these
NO_MULTICAST = (
    "nodes of other machines are not found: ip route add 224.0.0.0/4 dev INTERFACE, or a discovery "
    "server (ROS_DISCOVERY_SERVER)"
)
PIP_ROS = ", or pip install 'disam_ros[ros]'"

_DEBIAN = {"tf2_ros": "tf2-ros-py"}  # packages that are not called as their module


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command that checks the installation."""
    text = "check the installation, or what a bag or running topics hold for a map"
    doctor = command("doctor", doctor_command, text)
    add(doctor, "bag", "rosbag2 directory or .mcap/.db3/.bag file to check", nargs="?")
    text = "check the topics that are published now, as a bag of some seconds"
    add(doctor, "--live", text, bool)
    add(doctor, "--seconds", "time to listen for --live", number(0.5, 600.0), default=5.0)
    add_bag_options(doctor)
    add_shared(doctor, "--pose-topic")
    doctor.add_argument(
        "--missing",
        action="store_true",
        help="print only what is missing, as requirements for 'pip install -r'",
    )
    add(doctor, "--json", "print the state of the installation as JSON", bool)


def doctor_command(arguments: argparse.Namespace) -> int:
    """Prints the report. Returns 1 if anything is missing that disam_ros cannot do without, or if
    no map can be built of the bag."""
    if arguments.live or arguments.bag:
        return _check_bag(arguments)
    middleware = _middleware_fault()
    findings = [examine(package) for package in (*PACKAGES, *ROS_PACKAGES)]
    faults = [finding for finding in findings if finding.state != OK and finding.package.required]
    if arguments.missing:
        for finding in faults:
            say(
                finding.package.requirement
                or f"# {finding.package.module}: {_ros_command([finding])}"
            )
        return int(bool(faults))
    import disam_ros

    dds = (BROKEN, "DDS", middleware) if middleware else _dds()
    status = int(bool(faults) or dds[0] == BROKEN)
    models = shipped_models()
    if arguments.json:
        report = {
            "disam_ros": disam_ros.__version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "complete": not status,
            "packages": [asdict(f.package) | _state(f.state, f.detail) for f in findings],
            "middleware": _state(dds[0], dds[2]),
            "multicast": _state(*_of_network(machine.multicast())),
            "ipv6": _state(*_of_network(machine.ipv6())),
            "hindrances": machine.hindrances(incomplete=bool(faults)),
            "models": {name: str(path) for name, path in models.items()},
        }
        print(json.dumps(report, indent=1))
        return status
    where = f"Python {platform.python_version()} ({sys.executable})"
    say(f"disam_ros {disam_ros.__version__}, {where}\n")
    for finding in findings:
        _print(finding.state, finding.package.module, finding.detail, finding.package)
    _print(*dds)
    for name, path in models.items():
        _print(OK, f"model {name}", str(path))
    if not models:
        _print(MISSING, "models", "none came with this installation: name a model by its path")
    for name, fault, use in (
        ("multicast", machine.multicast(), NO_MULTICAST),
        ("IPv6", machine.ipv6(), "for disam view --host ::"),
    ):
        state, detail = _of_network(fault)
        _print(
            f"{state} (optional)" if fault else state,
            name,
            "; ".join(filter(None, (detail, use * bool(fault)))),
        )
    lines = [*machine.hindrances(incomplete=bool(faults)), _advice(findings)]
    say("\n" + "\n".join(lines))
    return status


def _of_network(fault: str) -> tuple[str, str]:
    """Returns state and detail of something that the network has or lacks."""
    return (MISSING, fault) if fault else (OK, "")


def _state(state: str, detail: str) -> dict[str, str]:
    return {"state": state, "detail": detail}


def _check_bag(arguments: argparse.Namespace) -> int:
    """Prints the report on a bag, or on what is published now. Returns 1 if none can be mapped."""
    from disam_ros.datasets.bags.pose_sources import TopicPoses
    from disam_ros.datasets.bags.report import report_on

    if arguments.live and arguments.bag:
        raise ConfigError("doctor takes a bag or --live: drop one")
    if arguments.json or arguments.missing:
        raise ConfigError("--json and --missing are of the installation: drop them, or the bag")
    options, poses = bag_options_of(arguments), TopicPoses(arguments.pose_topic)
    with tempfile.TemporaryDirectory() as folder:
        bag = arguments.bag
        if arguments.live:
            require_middleware()
            from disam_ros.nodes.listening import record

            bag = record(Path(folder) / "live", arguments.seconds)
        report = report_on(bag, options, poses)
    say("\n".join(report.lines()))
    return int(bool(report.fault))


def examine(package: Package) -> Finding:
    """Imports a package and compares its version with the oldest one allowed."""
    try:
        module = importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == package.module:
            return Finding(package, MISSING, "")
        return Finding(package, BROKEN, f"needs {error.name}")
    except Exception as error:  # built against another NumPy, a missing shared library, …
        return Finding(package, BROKEN, f"{type(error).__name__}: {error}".splitlines()[0])
    name, _, least = package.requirement.partition(">=")
    version = _version(name or package.module, module)
    if version and least and _numbers(version) < _numbers(least):
        return Finding(package, OLD, f"{version}, needs {least}")
    return Finding(package, OK, f"{version} {_devices(module)}".strip())


def _version(distribution: str, module: object) -> str:
    if isinstance(version := getattr(module, "__version__", None), str):
        return version
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> list[int]:
    """Returns the numbers of a version up to its first letter."""
    return [int(part) for part in re.findall(r"\d+", re.split("[^0-9.]", version)[0])]


def _devices(module: object) -> str:
    """Names the device of torch."""
    cuda = getattr(module, "cuda", None)
    if getattr(module, "__name__", "") != "torch" or cuda is None:
        return ""
    return f"on {cuda.get_device_name()}" if cuda.is_available() else "on the CPU, without CUDA"


def _dds() -> tuple[str, str, str]:
    """Returns state, name and detail of the middleware."""
    try:
        utilities = importlib.import_module("rclpy.utilities")
        return OK, "DDS", str(utilities.get_rmw_implementation_identifier())
    except ImportError:
        return MISSING, "DDS", "comes with rclpy"
    except Exception as error:
        return BROKEN, "DDS", f"{error}".splitlines()[0]


def _middleware_fault() -> str:
    """Returns why the environment's middleware cannot be used, and selects the default instead."""
    try:
        require_middleware()
    except ConfigError as error:
        del os.environ["RMW_IMPLEMENTATION"]  # rcl would end this process
        return str(error)
    return ""


def _print(state: str, name: str, detail: str, package: Package | None = None) -> None:
    """Prints a line of the report."""
    use = "" if package is None or state == OK else f"for {package.use}"
    optional = state != OK and package is not None and not package.required
    label = f"{state} (optional)" if optional else state
    say(f"{label:19} {name:19} {'; '.join(filter(None, (detail, use)))}".rstrip())


def _advice(findings: list[Finding]) -> str:
    """Returns the commands that install missing packages, the required ones first."""
    lines = []
    for required, title in ((True, "Needed"), (False, "Useful")):
        faults = [f for f in findings if f.state != OK and f.package.required == required]
        pip = [f for f in faults if f.package.requirement]
        broken = [f.package.requirement for f in pip if f.state == BROKEN]
        others = [f.package.requirement for f in pip if f.state != BROKEN]
        ros = [finding for finding in faults if not finding.package.requirement]
        commands = [_ros_command(ros)] if ros else []
        install = [sys.executable, "-m", "pip", "install"]
        if others:
            commands.append(shlex.join([*install, *others]))
        if broken:  # half an install counts as there for pip
            commands.append(shlex.join([*install, "--force-reinstall", "--no-deps", *broken]))
        lines += [f"{title}: {command}" for command in commands]
    if any(" pip " in line for line in lines) and _managed():
        lines.append(
            "The system manages this Python and refuses pip: make a virtual environment with "
            f"scripts/install_robot.sh, or {machine.environment_command()}, and use its python"
        )
    return "\n".join(lines) or "All is installed."


def _ros_command(findings: list[Finding]) -> str:
    """Returns the command that installs packages of ROS."""
    names = [_DEBIAN.get(f.package.module, f.package.module.replace("_", "-")) for f in findings]
    if distribution := os.environ.get("ROS_DISTRO"):
        command = machine.apt_command([f"ros-{distribution}-{name}" for name in names])
        return command + (PIP_ROS if command.startswith("ask") else "")
    setups = sorted(Path("/opt/ros").glob("*/setup.bash"))
    if setups:
        return f". {setups[-1]}"
    wheels = "" if {f.package.module for f in findings} <= NO_WHEEL else PIP_ROS
    return f"install ROS 2 and source its setup.bash{wheels}"


def _managed() -> bool:
    """Returns whether pip refuses to install into this interpreter (PEP 668)."""
    import sysconfig

    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return sys.prefix == sys.base_prefix and marker.exists()
