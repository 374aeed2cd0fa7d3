# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmark.research [SECTION ...]`: measure, write docs/research/experiments.md."""

from benchmark.research.page import PAGE

if __name__ == "__main__":
    PAGE.main()
