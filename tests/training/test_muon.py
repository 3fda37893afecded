"""Muon: orthogonal updates of matrices, AdamW for the rest, and a resumed run to the same bits."""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.training import Muon
from alignflow.training.muon import orthogonalized


def test_parameters_that_are_no_matrices_follow_adamw(generator):
    start = [torch.randn(shape, generator=generator).double() for shape in ((7,), (40, 3), ())]
    ours = [nn.Parameter(each.clone()) for each in start]
    theirs = [nn.Parameter(each.clone()) for each in start]
    options = {"lr": 0.01, "betas": (0.9, 0.95)}
    optimizers = Muon(ours, **options), torch.optim.AdamW(theirs, weight_decay=0.0, **options)
    for _ in range(5):
        for mine, yours in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator).double()
            yours.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(32, 48), (48, 32)])
def test_matrices_move_by_the_orthogonal_factor_of_their_momentum(shape, generator):
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
    matrix = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    matrix.grad = gradient
    Muon([matrix], lr=0.1).step()
    update = matrix.detach() / (-0.1 * 0.2 * 48**0.5)
    left, singular, right = torch.linalg.svd(gradient, full_matrices=False)
    found = left.mT @ update @ right.mT
    # the quintic iteration leaves singular values around 1, of the same vectors
    assert (found - found.diag().diag()).abs().max() < 1e-6
    assert 0.6 < found.diag().min() and found.diag().max() < 1.3
    assert singular.max() / singular.min() > 3


def test_matrices_of_a_shape_are_orthogonalized_one_by_one(generator):
    matrices = torch.randn(3, 33, 40, generator=generator, dtype=torch.float64)
    alone = torch.stack([orthogonalized(matrix[None])[0] for matrix in matrices])
    torch.testing.assert_close(orthogonalized(matrices), alone, rtol=0, atol=1e-12)
    assert not orthogonalized(torch.zeros(1, 32, 32)).isnan().any()


def train(folder, steps, **options):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=32, depth=2), (2,))
    data = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    return af.pretrain(
        policy, data, steps=steps, batch_size=16, folder=folder, optimizer=Muon, decay=0, **options
    )


def test_a_run_that_is_cut_resumes_to_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole", 8)
    train(tmp_path / "cut", 5)
    resumed = train(tmp_path / "cut", 8)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_bad_options_are_refused():
    parameter = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="lr"):
        Muon([parameter], lr=-1.0)
    with pytest.raises(ValueError, match="momentum"):
        Muon([parameter], momentum=1.0)
