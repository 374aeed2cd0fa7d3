# SPDX-License-Identifier: Apache-2.0
"""Predictions of other methods beside ours, and ours in their form."""
