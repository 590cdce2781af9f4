"""Metrics: the engine's events as Prometheus series (observability §2; catalogue in docs/metrics.md).

`Metrics` owns a registry of its own, so several can live in one process. `MetricsObserver` turns events into series.
"""

from cutover.metrics.families import Metrics
from cutover.metrics.observer import MetricsObserver

__all__ = ["Metrics", "MetricsObserver"]
