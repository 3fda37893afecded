"""Labels: the null class, and what is refused instead of standing for it."""

import pytest
import torch

from alignflow.policies import MLP, FlowMapPolicy
from alignflow.policies.networks.embedding import LabelEmbedding

EMBEDDING = LabelEmbedding(3, 4)
POLICY = FlowMapPolicy(MLP(2, 8, 1, classes=3), (2,))


def test_no_label_and_minus_one_are_the_null_class():
    null = EMBEDDING.table.weight[3]
    assert torch.equal(EMBEDDING(None, 2), null.expand(2, 4))
    assert torch.equal(EMBEDDING(torch.tensor([-1, 2])[:1], 1)[0], null)
    small = torch.tensor([2, 0], dtype=torch.uint8)
    assert torch.equal(EMBEDDING(small, 2), EMBEDDING.table.weight[[2, 0]])


WRONG = {
    "as many as there are classes": ([0, 3], "whole numbers from 0 to 2.*got labels from 0 to 3"),
    "beyond": ([7, 1], "got labels from 1 to 7"),
    "below -1": ([-2, 1], "got labels from -2 to 1"),
    "fractions": ([0.5, 1.0], "whole numbers from 0 to 2"),
    "vectors": ([[1, 2], [0, 1]], r"got Tensor of shape \(2, 2\)"),
}


@pytest.mark.parametrize(("labels", "message"), WRONG.values(), ids=WRONG)
def test_a_label_that_there_is_not_is_refused_wherever_it_enters(labels, message):
    labels, x = torch.tensor(labels), torch.zeros(2, 2)
    for call in (
        lambda: EMBEDDING(labels, 2),
        lambda: POLICY.velocity(x, 0.5, labels),
        lambda: POLICY.flow_map(x, 0.0, 1.0, labels),
        lambda: POLICY.sample(2, condition=labels),
        lambda: POLICY.condition_rows(labels, 2),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_labels_of_a_model_elsewhere_are_checked_before_they_go_there():
    away = FlowMapPolicy(MLP(2, 8, 1, classes=3), (2,)).to("meta")
    with pytest.raises(ValueError, match="got labels from 3 to 3"):
        away.condition_rows(3, 2)
    assert away.condition_rows(2, 2).device.type == "meta"
