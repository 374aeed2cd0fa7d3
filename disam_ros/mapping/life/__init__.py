# SPDX-License-Identifier: Apache-2.0
"""Life of a map: operations that read maps and write a new one; the old ones stay untouched."""
