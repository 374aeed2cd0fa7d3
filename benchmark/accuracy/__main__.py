# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmark.accuracy [SECTION ...]`: measure and write docs/accuracy.md."""

import json

from benchmark.accuracy.figure import draw
from benchmark.accuracy.page import PAGE, headline

if __name__ == "__main__":
    PAGE.main()
    draw(headline(json.loads(PAGE.figures.read_text())))
