# SPDX-License-Identifier: Apache-2.0
"""The losses of DISAM as plain loops in float64, written from the paper's equations.

Hu, Wang, Liu, Chen, IEEE/CAA JAS 2021. Nothing of the product is used. Features z are arrays
[C, h, w] of one image, activation maps [h, w].
"""

from dataclasses import dataclass, field

import numpy as np

STEP = 1e-6  # of central differences
HEAD_WEIGHTS = (1, 2, 3, 5)  # scales of a discriminator, shallow to deep


def similarity(z, other):
    """Y of Eq. 16: mean over channels of the cosine of the two spatial maps."""
    cosines = []
    for k in range(len(z)):
        product = squares = other_squares = 0.0
        for p in range(z.shape[1]):
            for q in range(z.shape[2]):
                product += z[k, p, q] * other[k, p, q]
                squares += z[k, p, q] ** 2
                other_squares += other[k, p, q] ** 2
        cosines.append(product / np.sqrt(squares * other_squares))
    return sum(cosines) / len(cosines)


def weights(z, other):
    """ω_k of Eq. 17, Σ_pq ∂Y/∂z_k^pq: the slope of Y as the whole channel k rises."""
    result = np.zeros(len(z))
    for k in range(len(z)):
        up, down = z.copy(), z.copy()
        up[k] += STEP
        down[k] -= STEP
        result[k] = (similarity(up, other) - similarity(down, other)) / (2 * STEP)
    return result


def activation_map(z, other):
    """L of Eq. 18: ReLU(Σ_k ω_k z_k)."""
    total = np.zeros(z.shape[1:])
    for omega, channel in zip(weights(z, other), z, strict=True):
        total = total + omega * channel
    return np.maximum(total, 0.0)


def distance(a, b, form):
    """‖a − b‖₂, or the mean squared error of the released code."""
    squares = [(x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True)]
    return np.sqrt(sum(squares)) if form == "paper" else sum(squares) / len(squares)


def map_distance(z, other, form):
    """Distance of the maps of a pair, each with respect to the other image."""
    return distance(activation_map(z, other), activation_map(other, z), form)


def triplet(positive, negative, margin, alpha):
    """Eq. 22 and 23: max(0, 1 − d_n / (d_p + m exp(−α d_p)))."""
    return max(0.0, 1.0 - negative / (positive + margin * np.exp(-alpha * positive)))


def unit_channels(z):
    """Every channel divided by the norm of its spatial map."""
    return np.stack([channel / np.sqrt((channel**2).sum()) for channel in z])


def gan(luminance, colour, target):
    """Least squares as released: at each scale the mean over both branches' predictions, weighted,
    divided by the number of scales and the sum of the weights."""
    total = 0.0
    for weight, grey, rgb in zip(HEAD_WEIGHTS, luminance, colour, strict=True):
        values = [*grey.flatten(), *rgb.flatten()]
        total += weight * sum((value - target) ** 2 for value in values) / len(values)
    return total / (len(HEAD_WEIGHTS) * sum(HEAD_WEIGHTS))


def cycle(rebuilt, image):
    """Eq. 1: L1, as a mean."""
    gaps = [abs(x - y) for x, y in zip(rebuilt.flatten(), image.flatten(), strict=True)]
    return sum(gaps) / len(gaps)


@dataclass
class Step:
    """One image of either domain, translated to the other and encoded again.

    z: (z_i, z_j). again: (z' of x_i's translation, in domain j, and z' of x_j's). more: further
    negatives, of domain j for x_i and of domain i for x_j.
    """

    z: tuple
    again: tuple
    more: tuple = field(default=((), ()))


def terms(step, form, margins, held=None, negatives="translated"):
    """Eq. 12, 19, 22 and 23 of a step, both directions added up.

    negatives: whether a negative pair is a translation and another image, or two "real" images.

    margins: (m_f, α_f), (m_s, α_s). held: the step whose features stand where a side gets no
    gradient, so that a finite difference of `step` alone is the gradient. The form 'relative' is
    the released one of channel-normalized features in units of the mean negative distance.
    """
    held = held or step
    ready = unit_channels if form == "relative" else np.asarray
    z, again = ([ready(x) for x in side] for side in (step.z, step.again))
    still, still_again = ([ready(x) for x in side] for side in (held.z, held.again))
    more = [[ready(x) for x in group] for group in held.more]
    anchors = again if negatives == "translated" else z
    still_anchors = still_again if negatives == "translated" else still
    unit = {"z": 1.0, "map": 1.0}
    if form == "relative":
        pairs = [(still_anchors[k], still[1 - k]) for k in range(2)]
        unit["z"] = sum(distance(*pair, form) for pair in pairs) / 2
        unit["map"] = sum(map_distance(*pair, form) for pair in pairs) / 2
    result = dict.fromkeys(("fcl", "fcl_cosine", "triplet_fcl", "sam", "triplet_sam"), 0.0)
    for k in range(2):
        others = [still[1 - k], *more[k]]
        target = z[k] if form == "paper" else still[k]
        gap = distance(again[k], target, form) / unit["z"]
        away = min(distance(anchors[k], n, form) for n in others) / unit["z"]
        result["fcl"] += gap
        result["fcl_cosine"] += 1.0 - similarity(again[k], z[k])
        result["triplet_fcl"] += triplet(gap, away, *margins[0])
        real, translated = activation_map(z[k], again[k]), activation_map(again[k], z[k])
        fixed = translated if form == "paper" else activation_map(still_again[k], still[k])
        result["sam"] += distance(real, fixed, form) / unit["map"]
        gap = distance(real, translated, form) / unit["map"]
        away = min(map_distance(anchors[k], n, form) for n in others) / unit["map"]
        result["triplet_sam"] += triplet(gap, away, *margins[1])
    return result


def contrastive(similarities, different, temperature):
    """InfoNCE of true pairs (k, k), both ways; only sure negatives count."""
    sides = []
    for scores, allowed in ((similarities, different), (similarities.T, different.T)):
        for k in range(len(scores)):
            kept = [j for j in range(len(scores)) if allowed[k, j] or j == k]
            whole = np.log(sum(np.exp(scores[k, j] / temperature) for j in kept))
            sides.append(whole - scores[k, k] / temperature)
    return sum(sides) / len(sides)
