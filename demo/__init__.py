# SPDX-License-Identifier: Apache-2.0
"""The demo's drives (`data/`) and pictures of the README, with what makes them."""
