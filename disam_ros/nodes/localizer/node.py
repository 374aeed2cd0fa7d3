# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node: camera images in, poses on a map out.

configure loads model and map, activate starts localizing (on its own thread), deactivate stops it,
cleanup frees the memory. A configure that fails leaves the node unconfigured with the reason on
/diagnostics: mend the files or set parameters, then configure again.
"""

from __future__ import annotations

import gc
import traceback

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from disam_ros.device import free_device_memory
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import ConfigError, DisamError
from disam_ros.image import limit_megapixels
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded, load
from disam_ros.nodes.localizer.reload import Reload
from disam_ros.nodes.localizer.relocalize import Relocalize
from disam_ros.nodes.localizer.session import Session
from disam_ros.nodes.rclpy_extra import parameters, process
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, DiagnosticsPublisher, Monitor, shorten
from disam_ros.nodes.rclpy_extra.lifecycle import GuardedLifecycleNode

NAME = "localizer"

# Set at any time, as are most of `localizer.`; the others only while the node is unconfigured.
# ~/reload takes another map or model.
LIVE = ("map", "model", "stale_after")
NOT_LIVE = (
    "localizer.device",
    "localizer.backend",
    "localizer.domain.from_image",
    "localizer.verify.",
)


class LocalizerNode(GuardedLifecycleNode):
    """The localizer as a lifecycle node with the parameters of LocalizerNodeConfig.

    Raises ConfigError for wrong ones.
    """

    def __init__(self) -> None:
        super().__init__(NAME)
        self._session: Session | None = None
        self._config = parameters.declare(self, LocalizerNodeConfig, changeable=True)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        title = f"{self.get_fully_qualified_name()[1:]}: relocalization"
        self._monitor = Monitor(title, self.get_logger())
        self._relocalize = Relocalize(self, self._config.stale_after)
        self._reload = Reload(self, self._monitor, self._load, self._adopt)
        self._diagnostics = DiagnosticsPublisher(self, self._monitor, self._update)

    def autostart(self) -> None:
        """Configure and activate, unless a lifecycle manager does."""
        if not self._config.autostart:
            name = self.get_fully_qualified_name()
            self.get_logger().info(
                "unconfigured: waiting for a lifecycle manager; by hand "
                f"'ros2 lifecycle set {name} configure', then '… activate'"
            )
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Stop the worker and free everything."""
        self._free()

    def report_fault(self, text: str) -> None:
        """Report an error that a callback did not handle."""
        self._monitor.warn_once("callback", text, ERROR)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load model and map and subscribe."""
        self._monitor.forget_problems()
        limit_megapixels(self._config.max_megapixels)
        try:
            self._session = Session(
                self, self._config, self._monitor, self._relocalize, self._switch
            )
        except Exception as error:
            text = str(error) or type(error).__name__
            self._monitor.problem("configuration", f"cannot configure: {text}", ERROR, hold=None)
            detail = "" if isinstance(error, DisamError) else f"\n{traceback.format_exc()}"
            name = self.get_fully_qualified_name()
            self.get_logger().error(
                f"cannot configure: {text}; mend it, or 'ros2 param set {name} PARAMETER VALUE', "
                f"then 'ros2 lifecycle set {name} configure' and '… activate'{detail}"
            )
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then start localizing."""
        result = super().on_activate(state)
        if self._session is not None:
            self._session.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop localizing, then silence the publishers."""
        if self._session is not None:
            self._session.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free model, map and topics."""
        result = super().on_cleanup(state)
        self._free()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything for good."""
        result = super().on_shutdown(state)
        self._free()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node can be configured again."""
        result = super().on_error(state)
        self._free()
        return result

    def _free(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.destroy()
        del session
        self._monitor.forget_problems()
        gc.collect()
        free_device_memory()

    def _update(self) -> str:
        """Brings the monitor up to date; returns the state."""
        if self._session is not None:
            self._session.update()
        self._monitor.fact("state", self.state)
        return self.state

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            config = parameters.with_changes(self._config, changes)
            self._check_live(config)
            changed = parameters.differences(self._config, config)
            fixed = [name for name in changed if not is_live(name)]
            if fixed and self._session is not None:
                raise ConfigError(
                    f"'{fixed[0]}' is read when the node is configured: deactivate and clean it up "
                    "first"
                )
        except Exception as error:  # rclpy would leave the request without an answer
            return SetParametersResult(successful=False, reason=shorten(process.describe(error)))
        return SetParametersResult(successful=True)

    def _check_live(self, config: LocalizerNodeConfig) -> None:
        """Raise DisamError for settings that the model or the map does not support."""
        parse_weather(config.localizer.domain.weather)
        if self._session is not None:
            self._session.check(config)

    def _take_parameters(self, changes: list[Parameter]) -> None:
        self._config = parameters.with_changes(self._config, changes)
        self._relocalize.stale_after = self._config.stale_after
        if self._session is not None:
            self._session.configure(self._config)

    def _switch(self, directory: str) -> None:
        """Switch to another map of the same model, as ~/reload does."""
        self.set_parameters([Parameter("map", value=directory)])
        self._reload.begin()

    def _load(self) -> tuple[Session, Loaded]:
        """Open map and model for the current session. Raises DisamError."""
        if self._session is None:
            raise ConfigError("the node is not configured: configure it to load map and model")
        return self._session, load(self, self._config)

    def _adopt(self, new: tuple[Session, Loaded]) -> str:
        session, loaded = new
        if session is not self._session:
            raise ConfigError("the node was cleaned up meanwhile")
        return session.adopt(loaded)


def is_live(name: str) -> bool:
    """Whether a parameter may be set while the node is configured."""
    return name in LIVE or (name.startswith("localizer.") and not name.startswith(NOT_LIVE))


def create() -> LocalizerNode:
    """Create the node and start it if `autostart` is set."""
    node = LocalizerNode()
    node.autostart()
    return node


def main(args: list[str] | None = None) -> int:
    """Run the executable localizer_node."""
    return process.run(NAME, create, args)
