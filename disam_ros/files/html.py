# SPDX-License-Identifier: Apache-2.0
"""Pages of one file, which open without network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jinja2


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """Renders a template that lies in a package, by its dotted name."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def data_uri(jpeg: bytes) -> str:
    """Encodes a JPEG as the address of an image."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
