# SPDX-License-Identifier: Apache-2.0
"""python -m disam_ros.cli"""

import sys

from disam_ros.cli import main

sys.exit(main())
