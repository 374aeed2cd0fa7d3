# SPDX-License-Identifier: Apache-2.0
import pkgutil
import subprocess
import sys

import disam_ros

BLOCKED = ("rclpy", "sensor_msgs", "geometry_msgs", "nav_msgs", "cv_bridge", "tf2_ros")


def test_every_core_module_imports_where_ros_is_missing():
    modules = [
        module.name
        for module in pkgutil.walk_packages(disam_ros.__path__, "disam_ros.")
        if not module.name.startswith(("disam_ros.nodes", "disam_ros.synthetic"))
    ]
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED}))\n"
        f"import importlib\n[importlib.import_module(m) for m in {modules}]"
    )
    assert "disam_ros.localization.localizer" in modules
    subprocess.run([sys.executable, "-c", script], check=True)
