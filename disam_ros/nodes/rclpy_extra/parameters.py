# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from a config dataclass, one for each field, with its checks.

A nested dataclass becomes a dotted prefix, as in `localizer.domain.weather`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from disam_ros.files.checking import build

T = TypeVar("T")

QOS_PREFIX = "qos_overrides."  # declared by rclpy when a subscription is made
LARGEST_INTEGER = 2**63 - 1
LARGEST_FLOAT = sys.float_info.max


def declare(node: Node, cls: type[T], changeable: bool = False) -> T:
    """Declare every field of a config dataclass and return the values at start.

    changeable: parameters may be set at run time; the node adds its own callback for that.
    Otherwise all are read-only. Raises ConfigError for an unknown parameter (naming the nearest
    known one), a wrong type or a value out of range.
    """
    overrides = {
        name: parameter.value
        for name, parameter in node._parameter_overrides.items()
        if not node.has_parameter(name) and not name.startswith(QOS_PREFIX)
    }
    config = build(cls, _nested(overrides))
    for name, field, value in leaves(config):
        descriptor = _descriptor(field, value, read_only=not changeable)
        node.declare_parameter(name, value, descriptor, ignore_override=True)
    return config


def with_changes(config: T, parameters: Iterable[Parameter]) -> T:
    """A copy of a config with parameters set; other names are ignored. 'nan', as `ros2 param load`
    makes of what `ros2 param dump` wrote, is a number where nan means unset.

    Raises ConfigError for a value of the wrong type or out of range.
    """
    values = {name: value for name, _, value in leaves(config)}
    unset = {name for name, field, _ in leaves(config) if _is_nan(field.default)}
    for p in parameters:
        if p.name in values:
            values[p.name] = math.nan if p.name in unset and p.value == "nan" else p.value
    return build(type(config), _nested(values))


def differences(before: Any, after: Any) -> list[str]:
    """Dotted names of the settings whose values differ; nan is equal to nan."""
    old = {name: value for name, _, value in leaves(before)}
    new = {name: value for name, _, value in leaves(after)}
    return [name for name, value in new.items() if repr(value) != repr(old[name])]


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """(dotted name, field, value) of every setting that is not itself a dataclass."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    """{'a.b': 1} → {'a': {'b': 1}}."""
    tree: dict[str, Any] = {}
    for name, value in sorted(values.items()):
        *path, last = name.split(".")
        branch = tree
        for part in path:
            below = branch.setdefault(part, {})
            if not isinstance(below, dict):  # 'a' and 'a.b' were given: the error names 'a'
                break
            branch = below
        else:
            branch[last] = list(value) if isinstance(value, (array, tuple, list)) else value
    return tree


def _descriptor(field: dataclasses.Field[Any], value: Any, read_only: bool) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(
        description=meta.get("help", ""), read_only=read_only, dynamic_typing=_is_nan(field.default)
    )
    if meta.get("choices"):
        descriptor.additional_constraints = f"one of: {', '.join(meta['choices'])}"
    low, high = meta.get("minimum"), meta.get("maximum")
    if low is None and high is None:
        return descriptor
    if _is_nan(field.default):  # rclpy finds nan outside any range
        descriptor.additional_constraints = f"nan or within [{low}, {high}]"
    elif isinstance(value, float):
        low = -LARGEST_FLOAT if low is None else float(low)
        high = LARGEST_FLOAT if high is None else float(high)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif isinstance(value, int):
        low = -LARGEST_INTEGER if low is None else int(low)
        high = LARGEST_INTEGER if high is None else int(high)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
