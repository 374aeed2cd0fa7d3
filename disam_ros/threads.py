# SPDX-License-Identifier: Apache-2.0
"""Threads of OpenMP wait without spinning; to be imported before torch.

Threads that spin after a layer take the cores from what follows it: on two cores a query took half
as long again. A policy that is set in the environment stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
