# SPDX-License-Identifier: Apache-2.0
"""The page docs/reliability.md."""

from benchmark.pages import Page

PAGE = Page("reliability", ("soak", "kills", "disks", "peaks"))
