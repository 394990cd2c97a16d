"""What the base alone costs, nothing of this project: in a process of its own, which prints a line of JSON.

python -m benchmarks.bare pass FOLDER --size 299      # decode, resize, one forward pass of InceptionV3 to mixed10
python -m benchmarks.bare floor --size 299            # its operations, and how many a second this machine does
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from benchmarks.pictures import files


def network(size: int, weights: str | None = None) -> tf.keras.Model:
    """Keras's InceptionV3 to the pooled mixed10, in float32."""
    return tf.keras.applications.InceptionV3(
        include_top=False, weights=weights, pooling="avg", input_shape=(size, size, 3)
    )


def read(path: tf.Tensor, size: int) -> tf.Tensor:
    """The pixels of a file, [size, size, 3], from -1 to 1."""
    image = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
    return tf.image.resize(image, (size, size)) / 127.5 - 1


def bare_pass(folder: Path, size: int) -> dict[str, float]:
    """Seconds of the pass over all pictures; neither the imports nor making the network count."""
    model = network(size)
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in files(folder)])
    data = data.map(lambda path: read(path, size), tf.data.AUTOTUNE).batch(32).prefetch(2)
    wall, cpu = time.monotonic(), time.process_time()
    model.predict(data, verbose=0)
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def floor(size: int) -> dict[str, float]:
    """GFLOP of the network a picture, and the most GFLOP/s of large products and convolutions in TensorFlow."""
    function = tf.function(network(size)).get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    operations = tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops
    random = tf.random.Generator.from_seed(1)
    n = 4096
    square = random.normal((n, n))
    found = {"GFLOP a picture": operations / 1e9, "product": _peak(lambda: square @ square, 2 * n**3)}
    for side, channels in ((35, 256), (17, 512)):
        images, kernel = random.normal((32, side, side, channels)), random.normal((3, 3, channels, channels))
        run = tf.function(lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"))
        cost = 2 * 9 * channels**2 * 32 * side**2
        found[f"convolution of {channels} channels"] = _peak(lambda i=images, k=kernel, f=run: f(i, k), cost)
    return found


def _peak(run: Callable[[], tf.Tensor], operations: float) -> float:
    def seconds() -> Iterator[float]:
        for _ in range(8):
            began = time.monotonic()
            tf.reduce_sum(run()[0]).numpy()
            yield time.monotonic() - began

    return operations / min(seconds()) / 1e9


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["pass", "floor"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--size", type=int, default=299)
    options = parser.parse_args()
    print(json.dumps(bare_pass(options.folder, options.size) if options.what == "pass" else floor(options.size)))


if __name__ == "__main__":
    main()
