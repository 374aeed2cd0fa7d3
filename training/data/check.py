# SPDX-License-Identifier: Apache-2.0
"""Checks of training data before training begins: what would waste a run, with its remedy.

Every function returns sentences for the user, an empty list where nothing is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training.data.image_store import ImageStore
from training.data.sources import Photo
from training.errors import TrainingError

MAX_SPEED = 100.0  # m/s between two images of a drive; beyond, poses or clock jump
MAX_GAP_NS = 24 * 3600 * 10**9  # between two images of a drive; beyond, the clock was set
STANDING = 0.05  # m; images nearer to the one before show nothing new
MANY = 0.3  # fraction of a drive's images that may stand
LITTLE = 0.3  # fraction of a domain's images with a partner, below which drives overlap little
CROP_PAIRS = 16  # true pairs of two domains that are searched for crops
CROP_WIDTH = 96  # px of the images that are searched
CROP_SCALES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
CROP_GAIN = 0.15  # correlation that a crop must explain beyond the whole image
CROP_CORRELATION = 0.7

Partners = Mapping[tuple[str, str], Mapping[int, NDArray[Any]]]  # by two domains: row → rows


def check_images(store: ImageStore) -> list[str]:
    """Checks clocks, poses and duplicates of all images."""
    drives: dict[tuple[str, str, str], list[Photo]] = defaultdict(list)
    for photo in store.photos:
        if photo.drive and photo.group:
            drives[photo.drive, photo.camera, photo.domain].append(photo)
    faults = [
        sentence
        for (drive, camera, _), photos in drives.items()
        for sentence in _check_drive(f"{drive} ({camera})", photos)
    ]
    return faults + _duplicates(store)


def _check_drive(name: str, photos: Sequence[Photo]) -> list[str]:
    """Checks clock and motion of the images of one camera on one drive."""
    ordered = sorted(photos, key=lambda photo: photo.stamp_ns)
    stamps = np.array([photo.stamp_ns for photo in ordered], dtype=np.int64)
    gaps = np.diff(stamps)
    moved = np.linalg.norm(np.diff([photo.position for photo in ordered], axis=0), axis=-1)
    faults = []
    if len(gaps) and gaps.max() > MAX_GAP_NS:
        faults.append(
            f"{name}: {gaps.max() / MAX_GAP_NS:.0f} days lie between two images: the clock was set "
            f"on the way; poses by time are wrong then, extract the two parts separately"
        )
    fast = (gaps > 0) & (moved > MAX_SPEED * gaps * 1e-9)
    if fast.any():
        speed = (moved[fast] / (gaps[fast] * 1e-9)).max()
        faults.append(
            f"{name}: the camera jumps {int(fast.sum())} times, at up to {speed:.0f} m/s: poses of "
            f"two map frames, or a clock that jumps; extract the drive again with its own poses"
        )
    standing = int((moved < STANDING).sum()) if len(moved) else 0
    if standing > MANY * len(ordered):
        faults.append(
            f"{name}: {standing} of {len(ordered)} images stand within {100 * STANDING:.0f} cm of "
            f"the one before: they teach that place alone; thin the drive by distance"
        )
    return faults


def _duplicates(store: ImageStore) -> list[str]:
    """Counts images with the same pixels; a fixed camera's serve several domains on purpose."""
    equal: dict[bytes, list[Photo]] = defaultdict(list)
    for photo, image in zip(store.photos, store.images, strict=True):
        if not photo.tiled:
            equal[blake2b(image.tobytes(), digest_size=16).digest()].append(photo)
    across: Counter[tuple[str, str]] = Counter()
    within: Counter[str] = Counter()
    for photos in equal.values():
        domains = sorted({photo.domain for photo in photos})
        across.update(combinations(domains, 2))
        within.update({d: n - 1 for d, n in Counter(p.domain for p in photos).items() if n > 1})
    pairs = [
        f"{count} images are the same in '{a}' and '{b}': one of the two is named wrong, or a "
        f"drive is there twice; remove one"
        for (a, b), count in across.items()
    ]
    return pairs + [
        f"{count} images of '{domain}' repeat another: a frozen camera, or a drive that is there "
        f"twice; remove them"
        for domain, count in within.items()
    ]


def require_conditions(domains: Sequence[str], counts: Mapping[str, int]) -> None:
    """Raises TrainingError for fewer than two conditions, or some without images."""
    if len(domains) < 2 or any(not counts.get(domain) for domain in domains):
        seen = ", ".join(f"{domain} ({count})" for domain, count in counts.items()) or "none"
        raise TrainingError(
            f"expected images of two or more domains, of {', '.join(domains) or 'none'} found "
            f"{seen}: an encoder learns from one place in two conditions; add a drive of the same "
            f"route in another one (disam extract --domain), or name the conditions in 'domains' "
            f"as the data do"
        )


def check_pairs(
    store: ImageStore,
    rows: Mapping[str, Sequence[int]],
    partners: Partners,
    frozen: Sequence[str] = (),
) -> list[str]:
    """Counts the images of each two domains that have a partner, and says how far others are.

    rows: images of each domain. partners: true pairs of each two domains. frozen: domains whose
    encoders need no pairs with each other.
    """
    faults = []
    for a, b in combinations(rows, 2):
        if a in frozen and b in frozen:
            continue
        pairs = partners.get((a, b), {})
        posed = [row for row in rows[a] if store.photos[row].group]
        share = len(pairs) / max(1, len(posed))
        if share < LITTLE and posed:
            faults.append(
                f"only {len(pairs)} of {len(posed)} images of '{a}' have one of '{b}' at their "
                f"place{_nearest(store, posed, rows[b])}"
            )
    return faults


def _nearest(store: ImageStore, posed: Sequence[int], others: Sequence[int]) -> str:
    """Says how far the images of the other domain are, and the remedy."""
    gaps: list[float] = []
    for group in {store.photos[row].group for row in posed}:
        near_points, other_points = (
            [store.photos[r].position for r in rows if store.photos[r].group == group]
            for rows in (posed, others)
        )
        if other_points:
            gaps += cKDTree(other_points).query(near_points)[0].tolist()
    if not gaps:
        return ": they share no map frame; put drives of one route into one folder"
    return (
        f": the nearest is {np.median(gaps):.1f} m off in the median. Raise aligned.radius if that "
        f"is the spacing of the images; else drive the same route in both conditions, in the same "
        f"direction and one map frame"
    )


def check_crops(store: ImageStore, partners: Partners) -> list[str]:
    """Names domains whose images show a part of what another's show, as crops do."""
    faults = []
    for (a, b), pairs in partners.items():
        rows = [row for row in pairs if not store.photos[row].tiled]
        if a == b or len(rows) < 4:
            continue
        chosen = [
            rows[k]
            for k in np.linspace(0, len(rows) - 1, min(CROP_PAIRS, len(rows))).round().astype(int)
        ]
        couples = [(store.images[row], store.images[int(pairs[row][0])]) for row in chosen]
        for wide, narrow, turned in ((a, b, False), (b, a, True)):
            scales = [crop_scale(*(pair[::-1] if turned else pair)) for pair in couples]
            smaller = [scale for scale in scales if scale < 1.0]
            if len(smaller) > 0.6 * len(scales):
                faults.append(
                    f"images of '{narrow}' show about {100 * np.median(smaller):.0f} % of the "
                    f"width of those of '{wide}': they are cropped, or of another lens. Features "
                    f"are compared cell by cell; crop the wider ones alike"
                )
    return faults


def crop_scale(wide: NDArray[Any], narrow: NDArray[Any]) -> float:
    """Estimates the fraction of `wide`'s width that `narrow` shows; 1 where it is no crop of it.

    Both uint8 RGB [H, W, 3]. The scale whose normalized cross-correlation is best, if it explains
    clearly more than the whole image does.
    """
    scene = _grey(wide, 1.0)
    scores = []
    for scale in CROP_SCALES:
        part = _grey(narrow, scale)
        part = part[: scene.shape[0], : scene.shape[1]]
        scores.append(float(cv2.matchTemplate(scene, part, cv2.TM_CCOEFF_NORMED).max()))
    best = int(np.argmax(scores))
    clear = scores[best] > max(CROP_CORRELATION, scores[0] + CROP_GAIN)
    return CROP_SCALES[best] if clear else 1.0


def _grey(image: NDArray[Any], scale: float) -> NDArray[Any]:
    width = round(CROP_WIDTH * scale)
    shape = width, max(1, round(width * image.shape[0] / image.shape[1]))
    return cv2.cvtColor(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
