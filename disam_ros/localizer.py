# SPDX-License-Identifier: Apache-2.0
"""Where is this image on the map? Domain, coarse candidates, fine choice, pose."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from disam_ros.backend import select_backend
from disam_ros.checkpoint import Model, load_model
from disam_ros.config import LocalizerConfig
from disam_ros.covariance import candidate_covariance
from disam_ros.dataset import ImageRecord
from disam_ros.descriptor import descriptor_shapes, descriptors
from disam_ros.device import select_device
from disam_ros.domain import DomainChoice, DomainChooser
from disam_ros.errors import ConfigError, DomainError, MapError
from disam_ros.geometry import Transform
from disam_ros.image import to_tensor
from disam_ros.index import CoarseIndex, PlaceIndex, open_index
from disam_ros.place_map import PlaceMap
from disam_ros.similarity import activation_map, shifted_similarity


@dataclass(frozen=True)
class Disc:
    """A place to search in: metres on the map."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Candidate:
    """A map image that resembles the query. Scores lie in [−1, 1]."""

    record: ImageRecord
    coarse_score: float
    fine_score: float


@dataclass(frozen=True)
class Localization:
    """The answer for one image.

    candidates: best fine score first. known: whether the best reaches the score threshold.
    timings_ms: milliseconds by stage. features: the query's fine descriptor [C, g, g]. coarse: its
    coarse coordinates [d].
    """

    camera: str
    domain: DomainChoice
    candidates: list[Candidate]
    known: bool
    spacing: float  # metres between map images
    timings_ms: dict[str, float]
    features: Tensor = field(repr=False)
    coarse: np.ndarray = field(repr=False)

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def map_from_camera(self) -> Transform | None:
        """Pose of the best map image; None where the place is unknown."""
        return self.best.record.map_from_camera if self.known else None

    def covariance(self, base_from_camera: Transform) -> np.ndarray:
        """Covariance [6, 6] of map_from_base from the candidates' spread (see covariance.py)."""
        camera_from_base = base_from_camera.inverse()
        poses = [c.record.map_from_camera @ camera_from_base for c in self.candidates]
        scores = np.array([c.fine_score for c in self.candidates])
        return candidate_covariance(poses, scores, self.spacing)


class Localizer:
    """Coarse-to-fine retrieval against one map.

    model_dir: where the model was loaded from, which is where exported encoders are looked for.
    Raises MapError where the map was built with another model, ConfigError for a missing device,
    backend or domain classifier, ModelError for exported encoders that do not fit.
    """

    def __init__(
        self,
        model: Model,
        place_map: PlaceMap,
        config: LocalizerConfig,
        model_dir: Path | None = None,
    ) -> None:
        place_map.require_model(model.identity, model.name)
        self.config = config
        self.device = select_device(config.device)
        self.model = model.to(self.device)
        self.backend = select_backend(config.backend, model, self.device, model_dir)
        self.map = place_map
        self._domains = DomainChooser(model.domains)
        self._fine_shape = descriptor_shapes(model.network, place_map.header.descriptor)["fine"]
        self._spacing = place_map.spacing()
        self._directions = torch.from_numpy(place_map.projection.directions).to(self.device).float()
        self._rows: dict[str, np.ndarray] = {}
        self._index: dict[str, CoarseIndex] = {}
        self._places: dict[str, PlaceIndex] = {}
        for camera in place_map.cameras():
            rows = place_map.rows_of(camera)
            self._rows[camera] = rows
            codes, path = _select(place_map.coarse, rows), place_map.index_path(camera)
            self._index[camera] = open_index(codes, place_map.projection, self.device, path)
        if config.domain.override and config.domain.override not in model.domain_names():
            raise DomainError(
                f"domain '{config.domain.override}' is not in model '{model.name}', which has "
                f"{', '.join(model.domain_names())}"
            )
        if config.domain.from_image and model.classifier is None:
            raise ConfigError(
                f"domain.from_image needs a domain classifier, model '{model.name}' has none: set "
                f"it to false, or train one with 'python -m training.domain_classifier --model "
                f"MODELDIR --data DIR'"
            )

    @classmethod
    def open(cls, map_dir: Path | str, model_dir: Path | str, config: LocalizerConfig) -> Localizer:
        """Load a model and a map from disk."""
        return cls(load_model(model_dir), PlaceMap(map_dir), config, Path(model_dir))

    def localize(
        self,
        image: np.ndarray,
        stamp_ns: int | None = None,
        camera: str | None = None,
        weather: str | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        domain: str | None = None,
        near: Disc | None = None,
    ) -> Localization:
        """Find the place of an image (uint8 RGB [H, W, 3]).

        stamp_ns: UTC nanoseconds, for the choice of the domain. camera: whose map images to
        search; may be left out where the map has one camera. weather, latitude, longitude, domain:
        override the configuration. near: search only there. Raises ImageError, MapError (no map
        image is near, unknown camera) or DomainError.
        """
        watch = _Stopwatch()
        camera = camera or self._only_camera()
        rows = self._rows[camera] if camera in self._rows else self.map.rows_of(camera)
        choice = self.choose_domain(stamp_ns, weather, latitude, longitude, domain, image)
        tensor = to_tensor(image, self.model.network.image_size)[None].to(self.device)
        watch.lap("preprocess")
        features = self.backend.encode(choice.name, tensor)
        coarse, fine = descriptors(*features, self.map.header.descriptor)
        watch.lap("encode", self.device)
        query = (self._directions @ coarse[0]).cpu().numpy()
        found, coarse_scores = self._search(camera, query, near)
        coarse_scores = coarse_scores.clip(-1.0, 1.0)
        watch.lap("coarse")
        fine_scores = self._fine_scores(fine[0], rows[found])
        watch.lap("fine")
        candidates = [
            Candidate(self.map.records[rows[row]], float(coarse_score), float(fine_score))
            for row, coarse_score, fine_score in zip(found, coarse_scores, fine_scores, strict=True)
        ]
        candidates.sort(key=lambda c: -c.fine_score)
        return Localization(
            camera=camera,
            domain=choice,
            candidates=candidates,
            known=candidates[0].fine_score >= self.config.score_threshold,
            spacing=self._spacing,
            timings_ms=watch.finish(),
            features=fine[0].reshape(self._fine_shape).cpu(),
            coarse=query,
        )

    def _search(
        self, camera: str, query: np.ndarray, near: Disc | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows among the camera's, and coarse scores."""
        if near is None:
            return self._index[camera].search(query, self.config.candidates)
        if camera not in self._places:
            rows = self._rows[camera]
            codes, positions = _select(self.map.coarse, rows), self.map.poses[rows, :3]
            self._places[camera] = PlaceIndex(codes, self.map.projection, positions)
        place = (near.x, near.y, near.radius)
        found, scores = self._places[camera].search(query, self.config.candidates, *place)
        if not len(found):
            raise MapError(
                f"no map image of camera '{camera}' lies within {near.radius:g} m of "
                f"({near.x:.1f}, {near.y:.1f}): search a larger place or none"
            )
        return found, scores

    def choose_domain(
        self,
        stamp_ns: int | None,
        weather: str | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        domain: str | None = None,
        image: np.ndarray | None = None,
    ) -> DomainChoice:
        """The domain for a moment; what is None comes from the configuration, then the map.

        image: uint8 RGB [H, W, 3], looked at if configured and nothing else settles the domain.
        """
        config = self.config.domain
        override = domain or config.override
        latitude = _first_number(latitude, config.latitude, self.map.header.latitude)
        longitude = _first_number(longitude, config.longitude, self.map.header.longitude)
        choice = self._domains.choose(
            stamp_ns,
            latitude,
            longitude,
            weather=config.weather if weather is None else weather,
            override=override,
        )
        if not config.from_image or image is None or override or choice.exact:
            return choice
        among = self._domains.of_this_light(stamp_ns, latitude, longitude)
        return self._by_image(image, among, choice)

    def ranking(self, localization: Localization, count: int) -> list[ImageRecord]:
        """Map images, best first: the candidates by fine score, then others by coarse score.

        count: how many, at least the candidates; fewer where the map holds no more.
        """
        records = [candidate.record for candidate in localization.candidates]
        if count <= len(records):
            return records
        rows = self._rows[localization.camera]
        found, _ = self._index[localization.camera].search(localization.coarse, count)
        seen = {record.id for record in records}
        others = [self.map.records[row] for row in rows[found]]
        return (records + [record for record in others if record.id not in seen])[:count]

    def activation_map(self, localization: Localization) -> np.ndarray:
        """Where the query looks like its best match (Eq. 18): float32 [g, g], scaled to [0, 1]."""
        reference = torch.from_numpy(np.array(self.map.fine[localization.best.record.id]))
        looks = activation_map(localization.features, reference.float().reshape(self._fine_shape))
        return (looks / looks.max().clamp_min(1e-12)).numpy()

    def _by_image(
        self, image: np.ndarray, among: list[str], by_clock: DomainChoice
    ) -> DomainChoice:
        """The domain among some that the classifier sees, and what the clock alone would say."""
        name, probability = self.model.classifier.classify(image, among)
        share = f"{100 * probability:.0f} %"
        reason = f"{name}: by the image ({share}); clock alone: {by_clock.reason}"
        return replace(by_clock, name=name, reason=reason, exact=False)

    def _fine_scores(self, query: Tensor, rows: np.ndarray) -> np.ndarray:
        """Fine similarity of the query [D] with map images, float32 [n]."""
        references = torch.from_numpy(np.array(self.map.fine[rows])).to(self.device).float()
        references /= references.norm(dim=1, keepdim=True).clamp_min(1e-12)
        columns = self.config.fine_shift
        if columns:
            shape = self._fine_shape
            columns, lines = min(columns, shape[2] - 1), min(columns // 2, shape[1] - 1)
            query, references = query.reshape(shape), references.reshape(-1, *shape)
            scores = shifted_similarity(query, references, columns, lines)
        else:
            scores = references @ query
        return scores.cpu().numpy().clip(-1.0, 1.0)  # rounding, half precision

    def _only_camera(self) -> str:
        if len(self._rows) > 1:
            raise MapError(f"several cameras in the map: say which of {', '.join(self._rows)}")
        return next(iter(self._rows))


class _Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str, device: torch.device | None = None) -> None:
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        self._laps[stage] = 1e3 * (now - self._last)
        self._last = now

    def finish(self) -> dict[str, float]:
        return {**self._laps, "total": 1e3 * (time.perf_counter() - self._start)}


def _select(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The array itself where all rows are wanted (it stays memory-mapped), else a copy."""
    return array if len(rows) == len(array) else array[rows]


def _first_number(*values: float | None) -> float:
    """The first value that is neither None nor nan; nan if there is none."""
    return next((v for v in values if v is not None and not np.isnan(v)), float("nan"))
