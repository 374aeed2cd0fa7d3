# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1, and video: in bags and in files, with lost packets and without PyAV."""

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore
from support.data import CAMERA, camera_pose, texture

from disam_ros.cli import main
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.images import BagImages, pixels_of
from disam_ros.datasets.bags.pose_sources import TopicPoses
from disam_ros.datasets.bags.writer import BagWriter, optical_frame
from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import BagError
from disam_ros.geometry import Transform, distance
from disam_ros.image import encode_jpeg
from disam_ros.image import read as read_image

NS = 10**9
COUNT, GROUP = 30, 10  # frames, from key frame to key frame
RATE = 10
TOPICS = {
    "ffmpeg": "/camera/front/image_raw/ffmpeg",
    "foxglove": "/camera/front/video",
    "compressed": "/camera/front/image_raw/compressed",
}


def views():
    """Neighbouring images of a drive along a wall, uint8 RGB [48, 64, 3]."""
    wall = texture(3, 48, 64 + 8 * COUNT)
    return [np.ascontiguousarray(wall[:, 8 * k : 8 * k + 64]) for k in range(COUNT)]


def encoded(codec, b_frames=0):
    """Packets of `views`: data and whether it is a key frame."""
    av = pytest.importorskip("av")
    name = {"h264": "libx264", "hevc": "libx265"}[codec]
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base = Fraction(1, RATE)
    gop = f"scenecut=0:keyint={GROUP}:min-keyint={GROUP}:bframes={b_frames}"
    context.options = {"x264-params": gop, "x265-params": f"{gop}:log-level=none"}
    packets = []
    for number, image in enumerate(views()):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [(bytes(packet), packet.is_keyframe, packet.pts) for packet in packets]


def packet_message(kind, codec, stamp_ns, number, data, key):
    frame, pixels = optical_frame("front"), np.frombuffer(data, np.uint8)
    if kind == "ffmpeg":
        return messages.make(
            messages.FFMPEG_PACKET,
            header=messages.header(stamp_ns, frame),
            width=64,
            height=48,
            encoding=f"{codec};yuv420p;bgr8;bgr8",
            pts=number,
            flags=int(key),
            is_bigendian=False,
            data=pixels,
        )
    name = {"hevc": "h265"}.get(codec, codec)
    if kind == "foxglove":
        return messages.make(
            messages.COMPRESSED_VIDEO,
            timestamp=messages.header(stamp_ns, frame).stamp,
            frame_id=frame,
            data=pixels,
            format=name,
        )
    header = messages.header(stamp_ns, frame)
    return messages.make(messages.COMPRESSED_IMAGE, header=header, format=name, data=pixels)


def video_bag(path, kind, codec, lost=(), b_frames=0):
    """A drive of one metre per frame whose camera is a video; without packets `lost`."""
    with BagWriter(path) as bag:
        bag.tf_static(NS, {"front": camera_pose(0)})
        bag.camera_info("front", NS, CAMERA)
        for number, (data, key, shown) in enumerate(encoded(codec, b_frames)):
            stamp_ns, sent_ns = (NS + k * NS // RATE for k in (shown, number))
            base = Transform.from_xyz_rpy([number, 0, 0, 0, 0, 0])
            bag.ground_truth(sent_ns, base)
            if number not in lost:
                message = packet_message(kind, codec, stamp_ns, number, data, key)
                bag.write(TOPICS[kind], message, sent_ns, messages.SENSOR_QOS)
    return path


def difference(image, number):
    """Mean difference of an image to a view, in grey levels."""
    return np.abs(image.astype(float) - views()[number]).mean()


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("kind", TOPICS)
def test_the_frames_of_a_video_are_images_with_the_stamps_of_their_packets(tmp_path, kind, codec):
    images = BagImages(video_bag(tmp_path / "bag", kind, codec))
    assert images.info.cameras["front"].fx == CAMERA.fx
    found = list(images)
    assert [item.stamp_ns for item in found] == [NS + k * NS // RATE for k in range(COUNT)]
    for number, item in enumerate(found):
        assert difference(pixels_of(item, images.bag), number) < 12
        assert item.map_from_camera.translation[0] == pytest.approx(number)


@pytest.mark.parametrize(("codec", "b_frames"), [("h264", 0), ("hevc", 0), ("h264", 2)])
@pytest.mark.parametrize("lost", [(0,), (5,), (12, 13)])
def test_after_a_lost_packet_there_are_no_wrong_images_and_all_from_the_next_key_frame(
    tmp_path, codec, b_frames, lost
):
    images = BagImages(video_bag(tmp_path / "bag", "ffmpeg", codec, lost, b_frames))
    found = list(images)
    assert len(found) == COUNT - len(lost)
    whole = [item for item in found if not isinstance(item.message, BagError)]
    for item in whole:
        number = (item.stamp_ns - NS) * RATE // NS
        assert difference(pixels_of(item, images.bag), number) < 12
    # Of the group that lost a packet, what refers to it is missing; the other two are whole.
    assert 2 * GROUP <= len(whole) < COUNT - len(lost) + bool(b_frames)


def test_extract_keeps_what_a_video_still_shows_and_counts_the_rest(tmp_path, capsys):
    bag = video_bag(tmp_path / "bag", "foxglove", "h264", lost=(5,))
    line = f"extract --bag {bag} --domain day --output {tmp_path}/out"
    assert main(line.split()) == 0
    assert len(Dataset(tmp_path / "out")) == COUNT - 5
    assert "damaged" in capsys.readouterr().out


def test_a_video_beside_compressed_images_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with BagWriter(tmp_path / "bag") as bag:
        message = packet_message("ffmpeg", "h264", NS, 0, b"\0" * 40, True)
        bag.write(TOPICS["ffmpeg"], message, NS, messages.SENSOR_QOS)
        bag.compressed_image("front", NS, encode_jpeg(texture(0)))
    images = BagImages(tmp_path / "bag", poses=TopicPoses(required=False))
    (topic,) = {item.topic for item in images}
    assert topic == TOPICS["compressed"]


def test_a_codec_that_is_unknown_is_named(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        message = packet_message("ffmpeg", "prores", NS, 0, b"\0" * 40, True)
        bag.write(TOPICS["ffmpeg"], message, NS, messages.SENSOR_QOS)
    with pytest.raises(BagError, match="the video codec 'prores' is none of h264"):
        BagImages(tmp_path / "bag", poses=TopicPoses(required=False))


def test_without_pyav_the_command_that_installs_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    with BagWriter(tmp_path / "bag") as bag:
        message = packet_message("ffmpeg", "h264", NS, 0, b"\0" * 40, True)
        bag.write(TOPICS["ffmpeg"], message, NS, messages.SENSOR_QOS)
    with pytest.raises(BagError, match=r"pip install 'disam_ros\[video\]'"):
        BagImages(tmp_path / "bag", poses=TopicPoses(required=False))
    line = f"convert video --input {tmp_path}/a.mp4 --trajectory t --domain d --output {tmp_path}/o"
    assert main(line.split()) == 1
    assert "pip install 'disam_ros[video]'" in capsys.readouterr().err


# Files


def video_file(path, stamps):
    """An MP4 of `views` with a time stamp [ms] for each frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "15"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for stamp, image in zip(stamps, views(), strict=False):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def trajectory_file(path, until=20.0):
    """TUM, of the base, five metres a second."""
    rows = [f"{1000 + k / 10:.1f} {k / 2} 0 0 0 0 0 1" for k in range(round(10 * until))]
    path.write_text("\n".join(rows) + "\n")
    return path


def convert(tmp_path, *options):
    line = ["convert", "video", "--input", tmp_path / "a.mp4", "--output", tmp_path / "out"]
    line += ["--trajectory", tmp_path / "t.txt", "--domain", "day", *options]
    return main([str(word) for word in line])


def test_frames_of_a_variable_rate_get_the_poses_at_their_own_stamps(tmp_path):
    stamps = [0, 40, 100, 500, 533, 1900, 2000, 3333]
    video_file(tmp_path / "a.mp4", stamps)
    trajectory_file(tmp_path / "t.txt")
    assert convert(tmp_path, "--start", "1970-01-01T00:16:41Z") == 0  # 1001 s
    found = Dataset(tmp_path / "out")
    assert [r.stamp_ns // 10**6 for r in found.records] == [1_001_000 + stamp for stamp in stamps]
    for number, (record, stamp) in enumerate(zip(found.records, stamps, strict=True)):
        assert record.map_from_camera.translation[0] == pytest.approx(5 + stamp / 200, abs=1e-3)
        assert difference(read_image(found.path(record)), number) < 12


def turn_file(path, quarters):
    """Let players turn a video by quarters clockwise: the matrix in its track header."""
    data = path.read_bytes()
    one, upright = 1 << 16, struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    cosine, sine = ((one, 0), (0, one), (-one, 0), (0, -one))[quarters]
    turned = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_video_is_turned_as_players_show_it_and_its_intrinsics_with_it(tmp_path, quarters):
    turn_file(video_file(tmp_path / "a.mp4", range(0, 500, 100)), quarters)
    trajectory_file(tmp_path / "t.txt")
    assert convert(tmp_path, "--start", 1001, "--intrinsics", 50, 51, 30, 25) == 0
    dataset = Dataset(tmp_path / "out")
    (camera,) = dataset.info.cameras.values()
    expected = [(30, 25), (22, 30), (33, 22), (25, 33)][quarters]
    assert (camera.cx, camera.cy) == expected
    for number, record in enumerate(dataset.records):
        image = read_image(dataset.path(record))
        assert image.shape[:2] == (camera.height, camera.width)
        assert difference(np.rot90(image, quarters), number) < 12


def test_intrinsics_of_a_turned_video_may_be_those_of_the_shown_frames(tmp_path):
    turn_file(video_file(tmp_path / "a.mp4", range(0, 500, 100)), 1)
    trajectory_file(tmp_path / "t.txt")
    assert convert(tmp_path, "--start", 1001, "--intrinsics", 50, 51, 25, 30) == 0
    (camera,) = Dataset(tmp_path / "out").info.cameras.values()
    assert (camera.width, camera.height, camera.cx, camera.cy) == (48, 64, 25, 30)


def test_only_keyframes_of_a_video_are_kept_in_their_order(tmp_path, capsys):
    video_file(tmp_path / "a.mp4", range(0, 3000, 100))
    trajectory_file(tmp_path / "t.txt")
    assert convert(tmp_path, "--start", 1001, "--keyframe-distance", 2) == 0
    found = Dataset(tmp_path / "out").records
    assert len(found) == 8  # of 14.5 m
    counted = "30 images: 8 kept, 0 damaged, 0 off trajectory, 22 near keyframe, 0 without pose"
    assert counted in capsys.readouterr().out


def test_frames_off_the_trajectory_are_counted_and_warned_of(tmp_path, capsys, caplog):
    video_file(tmp_path / "a.mp4", range(0, 3000, 100))
    trajectory_file(tmp_path / "t.txt", until=2.0)
    assert convert(tmp_path, "--start", 1001) == 0
    assert "30 images: 10 kept, 0 damaged, 20 off trajectory" in capsys.readouterr().out
    assert "20 of 30 images are left out" in caplog.text


def test_a_video_on_another_clock_is_refused_with_both_times(tmp_path, capsys):
    video_file(tmp_path / "a.mp4", range(0, 500, 100))
    trajectory_file(tmp_path / "t.txt")
    assert convert(tmp_path, "--start", 50) == 1
    error = capsys.readouterr().err
    assert "1000.000 to 1019.900 s" in error and "50.000 to 50.400 s" in error
    assert convert(tmp_path) == 1
    assert "give --start" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert convert(tmp_path, "--start", 1001) == 1
    assert "cannot be read as a video" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ROS 1


def ros1_bag(path):
    """A bag as of ROS 1 with images, their camera_info, odometry and a frame with a slash."""
    old, new = get_typestore(Stores.ROS1_NOETIC), messages.TYPESTORE

    def write(writer, topics, topic, stamp_ns, message):
        kind = message.__msgtype__
        if topic not in topics:
            topics[topic] = writer.add_connection(topic, kind, typestore=old)
        cdr = bytes(new.serialize_cdr(message, kind))
        writer.write(topics[topic], stamp_ns, bytes(new.cdr_to_ros1(cdr, kind)))

    with Writer(path) as writer:
        topics = {}
        for k in range(4):
            stamp_ns = NS * (k + 1)
            base = Transform.from_xyz_rpy([k, 0, 0, 0, 0, 0])
            jpeg = encode_jpeg(texture(k))
            for topic, message in (
                ("/camera/front/camera_info", messages.camera_info(stamp_ns, "cam", CAMERA)),
                ("/odom", messages.odometry(stamp_ns, "map", "base_link", base, 1.0, 0.0)),
                (TOPICS["compressed"], messages.compressed_image(stamp_ns, "/cam", jpeg)),
            ):
                write(writer, topics, topic, stamp_ns, message)
    return path


def test_a_bag_of_ros_1_is_read_like_one_of_ros_2(tmp_path):
    images = BagImages(ros1_bag(tmp_path / "old.bag"))
    camera = images.info.cameras["front"]
    assert (camera.fx, camera.cx, camera.width) == (CAMERA.fx, CAMERA.cx, CAMERA.width)
    found = list(images)
    assert [item.stamp_ns for item in found] == [NS * (k + 1) for k in range(4)]
    for k, item in enumerate(found):
        assert np.abs(pixels_of(item, images.bag).astype(int) - texture(k)).mean() < 12
        expected = Transform.from_xyz_rpy([k, 0, 0, 0, 0, 0])
        base = item.map_from_camera @ camera.base_from_camera.inverse()
        assert distance(base, expected) == pytest.approx((0, 0), abs=1e-6)
    line = f"extract --bag {tmp_path}/old.bag --domain day --output {tmp_path}/out"
    assert main(line.split()) == 0
    assert len(Dataset(tmp_path / "out")) == 4
