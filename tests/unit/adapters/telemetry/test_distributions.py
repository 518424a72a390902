"""Our histograms are exported as the SDK exports its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.distributions import MOST_POINTS, Distributions
from tests.support.telemetry import Exported

BOUNDARIES = [0.5, 1.0, 2.0]
MEASURES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0]), st.sampled_from("ab")),
    min_size=1,
)


def points_of(made: Exported) -> list[HistogramDataPoint]:
    """The points of the histogram `x`, as exported beside a metric of the SDK's."""
    found = [point for point in made.raw_points("x") if isinstance(point, HistogramDataPoint)]
    return sorted(found, key=lambda point: str(point.attributes))


def exported(**options: bool) -> tuple[Exported, Distributions]:
    made = Exported(**options)  # type: ignore[arg-type]  # flags alone
    made.monitoring.calls.rejected(401, "x")  # something of the SDK's own
    return made, made.providers.distributions


@given(measures=MEASURES)
def test_points_are_those_of_the_sdk(measures: list[tuple[float, str]]) -> None:
    """Counts, sums, extremes and buckets, with upper bounds that belong to their bucket."""
    made, distributions = exported()
    ours = distributions.histogram("x", "s", BOUNDARIES)
    reader = InMemoryMetricReader()
    theirs = (
        MeterProvider([reader])
        .get_meter("y")
        .create_histogram("x", "s", explicit_bucket_boundaries_advisory=BOUNDARIES)
    )
    for value, name in measures:
        ours.record(value, (("name", name),))
        theirs.record(value, {"name": name})

    data = reader.get_metrics_data()
    assert data is not None
    wanted = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert [_facts(point) for point in points_of(made)] == [
        _facts(point)
        for point in sorted(wanted, key=lambda point: str(point.attributes))
        if isinstance(point, HistogramDataPoint)
    ]


def _facts(point: HistogramDataPoint) -> tuple[object, ...]:
    return (
        dict(point.attributes or {}),
        point.count,
        pytest.approx(point.sum),
        tuple(point.bucket_counts),
        tuple(point.explicit_bounds),
        point.min,
        point.max,
    )


def test_what_was_exported_counts_on_or_begins_anew() -> None:
    """As the exporter asks: in all, or since the last export."""
    for is_delta, sums in ((False, [1.0, 3.0]), (True, [1.0, 2.0])):
        made, distributions = exported(is_delta=is_delta)
        ours = distributions.histogram("x", "s", BOUNDARIES)
        found = []
        for value in (1.0, 2.0):
            ours.record(value, ())
            found += [point.sum for point in points_of(made)]

        assert found == sums


def test_sets_of_attributes_are_bounded() -> None:
    """What is over the bound shares one point, so that no name can fill the memory."""
    made, distributions = exported()
    ours = distributions.histogram("x", "s", BOUNDARIES)
    for number in range(MOST_POINTS + 3):
        ours.record(1.0, (("name", f"n{number}"),))

    found = points_of(made)
    overflow = [point for point in found if "otel.metric.overflow" in (point.attributes or {})]
    assert (len(found), [point.count for point in overflow]) == (MOST_POINTS + 1, [3])


def test_ours_are_in_the_scope_of_the_others() -> None:
    """A receiver sees one scope, with both kinds of metrics."""
    made, distributions = exported()
    distributions.histogram("x", "s", BOUNDARIES).record(1.0, ())

    assert {names.CALLS, "x"} <= {metric.name for metric in made.metrics()}
    assert distributions.scope == InstrumentationScope("aoai-meter")
