# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: mobile encoders, and products of descriptors in integers."""
