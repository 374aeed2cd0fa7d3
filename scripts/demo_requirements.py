# SPDX-License-Identifier: Apache-2.0
"""Prints what the demo needs from PyPI; torch only with a CUDA driver, a CPU does without."""

from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

from disam_ros.device import has_cuda_driver

EXTRAS = ("", "ros", "view")
LEFT_OUT = () if has_cuda_driver() else ("torch",)

for text in requires("disam_ros") or ():
    entry = Requirement(text)
    needed = entry.marker is None or any(entry.marker.evaluate({"extra": e}) for e in EXTRAS)
    if needed and entry.name not in LEFT_OUT:
        print(f"{entry.name}{entry.specifier}")
