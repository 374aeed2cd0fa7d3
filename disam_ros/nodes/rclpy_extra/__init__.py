# SPDX-License-Identifier: Apache-2.0
"""Guards round rclpy, for any node; nothing here knows of images or maps. Without them

* a signal leaves a traceback, or ends a file half-written (`process`);
* an exception of a callback, or a lifecycle transition that does not fit, ends the node
  (`process`, `lifecycle`);
* a wrong name, domain or folder of logs ends the process with a traceback (`starting`);
* a parameter of a wrong name is ignored, one out of range accepted (`parameters`);
* timers stand still with simulated time, and a service that awaits another thread is not answered
  (`waiting`);
* publishers of another QoS or type, and lost messages, go unnoticed (`subscriptions`,
  `diagnostics`).
"""
