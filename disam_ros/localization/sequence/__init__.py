# SPDX-License-Identifier: Apache-2.0
"""Evidence over a drive: the Bayes filter over the places of a map, and its motion."""
