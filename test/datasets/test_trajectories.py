# SPDX-License-Identifier: Apache-2.0
"""Trajectory files: each format by hand as its authors write it, and on the images of a bag."""

import json
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pymap3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.data import CAMERA, camera_pose, save_tiny_model, texture

from disam_ros.cli import main
from disam_ros.datasets.bags.images import BagImages
from disam_ros.datasets.bags.writer import BagWriter, optical_frame
from disam_ros.datasets.clock_offset import clock_offset, require_same_hand
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.trajectories import Trajectory, read_trajectory
from disam_ros.datasets.trajectories.times import to_stamps
from disam_ros.datasets.trajectories.trajectory import clock_hint
from disam_ros.errors import DatasetError
from disam_ros.geodesy import Origin
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.image import encode_jpeg
from disam_ros.mapping.place_map import PlaceMap

ROOT = Path(__file__).parents[2]
NS = 10**9
SECONDS = 40  # of the drive
TUM = """\
# timestamp tx ty tz qx qy qz qw
1000000000.123456789 1 2 3 0 0 0 1
1000000001.5 1.5 2 3 0 0 0.7071068 0.7071068
"""
EUROC = """\
#timestamp [ns],p_x [m],p_y [m],p_z [m],q_w [],q_x [],q_y [],q_z [],v_x,v_y,v_z
1000000000123456789,1,2,3,1,0,0,0,9,9,9
1000000001500000000,1.5,2,3,0.7071068,0,0,0.7071068,9,9,9
"""
RTABMAP = "#timestamp x y z qx qy qz qw id\n" + "".join(
    f"{line} {k}\n" for k, line in enumerate(TUM.splitlines()[1:])
)
# As of SaveTrajectoryEuRoC: nanoseconds of a double with six decimals.
ORB_SLAM3 = """\
1000000000123456768.000000 1.000000000 2.000000000 3.000000000 0.000000000 0.000000000 0.000000000 1.000000000
1000000001500000000.000000 1.500000000 2.000000000 3.000000000 0.000000000 0.000000000 0.707106781 0.707106781
"""  # noqa: E501
RTKLIB = """\
% program   : RTKPOST ver.2.4.3
% inp file  : rover.obs
%
% (lat/lon/height=WGS84/ellipsoidal,Q=1:fix,2:float,3:sbas,4:dgps,5:single,6:ppp,ns=# of satellites)
%  GPST                  latitude(deg) longitude(deg)  height(m)   Q  ns   sdn(m)   sde(m)   sdu(m)  sdne(m)  sdeu(m)  sdun(m) age(s)  ratio
2024/05/01 12:00:00.200   51.050000000   13.740000000   120.0000   1  12   0.0040   0.0035   0.0120   0.0010  -0.0011   0.0012   0.20   12.5
2024/05/01 12:00:00.400   51.050044950   13.740000000   120.0000   5   6   2.0040   1.6035   4.0120   0.0010  -0.0011   0.0012   0.40    0.0
2024/05/01 12:00:01.200   51.050089900   13.740000000   121.0000   2  12   0.0540   0.0535   0.1120   0.0010  -0.0011   0.0012   1.20    3.5
"""  # noqa: E501
WEEKS = """\
%  GPST     , latitude(d'"),longitude(d'"), height(m),  Q, ns,  sdn(m),  sde(m),  sdu(m), sdne(m), sdeu(m), sdue(m),age(s), ratio
2312,302400.200,  51,03,00.00000,  13,44,24.00000,  120.0000,  1, 12,  0.0040,  0.0035,  0.0120,  0.0010, -0.0011,  0.0012,  0.20,  12.5
2312,302401.200,  51,03,00.32364,  13,44,24.00000,  121.0000,  1, 12,  0.0040,  0.0035,  0.0120,  0.0010, -0.0011,  0.0012,  0.20,  12.5
"""  # noqa: E501
ECEF = """\
%  UTC                       x-ecef(m)      y-ecef(m)      z-ecef(m)   Q  ns   sdx(m)   sdy(m)   sdz(m)  sdxy(m)  sdyz(m)  sdzx(m) age(s)  ratio
2024/05/01 11:59:42.200   {0[0]:.4f} {0[1]:.4f} {0[2]:.4f}   1  12   0.0040   0.0035   0.0120   0.0010  -0.0011   0.0012   0.20   12.5
2024/05/01 11:59:43.200   {1[0]:.4f} {1[1]:.4f} {1[2]:.4f}   1  12   0.0040   0.0035   0.0120   0.0010  -0.0011   0.0012   0.20   12.5
"""  # noqa: E501
ECEF = ECEF.format(
    pymap3d.geodetic2ecef(51.05, 13.74, 120), pymap3d.geodetic2ecef(51.0500899, 13.74, 121)
)
KITTI = "1 0 0 1 0 1 0 2 0 0 1 3\n0 -1 0 1.5 1 0 0 2 0 0 1 3\n"
TABLE = """\
Timestamp, Latitude, Longitude, Altitude, Heading
1000000000.5, 51.05, 13.74, 120, 90
1000000001.5, 51.0500899, 13.74, 121, 0
"""


def written(path, text):
    path.write_text(text)
    return path


def pose(x, y=0.0, yaw=0.0):
    return Transform.from_xyz_rpy([x, y, 0, 0, 0, yaw])


def check(trajectory, first_ns):
    """The poses that most of these files hold, one of them at 1000000001.5 s."""
    assert trajectory.stamps.tolist() == [first_ns, 1000000001500000000]
    expected = [[1, 2, 3, 0, 0, 0], [1.5, 2, 3, 0, 0, np.pi / 2]]
    for transform, values in zip(trajectory.poses, expected, strict=True):
        gap = distance(transform, Transform.from_xyz_rpy(values))
        assert gap == pytest.approx((0, 0), abs=1e-4)
    assert trajectory.origin is None


@pytest.mark.parametrize("text", [TUM, EUROC, RTABMAP, KITTI])
def test_files_of_each_format_say_the_same(tmp_path, text):
    written(tmp_path / "times.txt", "1000000000.123456789\n1000000001.5\n")
    check(read_trajectory(written(tmp_path / "poses.txt", text)), 1000000000123456789)


def test_the_nanoseconds_of_orb_slam3_are_no_seconds(tmp_path):
    check(read_trajectory(written(tmp_path / "f_MH01.txt", ORB_SLAM3)), 1000000000123456768)


OTHERS = {
    "OpenVINS, evaluated": """\
# timestamp(s) tx ty tz qx qy qz qw Pr11 Pr12 Pr13 Pr22 Pr23 Pr33 Pt11 Pt12 Pt13 Pt22 Pt23 Pt33
1000000000.5 1 2 3 0 0 0 1 1 0 0 1 0 1 1 0 0 1 0 1
1000000001.5 1.5 2 3 0 0 0.7071068 0.7071068 1 0 0 1 0 1 1 0 0 1 0 1
""",
    "OpenVINS, states": """\
# timestamp(s) q p v bg ba cam_imu_dt num_cam cam0_k
1000000000.5 0 0 0 1 1 2 3 9 9 9 0.1 0.1 0.1 0.1 0.1 0.1 -0.01 1 458 457
1000000001.5 0 0 0.7071068 0.7071068 1.5 2 3 9 9 9 0.1 0.1 0.1 0.1 0.1 0.1 -0.01 1 458 457
""",
    "VINS-Fusion": """\
1000000000500000000,1,2,3,1,0,0,0,9,9,9,
1000000001500000000,1.5,2,3,0.7071068,0,0,0.7071068,9,9,9,
""",
    "TUM with commas": """\
1000000000.5, 1, 2, 3, 0, 0, 0, 1
1000000001.5, 1.5, 2, 3, 0, 0, 0.7071068, 0.7071068
""",
    "TUM with velocities": """\
1000000000.5 1 2 3 0 0 0 1 -9.5 9 9
1000000001.5 1.5 2 3 0 0 0.7071068 0.7071068 9 -9.5 9
""",
    "TUM with one field more": """\
1000000000.5 1 2 3 0 0 0 1 -0.5
1000000001.5 1.5 2 3 0 0 0.7071068 0.7071068 -0.5
""",
    "milliseconds": """\
1000000000500 1 2 3 0 0 0 1
1000000001500 1.5 2 3 0 0 0.7071068 0.7071068
""",
    "microseconds": """\
1000000000500000 1 2 3 0 0 0 1
1000000001500000 1.5 2 3 0 0 0.7071068 0.7071068
""",
    "ISO times": """\
2001-09-09T01:46:40.5Z 1 2 3 0 0 0 1
2001-09-09T03:46:41.500+02:00 1.5 2 3 0 0 0.7071068 0.7071068
""",
    "dates beside times of day": """\
2001-09-09 01:46:40.5 1 2 3 0 0 0 1
2001-09-09 01:46:41.5 1.5 2 3 0 0 0.7071068 0.7071068
""",
    "w first by its header": """\
# ground truth
# time [s] qw qx qy qz x y z
1000000000.5 1 0 0 0 1 2 3
1000000001.5 0.7071068 0 0 0.7071068 1.5 2 3
""",
    "a table in its own order": """\
quat_x;quat_y;quat_z;quat_w;id;time_ms;pos_x;pos_y;pos_z;v_x
0;0;0;1;0;1000000000500;1;2;3;9
0;0;0.7071068;0.7071068;1;1000000001500;1.5;2;3;9
""",
    "EuRoC": """\
#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], v_RS_R_x [m s^-1]
1000000000500000000,1,2,3,1,0,0,0,9
1000000001500000000,1.5,2,3,0.7071068,0,0,0.7071068,9
""",  # noqa: E501
    "rostopic echo -p": """\
%time,field.header.seq,field.header.stamp,field.header.frame_id,field.pose.position.x,field.pose.position.y,field.pose.position.z,field.pose.orientation.x,field.pose.orientation.y,field.pose.orientation.z,field.pose.orientation.w
1000000077000000000,0,1000000000500000000,map,1,2,3,0,0,0,1
1000000078000000000,1,1000000001500000000,map,1.5,2,3,0,0,0.7071068,0.7071068
""",
    "a table of PlotJuggler": """\
__time,/odom/header/stamp/nanosec,/odom/header/stamp/sec,/odom/pose/pose/orientation/w,/odom/pose/pose/orientation/x,/odom/pose/pose/orientation/y,/odom/pose/pose/orientation/z,/odom/pose/pose/position/x,/odom/pose/pose/position/y,/odom/pose/pose/position/z,/odom/twist/twist/linear/x
1000000077.0,500000000,1000000000,1,0,0,0,1,2,3,9
1000000078.0,500000000,1000000001,0.7071068,0,0,0.7071068,1.5,2,3,9
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others_are_read_by_their_headers_and_times(tmp_path, name):
    check(read_trajectory(written(tmp_path / "poses.txt", OTHERS[name])), 1000000000500000000)


@pytest.mark.parametrize("unit", [10**9, 10**6, 10**3])
def test_the_clock_of_a_device_has_the_unit_that_makes_its_steps_milliseconds(tmp_path, unit):
    first, step = 20_000 * unit, unit // 20  # six hours after its start, at 20 Hz
    rows = "".join(f"{first + k * step} {k} 0 0 0 0 0 1\n" for k in range(100))
    found = read_trajectory(written(tmp_path / "poses.txt", rows))
    expected = [20_000 * NS + k * NS // 20 for k in range(100)]
    if unit > 10**3:
        assert found.stamps.tolist() == expected
    else:  # as many seconds as a drive may have: only a header can tell
        path = written(tmp_path / "named.txt", "# time_ms x y z qx qy qz qw\n" + rows)
        assert read_trajectory(path).stamps.tolist() == expected


@pytest.mark.parametrize(
    "times", ["1000000000500 1000000001500", "2001-09-09T01:46:40.5Z 2001-09-09T01:46:41.5Z"]
)
def test_a_table_of_latitude_and_longitude_has_any_times(tmp_path, times):
    first, second = times.split()
    text = f"lat [deg],lon [deg],heading,time\n51.05,13.74,90,{first}\n51.06,13.74,0,{second}\n"
    found = read_trajectory(written(tmp_path / "table.csv", text))
    assert found.stamps.tolist() == [1000000000500000000, 1000000001500000000]


def test_rows_of_a_receiver_without_a_fix_are_left_out_of_a_table(tmp_path, caplog):
    rows = "1,0,0\n2,51.05,13.74\n3,51.0501,13.74\n4,51.0502,13.74\n"
    found = read_trajectory(written(tmp_path / "table.csv", "time,lat,lon\n" + rows))
    assert found.stamps.tolist() == [2 * NS, 3 * NS, 4 * NS]
    assert found.origin.latitude == 51.05 and "1 rows at 0, 0 left out" in caplog.text


@pytest.mark.parametrize(
    ("poses", "images", "words"),
    [
        (1.7e9 + 37, 1.7e9, "as TAI and UTC are"),
        (1.7e9, 1.7e9 + 18, "as GPS time and UTC are"),
        (500.0, 1.7e9, "one clock counts from the start of a device"),
        (1.7e9, 1.7e9 + 3600, r"\(\+3600.0 s apart\)"),
    ],
)
def test_what_would_align_two_clocks_is_said(poses, images, words):
    assert re.search(words, clock_hint([round(poses) * NS], round(images) * NS))


def test_columns_in_an_order_that_nobody_names_are_refused_with_what_to_say(tmp_path):
    text = "\n".join(OTHERS["OpenVINS, states"].splitlines()[1:])
    with pytest.raises(DatasetError, match=r"no unit quaternion .* say it in a first line"):
        read_trajectory(written(tmp_path / "poses.txt", text))


@given(st.integers(631152000 * NS, 4102444800 * NS))
def test_a_moment_is_read_to_the_nanosecond(stamp_ns):
    seconds, rest = divmod(stamp_ns, NS)
    text = f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    cells = [("line", [text]), ("line", [str(stamp_ns)])]
    assert to_stamps(Path("file"), cells, 1) == [stamp_ns, stamp_ns]


def test_landmarks_of_rtabmap_are_no_poses(tmp_path):
    path = written(tmp_path / "poses.txt", RTABMAP + "1000000001.6 9 9 9 0 0 0 1 -3\n")
    assert read_trajectory(path).stamps.tolist() == [1000000000123456789, 1000000001500000000]


@pytest.mark.parametrize("text", [RTKLIB, WEEKS, ECEF])
def test_solutions_of_rtklib_are_on_the_clock_of_utc_and_metres_from_the_first(tmp_path, text):
    found = read_trajectory(written(tmp_path / "rover.pos", text))
    # GPS time is 18 s ahead of UTC in 2024.
    assert found.stamps.tolist() == [1714564782_200_000_000, 1714564783_200_000_000]
    assert (found.origin.latitude, found.origin.longitude) == pytest.approx((51.05, 13.74))
    first, second = found.poses
    assert first.translation == pytest.approx([0, 0, 0], abs=1e-3)
    assert second.translation == pytest.approx([0, 10, 1], abs=0.02)
    yaw = Rotation.from_quat(second.quaternion).as_euler("ZYX")[0]
    assert yaw == pytest.approx(np.pi / 2, abs=1e-4)


def test_uncertain_positions_of_rtklib_leave_a_gap_and_do_not_make_a_trajectory(tmp_path, caplog):
    read_trajectory(written(tmp_path / "rover.pos", RTKLIB))
    assert "1 positions less sure than 0.5 m left out" in caplog.text
    with pytest.raises(DatasetError, match=r"no position surer than 0\.5 m"):
        read_trajectory(written(tmp_path / "single.pos", RTKLIB.replace(" 0.0", " 3.0")))


def test_the_folder_of_a_glim_dump_names_its_trajectories(tmp_path):
    written(tmp_path / "traj_lidar.txt", TUM)
    with pytest.raises(DatasetError, match=r"dump of GLIM: give .*traj_lidar\.txt and"):
        read_trajectory(tmp_path)
    assert len(read_trajectory(tmp_path / "traj_lidar.txt").poses) == 2


def test_a_table_of_latitude_and_longitude_has_east_as_x_and_headings_from_north(tmp_path):
    found = read_trajectory(written(tmp_path / "rtk.csv", TABLE))
    assert found.origin == Origin(51.05, 13.74)
    first, second = found.poses
    assert distance(first, pose(0)) == pytest.approx((0, 0), abs=1e-6)
    assert second.translation == pytest.approx([0, 10, 1], abs=0.02)
    assert Rotation.from_quat(second.quaternion).as_euler("ZYX")[0] == pytest.approx(np.pi / 2)


def test_two_tables_with_one_origin_are_in_one_frame(tmp_path):
    origin = Origin(51.051, 13.741)
    path = written(tmp_path / "rtk.csv", TABLE)
    near, far = read_trajectory(path), read_trajectory(path, origin)
    assert far.origin == origin
    moved = far.poses[0].translation[:2]
    assert np.linalg.norm(moved - origin.to_enu(51.05, 13.74)[:2]) < 0.01
    step = [poses[1].translation - poses[0].translation for poses in (near.poses, far.poses)]
    assert step[0] == pytest.approx(step[1], abs=0.01)


@given(st.floats(-np.pi, np.pi), st.integers(0, 40))
@settings(max_examples=25)
def test_without_a_heading_the_vehicle_faces_where_it_drives_and_keeps_it_where_it_stands(
    tmp_path_factory, yaw, stands
):
    east, north = np.cos(yaw), np.sin(yaw)
    ways = [*np.arange(0, 20, 0.5), *[19.5] * stands, *np.arange(20, 30, 0.5)]
    places = [pymap3d.enu2geodetic(w * east, w * north, 0, 51.0, 13.0, 0) for w in ways]
    rows = [
        f"{k / 10},{latitude:.10f},{longitude:.10f}"
        for k, (latitude, longitude, _) in enumerate(places)
    ]
    path = written(tmp_path_factory.mktemp("table") / "a.csv", "\n".join(["time,lat,lon", *rows]))
    for found in read_trajectory(path).poses:
        turn = Rotation.from_quat(found.quaternion).as_euler("ZYX")[0] - yaw
        assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < 1e-3


FAULTS = {
    "": "holds 0 poses",
    "# nothing\n": "holds 0 poses",
    "1 2 3\n": "line 1: 3 fields; expected lines 'timestamp tx",
    "1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n": "holds 1 poses",
    "1 0 0 0 0 0 0 0\n": "line 1: ",
    "1 0 0 nan 0 0 0 1\n": "line 1: expected the numbers tx ty tz",
    "-1 0 0 0 0 0 0 1\n": "expected a time in seconds",
    KITTI: "expected .*times.txt, seconds by line",
    "time,speed\n1,2\n": "has the columns time, speed; expected",
    "lat,lon\n1,2\n": "has the columns lat, lon; expected",
    "time,lat,lon\n1,91,0\n2,91,0\n": "expected latitude and longitude in degrees",
    "time,lat,lon\n1,51,0\n2,51,0\n": "the vehicle does not move; give a column heading",
    "time,lat,lon\n1,51\n": "line 2: expected the numbers lat lon",
    "stamp_ns,lat,lon\n1.5,51,0\n": "line 2: expected whole nanoseconds",
    "% nothing\n1 2\n": "line 2: expected a solution of RTKLIB",
    RTKLIB.replace("12:00:00.200", "noon"): "line 6: expected YYYY/MM/DD hh:mm:ss",
    RTKLIB.replace("51.050000000", "here"): "line 6: expected the numbers",
    "1e999999999 0 0 0 0 0 0 1\n": "line 1: expected whole nanoseconds, got",
    ",\n,,\n": "has the columns ",
    "2024-05-01T25:00:00 0 0 0 0 0 0 1\n": "expected a time such as 2024-05-01T12:00",
    "time,x,y,z\n1,2,3,4\n": "has the columns time, x, y, z; expected",
    "#t,x\n1,2\n": "line 2: 2 fields; expected lines 'timestamp",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_no_trajectory_is_refused_with_file_and_line(tmp_path, text):
    path = written(tmp_path / "poses.txt", text)
    with pytest.raises(DatasetError, match=rf"(?s)poses\.txt.*{FAULTS[text]}"):
        read_trajectory(path)


def test_kitti_times_that_end_early_are_named(tmp_path):
    written(tmp_path / "times.txt", "1\n")
    with pytest.raises(DatasetError, match=r"times\.txt, which has fewer lines"):
        read_trajectory(written(tmp_path / "poses.txt", KITTI))


@pytest.mark.parametrize("assumed", [False, True])
def test_poses_of_a_camera_become_those_of_the_base_with_z_up(assumed):
    """As of a visual SLAM: the world is the first camera's optical frame."""
    base = [pose(x, 0.1 * x, 0.05 * x) for x in range(20)]
    mount = Transform.from_rotation(np.array([1.2, 0.3, 1.5]), BODY_FROM_OPTICAL)
    world = mount.inverse()
    seen = Trajectory(np.arange(20) * NS, [world @ p @ mount for p in base])
    found = seen.for_base(mount, assumed=assumed)
    for a, b in ((0, 5), (3, 19)):
        step = found.poses[a].inverse() @ found.poses[b]
        assert distance(step, base[a].inverse() @ base[b]) == pytest.approx((0, 0), abs=1e-6)
    for p in found.poses:
        assert Rotation.from_quat(p.quaternion).apply([0, 0, 1])[2] == pytest.approx(1)


def test_the_world_of_a_file_stays_where_a_camera_of_unknown_mount_looks_down(caplog):
    """As of a drone: z is up in its world, and nobody says how the camera is mounted."""
    mount = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)  # assumed
    down = [Transform(np.array([x, 0.0, 20.0]), np.array([1.0, 0, 0, 0])) for x in range(40)]
    found = Trajectory(np.arange(40) * NS, down).for_base(mount, assumed=True)
    for base, expected in zip(found.poses, down, strict=True):
        assert distance(base @ mount, expected) == pytest.approx((0, 0), abs=1e-6)
    assert "stay in the world of their file" in caplog.text


def test_a_body_that_is_no_vehicle_is_recognized_by_how_it_moves(caplog):
    """A camera looks where it goes, a frame with y up goes along z."""
    base = [pose(x, 0.01 * x**2, 0.02 * x) for x in range(40)]
    mount = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)
    seen = Trajectory(np.arange(40) * NS, [p @ mount for p in base])
    with pytest.raises(DatasetError, match=r"move along their own z axis.*--trajectory-frame"):
        seen.for_base(Transform.identity())
    assert len(seen.for_base(mount).poses) == 40
    aside = [Transform.from_xyz_rpy([0, y, 0, 0, 0, 0]) for y in range(40)]
    Trajectory(np.arange(40) * NS, aside).for_base(Transform.identity())
    assert "move along their own y axis" in caplog.text


# Clocks


def winding(stamps_s, seed=0, mirrored=False):
    """Poses of a drive with bends, one per stamp [s] of its own clock."""
    random = np.random.default_rng(seed)
    phases, periods = random.uniform(0, 6, 30), random.uniform(4, 60, 30)
    waves = np.sin(2 * np.pi * stamps_s[:, None] / periods + phases)
    yaw = 0.4 * waves.sum(1)
    sign = -1 if mirrored else 1
    return [pose(5 * s, 0, sign * y) for s, y in zip(stamps_s, yaw, strict=True)]


@given(
    offset=st.floats(-1e6, 1e6),
    begins=st.floats(0, 30),
    lasts=st.floats(60, 100),
    period=st.sampled_from([0.1, 0.05, 0.033]),
)
@settings(max_examples=25)
def test_the_offset_between_two_clocks_is_found_by_turns(offset, begins, lasts, period):
    a = np.arange(begins, begins + lasts, period)
    b = np.arange(0.0, 120.0, 0.1)
    track = np.round((a - offset) * NS).astype(np.int64), winding(a)
    reference = np.round(b * NS).astype(np.int64), winding(b)
    assert clock_offset(track, reference) == pytest.approx(offset, abs=0.03)


@pytest.mark.parametrize("name", ["night", "winter_snow"])
def test_the_offset_of_the_demos_true_poses_to_its_odometry_is_found(name):
    images = BagImages(ROOT / "demo/data" / name)
    stamps, poses = images.track.track
    offset = clock_offset((stamps + 3600 * NS, poses), images.odometry)
    assert offset == pytest.approx(-3600, abs=0.01)


def test_a_straight_drive_another_drive_and_a_mirrored_one_have_no_offset():
    seconds = np.arange(0.0, 90.0, 0.1)
    stamps = np.round(seconds * NS).astype(np.int64)
    here = stamps, winding(seconds)
    with pytest.raises(DatasetError, match="do not tell the time offset"):
        clock_offset((stamps, [pose(s) for s in seconds]), here)
    with pytest.raises(DatasetError, match="do not tell the time offset"):
        clock_offset((stamps, winding(seconds, seed=1)), here)
    with pytest.raises(DatasetError, match="left-handed"):
        clock_offset((stamps, winding(seconds, mirrored=True)), here)
    with pytest.raises(DatasetError, match="too short"):
        clock_offset((stamps[:20], here[1][:20]), here)


@given(st.integers(0, 5))
def test_a_mirrored_track_is_recognized_on_a_known_clock(seed):
    seconds = np.arange(0.0, 90.0, 0.1)
    stamps = np.round(seconds * NS).astype(np.int64)
    here = stamps, winding(seconds, seed)
    with pytest.raises(DatasetError, match="left-handed"):
        require_same_hand((stamps[5::3], winding(seconds, seed, mirrored=True)[5::3]), here)
    require_same_hand((stamps[5::3], here[1][5::3]), here)
    require_same_hand((stamps, winding(seconds, seed + 1)), here)
    require_same_hand((stamps, [pose(s) for s in seconds]), here)
    require_same_hand((stamps + 10**12, here[1]), here)


# On a bag


@pytest.fixture
def drive(tmp_path):
    """A bag with images and odometry, without poses, and a TUM file of the base on its clock."""
    seconds = np.arange(0.0, SECONDS, 0.1)
    base = winding(seconds)
    with BagWriter(tmp_path / "bag", map_frame="map") as bag:
        bag.tf_static(NS, {"front": camera_pose(0)})
        for k, (second, where) in enumerate(zip(seconds, base, strict=True)):
            stamp_ns = NS + round(second * NS)
            bag.odom(stamp_ns, where, 5.0, 0.0)
            if k % 10 == 0:
                bag.camera_info("front", stamp_ns, CAMERA)
                bag.compressed_image("front", stamp_ns, encode_jpeg(texture(k)))
    rows = [
        f"{1 + second:.6f} {' '.join(f'{v:.9f}' for v in (*p.translation, *p.quaternion))}\n"
        for second, p in zip(seconds, base, strict=True)
    ]
    written(tmp_path / "tum.txt", "".join(rows))
    return tmp_path


def later(drive, seconds):
    """The TUM file on a clock that is `seconds` ahead."""
    rows = [line.split(" ", 1) for line in (drive / "tum.txt").read_text().splitlines()]
    text = "".join(f"{float(stamp) + seconds:.6f} {rest}\n" for stamp, rest in rows)
    return written(drive / "later.txt", text)


def extract(drive, *options):
    """Exit status of an extraction, and the dataset."""
    line = f"extract --bag {drive}/bag --domain day --output {drive}/data --overwrite"
    status = main([*line.split(), *map(str, options)])
    return status, Dataset(drive / "data") if status == 0 else None


def test_images_of_a_bag_get_the_poses_of_a_file(drive):
    status, found = extract(drive, "--trajectory", drive / "tum.txt")
    assert status == 0 and len(found) == SECONDS
    for record in found.records:
        (expected,) = winding(np.array([record.stamp_ns / NS - 1]))
        assert distance(record.map_from_camera, expected @ camera_pose(0))[0] < 1e-3


def test_a_clock_that_is_hours_ahead_is_found_or_refused_with_both_times(drive, capsys):
    path = later(drive, 7200.5)
    assert extract(drive, "--trajectory", path)[0] == 1
    error = capsys.readouterr().err
    assert "covers 7201.500 to" in error and "give the time offset" in error
    assert not (drive / "data").exists()
    for offset in ("auto", -7200.5):
        status, found = extract(drive, "--trajectory", path, "--time-offset", offset)
        assert status == 0 and len(found) >= SECONDS - 2
        record = found.records[len(found) // 2]
        (expected,) = winding(np.array([record.stamp_ns / NS - 1]))
        assert distance(record.map_from_camera, expected @ camera_pose(0))[0] < 0.25


def test_nothing_is_interpolated_across_a_gap(drive):
    lines = (drive / "tum.txt").read_text().splitlines(keepends=True)
    path = written(drive / "gap.txt", "".join(lines[:100] + lines[150:]))
    _, found = extract(drive, "--trajectory", path)
    assert len(found) == SECONDS - 5
    _, found = extract(drive, "--trajectory", path, "--max-pose-gap", 6)
    assert len(found) == SECONDS


def test_poses_of_a_camera_are_taken_by_its_name_or_frame(drive):
    _, expected = extract(drive, "--trajectory", drive / "tum.txt")
    track = read_trajectory(drive / "tum.txt")
    rows = [
        f"{stamp / NS:.6f} {' '.join(f'{v:.9f}' for v in (*p.translation, *p.quaternion))}\n"
        for stamp, base in zip(track.stamps, track.poses, strict=True)
        for p in [base @ camera_pose(0)]
    ]
    path = written(drive / "camera.txt", "".join(rows))
    for frame in ("front", optical_frame("front")):
        status, found = extract(drive, "--trajectory", path, "--trajectory-frame", frame)
        assert status == 0, frame
        for a, b in zip(found.records, expected.records, strict=True):
            assert distance(a.map_from_camera, b.map_from_camera) == pytest.approx((0, 0), abs=1e-4)


def test_poses_of_a_camera_that_looks_down_need_no_mount(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(1, SECONDS):
            bag.compressed_image("front", second * NS, encode_jpeg(texture(second)))
    rows = [f"{second} {second} 0 20 1 0 0 0\n" for second in range(SECONDS + 1)]
    path = written(tmp_path / "tum.txt", "".join(rows))
    options = ["--trajectory", path, "--trajectory-frame", "front", "--max-pose-gap", 2]
    status, found = extract(tmp_path, *options)
    assert status == 0 and len(found) == SECONDS - 1
    for record in found.records:
        expected = Transform(np.array([record.stamp_ns / NS, 0, 20]), np.array([1.0, 0, 0, 0]))
        assert distance(record.map_from_camera, expected) == pytest.approx((0, 0), abs=1e-6)


def test_a_frame_that_the_bag_lacks_is_named(drive, capsys):
    assert extract(drive, "--trajectory", drive / "tum.txt", "--trajectory-frame", "imu")[0] == 1
    assert "'imu', whose poses the trajectory has; expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--time-offset", "auto"], ["--trajectory-frame", "imu"], ["--time-offset", "2"]]
)
def test_options_of_a_trajectory_need_one(drive, capsys, options):
    assert extract(drive, *options)[0] == 1
    assert "need --trajectory" in capsys.readouterr().err


def test_a_dataset_has_poses_of_its_own(drive, capsys):
    line = f"build-map --dataset {drive}/none --model outdoor --output {drive}/map"
    assert main([*line.split(), "--max-pose-gap", "1"]) == 1
    assert "--max-pose-gap are of the poses of a --bag" in capsys.readouterr().err


def test_a_left_handed_file_is_refused_before_anything_is_written(drive, capsys):
    rows = [line.split() for line in (drive / "tum.txt").read_text().splitlines()]
    mirrored = [[*r[:2], str(-float(r[2])), *r[3:6], str(-float(r[6])), r[7]] for r in rows]
    path = written(drive / "left.txt", "\n".join(map(" ".join, mirrored)))
    assert extract(drive, "--trajectory", path)[0] == 1
    assert "is it left-handed" in capsys.readouterr().err
    assert not (drive / "data").exists()


def test_a_map_of_a_bag_with_a_table_of_fixes_knows_its_place(drive):
    save_tiny_model(drive / "model")
    track = read_trajectory(drive / "tum.txt")
    rows = ["stamp_ns,latitude,longitude,heading"]
    for stamp, p in zip(track.stamps, track.poses, strict=True):
        latitude, longitude, _ = pymap3d.enu2geodetic(*p.translation, 51.05, 13.74, 0)
        yaw = Rotation.from_quat(p.quaternion).as_euler("ZYX", degrees=True)[0]
        rows.append(f"{stamp},{latitude:.10f},{longitude:.10f},{90 - yaw:.6f}")
    path = written(drive / "rtk.csv", "\n".join(rows))
    line = f"build-map --bag {drive}/bag --model {drive}/model --keypoints 0 --domain day"
    line += f" --trajectory {path} --output {drive}/map"
    assert main(line.split()) == 0
    place_map = PlaceMap(drive / "map")
    header = json.loads((drive / "map/map.json").read_text())
    assert (header["latitude"], header["longitude"]) == pytest.approx((51.05, 13.74))
    first = place_map.records[0]
    (expected,) = winding(np.array([first.stamp_ns / NS - 1]))
    assert distance(first.map_from_camera, expected @ camera_pose(0))[0] < 0.01
