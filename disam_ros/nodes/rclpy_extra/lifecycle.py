# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that survives a request for a transition that does not fit its state."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


class GuardedLifecycleNode(LifecycleNode):
    """Refuses a transition that does not fit; rclpy would let it end the process."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._answer_change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    @property
    def state(self) -> str:
        """The present state, such as 'active'; rclpy has no public accessor."""
        return str(self._state_machine.current_state[1])

    def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return self._answer_change_state(request, response)
        except rclpy_implementation.RCLError:
            self.get_logger().warning(
                f"transition {request.transition.id} refused: the node is {self.state}; a "
                "lifecycle manager needs the parameter autostart set to false"
            )
            response.success = False
            return response
