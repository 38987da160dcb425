"""Tools to see inside a running program.

They know everything below them and change nothing: a program behaves alike with and without them.
The counters themselves belong to the kernel, which keeps them always.
"""

from __future__ import annotations

from runtime.kernel.diagnostics.collector import CollectorMetrics
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.diagnostics.metrics import LoopMetrics

__all__ = ["CollectorMetrics", "Histogram", "LoopMetrics"]
