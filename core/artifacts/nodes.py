"""Outputs of the nodes that write no files of this project: TFX's own components and the resolvers."""

from __future__ import annotations

from core.artifacts.base import Artifact
from core.artifacts.pushed_model import PUSHED_MODEL

STATISTICS = Artifact("StatisticsGen", "statistics")
STATISTICS_FILE = "FeatureStats.pb"  # in the folder of each split: a `DatasetFeatureStatisticsList`
ANOMALIES = Artifact("ExampleValidator", "anomalies")
ANOMALIES_FILE = "SchemaDiff.pb"  # in the folder of each split: an `Anomalies`
TRANSFORM_GRAPH = Artifact("Transform", "transform_graph")

DATA_BASELINE = Artifact("DataBaseline", "baseline")  # the statistics that the last blessed model was trained on
EARLIER_FEATURES = Artifact("EarlierFeatures", "features")  # features of earlier runs
LAST_BLESSED = Artifact("LastBlessed", "model")  # the model that a warm start begins with
BASELINE = Artifact("Baseline", "model")  # the model that a candidate is compared with
RESOLVERS = frozenset(output.node for output in (DATA_BASELINE, EARLIER_FEATURES, LAST_BLESSED, BASELINE))
"""Nodes that only select artifacts; ML Metadata calls them cached although they run every time."""

NEVER_CACHED = frozenset({PUSHED_MODEL.node})
"""Nodes that run every time, since others may have changed their earlier output."""
