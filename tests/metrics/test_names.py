"""Names of metrics: each has one label, and those of earlier versions lead to it."""

import pytest

from alignflow.metrics.names import EARLIER, METRICS, current, label, lower_is_better


def test_names_of_earlier_versions_lead_to_present_ones():
    assert set(EARLIER.values()) <= set(METRICS) and not set(EARLIER) & set(METRICS)
    assert current("sliced_wasserstein") == current("sliced_w2") == "sliced_w2"
    assert current("tilt_sliced_wasserstein") == "tilt_sliced_w2"
    assert current("energies") == "energies"


@pytest.mark.parametrize(
    ("name", "said", "lower"),
    [
        ("sliced_w2", "sliced W2", True),
        ("tilt_mmd", "MMD² to the exact tilt", True),
        ("tilt_reward", "mean reward under the exact tilt", None),
        ("diversity", "diversity", False),
        ("loss_map", "loss map", True),
        ("held_out_sharpness", "held out sharpness", None),
        ("clipped_fraction", "clipped fraction", None),
    ],
)
def test_a_metric_has_a_label_and_a_direction(name, said, lower):
    assert label(name) == said and lower_is_better(name) is lower
