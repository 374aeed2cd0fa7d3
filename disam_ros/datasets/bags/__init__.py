# SPDX-License-Identifier: Apache-2.0
"""Bags, recordings of ROS 2 and ROS 1, in and out; needs the package rosbags and no ROS."""
