"""A model server's metrics for Prometheus: https://prometheus.io/docs/concepts/metric_types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from components.serving.answers import Answer, answers
from components.serving.model_api import Call
from components.serving.model_versions import Version

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_NOVELTIES = (0.5, 0.75, 0.9, 0.95, 0.99)


class Metrics:
    """The metrics of one server; the version is 0 for requests without one."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "model_server_requests", "Requests that got an answer.", ["protocol", "method", "version", "code"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "model_server_request_seconds", "From a request's arrival to its answer.", ["protocol", "method"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "model_server_batch_images", "Images that were computed together.", buckets=_SIZES, registry=registry
        )
        self._joined = Histogram(
            "model_server_batch_requests", "Requests that were computed together.", buckets=_SIZES, registry=registry
        )
        self._images = Counter(
            "model_server_images", "Images by what became of them.", ["version", "outcome"], registry=registry
        )
        self._labels = Counter("model_server_predictions", "Images by label.", ["version", "label"], registry=registry)
        self._novelty = Histogram(
            "model_server_novelty", "Fraction of eval images that are more like the training images.", ["version"],
            buckets=_NOVELTIES, registry=registry,
        )  # fmt: skip

    def watch(
        self, versions: Callable[[], Iterable[Version]], open_requests: Callable[[], int], waiting: Callable[[], int]
    ) -> None:
        """Sets the functions that report the versions, and the numbers of open and waiting requests."""
        self._registry.register(_Versions(versions))
        for name, words, function in (
            ("model_server_open_requests", "Requests that have no answer yet.", open_requests),
            ("model_server_waiting_requests", "Requests that wait to be computed.", waiting),
        ):
            Gauge(name, words, registry=self._registry).set_function(function)

    def answered(self, call: Call) -> None:
        """Counts a request."""
        self._requests.labels(call.protocol, call.method, call.version, call.code).inc()
        self._seconds.labels(call.protocol, call.method).observe(call.seconds)
        for answer in answers(call):
            self._count(call.version, answer)

    def computed(self, requests: int, images: int) -> None:
        """Counts a batch."""
        self._joined.observe(requests)
        self._batches.observe(images)

    def text(self) -> tuple[bytes, str]:
        """The metrics as text, and their content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _count(self, version: int, answer: Answer) -> None:
        outcome = "error" if answer.error else "withheld" if answer.reason else "classified"
        self._images.labels(version, outcome).inc()
        if answer.label:
            self._labels.labels(version, answer.label).inc()
        if answer.novelty is not None and not answer.error:
            self._novelty.labels(version).observe(answer.novelty)


class _Versions(Collector):
    def __init__(self, versions: Callable[[], Iterable[Version]]) -> None:
        self._versions = versions

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields 1 for each version's current state."""
        family = GaugeMetricFamily("model_server_version", "1 for each version's state.", labels=["version", "state"])
        for version in self._versions():
            family.add_metric([str(version.number), version.state], 1)
        yield family
