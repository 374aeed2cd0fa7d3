# SPDX-License-Identifier: Apache-2.0
# disam_ros in a colcon workspace, for amd64 and arm64. A Jetson takes NVIDIA's ROS image, which
# brings its own torch: docker build --build-arg BASE=… .
ARG BASE=ros:jazzy-ros-base
FROM ${BASE}
# 1 for a machine with a GPU: torch, whose default build has CUDA; a CPU does without
ARG TORCH=
WORKDIR /ws
COPY . src/disam_ros
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git python3-venv \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && TORCH="$TORCH" PIP_NO_CACHE_DIR=1 \
        bash -c '. "/opt/ros/$ROS_DISTRO/setup.bash" && src/disam_ros/scripts/install_robot.sh' \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws/src/disam_ros
ENTRYPOINT ["/ws/src/disam_ros/scripts/in_workspace.sh"]
CMD ["ros2", "launch", "disam_ros", "relocalization.launch.py", "map:=/map", "model:=outdoor"]
