# SPDX-License-Identifier: Apache-2.0
"""What the localizer publishes: answers, poses, loop closures, TF, plain topics."""
