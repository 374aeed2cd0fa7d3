# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmark.performance [SECTION ...]`: measure and write docs/performance.md."""

from benchmark.performance.page import PAGE

if __name__ == "__main__":
    PAGE.main()
