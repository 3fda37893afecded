"""Portraits: a tuning for every strength beside tunings at one, in as many steps in all.

Tunings and samples are stored under outputs/every_strength, so a run that was cut goes on where it
was; delete the folder after a change of the model.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from page import shown, table
from torch import Tensor
from tuning_avatars import samples, tuned

import alignflow as af
from alignflow.blended import Blended
from alignflow.data import avatars
from alignflow.metrics import mean, sliced_wasserstein
from alignflow.policies import load_judge
from alignflow.resampling import systematic
from alignflow.rewards import Attribute
from alignflow.targets import Empirical

__all__ = ["portraits"]

FOLDER = Path("outputs/every_strength")
STEPS, BATCH = 300, 32  # steps of all tunings of a row together
DATA, POOL = 20_000, 4096  # portraits, and candidates that are drawn from them, once
DRAWS = 500
STRENGTHS = (1.0, 2.0, 4.0)
LOWER, UPPER = 0.0, 4.0


def tuning(policy: Any, strength: Any, steps: int) -> Any:
    """A policy tuned towards glasses, for one strength or a range."""
    name = "-".join(f"{each:g}" for each in torch.tensor(strength).flatten().tolist())
    settings = {
        "method": "weighted",
        "steps": steps,
        "batch_size": BATCH,
        "data": avatars(DATA),
        "pool": POOL,
        "refresh_every": 10**6,
    }
    folder = FOLDER / f"glasses-{name}-{steps}"
    return tuned(policy, Attribute("glasses"), strength, settings, folder)[0]


def drawn(name: str, make: Callable[[], Any]) -> Tensor:
    """Samples of a model, drawn once."""
    file = FOLDER / f"{name}-{DRAWS}.pt"
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        torch.save(samples(make(), DRAWS), file)
    return torch.load(file)


@torch.no_grad()
def with_glasses(states: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether the judge sees glasses, (N,)."""
    judge = load_judge("avatars")
    column = list(judge.labels).index("glasses")
    seen = [judge(decode(part))[:, column] > 0 for part in states.split(500)]
    return torch.cat(seen).float()


def portraits() -> str:
    """The section of the page."""
    policy, part = af.load("avatars"), STEPS // len(STRENGTHS)
    every = tuning(policy, (LOWER, UPPER), STEPS)
    each = {strength: tuning(policy, strength, part) for strength in STRENGTHS}
    long = tuning(policy, UPPER, STEPS)
    models: dict[str, tuple[str, Callable[[float], Any]]] = {
        "the base": ("0", lambda strength: policy),
        "all strengths": (f"1 of {STEPS} steps", every.at_strength),
        "each strength": (f"{len(STRENGTHS)} of {part} steps", each.__getitem__),
        f"blend of the base and {UPPER:g}": (
            f"1 of {STEPS} steps",
            lambda strength: Blended(policy, long, strength / UPPER),
        ),
    }
    data = Empirical(avatars(DATA))
    rewards = data.rewards(Attribute("glasses"))
    states = data.rows.states(torch.arange(DATA))
    held = with_glasses(states, data.decode)
    rates = {name: [name, steps] for name, (steps, _) in models.items()}
    far = {name: [name, steps] for name, (steps, _) in models.items()}
    exact_rates, floors = ["the exact tilt", ""], ["the exact tilt", ""]
    for strength in STRENGTHS:
        weight = (strength * rewards.double()).softmax(0)
        exact_rates.append(f"{weight @ held.double():.3f}")
        generator = torch.Generator().manual_seed(0)
        rows = systematic(weight.log()[None], 2 * DRAWS, generator)[0]
        tilted, other = states[rows[torch.randperm(2 * DRAWS, generator=generator)]].split(DRAWS)
        floor = _distance(other, tilted)
        floors.append(f"{floor:.3f}, the floor")
        for number, (name, (_, make)) in enumerate(models.items()):
            file = "base" if number == 0 else f"row-{number}-{strength:g}"
            found = drawn(file, lambda make=make, strength=strength: make(strength))
            rates[name].append(shown(mean(with_glasses(found, policy.decode))))
            far[name].append(f"{_distance(found, tilted) / floor:.2f}")
            print(name, rates[name], far[name], flush=True)
    head = ["tuning", "tunings", *(f"strength {strength:g}" for strength in STRENGTHS)]
    about = (
        f"The shipped portraits and the probability of glasses, by `weighted` in bfloat16: batches "
        f"of {BATCH} of a pool of {POOL:,}, drawn from {DATA:,} portraits, whose tilt is known. "
        f"Rows took the same number of steps in all, {STEPS}. {DRAWS:,} samples in 4 jumps; the "
        "judge is another network than the reward's."
    )
    return "\n\n".join(
        [
            "## Portraits",
            about,
            "Rate of glasses:",
            table(head, [exact_rates, *rates.values()]),
            "Sliced W2 to the exact tilt over the sampling floor:",
            table(head, [floors, *far.values()]),
        ]
    )


def _distance(one: Tensor, other: Tensor) -> float:
    return sliced_wasserstein(one, other, generator=torch.Generator().manual_seed(0)).value
