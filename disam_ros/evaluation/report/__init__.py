# SPDX-License-Identifier: Apache-2.0
"""report.html: tables, plots and images of an evaluation in one file."""

from disam_ros.evaluation.report.examples import Example, choose, load
from disam_ros.evaluation.report.page import write_report

__all__ = ["Example", "choose", "load", "write_report"]
