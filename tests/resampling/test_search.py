"""Search: the best draw of a system or of each particle."""

import pytest
import torch
from tensordict import TensorDict

from alignflow.resampling import Search


@pytest.mark.parametrize(
    ("scope", "chosen"), [("system", [4, 4, 7, 7]), ("particle", [1, 4, 7, 9])]
)
def test_search_keeps_the_best_draw_of_a_system_or_of_each_particle(scope, chosen):
    endpoint = torch.arange(12.0).reshape(4, 3, 1)
    reward = torch.tensor([[0.0, 2, 1], [1, 3, 0], [0, 9, 8], [5, 4, 3]])
    tensordict = TensorDict({"endpoint": endpoint, "endpoint_reward": reward}, batch_size=[4])
    found = Search(2, scope)(tensordict)["endpoint"]
    assert found.shape == (4, 1, 1) and found.flatten().tolist() == chosen
