"""Requests that wait together are computed together; each gets what it would get alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.serving.batching import Batcher, Question
from components.serving.model_versions import ModelVersions
from core import signatures
from core.settings.serving import ServerLimits
from tests.model_factory import COLORS, example, image_bytes, save_model

IMAGES = [image_bytes(color, seed=color) for color in range(3)]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = save_model(tmp_path_factory.mktemp("batching") / "1")
    made = ModelVersions(lambda: {1: str(model)})
    made.poll()
    yield made
    made.close()


def ask(
    versions: ModelVersions,
    limits: ServerLimits,
    requests: Sequence[Sequence[bytes]],
    signature: str = signatures.IMAGES,
    *,
    seconds: float = 30,
    pixels: int = 0,
) -> tuple[list[Any], list[tuple[int, int]]]:
    """All requests at once while another is computed: their answers or errors, and the batches."""
    batches: list[tuple[int, int]] = []

    async def main() -> list[Any]:
        batcher = Batcher(versions, limits, lambda *sizes: batches.append(sizes))
        with versions.use() as (number, model):
            (name,) = model.signatures[signature].inputs
            end = time.monotonic() + seconds

            def question(values: Sequence[bytes]) -> Question:
                array = np.array(list(values), dtype=object)
                return Question(number, model, signature, {name: array}, (), pixels, end)

            found = await asyncio.gather(*(batcher.run(question(v)) for v in requests), return_exceptions=True)
        await batcher.close()
        return found

    return asyncio.run(main()), batches


def test_what_waits_is_joined_and_taken_apart_again(versions: ModelVersions) -> None:
    requests = [[IMAGES[0]], [IMAGES[1]], [IMAGES[2], b"no image"], [IMAGES[0]], [b""]]
    found, batches = ask(versions, ServerLimits(concurrent=1), requests)

    assert batches == [(1, 1), (4, 5)]
    assert [answer["label"].tolist() for answer in found] == [
        [b"red"], [b"green"], [b"blue", b""], [b"red"], [b""],
    ]  # fmt: skip
    assert [bool(error) for error in found[2]["error"]] == [False, True]


@pytest.mark.parametrize(
    ("limits", "pixels", "batches"),
    [
        (ServerLimits(concurrent=1, joined=1), 0, [(1, 1)] * 7),
        (ServerLimits(concurrent=1, joined=4), 0, [(1, 1), (4, 4), (2, 2)]),
        (ServerLimits(concurrent=1, max_megapixels=10), 4_000_000, [(1, 1), (2, 2), (2, 2), (2, 2)]),
    ],
)
def test_a_batch_has_so_many_images_and_pixels_at_most(
    limits: ServerLimits, pixels: int, batches: list, versions: ModelVersions
) -> None:
    found, seen = ask(versions, limits, [[IMAGES[n % 3]] for n in range(7)], pixels=pixels)
    assert seen == batches
    assert [answer["label"][0].decode() for answer in found] == [COLORS[n % 3] for n in range(7)]


def test_a_batch_has_no_more_images_than_are_computed_in_a_fifth_of_a_second(
    versions: ModelVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with versions.use() as (_, model):
        run = model.run

        def slow(signature: str, inputs: Mapping[str, np.ndarray], *arguments: Any, **options: Any) -> Any:
            time.sleep(0.06 * len(inputs["images"]))
            return run(signature, inputs, *arguments, **options)

        monkeypatch.setattr(model, "run", slow)
        _, batches = ask(versions, ServerLimits(concurrent=1, joined=6), [[IMAGES[0]]] * 16)
    assert batches[:2] == [(1, 1), (6, 6)]  # the second is the first that counts
    assert all(1 <= images <= 3 for _, images in batches[2:])


def test_pixels_bound_what_runs_at_the_same_time_too(versions: ModelVersions, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0
    lock = threading.Lock()
    with versions.use() as (_, model):
        run = model.run

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.05)
            with lock:
                running -= 1
            return run(*arguments, **options)

        monkeypatch.setattr(model, "run", counted)
        for pixels, at_once in ((6_000_000, 1), (5_000_000, 2)):
            most = 0
            ask(versions, ServerLimits(concurrent=4, joined=1, max_megapixels=10), [[b""]] * 4, pixels=pixels)
            assert most == at_once


def test_a_request_that_the_model_refuses_costs_no_other_one(versions: ModelVersions) -> None:
    good = example(IMAGES[1], "").SerializeToString()
    requests = [[good], [good], [b"no tf.Example"], [good]]
    found, batches = ask(versions, ServerLimits(concurrent=1), requests, signatures.EXAMPLES)

    assert batches[1] == (3, 3)
    assert isinstance(found[2], tf.errors.InvalidArgumentError)
    assert [found[n]["label"].tolist() for n in (0, 1, 3)] == [[b"green"]] * 3


def test_what_has_run_out_of_time_is_not_computed(versions: ModelVersions, monkeypatch: pytest.MonkeyPatch) -> None:
    with versions.use() as (_, model):
        run: Callable[..., Mapping[str, np.ndarray]] = model.run

        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.5)
            return run(*arguments, **options)

        monkeypatch.setattr(model, "run", slow)
        found, batches = ask(versions, ServerLimits(concurrent=1), [[b""]] * 3, seconds=0.2)
    assert all(isinstance(error, tf.errors.DeadlineExceededError) for error in found)
    assert batches == [(1, 1)]
