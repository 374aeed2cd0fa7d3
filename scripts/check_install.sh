#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# README's two installations as on a new machine: a fresh clone, and a Python that the system manages
# and that refuses pip (PEP 668).
#
#   scripts/check_install.sh robot FOLDER     # install_robot.sh beside ROS, which comes from wheels
#   scripts/check_install.sh demo FOLDER      # make demo
#   scripts/check_install.sh python FOLDER    # the interpreter alone: FOLDER/system/bin/python3
#
# FOLDER must not exist. Takes minutes. PYTHON: the interpreter to copy.
set -euo pipefail

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'check_install.sh: %s\n' "$*" >&2
    exit 1
}

[[ $# = 2 && $1 =~ ^(robot|demo|python)$ ]] || fail "expected robot, demo or python, and a folder, got: $*"
[ ! -e "$2" ] || fail "$2 exists: name a new folder"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$2"
folder=$(cd "$2" && pwd)
unset PYTHONPATH VIRTUAL_ENV ROS_DISTRO AMENT_PREFIX_PATH

step "A Python that refuses pip"
read -r prefix name < <("${PYTHON:-python3}" -c \
    'import sys; print(sys.base_prefix, "python{}.{}".format(*sys.version_info))')
library=$folder/system/lib/$name
mkdir -p "$folder/system/bin" "$library"
cp "$prefix/bin/$name" "$folder/system/bin/python3"
ln -s "$prefix/lib/$name"/* "$library"
rm -f "$library/site-packages" "$library/EXTERNALLY-MANAGED"
export PATH=$folder/system/bin:$PATH PYTHONNOUSERSITE=1
python3 -m ensurepip >/dev/null || fail "$prefix has no ensurepip: name another PYTHON"
printf '[externally-managed]\nError=The system manages this Python.\n' >"$library/EXTERNALLY-MANAGED"
python3 -m pip install six >"$folder/refused" 2>&1 && fail "pip was not refused"
grep -q externally-managed "$folder/refused" || fail "$(cat "$folder/refused")"
command -v python3
[ "$1" != python ] || exit 0

step "A fresh clone"
clone=$folder/ws/src/disam_ros
git clone -q "$repository" "$clone"
git -C "$clone" log -1 --format='%h %s'

if [ "$1" = demo ]; then
    step "make demo"
    time make -C "$clone" demo
    du -sm "$clone/.venv"
    exit
fi

step "ROS, from wheels in place of apt"
# The list of setup.py's extra [ros]; cv_bridge comes with it.
python3 - "$clone/setup.py" >"$folder/ros.txt" <<'EOF'
import ast
import sys

for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            if getattr(key, "value", "") == "ros":
                print("\n".join(ast.literal_eval(value)))
EOF
python3 -m pip install --quiet --break-system-packages -r "$folder/ros.txt"
# ROS's setup.bash sets it; the wheels do at the start of their own interpreter.
LD_LIBRARY_PATH=$(python3 -c 'import os; print(os.environ["LD_LIBRARY_PATH"])')
export LD_LIBRARY_PATH

step "disam doctor before the installation: it must name what is missing"
if (cd "$clone" && python3 -m disam_ros.cli doctor) >"$folder/before"; then
    fail "nothing was missing"
fi
tail -n 4 "$folder/before"
for words in onnxruntime 'refuses pip'; do
    grep -q "$words" "$folder/before" || fail "$(cat "$folder/before")"
done

step "scripts/install_robot.sh"
time "$clone/scripts/install_robot.sh"

step "disam doctor in a new shell"
"$clone/scripts/in_workspace.sh" disam doctor
"$clone/scripts/in_workspace.sh" disam --version
