"""Policy gradient on drawn tokens: its gradient and its optimum, by enumeration."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import alignflow as af
from alignflow.distillation import UniformTimes
from alignflow.finetuning import RLOO
from alignflow.finetuning.policy_gradient.rloo import leave_one_out
from alignflow.policies import FlowMapPolicy, TokenMLP

CONFIGS = Path(__file__).parents[2] / "configs" / "finetuner"
LENGTH, SIZE, STRENGTH = 2, 3, 1.5
STRINGS = torch.tensor(list(itertools.product(range(SIZE), repeat=LENGTH)))


class Table(nn.Module):
    """Logits of each position, whatever the state."""

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(LENGTH, SIZE, generator=generator).double())

    def forward(self, x, s, t, condition=None):
        return self.logits.expand(len(x), -1, -1)


def policy(seed) -> Any:
    return FlowMapPolicy(Table(seed), (LENGTH, SIZE), "simplex")


@af.reward
def together(states):
    """Of both tokens at once: no sum over positions."""
    tokens = states.argmax(-1)
    return ((tokens[:, 0] - 1.3) * (tokens[:, 1] - 0.4)).double()


WORTH = torch.tensor([[0.3, -1.0, 0.5], [1.2, 0.1, -0.4]]).double()


@af.reward
def apart(states):
    """A sum over positions."""
    return (states * WORTH).flatten(1).sum(1)


def objective(model, base, reward, kl_weight=1.0):
    """strength E r - kl_weight KL, by enumeration of all strings."""
    log, log_base = (each.module.logits.log_softmax(-1) for each in (model, base))
    chosen, before = (
        each[torch.arange(LENGTH), STRINGS].sum(1) for each in (log, log_base.detach())
    )
    rewards = reward(nn.functional.one_hot(STRINGS, SIZE).double())
    return (chosen.exp() * (STRENGTH * rewards - kl_weight * (chosen - before))).sum()


@pytest.mark.parametrize(("draws", "kl_weight"), [(2, 1.0), (7, 0.3)])
@pytest.mark.parametrize("reward", [together, apart], ids=lambda reward: reward.name)
def test_the_gradient_is_that_of_reward_less_kl(reward, draws, kl_weight, bind, generator):
    """Mean over 63 batches of 200 states, within 5 standard errors."""
    model, base = policy(0), policy(1)
    options = {"base": base, "generator": generator, "draws": draws, "map_fraction": 0.0}
    loss = bind(RLOO, model, reward, STRENGTH, kl_weight=kl_weight, **options)
    found = []
    for _ in range(63):
        losses = loss(loss.sample_batch(200))
        total = losses["loss_objective"] + losses["loss_kl"]
        found.append(torch.autograd.grad(total, model.module.logits)[0])
    found = -LENGTH * torch.stack(found)
    exact = torch.autograd.grad(objective(model, base, reward, kl_weight), model.module.logits)[0]
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact).abs() < 5 * error).all()
    assert exact.abs().max() > 20 * error.max()  # which it could not be by chance


def test_of_a_reward_of_each_position_the_optimum_is_the_tilt_of_each(bind, generator):
    """Where the gradient vanishes, and where steps along it end."""
    base = policy(1)
    tilted = (base.module.logits + STRENGTH * WORTH).softmax(-1).detach()
    best = copy.deepcopy(base)
    best.module.logits.data += STRENGTH * WORTH
    gradient = torch.autograd.grad(objective(best, base, apart), best.module.logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    model = copy.deepcopy(base)
    loss = bind(RLOO, model, apart, STRENGTH, generator=generator, map_fraction=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=150)
    for _ in range(150):
        optimizer.zero_grad()
        losses = loss(loss.sample_batch(64))
        (losses["loss_objective"] + losses["loss_kl"]).backward()
        optimizer.step()
        rate.step()
    found = model.module.logits.softmax(-1)
    torch.testing.assert_close(found, tilted, rtol=0, atol=0.02)


def test_at_the_base_without_a_strength_nothing_is_to_be_learned(bind, generator):
    model = policy(0)
    loss = bind(RLOO, model, together, 0.0, generator=generator, map_fraction=0.0)
    losses = loss(loss.sample_batch(7))
    total = losses["loss_objective"] + losses["loss_kl"]
    gradient = torch.autograd.grad(total, model.module.logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-15)
    assert losses["kl"].item() == pytest.approx(0, abs=1e-15)


def infilling(seed=0) -> Any:
    torch.manual_seed(seed)
    network = TokenMLP(4, SIZE, width=16, depth=1, infill=True)
    return FlowMapPolicy(network, (4, SIZE), "simplex")


def test_what_a_condition_fixes_is_drawn_as_it_is_and_other_jumps_learn_too(bind, generator):
    fixed, seen = torch.tensor([[2, -1, -1, 0], [-1, 1, -1, -1]]), []

    @af.reward
    def first(states):
        seen.append(states)
        return states[:, 1, 0]

    model = infilling()
    options = {"condition": fixed, "generator": generator, "draws": 3, "map_fraction": 0.5}
    loss = bind(RLOO, model, first, 1.0, times=UniformTimes(boundary=0.5), **options)
    batch = loss.sample_batch(62)
    assert (batch["time"] == 0).sum() > 10
    losses = loss(batch)
    assert set(losses.keys()) == set(loss.out_keys)
    tokens = seen[0].argmax(-1).unflatten(0, (62, 3))
    wanted = batch["condition"][:, None].expand_as(tokens)
    assert torch.equal(tokens[wanted >= 0], wanted[wanted >= 0])
    assert len(tokens[:, :, 2].unique()) == SIZE
    losses["loss_map"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Cut(Exception):
    pass


def test_a_run_that_was_cut_goes_on_to_the_same_bits_and_leaves_the_base_alone(tmp_path):
    base, fixed = infilling(), torch.tensor([[2, -1, -1, 0]])
    before = copy.deepcopy(base.state_dict())

    def run(folder=None, cut=None):
        def progress(step, steps, metrics):
            if step == cut:
                raise Cut

        options: Any = {"steps": 4, "batch_size": 8, "checkpoint_every": 2, "generator": 0}
        options |= {"condition": fixed, "progress": progress, "folder": folder}
        return af.finetune(base, lambda states: states[:, 1, 0], "rloo", 1.0, **options)

    whole = run()
    with pytest.raises(Cut):
        run(tmp_path, cut=3)
    pairs = zip(whole.parameters(), run(tmp_path).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    torch.testing.assert_close(dict(base.state_dict()), dict(before), rtol=0, atol=0)
    assert any(not torch.equal(whole.state_dict()[name], value) for name, value in before.items())


def test_its_config_holds_the_defaults():
    assert yaml.safe_load((CONFIGS / "rloo.yaml").read_text()) == {"method": "rloo"}


def test_each_reward_is_compared_with_the_others_of_its_state():
    values = torch.tensor([[1.0, 2.0, 6.0], [1.0, -math.inf, 3.0], [math.nan, 5.0, -math.inf]])
    wanted = torch.tensor([[-3.0, -1.5, 4.5], [-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(leave_one_out(values.double()), wanted.double())


def test_draws_that_have_no_reward_teach_nothing(bind, generator):
    lost = af.reward(on_invalid="drop")(lambda states: torch.full((len(states),), math.nan))
    loss = bind(RLOO, policy(0), lost, 1.0, generator=generator, map_fraction=0.0)
    losses = loss(loss.sample_batch(7))
    assert losses["loss_objective"].item() == 0 and losses["reward"].item() == 0


def test_a_policy_that_writes_no_tokens_is_refused(normal, first):
    with pytest.raises(ValueError, match="RLOO draws tokens.*must be 'simplex', got"):
        af.finetune(normal, first, "rloo", steps=2)
    with pytest.raises(ValueError, match="draws must be a whole number of at least 2"):
        RLOO(draws=1)
