# SPDX-License-Identifier: Apache-2.0
"""python -m season_town: the command disam synth."""

import sys

from disam_ros.cli import main

if __name__ == "__main__":
    sys.exit(main(["synth", *sys.argv[1:]]))
