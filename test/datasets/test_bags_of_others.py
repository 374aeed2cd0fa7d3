# SPDX-License-Identifier: Apache-2.0
"""Laws of bags as others record them: foreign channels, compressed files, missing parts."""

import logging
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from support.bags import SECOND, START, pose_at, write_drive
from support.mcap_files import Channel, write_mcap

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.report import report_on
from disam_ros.datasets.bags.storage import zstd
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.errors import BagError

ANY = BagOptions()
POSES = [messages.pose_stamped(START + i * SECOND, "map", pose_at(i)) for i in range(4)]
FOREIGN = {
    "json": ("status", b'{"type":"object"}', "jsonschema", "json"),
    "protobuf": ("foxglove.Log", b"\x0a\xff\xfe\x80", "protobuf", "protobuf"),
    "flatbuffer": ("Log", b"\x18\x00\x00\x00\xc3\x28", "flatbuffer", "flatbuffer"),
    "a definition at fault": ("my_msgs/msg/D", b"wstring<=5 w\n", "ros2msg", "cdr"),
    "a service event": ("my_msgs/srv/S_Event", b"int32 a\n---\nint32 b\n", "ros2msg", "cdr"),
    "no definition": ("my_msgs/msg/E", b"", "", "cdr"),
    "another scheme of ROS": ("my_msgs/Old", b"int32 a", "ros1msg", "ros1"),
}


def pose_channel(topic: str = "/pose") -> Channel:
    definition = messages.TYPESTORE.generate_msgdef(messages.POSE, ros_version=2)[0]
    rows = [
        (messages.stamp_ns(pose), bytes(messages.TYPESTORE.serialize_cdr(pose, messages.POSE)))
        for pose in POSES
    ]
    return Channel(topic, messages.POSE, definition.encode(), messages=rows)


def foreign_channel(name: str) -> Channel:
    kind, definition, schema, encoding = FOREIGN[name]
    rows = [(START + 1, b"\x00\x01\x00\x00"), (START + 2 * SECOND, b"\x00\x01\x00\x00")]
    return Channel("/other", kind, definition, schema, encoding, rows)


def positions(reader: BagReader) -> list[float]:
    return [message.pose.position.x for _, message in reader.messages(["/pose"])]


# --- Channels --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["chunked", "flat", "without summary"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_channel_that_nobody_needs_spoils_no_file(name, layout, tmp_path, caplog):
    path = write_mcap(
        tmp_path / "bag.mcap",
        [foreign_channel(name), pose_channel()],
        chunked=layout == "chunked",
        summary=layout != "without summary",
    )
    with caplog.at_level(logging.INFO), BagReader(path) as reader:
        assert positions(reader) == [0, 1, 2, 3]
        assert {raw.topic for raw in reader.raw()} - {"/other"} == {"/pose"}
        if name != "a service event":  # which a later version of the library may parse
            assert list(reader.topics()) == ["/pose"]
            assert list(reader.left_out) == ["/other"]
            assert "1 unreadable topics left out: /other (" in caplog.text


@pytest.mark.parametrize("name", ["json", "a definition at fault", "no definition"])
def test_a_topic_that_is_asked_for_and_cannot_be_read_is_an_error_that_names_it(name, tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", [foreign_channel(name), pose_channel()])
    with (
        BagReader(path) as reader,
        pytest.raises(BagError, match=r"/other cannot be read: .*name another topic"),
    ):
        list(reader.messages(["/other"]))


@pytest.mark.parametrize("name", [None, "json", "protobuf"])
def test_a_summary_without_schemas_is_an_error_that_says_what_rewrites_the_file(name, tmp_path):
    channels = [pose_channel(), *([foreign_channel(name)] if name else [])]
    path = write_mcap(tmp_path / "bag.mcap", channels, repeated=False)
    with pytest.raises(BagError, match=r"summary lists no schemas; `mcap recover` rewrites it"):
        BagReader(path)


@pytest.mark.parametrize("profile", ["", "x", "robotics by somebody"])
def test_the_profile_of_a_file_is_no_reason_to_refuse_it(profile, tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", [pose_channel()], profile=profile)
    with BagReader(path) as reader:
        assert positions(reader) == [0, 1, 2, 3]


def test_what_is_left_out_is_reported_once_however_often_a_bag_is_opened(tmp_path, caplog):
    path = write_mcap(tmp_path / "bag.mcap", [foreign_channel("json"), pose_channel()])
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            BagReader(path).close()
    assert caplog.text.count("/other (json)") == 1


def test_definitions_that_differ_between_channels_do_not_meet(tmp_path):
    """A sub-type that another package defined otherwise does not change how poses are read."""
    text = "geometry_msgs/Point at\n" + "=" * 80 + "\nMSG: geometry_msgs/Point\nfloat32 only\n"
    other = Channel("/other", "my_msgs/msg/F", text.encode(), messages=[(START, bytes(8))])
    for channels in ([other, pose_channel()], [pose_channel(), other]):
        path = write_mcap(tmp_path / "bag.mcap", channels)
        with BagReader(path) as reader:
            assert positions(reader) == [0, 1, 2, 3]
            assert [m.at.only for _, m in reader.messages(["/other"])] == [0]


# --- Files -----------------------------------------------------------------------------------


def split_bag(folder: Path, storage: str = "mcap", parts: int = 3) -> Path:
    """A bag of files of one second each."""
    folder.mkdir()
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    names, files = [], []
    for number in range(parts):
        name = f"drive_{number}.{suffix}"
        part = write_drive(folder.parent / f"part{number}", storage)
        (file,) = part.glob(f"*.{suffix}")
        shutil.move(file, folder / name)
        names.append(name)
        files.append({"path": name, "duration": {"nanoseconds": 1_500_000_000}})
    values = {"version": 9, "storage_identifier": storage, "relative_file_paths": names}
    values |= {"compression_mode": "", "files": files}
    text = yaml.safe_dump({"rosbag2_bagfile_information": values})
    (folder / "metadata.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_split_bag_with_a_part_missing_keeps_the_rest(storage, lost, tmp_path, caplog):
    bag = split_bag(tmp_path / "bag", storage)
    with BagReader(bag) as reader:
        assert reader.topics()["/odom"].count == len(list(reader.raw(["/odom"]))) == 30
    (name,) = (p.name for p in bag.iterdir() if p.stem == f"drive_{lost}")
    (bag / name).unlink()
    with caplog.at_level(logging.WARNING), BagReader(bag) as reader:
        assert reader.topics()["/odom"].count == len(list(reader.raw(["/odom"]))) == 20
    assert f"of its 3 files {name} is missing, 1.5 of 4.5 s; the rest is read" in caplog.text


def test_a_file_under_another_name_than_listed_is_offered(tmp_path):
    bag = split_bag(tmp_path / "bag", parts=1)
    (bag / "drive_0.mcap").rename(bag / "renamed.mcap")
    with pytest.raises(BagError, match=r"drive_0\.mcap\) none is there: .*open .*renamed\.mcap"):
        BagReader(bag)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_by_zstd_are_read_alone_and_in_their_folder(storage, tmp_path):
    module = pytest.importorskip(zstd(tmp_path).__name__)
    bag = split_bag(tmp_path / "bag", storage, parts=1)
    with BagReader(bag) as reader:
        expected = list(reader.raw())
    (file,) = bag.glob("drive_0.*")
    packed = file.with_name(file.name + ".zstd")
    packed.write_bytes(module.compress(file.read_bytes()))
    file.unlink()
    for path in (bag, packed):
        with BagReader(path) as reader:
            assert list(reader.raw()) == expected
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(BagError, match=r"\.zstd cannot be read .*damaged"):
        BagReader(packed)


def test_without_the_library_of_zstd_the_error_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "bag.mcap.zstd").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(BagError, match=r"compressed by zstd: pip install .*zstd -d .*bag\.mcap"):
        BagReader(tmp_path / "bag.mcap.zstd")


# --- ROS 1 and empty recordings ----------------------------------------------------------------


def write_ros1(path, counts):
    """A bag of ROS 1 with so many messages of each type."""
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("int32 x", "lab_msgs/msg/Count"))
    samples = {
        "std_msgs/msg/String": lambda: store.types["std_msgs/msg/String"](data="on"),
        "lab_msgs/msg/Count": lambda: store.types["lab_msgs/msg/Count"](x=1),
    }
    with Ros1Writer(path) as bag:
        for kind, count in counts.items():
            connection = bag.add_connection(f"/{kind[:3]}", kind, typestore=store)
            for number in range(count):
                data = store.serialize_ros1(samples[kind](), kind)
                bag.write(connection, START + number, data)
    return path


def test_topics_that_cannot_be_read_are_listed_among_what_a_bag_holds(tmp_path):
    path = write_ros1(tmp_path / "x.bag", {"lab_msgs/msg/Count": 3})
    assert "it holds: /lab (unreadable: lab_msgs/msg/Count, which" in report_on(path, ANY).fault


def test_a_recording_of_ros_1_that_was_cut_off_is_said_to_be_so(tmp_path):
    path = write_ros1(tmp_path / "x.bag", {"std_msgs/msg/String": 3})
    whole = path.read_bytes()
    at = whole.index(b"index_pos=") + len(b"index_pos=")
    path.write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])  # as while it is recorded
    with pytest.raises(BagError, match=r"cut off: `rosbag reindex .*x\.bag`"):
        BagReader(path)


@pytest.mark.parametrize("suffix", ["", ".bag"])
def test_a_recording_without_messages_lasts_no_time_and_holds_nothing(suffix, tmp_path):
    path = tmp_path / f"empty{suffix}"
    if suffix:
        write_ros1(path, {})
    else:
        with BagWriter(path):
            pass
    report = report_on(path, ANY)
    assert "0.0 s, 0 messages" in report.lines()[0]
    assert report.fault.endswith("holds no colour images; it holds: nothing")
