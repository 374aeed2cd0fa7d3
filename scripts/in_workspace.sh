#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in the environment that install_robot.sh made: scripts/in_workspace.sh disam doctor
set -eo pipefail
workspace=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
# shellcheck disable=SC1090,SC1091
for setup in "/opt/ros/${ROS_DISTRO:-}/setup.bash" "$workspace"/{.venv/bin/activate,install/setup.bash}; do
    [ ! -f "$setup" ] || . "$setup"
done
exec "$@"
