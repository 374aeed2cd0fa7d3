# SPDX-License-Identifier: Apache-2.0
"""Coarse-to-fine retrieval of one image: domain, descriptors, candidates, re-ranking, answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from disam_ros.camera import Camera, Look, looks_of, mount
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.records import ImageRecord
from disam_ros.device import Stopwatch, calm_matrix_products, select_device
from disam_ros.domains.domain import DomainChoice, DomainChooser, parse_weather
from disam_ros.errors import ConfigError, DomainError, MapError, ModelError
from disam_ros.geometry import Transform
from disam_ros.localization.answer import Answer, Candidate
from disam_ros.localization.calibration import Calibration, load_calibration
from disam_ros.localization.candidates import CandidateSearch, Near, Reranker, Shortlist
from disam_ros.localization.curve import Between, Curve
from disam_ros.localization.evidence import place_lead, place_log_odds, place_reach
from disam_ros.localization.query import Frame, Query
from disam_ros.localization.stages import StagesOf
from disam_ros.localization.view_shift import view_angle, with_view_angle
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.backend import Backend
from disam_ros.models.cuda.fallback import OnDevice
from disam_ros.models.descriptor import descriptor_shapes
from disam_ros.models.model import Model, load_model
from disam_ros.uncertainty import TEMPERATURE, PoseWithCovariance

KEPT_LOOKS = 64  # cameras whose looks are kept


class Localizer:
    """The stages of a localization against one map; keeps nothing from image to image.

    model_dir: where the model was loaded from: exported encoders and the calibration lie there.
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
        calm_matrix_products()
        self.model = model
        self.map = place_map
        self.calibration = load_calibration(model_dir)
        self._domains = DomainChooser(model.domains)
        self._curves: dict[str, tuple[NDArray[np.int64], Curve]] = {}  # by camera of the map
        self._looks: dict[tuple[str, Camera | None], list[Look]] = {}
        self._shapes = descriptor_shapes(model.network, place_map.header.descriptor)
        self._check_shapes(place_map)
        stages = StagesOf(model, place_map, self._shapes, config.backend, model_dir)
        self._stages = OnDevice(stages, select_device(config.device))
        self.check(config)

    def _check_shapes(self, place_map: PlaceMap) -> None:
        """Raise MapError unless the map's arrays are as long as its header says."""
        shapes = descriptor_shapes(self.model.network, place_map.header.descriptor)
        widths = {
            "coarse": place_map.projection(self.model.projection).directions.shape[1],
            "fine": place_map.fine.shape[1],
        }
        for stage, shape in shapes.items():
            if math.prod(shape) != widths[stage]:
                raise MapError(
                    f"{place_map.directory / 'map.json'}: 'descriptor' has a {stage}_grid of "
                    f"{math.prod(shape)} numbers, the map {widths[stage]}; restore the "
                    f"header or build the map again"
                )

    @classmethod
    def open(cls, map_dir: Path | str, model_dir: Path | str, config: LocalizerConfig) -> Localizer:
        """Load a model and a map from disk."""
        return cls(load_model(model_dir), PlaceMap(map_dir), config, Path(model_dir))

    def with_config(self, config: LocalizerConfig) -> Localizer:
        """The same model and map with other settings, those read at construction excepted."""
        other = copy(self)
        other.config = config
        return other

    def localize(
        self,
        image: NDArray[np.uint8],
        stamp_ns: int | None = None,
        camera: str | None = None,
        near: Near = None,
        **conditions: Any,
    ) -> Answer:
        """Place of a single image (uint8 RGB [H, W, 3]).

        camera: whose map images to search; may be left out where the map has one camera.
        conditions: weather, domain, latitude, longitude as in `Frame`. near: a disc is searched
        alone; a prior is weighed against the similarity (prior.py). Raises ImageError, MapError
        (no map image in the disc, unknown camera) or DomainError.
        """
        return self.answer(self.query(image, stamp_ns, camera, **conditions), near)

    def query(
        self,
        image: NDArray[np.uint8],
        stamp_ns: int | None = None,
        camera: str | None = None,
        **conditions: Any,
    ) -> Query:
        """Descriptors of an image; arguments and errors as of `localize`."""
        frame = Frame(image, camera or self.only_camera(), stamp_ns, **conditions)
        return self.encode(frame, self.choose_domain(frame), Stopwatch())

    def answer(self, query: Query, near: Near = None) -> Answer:
        """Place of a query alone; `near` as of `localize`."""
        return self.of_candidates(query, self.rerank(query, self.search(query, near)))

    def choose_domain(self, frame: Frame) -> DomainChoice:
        """The domain nearest to the frame's conditions, else the configured ones, else the map's.

        With `domain.from_image` the model's classifier decides by the image where clock, sun and
        weather leave it open. Raises DomainError for an unknown domain name.
        """
        config = self.config.domain
        override = frame.domain or config.override
        latitude = _first_number(frame.latitude, config.latitude, self.map.header.latitude)
        longitude = _first_number(frame.longitude, config.longitude, self.map.header.longitude)
        weather = config.weather if frame.weather is None else frame.weather
        choice = self._domains.choose(frame.stamp_ns, latitude, longitude, weather, override)
        classifier = self.model.classifier
        if not config.from_image or classifier is None or override or choice.exact:
            return choice
        possible = self._domains.of_this_light(frame.stamp_ns, latitude, longitude)
        name, probability = classifier.classify(frame.image, possible)
        share = f"{100 * probability:.0f} %"
        reason = f"{name}: by the image ({share}); clock alone: {choice.reason}"
        return replace(choice, name=name, reason=reason, exact=False)

    def encode(self, frame: Frame, domain: DomainChoice, watch: Stopwatch) -> Query:
        """Coarse and fine descriptors by the domain's encoders, of the image as the map's camera
        would have taken it. Raises ImageError, MapError."""
        return self.encode_batch([frame], domain, watch)[0]

    def encode_batch(
        self, frames: Sequence[Frame], domain: DomainChoice, watch: Stopwatch
    ) -> list[Query]:
        """As `encode`, of images of one domain at once, such as of several cameras."""
        looks = [self.looks(frame.camera, frame.lens) for frame in frames]
        seen = [frame.seen_as(own[0].mapped) for frame, own in zip(frames, looks, strict=True)]
        return self._stages.run(lambda stages: stages.encode(seen, domain, watch, looks))

    def looks(self, camera: str, lens: Camera | None) -> list[Look]:
        """The map cameras that a vehicle's camera is compared with, best first (camera/rig.py).

        lens: None: the map's of that name. Raises MapError where the map has no camera of that name
        and none that looks where it does.
        """
        key = camera, lens
        if key not in self._looks:
            known = self.map.header.cameras
            mapped = {name: known.get(name) for name in self.map.cameras()}
            found = looks_of(camera, lens, mapped)
            if not found:
                raise MapError(
                    f"map has no camera '{camera}', it has {self.map.cameras()}, and none is "
                    f"known to look where that does: name it as in the map, or give its extrinsics"
                )
            self._looks = {key: found, **dict(list(self._looks.items())[: KEPT_LOOKS - 1])}
        return self._looks[key]

    def search(self, query: Query, near: Near = None) -> Shortlist:
        """Coarse retrieval of `config.candidates` map images, and of those near a prior."""
        config = self.config
        return self._stages.run(
            lambda stages: stages.search.search(
                query.cameras, query.shifted, config.candidates, near, config.prior
            )
        )

    def rerank(self, query: Query, shortlist: Shortlist) -> list[Candidate]:
        """Candidates by decreasing fine similarity."""
        return self._stages.run(lambda stages: stages.reranker.rank(stages.own(query), shortlist))

    def of_candidates(self, query: Query, candidates: Sequence[Candidate]) -> Answer:
        """The single-image answer: the pose between the best candidate and its neighbours."""
        best = candidates[0]
        base_from_camera, warp = self.base_from_camera(query.frame), query.frame.warp
        between = self._between(query, best.record)
        errors = self.calibration.of(query.domain.name)
        view = PoseWithCovariance(between.pose, between.bend)
        pose = view.with_lever_arm(base_from_camera.inverse())
        pose = replace(pose, covariance=pose.covariance + errors.across(between.steps))
        progress = between.spread + errors.progress(between.steps)
        pose, _ = self.with_view(
            query, pose, base_from_camera, best.record, self.calibration, progress
        )
        probability = float(expit(self.log_odds(candidates)))
        return Answer(
            camera=query.camera,
            domain=query.domain,
            candidates=candidates,
            record=best.record,
            pose=pose,
            base_from_camera=base_from_camera,
            known=probability >= self.config.min_probability,
            probability=probability,
            spacing=between.spacing,
            spread=between.spread + between.bend,
            steps=between.steps,
            lens_from_view=None if warp is None else warp.lens_from_view,
        )

    def log_odds(self, candidates: Sequence[Candidate]) -> float:
        """Log odds that the first of an image's candidates shows the right place (evidence.py).

        Keypoints do not count: off the map as many of them may agree.
        """
        rows = np.array([candidate.record.id for candidate in candidates])
        scores = np.array([c.fine_score + c.prior_score for c in candidates])
        lead = place_lead(scores, self.map.poses[rows, :3], self.reach)
        return place_log_odds(lead, self.calibration)

    def _between(self, query: Query, record: ImageRecord) -> Between:
        """Pose map_from_camera between a map image and its neighbours, by fine similarity."""
        camera = self.camera_of(record)
        if camera not in self._curves:
            rows = self._search.rows_of(camera)
            self._curves[camera] = rows, Curve(self.map.poses[rows])
        rows, curve = self._curves[camera]
        row = int(np.searchsorted(rows, record.id))
        around = np.array([curve.before[row], row, curve.next[row]])
        around = around[around >= 0]
        details = self.fine_scores(query, rows[around]).astype(np.float64) / TEMPERATURE
        return curve.between(around, details, details, np.inf)

    @cached_property
    def reach(self) -> float:
        """Distance from which map images show different places [m]."""
        rows = max((self.map.rows_of(name) for name in self.map.cameras()), key=len)
        return place_reach(self._reranker, rows, self.map.poses[rows])

    def view_angle(self, query: Query, record: ImageRecord) -> float | None:
        """Angle [rad] by which the query's view has moved against a map image's (view_shift.py)."""
        known = self.map.header.cameras.get(self.camera_of(record))
        shift = self._compare(query, np.array([record.id]))[1][0, 0]
        widest, camera = self._reranker.widest_shift, query.frame.lens or known
        return view_angle(float(shift), widest, camera, known)

    def with_view(
        self,
        query: Query,
        map_from_base: PoseWithCovariance,
        base_from_camera: Transform,
        record: ImageRecord,
        calibration: Calibration,
        progress: NDArray[np.float64],
        scale: float = 1.0,
    ) -> tuple[PoseWithCovariance, float]:
        """map_from_base after the measurement of the angle between the query's view and a map
        image's, and the normalized innovation squared; nan where there is no measurement.

        progress: covariance [6, 6] of further errors, along the track, which the angle shall not
        correct; they are added. scale: of the angle's variance.
        """
        whole = replace(map_from_base, covariance=map_from_base.covariance + progress)
        angle = self.view_angle(query, record)
        if angle is None or record.map_from_camera is None:
            return whole, math.nan
        deviation = float(np.radians(calibration.of(query.domain.name).shift)) * math.sqrt(scale)
        camera = map_from_base.with_lever_arm(base_from_camera)
        others = replace(map_from_base, covariance=progress).with_lever_arm(base_from_camera)
        camera, distance = with_view_angle(
            camera, record.map_from_camera, angle, deviation, others.covariance
        )
        pose = camera.with_lever_arm(base_from_camera.inverse())
        return replace(pose, covariance=pose.covariance + progress), distance

    def base_from_camera(self, frame: Frame) -> Transform:
        """Mount of the frame's camera; the mapping vehicle's where the frame gives none."""
        if frame.lens is not None:
            return frame.lens.base_from_camera
        return mount(self.map.header.cameras, frame.camera)

    def ranking(self, query: Query, answer: Answer, count: int) -> list[ImageRecord]:
        """Map images, best first: the answer's, the candidates, then others by coarse score.

        count: how many, at least the candidates; fewer where the map holds no more.
        """
        records = [candidate.record for candidate in answer.candidates]
        if answer.tracked:
            first = answer.record
            records = [first, *(record for record in records if record.id != first.id)]
        if count <= len(records):
            return records
        more = self._stages.run(
            lambda stages: stages.search.whole_map(query.cameras, query.shifted, count)
        )
        seen = {record.id for record in records}
        others = [self.map.records[row] for row in more.rows]
        return (records + [record for record in others if record.id not in seen])[:count]

    def coarse_scores(self, query: Query, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Coarse similarity with map images `rows`, float64 [n]."""
        return self._search.scores(query.coarse, rows)

    def fine_scores(self, query: Query, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fine similarity with map images `rows`, float32 [n]."""
        return self._compare(query, rows)[0]

    def background_scores(self, query: Query) -> dict[str, NDArray[np.float32]]:
        """Fine similarity with a `background` of each of the query's map cameras, float32 [m]."""
        return self._stages.run(lambda stages: stages.reranker.background(stages.own(query)))

    def _compare(
        self, query: Query, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Reranker.compare`."""
        return self._stages.run(lambda stages: stages.reranker.compare(stages.own(query), rows))

    @property
    def device(self) -> str:
        """Where images are encoded and compared now: a GPU that has failed gives way to the CPU."""
        return self._stages.device

    @property
    def backend(self) -> Backend:
        """What runs the encoders."""
        return self._stages.made.backend

    @property
    def _search(self) -> CandidateSearch:
        return self._stages.made.search

    @property
    def _reranker(self) -> Reranker:
        return self._stages.made.reranker

    @property
    def has_activation_maps(self) -> bool:
        """Whether fine descriptors are feature maps, unlike those of a global model."""
        return self._reranker.has_cells

    def activation_map(self, query: Query, record: ImageRecord) -> NDArray[np.float32]:
        """Where the query resembles a map image (DISAM, Eq. 18): float32 [h, w], in [0, 1].

        Raises ModelError where images have one global descriptor.
        """
        if not self.has_activation_maps:
            raise ModelError(
                f"with model '{self.model.name}' this map has one global descriptor per image: "
                f"activation maps need a model with feature maps"
            )
        return self._stages.run(
            lambda stages: stages.reranker.activation_map(stages.own(query), record.id)
        )

    def camera_of(self, record: ImageRecord) -> str:
        """Name of the camera of a map image."""
        return str(self.map.camera_names[self.map.camera_of[record.id]])

    def only_camera(self) -> str:
        """Name of the map's camera. Raises MapError where it has several."""
        cameras = self.map.cameras()
        if len(cameras) > 1:
            raise MapError(f"several cameras in the map: say which of {', '.join(cameras)}")
        return cameras[0]

    def check(self, config: LocalizerConfig) -> None:
        """Raises DomainError or ConfigError for settings that the model does not support."""
        domain, model = config.domain, self.model
        parse_weather(domain.weather)
        if domain.override and not self._domains.find(domain.override):
            raise DomainError(
                f"domain '{domain.override}' is not in model '{model.name}', which has "
                f"{', '.join(model.domain_names())}"
            )
        if domain.from_image and model.classifier is None:
            raise ConfigError(
                f"domain.from_image needs a domain classifier, model '{model.name}' has none: set "
                f"it to false, or train one with 'python -m training.domain_classifier --model "
                f"MODELDIR --data DIR'"
            )


def _first_number(*values: float | None) -> float:
    """The first value that is neither None nor nan; nan if there is none."""
    return next((v for v in values if v is not None and not np.isnan(v)), float("nan"))
