# SPDX-License-Identifier: Apache-2.0
import pkgutil
import subprocess
import sys

import disam_ros

ROS = [
    "rclpy",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "nav_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "tf2_ros",
    "visualization_msgs",
]


def test_every_core_module_imports_where_ros_is_missing():
    modules = [
        module.name
        for module in pkgutil.walk_packages(disam_ros.__path__, "disam_ros.")
        if not module.name.startswith(("disam_ros.nodes", "disam_ros.synthetic"))
    ]
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({ROS}))\n"
        f"import importlib\n[importlib.import_module(m) for m in {modules}]"
    )
    assert "disam_ros.localization.localizer" in modules
    subprocess.run([sys.executable, "-c", script], check=True)
