# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmark import quick

BEFORE = {"image": 10.0, "building": 4.0, "start": 300.0, "memory": 200.0}


def test_the_ratio_is_the_median_of_pairs_so_that_a_slower_machine_meets_both():
    pairs = [
        ({name: factor * value for name, value in BEFORE.items()}, dict(BEFORE, image=9.0 * factor))
        for factor in (1.0, 2.0, 5.0)
    ]
    row = quick.table(pairs, "v1").splitlines()[2]
    assert row == "| an image with the sequence [ms] | 20.0 | 18.0 | 0.90 | 0.90–0.90 |"


in_git = pytest.mark.skipif(not (quick.ROOT / ".git").exists(), reason="no git checkout")


@in_git
def test_a_commit_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"--against frogs: .*frogs"):
        quick.extracted("frogs", tmp_path)


@in_git
def test_an_earlier_tree_is_run_by_its_own_code(tmp_path):
    tree = quick.extracted("HEAD", tmp_path)
    assert (tree / "disam_ros/localization/pipeline.py").is_file()
    assert not (tree / "benchmark").exists()


@pytest.mark.slow
def test_a_run_gives_every_figure():
    assert set(quick.run(quick.ROOT, images=8)) == set(quick.FIGURES)
