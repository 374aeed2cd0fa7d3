#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds disam_ros in a colcon workspace beside a ROS installation, and checks the result.
#
#   . /opt/ros/jazzy/setup.bash
#   src/disam_ros/scripts/install_robot.sh
#
# Packages that ROS and the system do not have, such as onnxruntime, go into the virtual environment
# WORKSPACE/.venv, which sees all others: pip refuses to write beside the system's packages
# (PEP 668). Nodes take their interpreter from the PATH, so activate it before ros2 launch.
# Run it again at any time: what is there stays. PYTHON chooses the interpreter of ROS. torch, which
# a CPU does without, is installed where there is a CUDA driver or TORCH=1 asks for it.
set -euo pipefail

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'install_robot.sh: %s\n' "$*" >&2
    exit 1
}

[ $# = 0 ] || fail "expected no arguments, got: $*"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
workspace=$(dirname "$(dirname "$repository")")
[ "$(basename "$(dirname "$repository")")" = src ] ||
    fail "expected a colcon workspace WORKSPACE/src/disam_ros, but this is $repository: move it there"
python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python is not there: install Python, or name one: PYTHON=…"
"$python" -c 'import rclpy' 2>/dev/null ||
    fail "$python has no rclpy: first source your ROS installation, as in '. /opt/ros/jazzy/setup.bash'"
cd "$workspace"

step "Packages of the system"
if command -v rosdep >/dev/null; then
    rosdep install --from-paths "$repository" --ignore-src -y ||
        fail "rosdep failed, see above; 'sudo rosdep init' and 'rosdep update' come before its first use"
else
    echo "rosdep is not installed: none are installed"
fi

step "Virtual environment $workspace/.venv"
if [ -x .venv/bin/python ]; then
    grep -qi '^include-system-site-packages *= *true' .venv/pyvenv.cfg ||
        fail "$workspace/.venv does not see the packages of ROS: remove it and run this again"
    echo "is there already"
else
    "$python" -m venv --system-site-packages .venv ||
        fail "no virtual environment can be made: sudo apt install python3-venv"
fi
touch .venv/COLCON_IGNORE # colcon looks for packages everywhere
bin=$workspace/.venv/bin

step "Packages from PyPI"
export PIP_RESUME_RETRIES="${PIP_RESUME_RETRIES:-20}" # pip 25.1 and newer goes on with a download that a proxy cut off
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# NumPy stays the one that the compiled packages of ROS were built against.
"$bin/python" -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$scratch/constraints" 2>/dev/null || true
PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}" "$bin/python" -m disam_ros.cli doctor --missing \
    >"$scratch/missing" || true # status 1: something is missing
if [ -n "${TORCH:-}" ]; then
    "$bin/python" -c 'import torch' 2>/dev/null || echo 'torch>=2.2' >>"$scratch/missing"
fi
for pair in faiss=faiss-cpu rosbags=rosbags colcon=colcon-common-extensions; do
    "$bin/python" -c "import ${pair%=*}" 2>/dev/null || echo "${pair#*=}" >>"$scratch/missing"
done
if grep -q '^[^#]' "$scratch/missing"; then
    grep '^[^#]' "$scratch/missing"
    "$bin/python" -m pip install -c "$scratch/constraints" -r "$scratch/missing" ||
        fail "pip failed, see above: this step needs the network"
else
    echo "none are missing"
fi

step "colcon build"
"$bin/python" -m colcon build --packages-select disam_ros || fail "colcon build failed, see above"
for name in disam localizer_node map_builder_node; do
    ln -sfn "$workspace/install/disam_ros/lib/disam_ros/$name" "$bin/$name"
done

step "disam doctor"
# shellcheck disable=SC1091
(
    PATH=$bin:$PATH
    set +u # colcon's scripts use variables that are not set
    . install/setup.bash
    exec disam doctor
) || fail "the installation is incomplete: the report above says what to do"

cat <<EOF

Done. In every shell, after ROS itself:

    . $workspace/.venv/bin/activate && . $workspace/install/setup.bash
    disam --help
    ros2 launch disam_ros relocalization.launch.py map:=MAP model:=outdoor image:=/camera/image_raw
EOF
