# SPDX-License-Identifier: Apache-2.0
"""Which cameras, mounts and intrinsics a bag has, by its messages or as a user says."""

import cv2
import numpy as np
import pytest
from support.bags import CAMERA, SECOND, START, picture, pose_at

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.cameras import read_info_file
from disam_ros.datasets.bags.image_topics import find_cameras, raw_topic
from disam_ros.datasets.bags.images import BagImages
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.survey import survey_bag
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.datasets.bags.writer import BagWriter, optical_frame
from disam_ros.errors import BagError
from disam_ros.geometry import Transform, distance
from disam_ros.image import encode_jpeg

LEFT = Transform.from_xyz_rpy([0.5, 0.2, 1.1, -np.pi / 2, 0.0, 0.0])


def image(frame: str, seed: int = 0, stamp: int = START):
    return messages.raw_image(stamp, frame, picture(seed))


def info(frame: str, baseline: float = 0.0):
    message = messages.camera_info(START, frame, CAMERA)
    message.p = np.array(message.p)
    message.p[3] = baseline
    return message


def bag_of(path, rows):
    """A bag of (topic, message) rows, in order."""
    with BagWriter(path) as bag:
        for number, (topic, message) in enumerate(rows):
            bag.write(topic, message, START + number, messages.RELIABLE_QOS)
    return path


def cameras_of(path, **options):
    with BagReader(path) as reader:
        found = find_cameras(reader, **options)
    return {name: topic.topic for name, topic in found.topics.items()}, found.left_out


def tf(*edges, stamp: int = START):
    transforms = [messages.transform_stamped(stamp, *edge) for edge in edges]
    return messages.make(messages.TF, transforms=transforms)


def mount_of(path, **options):
    with BagReader(path) as reader:
        survey = survey_bag(reader, BagOptions(**options))
    return survey.cameras["front"].base_from_camera, survey


# --- Image topics ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1", "TYPE_32FC2"])
def test_images_of_other_encodings_than_colours_and_grey_are_no_camera(encoding, tmp_path):
    other = replace_encoding(image("front"), encoding)
    path = bag_of(tmp_path / "bag", [("/zed/confidence", other), ("/front/image_raw", image("f"))])
    chosen, left_out = cameras_of(path)
    assert chosen == {"front": "/front/image_raw"}
    assert encoding in left_out[0].fault


def replace_encoding(message, encoding):
    message.encoding = encoding
    return message


def test_of_topics_of_one_camera_the_raw_one_is_taken_then_the_rectified_one(tmp_path):
    names = ("image_mono", "image_rect", "image_color", "image_raw")
    rows = [("/front/camera_info", info("f")), *((f"/front/{n}", image("f")) for n in names)]
    chosen, left_out = cameras_of(bag_of(tmp_path / "all", rows))
    assert chosen == {"front": "/front/image_raw"}
    assert len(left_out) == 3
    chosen, _ = cameras_of(bag_of(tmp_path / "few", rows[:4]))
    assert chosen == {"front": "/front/image_rect"}


@pytest.mark.parametrize("transport", ["compressed", "zstd", "ffmpeg", "compressedDepth", "avif"])
def test_a_transport_is_of_its_raw_topic(transport):
    assert raw_topic(f"/front/image_raw/{transport}") == "/front/image_raw"
    assert raw_topic("/front/image_raw") == "/front/image_raw"
    assert raw_topic("/front/video") == "/front/video"


def test_images_made_of_a_cameras_are_none_of_their_own(tmp_path):
    rows = [
        ("/front/camera_info", info("f")),
        ("/front/image_raw", image("f")),
        ("/yolo/result", image("f")),  # in the camera's frame
        ("/lanes/debug_image", image("")),  # by its name
        ("/rear/image_raw", image("r")),  # a camera without calibration
    ]
    chosen, left_out = cameras_of(bag_of(tmp_path / "bag", rows))
    assert chosen == {"front": "/front/image_raw", "rear": "/rear/image_raw"}
    assert {topic.topic for topic in left_out} == {"/yolo/result", "/lanes/debug_image"}
    assert all("--image-topic" in topic.fault for topic in left_out)


def test_the_two_cameras_of_a_stereo_pair_share_a_frame_and_are_two(tmp_path):
    rows = [
        ("/left/camera_info", info("left")),
        ("/left/image_rect", image("left")),
        ("/right/camera_info", info("left", baseline=-20.0)),
        ("/right/image_rect", image("left")),
        ("/rgb/camera_info", info("left")),
        ("/rgb/image_rect", image("left")),  # the left one again, as of a ZED
    ]
    chosen, _ = cameras_of(bag_of(tmp_path / "bag", rows))
    assert set(chosen) == {"left", "right"}


def test_cameras_of_one_name_are_told_apart_by_the_whole_one(tmp_path):
    rows = [(f"/{side}/camera/image_raw", image(side)) for side in ("left", "right")]
    chosen, _ = cameras_of(bag_of(tmp_path / "bag", rows))
    assert set(chosen) == {"left_camera", "right_camera"}


def test_topics_that_a_user_names_are_taken_with_their_transport(tmp_path):
    jpeg = messages.compressed_image(START, "y", encode_jpeg(picture()))
    rows = [
        ("/front/camera_info", info("f")),
        ("/front/image_raw", image("f")),
        ("/yolo/result/compressed", jpeg),
    ]
    path = bag_of(tmp_path / "bag", rows)
    chosen, _ = cameras_of(path, chosen_topics={"main": "/yolo/result"})
    assert chosen == {"main": "/yolo/result/compressed"}
    chosen, _ = cameras_of(path, chosen_topics={"": "/front/image_raw"})
    assert chosen == {"front": "/front/image_raw"}
    with pytest.raises(BagError, match=r"--image-topic /nothing.*/front/image_raw"):
        cameras_of(path, chosen_topics={"": "/nothing"})


# --- Mounts ------------------------------------------------------------------------------------


def drive(path, static=(), moving=(), frame=optical_frame("front")):
    rows = [
        ("/camera/front/camera_info", info(frame)),
        ("/camera/front/image_raw", image(frame)),
        *((topic, tf(*edges)) for topic, edges in static),
        *(
            (topic, tf(*edges, stamp=START + number))
            for topic, edges in moving
            for number in range(3)
        ),
    ]
    return bag_of(path, rows)


FRAME = optical_frame("front")
EDGE = ("base_link", FRAME, LEFT)
BRINGERS = {
    "static": {"static": [("/tf_static", [EDGE])]},
    "repeated on /tf": {"moving": [("/tf", [EDGE])]},
    "in a namespace": {"static": [("/robot1/tf_static", [EDGE])]},
    "of tf 1": {"static": [("/tf_static", [("/base_link", f"/{FRAME}", LEFT)])]},
    "without base_link": {"static": [("/tf_static", [("base_footprint", FRAME, LEFT)])]},
    "with a prefix": {"static": [("/tf_static", [("robot1/base_link", FRAME, LEFT)])]},
    "below odometry": {
        "static": [("/tf_static", [("chassis", FRAME, LEFT)])],
        "moving": [("/tf", [("odom", "chassis", pose_at(0.0))])],
    },
}


@pytest.mark.parametrize("bringer", BRINGERS)
def test_the_mount_is_that_of_the_tree_wherever_it_stands(bringer, tmp_path):
    mount, survey = mount_of(drive(tmp_path / "bag", **BRINGERS[bringer]))
    assert distance(mount, LEFT) == pytest.approx((0, 0), abs=1e-5)
    assert not survey.mount_faults


def test_an_edge_that_moves_is_no_mount(tmp_path):
    rows = [
        ("/camera/front/image_raw", image(FRAME)),
        *(
            ("/tf", tf(("base_link", FRAME, pose_at(number)), stamp=START + number))
            for number in range(3)
        ),
    ]
    with BagReader(bag_of(tmp_path / "bag", rows)) as reader:
        assert TfTree(reader).fixed("base_link", FRAME) is None


def test_of_the_trees_of_several_vehicles_that_of_the_camera_is_taken(tmp_path):
    with BagReader(
        bag_of(
            tmp_path / "bag",
            [
                ("/a/tf_static", tf(EDGE)),
                ("/b/tf_static", tf(("base_link", FRAME, pose_at(5.0)))),
            ],
        )
    ) as reader:
        mount = TfTree(reader, ["/a/front/image_raw"]).fixed("base_link", FRAME)
    assert distance(mount, LEFT) == pytest.approx((0, 0), abs=1e-5)


def test_a_camera_nobody_places_is_refused_for_a_map_and_the_option_is_named(tmp_path):
    path = drive(tmp_path / "bag", static=[("/tf_static", [("base_link", "lidar", LEFT)])])
    _, survey = mount_of(path)
    assert "--base-from-camera front=" in survey.mount_faults["front"]
    with pytest.raises(BagError, match="A map without extrinsics would be turned"):
        BagImages(path, mounted=True)
    mount, survey = mount_of(path, mounts={"": LEFT})
    assert mount == LEFT and not survey.mount_faults
    with pytest.raises(BagError, match="names the cameras rear; the bag has front"):
        mount_of(path, mounts={"rear": LEFT})


# --- Intrinsics --------------------------------------------------------------------------------

CALIBRATION = """
image_width: 32
image_height: 24
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [40.0, 0, 16, 0, 41.0, 12, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}
projection_matrix: {rows: 3, cols: 4, data: [39.0, 0, 16, 0, 0, 39.5, 12, 0, 0, 0, 1, 0]}
"""


def test_a_calibration_file_or_another_topic_describes_a_camera(tmp_path):
    file = tmp_path / "front.yaml"
    file.write_text(CALIBRATION)
    path = drive(tmp_path / "bag", static=[("/tf_static", [EDGE])])
    _, survey = mount_of(path, camera_infos={"front": str(file)})
    assert (survey.cameras["front"].fx, survey.cameras["front"].fy) == (40.0, 41.0)
    assert survey.intrinsics["front"] == str(file)
    _, survey = mount_of(path, camera_infos={"": "/camera/front/camera_info"})
    assert survey.cameras["front"].fx == CAMERA.fx
    with pytest.raises(BagError, match="has no topic /nothing"):
        mount_of(path, camera_infos={"": "/nothing"})
    with pytest.raises(BagError, match="holds no camera_info"):
        mount_of(path, camera_infos={"": "/tf_static"})


def test_rectified_images_of_a_region_have_the_projection_matrix_less_its_corner(tmp_path):
    message = info("f")
    message.width, message.height = 2 * CAMERA.width, 2 * CAMERA.height  # of the whole sensor
    message.p = np.array([50.0, 0, 31.0, -9.0, 0, 51.0, 23.0, 0, 0, 0, 1, 0])
    region = {"x_offset": 10, "y_offset": 6, "width": CAMERA.width, "height": CAMERA.height}
    message.roi = messages.make("sensor_msgs/msg/RegionOfInterest", **region, do_rectify=True)
    rows = [("/front/camera_info", message), ("/front/image_rect_color", image("f"))]
    _, survey = mount_of(bag_of(tmp_path / "bag", rows))
    camera = survey.cameras["front"]
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (50.0, 51.0, 21.0, 17.0)
    assert camera.distortion == ()


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    file = tmp_path / "front.yaml"
    for text in ("camera_matrix: {data: [1, 2]}", "- 1", CALIBRATION.replace("image_width", "w")):
        file.write_text(text)
        with pytest.raises(BagError, match=r"front\.yaml: expected"):
            read_info_file(file)


# --- Clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_ns", "pose_ns", "words"),
    [
        (0, START, "stamp 0.*--stamps recorded"),
        (START, 100 * SECOND, r"100\.000 to.*1700000000\.000 to.*--stamps recorded"),
    ],
    ids=["no stamps", "clocks that never meet"],
)
def test_stamps_that_give_no_poses_name_the_option_that_takes_those_of_the_recording(
    tmp_path, image_ns, pose_ns, words
):
    with BagWriter(tmp_path / "bag") as bag:
        bag.tf_static(START, {"front": LEFT})
        for number in range(3):
            moment = START + number * SECOND // 10
            message = image(FRAME, number, stamp=image_ns + number * bool(image_ns))
            bag.write("/camera/front/image_raw", message, moment, messages.SENSOR_QOS)
            pose = messages.pose_stamped(pose_ns + number, "map", pose_at(number))
            bag.write("/pose", pose, moment, messages.RELIABLE_QOS)
    with pytest.raises(BagError, match=words):
        BagImages(tmp_path / "bag")
    images = list(BagImages(tmp_path / "bag", BagOptions(recorded_stamps=True)))
    assert [item.stamp_ns for item in images] == [START + n * SECOND // 10 for n in range(3)]
    assert all(item.map_from_camera is not None for item in images)


def test_a_grey_image_is_a_cameras(tmp_path):
    grey = cv2.cvtColor(picture(), cv2.COLOR_RGB2GRAY)
    message = image("f")
    message.encoding, message.step, message.data = "mono8", grey.shape[1], grey.ravel()
    chosen, _ = cameras_of(bag_of(tmp_path / "bag", [("/infra1/image_rect_raw", message)]))
    assert chosen == {"infra1": "/infra1/image_rect_raw"}
