"""What nbval leaves out when it compares a notebook's outputs with the committed ones."""

from __future__ import annotations

import pytest

# Figures and tables are checked by the numbers printed beside them: plotly's JSON holds floats to the last bit,
# and HTML repeats what the plain text says.
NOT_COMPARED = (
    "application/vnd.plotly.v1+json",
    "application/vnd.workbench.headline+json",
    "text/html",
)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Add to the output types that nbval's notebook collector skips."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
