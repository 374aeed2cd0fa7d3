#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests the launch files with the `ros2 launch` of an installed ROS 2, which is not on PyPI:
#
#   scripts/launch_tests.sh [--if-installed] [further arguments of pytest]
#
# Runs in the environment of install_robot.sh where there is one, and needs no network. Where ROS or
# pytest is missing it fails; with --if-installed one red line says so and it succeeds.
set -eo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

optional=
if [ "${1:-}" = --if-installed ]; then
    optional=1
    shift
fi
check='
import shutil, sys
import hypothesis, launch_ros, pytest, ros2launch, torch, xdist
shutil.which("ros2") or sys.exit("the command ros2 is not on the PATH")
'
if ! missing=$(scripts/in_workspace.sh python3 -c "$check" 2>&1); then
    printf '\033[1;31mThe launch files were not tested: %s. %s\033[0m\n' "${missing##*$'\n'}" \
        "Source ROS 2, run TORCH=1 scripts/install_robot.sh, then make test-launch: CONTRIBUTING.md"
    [ -n "$optional" ]
    exit
fi
exec scripts/in_workspace.sh python3 -m pytest --dist worksteal \
    --numprocesses $(($(getconf _NPROCESSORS_ONLN) + 1)) \
    test/nodes/test_launch.py test/nodes/test_launch_files.py "$@"
