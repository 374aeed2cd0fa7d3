# SPDX-License-Identifier: Apache-2.0
"""Measurements and rival methods; not part of the product."""
