# SPDX-License-Identifier: Apache-2.0
"""Mobile encoders in ONNX Runtime on the CPU, in float32 or 8-bit integers."""
