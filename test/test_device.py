# SPDX-License-Identifier: Apache-2.0
"""Laws of compute devices; those of CUDA are in models/test_cuda.py."""

import subprocess
import sys

import pytest


def test_matrix_products_of_numpy_and_scipy_take_one_thread():
    pytest.importorskip("threadpoolctl")
    script = (
        "import numpy, scipy.linalg\n"
        "from disam_ros.device import calm_matrix_products\n"
        "calm_matrix_products()\n"
        "from threadpoolctl import threadpool_info\n"
        "pools = [p for p in threadpool_info() if p['internal_api'] == 'openblas']\n"
        "print(*{pool['num_threads'] for pool in pools})"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in ("1", "")  # "": another library computes products
