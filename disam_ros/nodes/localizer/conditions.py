# SPDX-License-Identifier: Apache-2.0
"""What topics tell about the conditions: weather, domain, place on Earth."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import NavSatFix
from std_msgs.msg import String

from disam_ros.domains.domain import parse_weather
from disam_ros.errors import DomainError
from disam_ros.models.model import Model
from disam_ros.nodes import conversions
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.localizer.priors import Priors
from disam_ros.nodes.subscriptions import sensor_qos, subscribe


class Conditions:
    """The newest valid word of each topic; None: not told, the configuration decides.

    latitude, longitude: degrees. domain: override by topic; an empty message releases it. A word
    that is not understood is told once and leaves things as they are. priors: hear of fixes, too.
    """

    def __init__(self, node: Node, monitor: Monitor, model: Model, priors: Priors) -> None:
        self.weather: str | None = None
        self.domain: str | None = None
        self.latitude: float | None = None
        self.longitude: float | None = None
        self._node, self._monitor = node, monitor
        self._domain_names, self._priors = model.domain_names(), priors
        reliable = QoSProfile(depth=10)
        self._subscriptions = [
            subscribe(node, String, "weather", self._on_weather, monitor, reliable),
            subscribe(node, String, "domain", self._on_domain, monitor, reliable),
            subscribe(node, NavSatFix, "fix", self._on_fix, monitor, sensor_qos()),
        ]

    def adopt(self, model: Model) -> None:
        """Go on with another model. A domain that it does not have is forgotten."""
        self._domain_names = model.domain_names()
        if self.domain not in self._domain_names:
            self.domain = None

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_weather(self, message: String) -> None:
        try:
            parse_weather(message.data)
        except DomainError as error:
            self._tell("weather", f"ignored {error}", hold=None)
            return
        self._monitor.solved("weather")
        self.weather = message.data or None

    def _on_domain(self, message: String) -> None:
        if message.data and message.data not in self._domain_names:
            known = ", ".join(self._domain_names)
            self._tell("domain", f"domain '{message.data}' ignored: known are {known}", hold=None)
            return
        self._monitor.solved("domain")
        self.domain = message.data or None

    def _on_fix(self, message: NavSatFix) -> None:
        place = conversions.place_of(message)
        if place is not None:
            self.latitude, self.longitude = place
        self._priors.on_fix(message)

    def _tell(self, key: str, text: str, **hold: None) -> None:
        if self._monitor.problem(key, text, **hold):
            self._node.get_logger().warning(text)
