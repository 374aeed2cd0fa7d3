# SPDX-License-Identifier: Apache-2.0
"""python -m disam_ros.cli"""

import sys

from disam_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
