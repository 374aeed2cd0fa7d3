# SPDX-License-Identifier: Apache-2.0
"""Capture conditions from topics: weather, domain, place on Earth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import NavSatFix
from std_msgs.msg import String

from disam_ros.domains.choice import DomainChooser
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import DomainError
from disam_ros.fixes import place_of
from disam_ros.models.model import Model
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded
from disam_ros.nodes.localizer.part import Part
from disam_ros.nodes.rclpy_extra.diagnostics import LONGEST, Monitor
from disam_ros.nodes.rclpy_extra.subscriptions import sensor_qos


class Conditions(Part):
    """The newest valid message of each topic; None: the configuration decides.

    latitude, longitude: [deg]. domain: override by topic; an empty message releases it. A word that
    is not understood is reported once and changes nothing. on_fix: also called with each fix.
    """

    def __init__(
        self,
        node: LifecycleNode,
        monitor: Monitor,
        model: Model,
        on_fix: Sequence[Callable[[NavSatFix], None]] = (),
    ) -> None:
        self.weather: str | None = None
        self.domain: str | None = None
        self.latitude: float | None = None
        self.longitude: float | None = None
        super().__init__(node, monitor)
        self._domains, self._listeners = model.domains, on_fix
        reliable = QoSProfile(depth=10)
        self._subscriptions.add(String, "weather", self._on_weather, reliable)
        self._subscriptions.add(String, "domain", self._on_domain, reliable)
        self._subscriptions.add(NavSatFix, "fix", self._on_fix, sensor_qos())

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Goes on with another model. A domain that it does not have is forgotten."""
        self._domains = loaded.localizer.model.domains
        if self.domain and not DomainChooser(self._domains).find(self.domain):
            self.domain = None

    def _on_weather(self, message: String) -> None:
        try:
            if len(message.data) > LONGEST:
                raise DomainError(f"weather of more than {LONGEST} characters: send words")
            parse_weather(message.data)
        except DomainError as error:
            text = f"ignored {error}"
            self._monitor.lasting("weather", text)
            return
        self._monitor.solved("weather")
        self.weather = message.data or None

    def _on_domain(self, message: String) -> None:
        if message.data and not DomainChooser(self._domains).find(message.data):
            names = ", ".join(domain.name for domain in self._domains)
            text = f"domain '{message.data}' ignored: known are {names}"
            self._monitor.lasting("domain", text)
            return
        self._monitor.solved("domain")
        self.domain = message.data or None

    def _on_fix(self, message: NavSatFix) -> None:
        place = place_of(message)
        if place is not None:
            self.latitude, self.longitude = place
        for listener in self._listeners:
            listener(message)
