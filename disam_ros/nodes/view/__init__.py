# SPDX-License-Identifier: Apache-2.0
"""`disam view`: a web page that shows a running localizer. One process, ROS in, WebSockets out."""
