# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmark.reliability [SECTION ...]`: measure and write docs/reliability.md."""

from benchmark.reliability.page import PAGE

if __name__ == "__main__":
    raise SystemExit(PAGE.main())
