# SPDX-License-Identifier: Apache-2.0
"""python -m disam_ros.cli"""

import sys

from disam_ros.entry import start

if __name__ == "__main__":
    sys.exit(start("disam"))
