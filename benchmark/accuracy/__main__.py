# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmark.accuracy [SECTION ...]`: measure and write docs/accuracy.md."""

from benchmark.accuracy.page import PAGE

if __name__ == "__main__":
    PAGE.main()
