"""Nearest stored images: those of the smallest angle, whatever the order, the length and the batches they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.features import neighbors
from core.artifacts.features import FeatureFormat
from tests.trainer import training_data

POOLED = FeatureFormat("pooled", (8,), "float32")


def write(folder: Path, features: list[np.ndarray], dtype: str = "float32") -> list[str]:
    """Records as FeatureExtractor writes them: of image `n`, or of several views of it; returns their pattern."""
    records = []
    for number, values in enumerate(features):
        record = tf.train.Example()
        for view in np.atleast_2d(values) if values.ndim < 3 else [values]:
            record.features.feature["features"].bytes_list.value.append(view.astype(dtype).tobytes())
        record.features.feature["image/sha256"].bytes_list.value.append(f"image {number}".encode())
        records.append(record.SerializeToString())
    training_data.write_split(folder, "train", records)
    return [f"{folder}/Split-train/*"]


@pytest.mark.parametrize("batch", [3, 4096])
def test_the_images_with_the_smallest_angles_are_found(
    tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "_BATCH", batch)
    random = np.random.default_rng(0)
    stored = random.normal(size=(40, 8)).astype(np.float32) * random.uniform(0.1, 9, (40, 1)).astype(np.float32)
    queries = random.normal(size=(5, 8)).astype(np.float32)
    cosines = (queries @ stored.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(stored, axis=1)

    found = neighbors.nearest(write(tmp_path, list(stored)), POOLED, queries, 4)

    for neighbors_of, row in zip(found, cosines, strict=True):
        best = np.argsort(-row)[:4]
        assert [n.sha256 for n in neighbors_of] == [f"image {place}" for place in best]
        assert [n.similarity for n in neighbors_of] == pytest.approx(row[best].tolist(), abs=1e-5)


def test_fewer_images_than_wanted_are_all_of_them(tmp_path: Path) -> None:
    stored = list(np.eye(8, dtype=np.float32)[:2])

    ((first, second),) = neighbors.nearest(write(tmp_path, stored), POOLED, np.eye(8, dtype=np.float32)[:1], 5)

    assert (first.sha256, second.sha256) == ("image 0", "image 1")
    assert (first.similarity, second.similarity) == (1, 0)


def test_a_copy_that_is_stored_too_counts_once(tmp_path: Path) -> None:
    files = write(tmp_path, list(np.eye(8, dtype=np.float32)))

    (found,) = neighbors.nearest(files * 2, POOLED, np.arange(8, 0, -1, dtype=np.float32)[None], 3)

    assert [n.sha256 for n in found] == ["image 0", "image 1", "image 2"]


def test_maps_are_averaged_and_of_views_the_first_is_taken(tmp_path: Path) -> None:
    maps = [np.arange(2 * 2 * 3, dtype=np.float32).reshape(2, 2, 3)]
    views = [np.eye(8, dtype=np.float32)[3:5]]

    ((sha256, averaged),) = neighbors.read_pooled(
        write(tmp_path / "maps", maps, "float16"), FeatureFormat("mixed8", (2, 2, 3), "float16")
    )
    ((_, first),) = neighbors.read_pooled(write(tmp_path / "views", views), FeatureFormat("pooled", (8,), "float32", 2))

    assert sha256 == "image 0" and averaged.tolist() == [4.5, 5.5, 6.5]
    assert first.tolist() == views[0][0].tolist()
