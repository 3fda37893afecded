"""Train a network of learned rewards of strings on what rules or RDKit say of strings.

It learns from strings of a list and from changed ones, which have labels too, one-hot and in
mixtures: soft tokens, whose target is the mean of the strings'. What is written into the model's
card is measured on strings of the list that it has not seen, with the weights as they are shipped.

    python scripts/train_string_networks.py names
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor, nn

import alignflow as af
from alignflow.checkpoint import load_parameters, save_folder
from alignflow.data import Strings
from alignflow.rewards import QED, LogP, Pattern
from alignflow.rewards.string_network import (
    FOLDER,
    STRING_NETWORKS,
    PropertyNetwork,
    StringLabelNetwork,
    StringNetwork,
)
from alignflow.training import TrainingOptions, fit

SEED = 0
BATCH = 128
STEPS = {"names": 1500, "fragments": 2500, "molecules": 3000}
HELD_OUT = {"names": 200, "fragments": 300, "molecules": 2000}
CHANGED = {"names": 20, "fragments": 12, "molecules": 1}  # of each string of the list
MOLECULES = 30_000
MIXED = 3  # strings of a mixture, at most
Labels = dict[str, Callable[[list[str]], Tensor]]
LABELS: dict[str, Labels] = {
    "names": {
        "son": Pattern("son$"),
        "man": Pattern("man$"),
        "mc": Pattern("^mc"),
        "vowel": Pattern("[aeiouy]$"),
    },
    "fragments": {"qed": QED("drop"), "logp": LogP("drop")},
    "molecules": {"qed": QED("drop"), "logp": LogP("drop")},
}


def load_data(which: str) -> tuple[Strings, Strings]:
    """The strings to learn from, and those to measure on."""
    if which == "molecules":
        data, held_out = af.data.molecules, HELD_OUT[which]
        return data("train", MOLECULES), data("test", held_out)
    strings = {"names": af.data.names, "fragments": af.data.fragments}[which]()
    rows = torch.randperm(len(strings), generator=torch.Generator().manual_seed(SEED))
    return strings.select(rows[HELD_OUT[which] :]), strings.select(rows[: HELD_OUT[which]])


def changed(strings: Strings, times: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (n, L) like those of a list, and of which string each was made.

    A string goes on as another one from a place on, and one in four has another symbol somewhere.
    """
    parent = torch.arange(len(strings)).repeat(times)
    other = torch.randint(len(strings), parent.shape, generator=generator)
    first, second = strings.tokens[parent].long(), strings.tokens[other].long()
    n, length = first.shape
    ends = [(tokens > 0).sum(1) for tokens in (first, second)]  # padding is token 0
    cut, begin = ((torch.rand(n, generator=generator) * (end + 1)).long() for end in ends)
    place = torch.arange(length)
    from_second = (place - cut[:, None] + begin[:, None]).clamp(0, length - 1)
    spliced = torch.where(place < cut[:, None], first, second.gather(1, from_second))
    spliced = torch.where(place - cut[:, None] + begin[:, None] < length, spliced, 0)
    at = (torch.rand(n, generator=generator) * (spliced > 0).sum(1)).long()
    symbol = torch.randint(1, strings.vocabulary.size, (n, 1), generator=generator)
    altered = spliced.scatter(1, at[:, None], symbol)
    some = torch.rand(n, 1, generator=generator) < 0.25
    return torch.where(some, altered, spliced), parent


def labeled(strings: Strings, labels: Labels) -> tuple[Tensor, Tensor]:
    """Numbers (N, A) of strings, and which of them all have (N,): what is no molecule has none."""
    texts = strings.vocabulary.decode(strings.tokens)
    whole = torch.tensor([bool(text) for text in texts])
    columns = [label([text or "C" for text in texts]) for label in labels.values()]
    numbers = torch.stack([column.float() for column in columns], dim=1)
    return numbers, whole & torch.isfinite(numbers).all(1)


def pool(strings: Strings, which: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (N, L), numbers (N, A), and a string like it of each (N,)."""
    generator = torch.Generator().manual_seed(SEED)
    others, parent = changed(strings, CHANGED[which], generator)
    tokens = torch.cat([strings.tokens.long(), others])
    relative = torch.cat([torch.arange(len(strings)), parent])
    numbers, valid = labeled(Strings(tokens, strings.vocabulary), LABELS[which])
    return tokens[valid], numbers[valid], relative[valid]


def mixtures(
    states: Callable[[Tensor], Tensor],
    numbers: Tensor,
    relative: Tensor,
    n: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Soft tokens (n, L, V), half of them one-hot, and the mean numbers (n, A) of their strings.

    Args:
        states: One-hot states of rows.
        numbers: (N, A).
        relative: A row like each; each second mixture is of it.
        n: How many.
        generator: Source of randomness.
    """
    rows = torch.randint(len(numbers), (n, MIXED), generator=generator)
    near = torch.rand(n, generator=generator) < 0.5
    rows[near, 1] = relative[rows[near, 0]]
    weight = -torch.rand(n, MIXED, generator=generator).clamp_min(1e-6).log()
    weight = weight / weight.sum(1, keepdim=True)
    weight[: n // 2] = torch.tensor([1.0] + [0.0] * (MIXED - 1))
    mixed = torch.einsum("nk,nk...->n...", weight, states(rows.flatten()).unflatten(0, (n, MIXED)))
    return mixed, torch.einsum("nk,nka->na", weight, numbers[rows])


class NumberLoss(nn.Module):
    """Cross-entropy of each label, or the squared error of each property in its deviations."""

    def __init__(self, model: StringNetwork):
        super().__init__()
        self.model = model

    def forward(self, batch: TensorDict) -> TensorDict:
        found, wanted = self.model(batch["state"]), batch["number"]
        if isinstance(self.model, PropertyNetwork):
            loss = F.mse_loss(found / self.model.scale, wanted / self.model.scale)
        else:
            loss = F.binary_cross_entropy_with_logits(found, wanted)
        return TensorDict({"loss_number": loss})


def train(which: str, strings: Strings) -> StringNetwork:
    torch.manual_seed(SEED)
    tokens, numbers, relative = pool(strings, which)
    kind = StringLabelNetwork if which == "names" else PropertyNetwork
    model = kind(list(LABELS[which]), *strings.event_shape)
    if isinstance(model, PropertyNetwork):
        model.shift.copy_(numbers.mean(0))
        model.scale.copy_(numbers.std(0))

    def states(rows: Tensor) -> Tensor:
        return strings.vocabulary.one_hot(tokens[rows], torch.float32)

    def sample_batch(generator: torch.Generator) -> TensorDict:
        soft, wanted = mixtures(states, numbers, relative, BATCH, generator)
        return TensorDict({"state": soft, "number": wanted}, batch_size=BATCH)

    options = TrainingOptions(
        optimizer=lambda parameters: torch.optim.AdamW(parameters, 2e-3, weight_decay=0.02),
        decay=0.7,
        ema_decay=0.99,
        progress=lambda step, steps, metrics: (
            print(f"{step}/{steps} {metrics}", flush=True) if step % 100 == 0 else None
        ),
    )
    averaged = fit(
        NumberLoss(model),
        model,
        sample_batch,
        steps=STEPS[which],
        generator=torch.Generator().manual_seed(SEED),
        options=options,
    )
    model.load_state_dict(averaged.state_dict())
    return model


@torch.no_grad()
def measure(model: StringNetwork, strings: Strings, which: str) -> dict:
    """Errors on strings that were not learned from: one-hot, and in mixtures of them."""
    numbers, valid = labeled(strings, LABELS[which])
    numbers, rows = numbers[valid], valid.nonzero().flatten()
    generator = torch.Generator().manual_seed(SEED)
    soft, wanted = mixtures(
        lambda chosen: strings.states(rows[chosen]),
        numbers,
        torch.arange(len(numbers)),
        2 * len(numbers),
        generator,
    )
    soft, wanted = soft[len(numbers) :], wanted[len(numbers) :]
    found = model(strings.states(rows)), model(soft)
    card = {}
    for i, name in enumerate(LABELS[which]):
        columns = (found[0][:, i], numbers[:, i]), (found[1][:, i], wanted[:, i])
        card[name] = (_regression if isinstance(model, PropertyNetwork) else _labels)(*columns)
    return card


def _regression(hard: tuple[Tensor, Tensor], soft: tuple[Tensor, Tensor]) -> dict[str, float]:
    errors = {"": hard, "_of_mixtures": soft}
    r2 = {f"r2{k}": 1 - (f - w).square().mean() / w.var() for k, (f, w) in errors.items()}
    return _rounded(r2 | {"mean_absolute_error": (hard[0] - hard[1]).abs().mean()})


def _labels(hard: tuple[Tensor, Tensor], soft: tuple[Tensor, Tensor]) -> dict[str, float]:
    logit, truth = hard
    gap = (soft[0].sigmoid() - soft[1]).abs().mean()
    return _rounded(
        {
            "accuracy": ((logit > 0) == truth.bool()).float().mean(),
            "rate": truth.mean(),
            "mean_probability": logit.sigmoid().mean(),
            "mean_absolute_error_of_mixtures": gap,
        }
    )


def _rounded(numbers: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(number.item(), 4) for name, number in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=STRING_NETWORKS)
    which = parser.parse_args().which
    start = time.perf_counter()
    strings, held_out = load_data(which)
    model = train(which, strings)
    seconds = time.perf_counter() - start
    halved = {name: value.half() for name, value in model.state_dict().items()}
    load_parameters(model, halved, Path("the model in half precision"))  # measured as shipped
    facts = {
        "network": model.kind,
        "arguments": model.arguments,
        "card": {
            "command": f"python scripts/train_string_networks.py {which}",
            "learned_from": f"{len(strings):,} strings of {which}, and {CHANGED[which]} changed "
            "ones of each",
            "measured_on": f"{len(held_out):,} others of {which}",
            "measured": measure(model.eval(), held_out, which),
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": STEPS[which],
            "batch_size": BATCH,
            "seed": SEED,
            "seconds": round(seconds),
        },
    }
    save_folder(FOLDER / which, halved, facts)
    print(json.dumps(facts["card"], indent=2))


if __name__ == "__main__":
    main()
