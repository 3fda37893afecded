"""Train a baseline on the names, fragments or molecules that travel with the library.

    python scripts/baselines/train.py {autoregressive,masked} {names,fragments,molecules}
        --seconds 600 --folder outputs/baselines

Prints a JSON line now and then and writes FOLDER/<data>_<kind>.safetensors (--name: another), also
every half minute, so that a run that is killed leaves its weights. The weights are an average over
steps. The learning rate rises for the first 2 % of the seconds, or steps, and falls like a cosine.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from models import KINDS, Baseline, save
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from alignflow import data
from alignflow.data import Strings

DATA = {"names": data.names, "fragments": data.fragments, "molecules": data.molecules}
WARM_UP = 0.02  # of the budget
AVERAGE = 0.999  # decay of the averaged weights
SAVE_EVERY, PRINT_EVERY = 30.0, 5.0  # seconds
ROWS = 1024  # evaluated at a time
EVALUATED = 16_000  # sets of masks, for the final likelihood


@dataclass
class Budget:
    """Seconds or steps, whichever is given."""

    seconds: float | None
    steps: int | None
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def fraction(self, step: int) -> float:
        """Of the budget that is gone after so many steps, 1 at its end."""
        gone = [0.0]
        if self.seconds is not None:
            gone.append(self.elapsed / self.seconds)
        if self.steps is not None:
            gone.append(step / self.steps)
        return min(max(gone), 1.0)


def factor(fraction: float) -> float:
    """Of the learning rate after a fraction of the budget."""
    if fraction < WARM_UP:
        return fraction / WARM_UP
    return (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP))) / 2


def optimizers(model: nn.Module, name: str, learning_rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest."""
    fused = next(model.parameters()).is_cuda
    adam = {"lr": learning_rate, "betas": (0.9, 0.95), "weight_decay": 0.0, "fused": fused}
    if name == "adamw":
        return [torch.optim.AdamW(model.parameters(), **adam)]
    named = list(model.named_parameters())
    matrices = [p for key, p in named if key.startswith("blocks") and p.ndim == 2]
    rest = [p for key, p in named if not (key.startswith("blocks") and p.ndim == 2)]
    muon = torch.optim.Muon(
        matrices, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest, **adam)]


def train(
    model: Baseline,
    strings: Strings,
    budget: Budget,
    batch: int,
    learning_rate: float,
    optimizer: str = "adamw",
    bf16: bool = False,
    seed: int = 0,
) -> Iterator[tuple[int, Baseline, Tensor]]:
    """Train a model; after each step come its number, the averaged model, and the loss."""
    device = model.device
    generator = torch.Generator(device).manual_seed(seed)
    strings = replace(
        strings, tokens=strings.tokens.to(device), weights=weights(strings).to(device)
    )
    average = copy.deepcopy(model).requires_grad_(False)
    averaged, trained = ([p.data for p in each.parameters()] for each in (average, model))
    steppers, step = optimizers(model, optimizer, learning_rate), 0
    while (fraction := budget.fraction(step)) < 1:
        tokens = strings.tokens[strings.draw(batch, generator)]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model.loss(tokens, generator).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = learning_rate * factor(fraction)
            stepper.step()
            stepper.zero_grad()
        step += 1
        decay = min(AVERAGE, step / (step + 10))
        get_ema_multi_avg_fn(decay)(averaged, trained, step)
        yield step, average, loss.detach()


@torch.no_grad()
def nats(model: Baseline, strings: Strings, draws: int = 1) -> float:
    """Mean of -log p of strings by weight, or of its bound over so many draws of masks, in nats."""
    generator = torch.Generator(model.device).manual_seed(0)
    tokens = strings.tokens.to(model.device)
    total = torch.zeros(len(tokens), dtype=torch.float64)
    for _ in range(draws):
        # a mixed order, for times are stratified over rows
        order = torch.randperm(len(tokens), generator=generator, device=model.device)
        for part in order.split(ROWS):
            total[part.cpu()] += model.loss(tokens[part], generator).double().cpu() / draws
    return (total * weights(strings)).sum().item()


def weights(strings: Strings) -> Tensor:
    """Of strings, (N,), float64."""
    assert strings.weights is not None
    return strings.weights


def main() -> None:
    options = _parser().parse_args()
    if options.seconds is None and options.steps is None:
        sys.exit("give --seconds or --steps")
    budget = Budget(options.seconds, options.steps)
    torch.manual_seed(options.seed)
    strings = DATA[options.data]()
    length, vocabulary = strings.event_shape
    model = KINDS[options.kind](length, vocabulary, options.width, options.depth, options.heads)
    model = model.to(options.device)
    about = vars(options) | {"parameters": sum(p.numel() for p in model.parameters())}
    about["folder"] = str(options.folder)
    path = options.folder / f"{options.name or f'{options.data}_{options.kind}'}.safetensors"
    print(json.dumps(about), flush=True)
    saved = printed = budget.elapsed
    budget.start = time.monotonic()
    steps = train(
        model,
        strings,
        budget,
        options.batch,
        options.learning_rate,
        options.optimizer,
        options.bf16,
        options.seed,
    )
    step, average, progress = 0, model, {}
    for step, average, loss in steps:
        if budget.elapsed - printed > PRINT_EVERY:
            printed = budget.elapsed
            progress = {"step": step, "seconds": round(printed, 1), "loss": round(loss.item(), 4)}
            print(json.dumps(progress), flush=True)
        if budget.elapsed - saved > SAVE_EVERY:
            saved = budget.elapsed
            save(average, path, about | progress)
    progress = {"step": step, "seconds": round(budget.elapsed, 1)}
    save(average, path, about | progress)
    # lists are known as a whole, so their weighted mean is the exact cross-entropy
    held_out = data.molecules("test") if options.data == "molecules" else strings
    progress["nats"] = round(
        nats(average, held_out, 1 if options.kind == "autoregressive" else 8), 4
    )
    save(average, path, about | progress)
    print(json.dumps(progress | {"written": str(path)}), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seconds", type=float, help="after which training stops")
    parser.add_argument("--steps", type=int, help="after which training stops")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="forwards and gradients in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("outputs/baselines"))
    parser.add_argument("--name", help="of the file; by default <data>_<kind>")
    return parser


if __name__ == "__main__":
    main()
