# SPDX-License-Identifier: Apache-2.0
"""Coarse-to-fine retrieval of one image: domain, descriptors, candidates, re-ranking, pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from disam_ros.camera import Camera, ViewMatch, matching_map_cameras, mount
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.datasets.records import ImageRecord
from disam_ros.device import CPU, Stopwatch, calm_matrix_products, select_device
from disam_ros.domains.choice import DomainChoice, DomainChooser
from disam_ros.domains.domain import parse_weather
from disam_ros.errors import ConfigError, DomainError, MapError, ModelError
from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.image import resized_bicubic
from disam_ros.localization.calibration import Calibration, load_calibration
from disam_ros.localization.candidates import (
    HIGHEST,
    CandidateSearch,
    Reranker,
    Shortlist,
    place_lead,
    place_log_odds,
    place_reach,
)
from disam_ros.localization.pose import AXES, Between, Curve, view_angle, with_view_angle
from disam_ros.localization.prior import PositionPrior
from disam_ros.localization.query import Answer, Belief, Candidates, Frame, Query
from disam_ros.localization.verification import Verification, fuse_verified
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.arrays import as_numpy, concatenate, on_device
from disam_ros.models.backend import select_backend
from disam_ros.models.cuda import leave_device
from disam_ros.models.model import Model, load_model
from disam_ros.models.similarity import (
    TEMPERATURE,
    descriptor_shapes,
    fine_descriptor,
    shifted_descriptors,
    shifts_of,
    unit_rows,
)

KEPT_MATCHES = 64  # cameras whose view matches are kept
PAPER_CANDIDATES = 3  # N of the paper's retrieval


class PoseEstimate(NamedTuple):
    """A pose after the measurements of its image."""

    pose: PoseWithCovariance  # map_from_base
    inliers: int  # keypoints that agree with it; 0 where none gave it
    innovations: list[float]  # normalized squares of the view angles'; nan without a measurement


class Localizer:
    """A model and a map on a device; keeps nothing from image to image.

    config: device and backend; pipelines start with its other settings. model_dir: where the model
    was loaded from: exported encoders and the calibration lie there. Raises MapError where the map
    was built with another model, ConfigError for a missing device, backend or domain classifier,
    ModelError for exported encoders that do not fit.
    """

    def __init__(
        self,
        model: Model,
        place_map: PlaceMap,
        config: LocalizerConfig,
        model_dir: Path | None = None,
    ) -> None:
        place_map.require_model(model.identity, model.name)
        calm_matrix_products()
        self.model, self.map, self.config = model, place_map, config
        self.calibration = load_calibration(model_dir)
        self._domains = DomainChooser(model.domains)
        self._curves: dict[str, tuple[NDArray[np.int64], Curve]] = {}  # by camera of the map
        self._view_matches: dict[tuple[str, Camera | None], list[ViewMatch]] = {}
        self._shapes = descriptor_shapes(model.network, place_map.header.descriptor)
        self._check_shapes(place_map)
        self.device = select_device(config.device)
        try:
            self._prepare(self.device)
        except Exception as error:  # those of CUDA and of ONNX Runtime have no root in common
            self.continue_on_cpu(error)
        self.check(config)

    def _prepare(self, device: str) -> None:
        """Opens encoders, coarse search and fine comparison on a device."""
        self.device = device
        self.backend = select_backend(self.config.backend, self.model, device)
        self._mean = on_device(self.map.mean[:, None, None], device)
        self._projection = self.map.projection(self.model.projection)
        # On a CPU the projection computes; it needs less memory and time than a product of floats.
        cpu = device == CPU or self._projection.whole
        self._directions = None if cpu else on_device(self._projection.matrix, device)
        self._search = CandidateSearch(self.map, device)
        self._reranker = Reranker(self.map, self._shapes["fine"], device)

    def continue_on_cpu(self, error: Exception) -> None:
        """Moves to the CPU where the device is out of memory, gone or broken, and logs it.

        What was computed before has to be computed again. Raises the error where it is no fault of
        the device.
        """
        with leave_device(self.device, error, self.__dict__):
            self._prepare(CPU)

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
        if len(place_map.mean) != shapes["fine"][0]:
            raise MapError(
                f"{place_map.directory / 'mean.npy'} is damaged: expected the means of "
                f"{shapes['fine'][0]} channels, got {len(place_map.mean)}; build the map again"
            )

    @classmethod
    def open(cls, map_dir: Path | str, model_dir: Path | str, config: LocalizerConfig) -> Localizer:
        """Loads a model and a map from disk."""
        return cls(load_model(model_dir), PlaceMap(map_dir), config, Path(model_dir))

    def choose_domain(self, frame: Frame, config: DomainConfig | None = None) -> DomainChoice:
        """Chooses the domain nearest to the frame's conditions, else the configured ones, else the
        map's. config: None: the localizer's.

        With `domain.from_image` the model's classifier decides by the image where clock, sun and
        weather leave it open. Raises DomainError for an unknown domain name.
        """
        config = config or self.config.domain
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

    def encode(
        self, frames: Sequence[Frame], domain: DomainChoice, watch: Stopwatch | None = None
    ) -> list[Query]:
        """Computes coarse and fine descriptors by the domain's encoders, as one batch.

        Each image is encoded as the map's camera would have taken it. watch: for the times of the
        stages. Raises ImageError, MapError, ModelError.
        """
        watch = watch or Stopwatch()
        matches = [self.view_matches(frame.camera, frame.lens) for frame in frames]
        views = [frame.seen_as(best[0].mapped) for frame, best in zip(frames, matches, strict=True)]
        config, pixels = self.map.header.descriptor, [view.image for view in views]
        if config.as_in_paper:
            pixels = [
                resized_bicubic(image, self.model.network.image_size[::-1]) for image in pixels
            ]
        images = self.backend.prepare(pixels)
        watch.lap("preprocess", self.device)
        z_coarse, z_fine = self.backend.encode(domain.name, images)
        watch.lap("encode", self.device)
        shifted = [
            shifted_descriptors(z_coarse[k : k + 1], config, self._visible(view, "coarse"))
            for k, view in enumerate(views)
        ]
        coarse = self._project(concatenate(shifted))  # one product for all images
        count, queries = len(shifted[0]), []
        for k, view in enumerate(views):
            fine = fine_descriptor(z_fine[k : k + 1], config)[0].reshape(self._shapes["fine"])
            queries.append(
                Query(
                    frame=view,
                    domain=domain,
                    shifted=coarse[k * count : (k + 1) * count],
                    fine=fine - self._mean,
                    seen=self._visible(view, "fine"),
                    view_matches=matches[k],
                    shifts=shifts_of(self._shapes["fine"], config),
                )
            )
        watch.lap("describe", self.device)
        return queries

    def _project(self, rows: Any) -> NDArray[np.float32]:
        """Projects coarse descriptors [n, D] on the device to unit vectors [n, d] on the CPU."""
        if self._directions is None:
            return self._projection.project(as_numpy(rows))
        return as_numpy(unit_rows(rows @ self._directions.T))

    def _visible(self, frame: Frame, stage: str) -> NDArray[np.float32] | None:
        """Cells of a stage's grid that the camera sees, 1 or 0 [h, w]; None: all of a view."""
        rows, columns = self._shapes[stage][1:]
        if frame.warp is None or frame.warp.coverage == 1.0 or rows == columns == 1:
            return None
        return frame.warp.cells(rows, columns)

    def view_matches(self, camera: str, lens: Camera | None) -> list[ViewMatch]:
        """The map cameras that a vehicle's camera is compared with, best first (camera/views.py).

        lens: None: the map's of that name. Raises MapError where the map has no camera of that name
        and none that looks where it does.
        """
        key = camera, lens
        if key not in self._view_matches:
            cameras = self.map.header.cameras
            mapped = {name: cameras.get(name) for name in self.map.cameras()}
            matches = matching_map_cameras(camera, lens, mapped)
            if not matches:
                raise MapError(
                    f"map has no camera '{camera}', it has {self.map.cameras()}, and none is "
                    f"known to look where that does: name it as in the map, or give its extrinsics"
                )
            kept = list(self._view_matches.items())[: KEPT_MATCHES - 1]
            self._view_matches = {key: matches, **dict(kept)}
        return self._view_matches[key]

    def search(
        self, query: Query, config: LocalizerConfig, prior: PositionPrior | None = None
    ) -> Shortlist:
        """Coarse retrieval: `config.candidates` map images, and the best of those near a prior.

        On a map of the paper's retrieval PAPER_CANDIDATES of them.
        """
        ratio, in_paper = config.prior.outlier_ratio, self.map.header.descriptor.as_in_paper
        count = PAPER_CANDIDATES if in_paper else config.candidates
        return self._search.search(query.cameras, query.shifted, count, prior, ratio)

    def compare(self, query: Query, rows: NDArray[np.int64]) -> None:
        """Compares a query with map images `rows` [n] and with the background of its map cameras,
        which takes less time at once than one part after the other; their scores are kept."""
        self._reranker.compare_with_background(query, rows)

    def rerank(self, query: Query, shortlist: Shortlist) -> Candidates:
        """Re-ranking: candidates by decreasing fine similarity."""
        return self._reranker.rank(query, shortlist)

    def belief(
        self,
        query: Query,
        candidates: Candidates,
        calibration: Calibration,
        keypoints: float = 0.0,
    ) -> Belief:
        """Belief of a single image: between its best candidate and that one's neighbours; on a map
        of the paper's retrieval at the candidate. keypoints: log likelihood ratio of theirs."""
        row = int(candidates.rows[0])
        between = self._between(query, row)
        mapped = Transform(self.map.poses[row, :3], self.map.poses[row, 3:])
        in_paper = self.map.header.descriptor.as_in_paper
        view = PoseWithCovariance(mapped if in_paper else between.pose, between.bend)
        base = view.with_lever_arm(self.base_from_camera(query.frame).inverse())
        return Belief(
            row=row,
            map_from_base=base.pose,
            probability=self.probability(candidates, calibration, keypoints),
            on_map=math.nan,
            covariance=between.spread,
            bend=base.covariance,
            steps=between.steps,
            spacing=between.spacing,
        )

    def refine(
        self,
        query: Query,
        belief: Belief,
        row: int,
        base_from_camera: Transform,
        calibration: Calibration,
        verified: Sequence[Verification],
        scales: tuple[float, float] = (1.0, 1.0),
    ) -> PoseEstimate:
        """Measurements of an image: the angles of its view against a map image's, verified poses.

        row: of the map image. base_from_camera: mount of the vehicle whose base the belief is of.
        scales: of the variances of errors that view angles show (pose.py).
        """
        errors = calibration.of(query.domain.name)
        covariance = belief.bend + errors.across(belief.steps, scales)
        progress = belief.covariance + errors.progress(belief.steps)
        deviations = np.radians([errors.shift, errors.upright]) * np.sqrt(scales)
        pose, innovations = self._with_view(
            query,
            PoseWithCovariance(belief.map_from_base, covariance),
            base_from_camera,
            row,
            progress,
            deviations.tolist(),
        )
        inliers = 0
        if verified:
            pose, inliers = fuse_verified(pose, base_from_camera, verified)
        return PoseEstimate(pose, inliers, innovations)

    def answer(
        self,
        query: Query,
        candidates: Candidates,
        belief: Belief,
        row: int,
        pose: PoseWithCovariance,
        config: LocalizerConfig,
    ) -> Answer:
        """Returns the answer at a belief. row: of the map image; pose: map_from_base."""
        warp = query.frame.warp
        return Answer(
            camera=query.camera,
            domain=query.domain,
            candidates=candidates,
            record=self.map.records[row],
            pose=pose,
            base_from_camera=self.base_from_camera(query.frame),
            known=belief.probability >= config.min_probability,
            probability=belief.probability,
            spacing=belief.spacing,
            spread=belief.covariance + belief.bend,
            steps=belief.steps,
            lens_from_view=None if warp is None else warp.lens_from_view,
        )

    def probability(
        self, candidates: Candidates, calibration: Calibration, keypoints: float = 0.0
    ) -> float:
        """Probability that the first of an image's candidates shows the right place."""
        return float(expit(min(HIGHEST, self.log_odds(candidates, calibration) + keypoints)))

    def log_odds(self, candidates: Candidates, calibration: Calibration | None = None) -> float:
        """Log odds that the first of an image's candidates shows the right place (candidates.py),
        without keypoints. calibration: None: the model's.
        """
        scores = candidates.fine.astype(np.float64) + candidates.prior
        lead = place_lead(scores, candidates.positions, self.reach)
        return place_log_odds(lead, calibration or self.calibration)

    def _between(self, query: Query, row: int) -> Between:
        """Pose map_from_camera between a map image and its neighbours, by fine similarity."""
        camera = self._camera_of(row)
        if camera not in self._curves:
            rows = self._search.rows_of(camera)
            self._curves[camera] = rows, Curve(self.map.poses[rows])
        rows, curve = self._curves[camera]
        index = int(np.searchsorted(rows, row))
        around = np.array([curve.before[index], index, curve.next[index]])
        around = around[around >= 0]
        details = self.fine_scores(query, rows[around]).astype(np.float64) / TEMPERATURE
        return curve.between(around, details, details, np.inf)

    @cached_property
    def spacing(self) -> float:
        """Typical distance between neighbouring map images [m]."""
        return self.map.spacing()

    @cached_property
    def _easts(self) -> NDArray[np.float64]:
        """First coordinates of all map images, side by side in memory [N]."""
        return self.map.poses[:, 0].copy()

    def rows_near(self, position: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
        """Rows of the map images nearer than a radius [m] to a position [3], ascending."""
        rows = np.flatnonzero(np.abs(self._easts - position[0]) < radius)  # nearly all are not
        away = self.map.poses[rows, :3] - position
        near: NDArray[np.int64] = rows[np.einsum("nd,nd->n", away, away) < radius**2]
        return near

    @cached_property
    def reach(self) -> float:
        """Distance from which map images show different places [m]."""
        rows = max((self.map.rows_of(name) for name in self.map.cameras()), key=len)
        return place_reach(self._reranker, rows, self.map.poses[rows])

    def view_angle(self, query: Query, row: int, axis: int) -> float | None:
        """Angle [rad] by which the query's view has moved against a map image's (pose.py)."""
        mapped = self.map.header.cameras.get(self._camera_of(row))
        shift = self._reranker.compare(query, np.array([row]))[1][0, axis]
        camera = query.frame.lens or mapped
        widest = self._reranker.widest_shifts[axis]
        return view_angle(float(shift), widest, camera, mapped, axis)

    def _with_view(
        self,
        query: Query,
        map_from_base: PoseWithCovariance,
        base_from_camera: Transform,
        row: int,
        progress: NDArray[np.float64],
        deviations: Sequence[float],
    ) -> tuple[PoseWithCovariance, list[float]]:
        """map_from_base after the measurements of the angles between the query's view and a map
        image's, and their normalized innovations squared; nan where there is no measurement.

        progress: covariance [6, 6] of further errors, along the track, which the angles shall not
        correct; they are added. deviations: standard deviations of the angles [rad].
        """
        image_pose, distances = self.map.records[row].map_from_camera, [math.nan, math.nan]
        camera = map_from_base.with_lever_arm(base_from_camera)
        others = replace(map_from_base, covariance=progress).with_lever_arm(base_from_camera)
        for axis in AXES:
            angle = self.view_angle(query, row, axis)
            if angle is not None and image_pose is not None:
                camera, distances[axis] = with_view_angle(
                    camera, image_pose, angle, deviations[axis], others.covariance, axis
                )
        pose = camera.with_lever_arm(base_from_camera.inverse())
        return replace(pose, covariance=pose.covariance + progress), distances

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
        more = self._search.search(query.cameras, query.shifted, count)
        seen = {record.id for record in records}
        others = [self.map.records[row] for row in more.rows]
        return (records + [record for record in others if record.id not in seen])[:count]

    def coarse_scores(self, query: Query, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Coarse similarity with map images `rows`, float64 [n]."""
        return self._search.scores(query.coarse, rows)

    def fine_scores(self, query: Query, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fine similarity with map images `rows`, float32 [n]."""
        return self._reranker.compare(query, rows)[0]

    def background_scores(self, query: Query) -> dict[str, NDArray[np.float32]]:
        """Fine similarity with a `background` of each of the query's map cameras, float32 [m]."""
        return self._reranker.background(query)

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
        return self._reranker.activation_map(query, record.id)

    def _camera_of(self, row: int) -> str:
        """Name of the camera of a map image."""
        return str(self.map.camera_names[self.map.camera_of[row]])

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
