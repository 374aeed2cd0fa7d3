# SPDX-License-Identifier: Apache-2.0
"""config/sros2_policy.xml allows what the nodes do in the ROS graph, and nothing else."""

from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

from rclpy.node import NodeNameNonExistentError
from support.node_process import NodeProcess, node_process
from support.ros import Client

pytestmark = pytest.mark.slow

POLICY = Path(__file__).parents[2] / "config" / "sros2_policy.xml"
TF = {"/tf", "/tf_static"}  # need packages of a ROS installation
IMAGES = {"raw": "/image", "compressed": "/image/compressed"}
POSES = {"pose": "/pose", "odom": "/odom"}
KINDS = {
    "subscribe": "get_subscriber_names_and_types_by_node",
    "publish": "get_publisher_names_and_types_by_node",
    "reply": "get_service_names_and_types_by_node",
    "request": "get_client_names_and_types_by_node",
}


def allowed(executable, node):
    """Names by kind that the policy allows an executable, resolved for a node of this name."""
    (profile,) = ElementTree.parse(POLICY).findall(f".//enclave[@path='/{executable}']//profile")
    assert profile.attrib == {"ns": "/", "node": executable}
    names = {kind: set() for kind in KINDS}
    for rules in profile:
        for kind, qualifier in rules.attrib.items():
            assert qualifier == "ALLOW"
            names[kind] |= {resolved(rule.text, node) for rule in rules}
    return names


def resolved(name, node):
    if name.startswith("~/"):
        return f"/{node}{name[1:]}"
    return name if name.startswith("/") else f"/{name}"


def named(node):
    return "-r", f"__node:={node}"


def check(executable, node, client, missing):
    """The running node does what its policy allows, but for what is missing here.

    node: its name in this test. The graph keeps a node of another test for a while, and two nodes
    of one name cannot be told apart in it.
    """
    expected = {kind: names - missing for kind, names in allowed(executable, node).items()}

    result = {}

    def as_expected():
        with suppress(NodeNameNonExistentError):  # not yet discovered
            for kind, query in KINDS.items():
                result[kind] = {name for name, _ in getattr(client.node, query)(node, "/")}
        return result == expected

    with suppress(AssertionError):
        client.until(as_expected, "the graph of the policy")
    assert result == expected


@pytest.mark.parametrize("transport", IMAGES)
def test_the_policy_of_the_localizer_is_what_it_does(places, tmp_path, transport):
    parameters = {
        **places,
        "image_transport": transport,
        "loop_closure.enabled": True,
        "initialize": "recover",
        "use_sim_time": True,
    }
    others = {topic for name, topic in IMAGES.items() if name != transport}
    node = f"policy_{transport}"
    with (
        node_process("localizer.node", tmp_path / "log", parameters, *named(node)),
        Client(f"/{node}") as client,
    ):
        check("localizer", node, client, TF | others)


@pytest.mark.parametrize(("transport", "source"), [("raw", "pose"), ("compressed", "odom")])
def test_the_policy_of_the_map_builder_is_what_it_does(places, tmp_path, transport, source):
    parameters = {
        "output": tmp_path / "map",
        "model": places["model"],
        "image_transport": transport,
        "pose_source": source,
        "identity_extrinsics": True,
        "use_sim_time": True,
    }
    others = {topic for name, topic in IMAGES.items() if name != transport}
    others |= {topic for name, topic in POSES.items() if name != source}
    node = f"policy_builder_{transport}"
    with (
        node_process("map_builder.node", tmp_path / "log", parameters, *named(node)),
        Client(f"/{node}") as client,
    ):
        check("map_builder", node, client, TF | others)


@pytest.mark.parametrize(
    ("node", "keystore"),
    [("localizer", "nothing"), ("localizer", "no enclave"), ("map_builder", "no keys")],
)
def test_a_node_without_its_keys_ends_in_one_line(tmp_path, monkeypatch, node, keystore):
    if keystore != "nothing":
        (tmp_path / "enclaves").mkdir()
    if keystore == "no keys":
        (tmp_path / "enclaves" / node).mkdir()
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(tmp_path))
    process = NodeProcess(f"{node}.node", tmp_path / "log", {}, "--enclave", f"/{node}")
    assert process.wait() == 1
    assert "Traceback" not in process.log
    assert "security" in process.log.splitlines()[-1].lower() and process.log.count("FATAL") == 1
