# SPDX-License-Identifier: Apache-2.0
"""What a release is made from: package.xml, setup.py and CHANGELOG.rst."""

import ast
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from disam_ros.cli.doctor import NO_WHEEL, PACKAGES, ROS_PACKAGES

ROOT = Path(__file__).parents[1]
MANIFEST = (ROOT / "package.xml").read_text()
DEPENDS = {e.text for e in ElementTree.fromstring(MANIFEST).findall("exec_depend")}
TEST_DEPENDS = {e.text for e in ElementTree.fromstring(MANIFEST).findall("test_depend")}
# Keys of rosdep that are a deb on every Ubuntu with ROS 2, by module.
DEBS = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "jinja2": "python3-jinja2",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "pymap3d": "python3-pymap3d",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
    "websockets": "python3-websockets",
    "yaml": "python3-yaml",
}
# What comes with rclpy and launch_ros, and is not examined by the doctor.
BROUGHT = {"ament_index_python", "builtin_interfaces", "launch", "rcl_interfaces", "rosgraph_msgs"}
NAMES = {"tf2_ros": "tf2_ros_py"}  # packages of ROS that are not called as their module
OF_EXTRAS = {"onnx": "onnx", "av": "video", "websockets": "view"}  # the doctor's, by module
# What is imported for one command or option alone and not examined by the doctor, with its extra;
# argcomplete comes with ros2.
RARE = {"gtsam": "graph", "ray": "ray", "argcomplete": None}
# What libraries cannot do without.
OF_LIBRARIES = {"cycler": "matplotlib", "markupsafe": "jinja2", "lz4": "rosbags"}
# What the wheels of the extra [ros] bring that are not in its list, and what only it needs.
OF_WHEELS, MIDDLEWARE = {"std_msgs", "lifecycle_msgs"}, {"rmw_fastrtps_cpp"}


def keyword(name):
    """A list or dictionary that setup.py passes to setup()."""
    calls = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    (value,) = (n.value for n in calls if isinstance(n, ast.keyword) and n.arg == name)
    return ast.literal_eval(value)


def distribution(requirement):
    return re.match(r"[A-Za-z0-9_.-]+", requirement).group()


def imports():
    """Top names of all modules that the package and its launch files import."""
    for path in (*(ROOT / "disam_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def test_the_manifest_depends_on_the_debs_of_the_doctor_and_names_all_other_packages():
    python = {name for name in DEPENDS if name.startswith("python3-")}
    modules = {package.module for package in PACKAGES}
    assert python == {DEBS[module] for module in modules & set(DEBS)} == set(DEBS.values())
    (comment,) = re.findall(r"<!-- From PyPI.*?-->", MANIFEST, re.DOTALL)
    for package in PACKAGES:
        named = re.search(rf"\b{package.module}\b", comment) is not None
        assert named == (package.module not in DEBS), package.module
        if named:
            line = next(x for x in comment.splitlines() if re.search(rf"\b{package.module}\b", x))
            assert package.module == "torch" or ("optional" in line) != package.required, line


def test_the_manifest_depends_on_the_packages_of_ros_that_are_imported_and_examined():
    ros = {name for name in DEPENDS if not name.startswith("python3-")}
    examined = {NAMES.get(package.module, package.module) for package in ROS_PACKAGES}
    assert ros == examined | BROUGHT
    used = {NAMES.get(name, name) for name in imports()}
    assert used >= BROUGHT
    assert {n for n in used if n.endswith(("_msgs", "_srvs", "_interfaces", "launch_ros"))} <= ros


def test_setup_py_requires_what_the_doctor_examines_and_nothing_else():
    required, extras = set(keyword("install_requires")), keyword("extras_require")
    optional = {p.requirement for p in PACKAGES if p.module in OF_EXTRAS}
    assert required - {"setuptools"} == {p.requirement for p in PACKAGES} - optional
    assert {p.requirement for p in PACKAGES if p.required} <= required
    for package in PACKAGES:
        if package.module in OF_EXTRAS:
            assert not package.required
            assert package.requirement in extras[OF_EXTRAS[package.module]]


def test_every_module_that_is_imported_is_examined_or_in_an_extra():
    own = {"disam_ros", "_typeshed"} | set(sys.stdlib_module_names)
    examined = {package.module for package in (*PACKAGES, *ROS_PACKAGES)}
    assert set(imports()) - own - examined - BROUGHT == set(RARE) | set(OF_LIBRARIES)
    assert set(OF_LIBRARIES.values()) <= examined
    extras = keyword("extras_require")
    for module, extra in RARE.items():
        assert extra is None or distribution(extras[extra][0]) == module


def test_the_extra_of_ros_is_what_the_manifest_and_the_doctor_need_of_it():
    listed = [distribution(text) for text in keyword("extras_require")["ros"]]
    wheels = {x.removeprefix("ros-jazzy-").replace("-", "_") for x in listed if x[:4] == "ros-"}
    required = {package.module for package in ROS_PACKAGES if package.required}
    assert wheels - MIDDLEWARE <= DEPENDS
    assert wheels == (required | {"rosgraph_msgs"}) - OF_WHEELS | MIDDLEWARE
    assert not wheels & NO_WHEEL
    libraries = {distribution(text) for text in keyword("install_requires")}
    assert {x for x in listed if x[:4] != "ros-"} - libraries == {"cv-bridge"}


def test_the_manifest_tests_with_packages_of_development():
    development = {distribution(text) for text in keyword("extras_require")["dev"]}
    assert {name.removeprefix("python3-") for name in TEST_DEPENDS} <= development


def test_all_placeholders_are_in_the_list_of_what_the_owner_fills():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## What only the owner can fill") : text.index("## Commits")]
    rows = [re.findall(r"`([^`]+)`", row) for row in section.splitlines() if row.startswith("| `")]
    texts = {
        str(path.relative_to(ROOT)): path.read_text()
        for pattern in ("*", "docs/*", ".github/**/*", "season_town/*")
        for path in ROOT.glob(pattern)
        if path.suffix in {".md", ".xml", ".py", ".cff", ".toml", ".yml", ".yaml", ".rst"}
    }
    del texts["CONTRIBUTING.md"]
    assert len(rows) == 3
    for placeholder, *files in rows:
        named = {name for name in files if name != "SECURITY.md"}
        assert named == {name for name, text in texts.items() if placeholder in text}, placeholder
    assert [name for name, text in texts.items() if re.search(r"<this repository>", text)] == []


def test_the_changelog_is_read_whole_by_the_tool_of_ros():
    reader = pytest.importorskip("catkin_pkg.changelog")
    text = (ROOT / "CHANGELOG.rst").read_text()
    dated = text.replace("(unreleased)", "(2030-01-01)")
    changelog = reader.populate_changelog_from_rst(reader.Changelog("disam_ros"), dated)
    content = {version: parts for version, _, parts in changelog.foreach_version()}
    headings = re.findall(r"^(\d+\.\d+\.\d+) \(.+\)\n-+$", text, re.MULTILINE)
    assert set(content) == set(headings)
    for parts in content.values():
        assert len(parts) == 1 and isinstance(parts[0], reader.BulletList)
    lengths = sum(len(parts[0].bullets) for parts in content.values())
    assert lengths == len(re.findall(r"^\* ", text, re.MULTILINE))
    version = ElementTree.fromstring(MANIFEST).findtext("version")
    assert headings[0] == version
