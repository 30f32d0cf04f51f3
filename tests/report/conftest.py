"""Reports to draw: plain data, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deadhead.pruning.record import GroupRecord, Measures, Point, PredictedPoint, Report

HOSTILE = "</script><script>document.title='x'</script><img src=\"http://x.invalid/\" onerror='y'> [bold]$x^$ & \u65e5"


def make_report(count: int = 2, **changes: Any) -> Report:
    records = [
        GroupRecord(
            name=f"conv{number}",
            kind="channel",
            units=8,
            removed=[1, 2, 5],
            saliency=[0.8, 0.1, 0.05, 0.4, 0.9, 0.2, 0.3 + number, 0.7],
            consumers=[f"conv{number + 1}"],
        )
        for number in range(count)
    ]
    values: dict[str, Any] = {
        "model": "net",
        "budget": "units=0.6",
        "criterion": "mrs",
        "compensation": "least_squares",
        "loss_name": "cross_entropy",
        "evaluated_on": "test",
        "rows": 360,
        "calibration_rows": 1150,
        "before": Measures(16, 20_522, 1_000_000, 82_000, 96_000, 2e-3, 256, 0.0184, 0.9972),
        "after": Measures(10, 8_000, 400_000, 32_000, 41_000, 1e-3, 256, 0.0291, 0.9917),
        "predicted_loss": 0.0277,
        "difference": 2.5e-7,
        "tolerance": 1e-4,
        "groups": records,
        "left_alone": [("fc2", "an output of the model"), ("head", "an output of the model"), ("odd", "unknown op")],
        "notes": ["230 rows were held out"],
        "seconds": {"trace": 0.5, "score": 1.5},
        "settings": {"units": 0.6, "exclude": ["fc2"]},
        "environment": {"torch": "2.13.0"},
    }
    return Report(**{**values, **changes})


def make_curve() -> list[Point]:
    """From the 16 units of the report to its 10, and two refused ones beyond."""
    return [
        Point(16, 20_000, 1_000_000, 0.02, 0.995),
        Point(13, 14_000, 700_000, 0.021, 0.99),
        Point(10, 8_000, 400_000, 0.03, 0.98, "result"),
        Point(9, 7_000, 340_000, 0.25, None, "refused"),
        Point(8, 6_000, 300_000, float("inf"), 0.5, "refused"),
    ]


def make_beside() -> list[Point]:
    """From the 16 units of the report to its 10, with a network before it and one beyond that were only looked at."""
    return [
        Point(16, 20_000, 1_000_000, 0.02, 0.995),
        Point(13, 14_000, 700_000, 0.021, 0.99, "comparison"),
        Point(10, 8_000, 400_000, 0.03, 0.98, "result"),
        Point(7, 6_000, 300_000, 0.08, 0.93, "comparison"),
    ]


def make_predicted_curve() -> list[PredictedPoint]:
    """From the 16 units of the report to the 2 that have to stay."""
    return [
        PredictedPoint(16, 20_000, 1_000_000, 0.02),
        PredictedPoint(10, 8_000, 400_000, 0.026),
        PredictedPoint(6, 5_000, 250_000, 0.05),
        PredictedPoint(2, 1_000, 50_000, 0.5),
    ]


def make_hostile() -> Report:
    """A report in which every text tries to be markup."""
    group = GroupRecord(HOSTILE, HOSTILE, 3, [0], [float("nan"), float("inf"), -1.0], [HOSTILE])
    return make_report(
        model=HOSTILE,
        budget=HOSTILE,
        criterion=HOSTILE,
        compensation=HOSTILE,
        loss_name=HOSTILE,
        evaluated_on=HOSTILE,
        groups=[group],
        left_alone=[(HOSTILE, HOSTILE)],
        notes=[HOSTILE],
        seconds={HOSTILE: float("nan")},
        settings={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
    )


@pytest.fixture
def report_of() -> Callable[..., Report]:
    return make_report


@pytest.fixture
def curve() -> list[Point]:
    return make_curve()


@pytest.fixture
def hostile() -> Report:
    return make_hostile()


@pytest.fixture
def beside() -> list[Point]:
    return make_beside()


@pytest.fixture
def predicted_curve() -> list[PredictedPoint]:
    return make_predicted_curve()
