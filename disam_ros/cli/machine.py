# SPDX-License-Identifier: Apache-2.0
"""What of a machine hinders an installation or ROS, each with the command that helps."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

Version = tuple[int, int]  # of Python
GROUP, PATIENCE = "239.255.0.1", 0.5  # of DDS; time that a packet to oneself may take [s]
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
EXPORTERS = {"onnx": "onnx>=1.17", "onnxscript": "onnxscript>=0.5"}  # what torch needs for ONNX


def hindrances(*, incomplete: bool) -> list[str]:
    """Lists what hinders, in sentences. incomplete: packages are missing."""
    version = sys.version_info[:2]
    ros = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    lines = [
        environment_of_another_python(Path(sys.prefix), version),
        ros_of_another_python([Path(path) for path in ros if path], version),
        torch_without_onnx({name for name in ("torch", *EXPORTERS) if find_spec(name)}),
    ]
    if incomplete:
        lines.append(proxy(os.environ))
    return [line for line in lines if line]


def environment_of_another_python(prefix: Path, version: Version) -> str:
    """Tells that a virtual environment was made by another Python, whose packages are not seen.

    An upgrade of the system does that: `.venv/bin/python` is a link.
    """
    builds = sorted(path.parent.name for path in prefix.glob("lib/python3.*/site-packages"))
    if not (prefix / "pyvenv.cfg").exists() or not builds or _name(version) in builds:
        return ""
    return (
        f"{prefix} was made by {' and '.join(builds)}, and this is {_name(version)}: make it "
        f"anew, python3 -m venv --clear {prefix}, and install again"
    )


def ros_of_another_python(prefixes: Iterable[Path], version: Version) -> str:
    """Tells that the sourced ROS was built for another Python than this one."""
    for prefix in prefixes:
        builds = [path.parents[1].name for path in prefix.glob("lib/python3.*/*-packages/rclpy")]
        if builds and _name(version) not in builds:
            return (
                f"ROS in {prefix} is built for {builds[0]}, and this is {_name(version)}: make "
                f"the environment with it, {builds[0]} -m venv --clear --system-site-packages .venv"
            )
    return ""


def torch_without_onnx(installed: Iterable[str]) -> str:
    """Tells that torch is there without what writes ONNX files."""
    names = set(installed)
    missing = [f"'{EXPORTERS[name]}'" for name in EXPORTERS if name not in names]
    if "torch" not in names or not missing:
        return ""
    return (
        f"torch writes no ONNX files here, so that a trained model needs torch on a CPU, too: "
        f"{sys.executable} -m pip install {' '.join(missing)}"
    )


def proxy(environment: Mapping[str, str]) -> str:
    """Tells what to do where a proxy cuts downloads off. Its password is left out."""
    address = next((environment[name] for name in PROXIES if environment.get(name)), "")
    if not address:
        return ""
    host = urlsplit(address if "//" in address else f"//{address}").hostname
    return (
        f"downloads go by the proxy {host}: if it cuts them off, run pip again with "
        "--resume-retries 20 --timeout 120 (pip 25.1 or newer: pip install --upgrade pip)"
    )


def apt_command(packages: Iterable[str]) -> str:
    """Returns the command that installs Debian packages, as far as this user may."""
    install = f"apt install {' '.join(packages)}"
    if os.geteuid() == 0:
        return install
    if shutil.which("sudo"):
        return f"sudo {install}"
    return f"ask who administers this machine, as sudo is not there: {install}"


def environment_command() -> str:
    """Returns the command that makes a virtual environment beside the system's packages."""
    make = "python3 -m venv --system-site-packages .venv"
    return make if find_spec("ensurepip") else f"{apt_command(['python3-venv'])} && {make}"


def multicast() -> str:
    """Returns why a packet to a multicast group does not come back; empty where it does."""
    receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(receiving), closing(sending):
        try:
            receiving.bind(("", 0))
            group = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
            receiving.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            receiving.settimeout(PATIENCE)
            sending.sendto(b"disam", (GROUP, receiving.getsockname()[1]))
            receiving.recv(16)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def ipv6() -> str:
    """Returns why there is no IPv6 on this machine; empty where there is."""
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as listening:
            listening.bind(("::1", 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _name(version: Version) -> str:
    return f"python{version[0]}.{version[1]}"
