r"""`af.learn_value`: V(x, t, strength) from scored samples of the frozen base alone.

.. math:: V_t(x; \lambda) = \log E[e^{\lambda r(x_1)} | x_t = x], \qquad
    x_t = t x_1 + (1-t) \epsilon

The reward is called on finished samples only, so that any will do, and each is scored once.

Sources: contrastive energy prediction (2304.12824); SVDD (2408.08252).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.checkpoint import digest
from alignflow.conditions import as_rows
from alignflow.draws import integers
from alignflow.flow_map import FlowMap, check_flow_map
from alignflow.reward_module import Reward, as_reward
from alignflow.training import Trainer, Training, TrainingOptions, Trains
from alignflow.values import LearnedValue

from .scored_samples import ScoredSamples, draw_scored
from .times import Times
from .value_calibration import calibration
from .value_loss import ValueLoss

__all__ = ["ValueTraining", "learn_value"]

MOST_SEED = 2**62
HELD_OUT = 8  # one of so many samples is held out


@Trains
@checks.refuse_seed
def learn_value(
    policy: FlowMap,
    reward: Reward | Callable[..., Any],
    strengths: Sequence[float] = (0.0, 4.0),
    steps: int = 2000,
    batch_size: int = 256,
    generator: torch.Generator | int | None = None,
    folder: str | Path | None = None,
    compile: bool = False,
    *,
    samples: int = 8192,
    sampling_steps: int = 8,
    condition: Any = None,
    network: nn.Module | None = None,
    power: float = 1.5,
    times: Times | None = None,
    **options: Any,
) -> Training[LearnedValue]:
    """Learn log E[e^{strength r(x1)} | x_t = x] of a frozen policy, for all strengths of a range.

    Args:
        policy: Any flow map. It is sampled, and untouched.
        reward: A reward, or any callable as a black box.
        strengths: Least and largest lambda, per unit of reward.
        steps: Gradient steps.
        batch_size: Rows of a step.
        generator: Source of all randomness, or a seed.
        folder: Where scored samples, metrics and checkpoints go; a run found there is continued.
        compile: Whether the network runs under `torch.compile`.
        samples: Of the policy, each scored once; one of eight is held out for the calibration.
        sampling_steps: Jumps of a sample.
        condition: Numbers, one or several rows, which samples take in turn; None for none.
        network: Called as `LearnedValue` says, and copied; by default a small one of the kind
            of the policy's.
        power: Of the deviance, from 1 (contrastive energy prediction) to 2; see `ValueLoss`.
        times: Sampler of times, of which the diagonal is taken; squares of uniform numbers
            by default (`EarlyTimes`).
        **options: Of `TrainingOptions` (learning_rate, ema_decay, precision, ...).

    Returns:
        The value, with its `calibration` in `facts`.

    Raises:
        ValueError: If there is no network for the policy's states, or a number is none of its kind.
        RewardError: If the reward fails.
    """
    check_flow_map("policy", policy)
    settings, unknown = TrainingOptions.split(options | {"compile": compile})
    if unknown:
        raise ValueError(
            f"learn_value does not take {', '.join(sorted(unknown))}"
            f"{checks.did_you_mean(min(unknown), [*vars(settings), 'samples', 'network'])}"
        )
    generator = checks.as_generator(generator) or torch.Generator().manual_seed(0)
    seed = int(integers(MOST_SEED, (1,), generator))
    scored, known = as_reward(reward), digest(policy)
    value = LearnedValue(
        _network(policy, network, seed), scored.name, known, policy.event_shape, strengths
    )
    return ValueTraining(
        policy,
        scored,
        value.to(policy.device, policy.dtype).requires_grad_(True).train(),
        ValueLoss(value, power, times, generator),
        generator,
        seed,
        samples=checks.count("samples", samples, least=2 * HELD_OUT),
        sampling_steps=checks.count("sampling_steps", sampling_steps),
        condition=_conditions(policy, condition),
        steps=checks.count("steps", steps),
        batch_size=checks.count("batch_size", batch_size),
        folder=None if folder is None else Path(folder),
        options=settings,
    )


@dataclass(frozen=True)
class ValueTraining:
    """The training of a value before it runs."""

    policy: FlowMap
    reward: Reward
    value: LearnedValue
    loss: ValueLoss
    generator: torch.Generator
    seed: int
    samples: int
    sampling_steps: int
    condition: Tensor | None
    steps: int
    batch_size: int
    folder: Path | None
    options: TrainingOptions

    def run(self) -> LearnedValue:
        """Draw and score the samples, train on them, and calibrate on those held out."""
        drawn = self._draw()
        trained, held_out = drawn.split(len(drawn) - len(drawn) // HELD_OUT)
        rewards, fixed = drawn.valid_rewards, self.policy.prediction.is_logits
        self.value.standardize(rewards, drawn.states, 1.0 if fixed else None)
        self.loss.peak.copy_(rewards.max())
        trainer = Trainer(
            self.loss,
            self.value,
            partial(trained.batch, self.batch_size),
            steps=self.steps,
            generator=self.generator,
            folder=self.folder,
            options=self.options,
        )
        value = trainer.run()
        judged = calibration(value, held_out, torch.Generator().manual_seed(self.seed))
        value.facts = {
            "samples": self.samples,
            "steps": self.steps,
            "mean_reward": rewards.mean().item(),
            "calibration": judged,
        }
        return value

    def _draw(self) -> ScoredSamples:
        folder = None if self.folder is None else self.folder / "samples"
        numbers = self.samples, self.sampling_steps, self.seed
        return draw_scored(self.policy, self.reward, *numbers, self.condition, folder)


def _network(policy: FlowMap, network: nn.Module | None, seed: int) -> nn.Module:
    if network is not None:
        wanted = "a torch.nn.Module that is called with (state, time, fraction, condition)"
        return copy.deepcopy(checks.instance("network", network, nn.Module, wanted))
    # networks draw their first weights from torch's global generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return policy.value_network()


def _conditions(policy: FlowMap, condition: Any) -> Tensor | None:
    rows = as_rows(condition)
    if rows is None:
        return None
    if not isinstance(rows, Tensor):
        raise ValueError(f"condition must be numbers, got {checks.shown(condition)}")
    policy.check_condition(rows)
    return rows
