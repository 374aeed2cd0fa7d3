# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent, outputs of commands, and checked headers."""
