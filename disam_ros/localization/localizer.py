# SPDX-License-Identifier: Apache-2.0
"""Where is this image on the map? Domain, coarse candidates, fine choice, pose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from disam_ros.config import LocalizerConfig
from disam_ros.datasets.records import ImageRecord
from disam_ros.device import select_device
from disam_ros.domains.domain import DomainChoice, DomainChooser
from disam_ros.errors import ConfigError, DomainError, MapError, ModelError
from disam_ros.image import to_tensor
from disam_ros.localization.calibration import load_calibration
from disam_ros.localization.candidates import CandidateSearch, Shortlist
from disam_ros.localization.prior import Disc, PositionPrior
from disam_ros.localization.result import Candidate, Localization
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.backend import select_backend
from disam_ros.models.descriptor import descriptor_shapes, descriptors
from disam_ros.models.model import Model, load_model
from disam_ros.models.similarity import activation_map, shifted_similarity
from disam_ros.stopwatch import Stopwatch

Near = Disc | PositionPrior | None  # where to search


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
        self.calibration = load_calibration(model_dir)
        self._domains = DomainChooser(model.domains)
        self._fine_shape = descriptor_shapes(model.network, place_map.header.descriptor)["fine"]
        self._spacing = place_map.spacing()
        self._directions = torch.from_numpy(place_map.projection.directions).to(self.device).float()
        self._search = CandidateSearch(place_map, self.device)
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
        near: Near = None,
    ) -> Localization:
        """Find the place of an image (uint8 RGB [H, W, 3]).

        stamp_ns: UTC nanoseconds, for the choice of the domain. camera: whose map images to
        search; may be left out where the map has one camera. weather, latitude, longitude, domain:
        override the configuration. near: a disc is searched alone; a prior is weighed against what
        is seen (prior.py). Raises ImageError, MapError (no map image in the disc, unknown camera)
        or DomainError.
        """
        watch = Stopwatch()
        camera = camera or self._only_camera()
        self._search.rows_of(camera)  # raises MapError before the work
        choice = self.choose_domain(stamp_ns, weather, latitude, longitude, domain, image)
        tensor = to_tensor(image, self.model.network.image_size)[None].to(self.device)
        watch.lap("preprocess")
        features = self.backend.encode(choice.name, tensor)
        coarse, fine = descriptors(*features, self.map.header.descriptor)
        watch.lap("encode", self.device)
        query = (self._directions @ coarse[0]).cpu().numpy()
        return self._locate(camera, choice, query, fine[0], near, watch)

    def search_again(self, localization: Localization, near: Near) -> Localization:
        """What `localize` would have answered with another `near`; nothing is encoded anew."""
        features = localization.features.flatten().to(self.device)
        watch, query = Stopwatch(), localization.coarse
        return self._locate(localization.camera, localization.domain, query, features, near, watch)

    def _locate(
        self,
        camera: str,
        choice: DomainChoice,
        query: np.ndarray,
        fine: Tensor,
        near: Near,
        watch: Stopwatch,
    ) -> Localization:
        """From descriptors to the answer. query: coarse coordinates [d]. fine: [D]."""
        shortlist = self._shortlist(camera, query, near)
        coarse_scores = shortlist.coarse.clip(-1.0, 1.0)
        watch.lap("coarse")
        fine_scores = self._fine_scores(fine, shortlist.rows)
        watch.lap("fine")
        columns = (shortlist.rows, coarse_scores, fine_scores, shortlist.prior)
        candidates = [
            Candidate(self.map.records[row], *map(float, scores))
            for row, *scores in zip(*columns, strict=True)
        ]
        order = sorted(range(len(candidates)), key=lambda i: -candidates[i].score)
        best = candidates[order[0]]
        return Localization(
            camera=camera,
            domain=choice,
            candidates=[candidates[i] for i in order],
            likely=best.fine_score >= self.config.score_threshold,
            spacing=self._spacing,
            timings_ms=watch.finish(),
            features=fine.reshape(self._fine_shape).cpu(),
            coarse=query,
            prior=shortlist.effects[order[0]],
        )

    def _shortlist(self, camera: str, query: np.ndarray, near: Near) -> Shortlist:
        count = self.config.candidates
        if near is None:
            return self._search.everywhere(camera, query, count)
        if isinstance(near, Disc):
            return self._search.within(camera, query, count, near)
        return self._search.with_prior(camera, query, count, near, self.config.prior)

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
        """Map images, best first: the candidates in their order, then others by coarse score.

        count: how many, at least the candidates; fewer where the map holds no more.
        """
        records = [candidate.record for candidate in localization.candidates]
        if localization.estimate is not None:
            first = localization.record
            records = [first, *(record for record in records if record.id != first.id)]
        if count <= len(records):
            return records
        more = self._search.everywhere(localization.camera, localization.coarse, count)
        seen = {record.id for record in records}
        others = [self.map.records[row] for row in more.rows]
        return (records + [record for record in others if record.id not in seen])[:count]

    def scores(
        self, localization: Localization, rows: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coarse scores of some map images and of the `count` best; rows are of the camera's."""
        return self._search.scores(localization.camera, localization.coarse, rows, count)

    def fine_scores(self, localization: Localization, rows: np.ndarray) -> np.ndarray:
        """Fine similarity of the query with images of the map, float32 [n]."""
        return self._fine_scores(localization.features.flatten().to(self.device), rows)

    @property
    def has_activation_maps(self) -> bool:
        """Whether descriptors tell parts of an image apart, as those of a global model do not."""
        return self._fine_shape[1:] != (1, 1)

    def activation_map(self, localization: Localization) -> np.ndarray:
        """Where the query looks like its best match (Eq. 18): float32 [g, g], scaled to [0, 1].

        Raises ModelError where images are described as a whole.
        """
        if not self.has_activation_maps:
            raise ModelError(
                f"with model '{self.model.name}' this map describes an image as a whole, which "
                f"does not tell where it looks like another: activation maps need features"
            )
        reference = torch.from_numpy(np.array(self.map.fine[localization.record.id]))
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
        cameras = self.map.cameras()
        if len(cameras) > 1:
            raise MapError(f"several cameras in the map: say which of {', '.join(cameras)}")
        return cameras[0]


def _first_number(*values: float | None) -> float:
    """The first value that is neither None nor nan; nan if there is none."""
    return next((v for v in values if v is not None and not np.isnan(v)), float("nan"))
