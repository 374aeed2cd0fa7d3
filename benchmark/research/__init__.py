# SPDX-License-Identifier: Apache-2.0
"""Experiments on models, losses and maps; their page is docs/research/experiments.md."""
