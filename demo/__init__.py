# SPDX-License-Identifier: Apache-2.0
"""The one-command demonstration: a season-town drive through the real localizer node."""
