"""Tokens of molecules: characters, SELFIES symbols, or pieces, at equal seconds of training.

    python scripts/bench/molecule_tokens.py [--seconds 480] [--precision bf16]

Denoisers of the same width and depth are trained on the same molecules, each in so many CPU
seconds, and measured by what can be compared: the bound of -log p of held-out molecules, and the
molecules that they draw by their ODE.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from page import shown, table, write_page
from rich.progress import track
from strings import independent_nats

import alignflow as af
from alignflow.data import BPEVocabulary, Strings, Vocabulary
from alignflow.distillation import DecodingTimes
from alignflow.likelihood_bound import likelihood_bound
from alignflow.metrics import canonical, mean, odd_rings
from alignflow.policies import FlowMapPolicy, text_policy
from alignflow.samplers import DenoiserODE
from alignflow.training import Muon

TRAINED, HELD_OUT, DRAWN = 60_000, 2_000, 500  # molecules
BATCH, PIECES, STEPS, BOUNDS = 64, 128, 32, 4
FIRST = ord("A")  # the letter of token 0
ABOUT = """\
Networks of width {width} and depth {depth} on the same {trained:,} molecules of MOSES,
{seconds:.0f} CPU seconds each, in {precision}, by the loss of the diagonal alone. Characters are
those of canonical SMILES, symbols those of SELFIES, and pieces are {pieces} symbols and merged
pairs of them. The bound is that of -log p of {held_out:,} held-out molecules, in nats a molecule,
± standard errors; beside it stand independent tokens, each position by its frequencies. {drawn}
molecules are drawn by {steps} midpoint steps of the ODE: how many are molecules, and which rings
have neither 5 nor 6 atoms."""


class Letters:
    """SELFIES symbols as letters, so that a molecule is a word whose letters can merge."""

    def __init__(self, symbols: Vocabulary):
        self.symbols = symbols

    def write(self, molecules: Strings) -> list[str]:
        rows = molecules.tokens.tolist()
        return ["".join(chr(FIRST + token) for token in row if token) for row in rows]

    def read(self, words: list[str]) -> list[str]:
        """SMILES."""
        rows = [[ord(letter) - FIRST for letter in word] for word in words]
        return [self.symbols.decode(torch.tensor([row]))[0] if row else "" for row in rows]


def write_characters(molecules: Strings) -> list[str]:
    return canonical(molecules.strings)


def ways(letters: Letters) -> dict[str, tuple[Callable, Callable, Callable]]:
    """How molecules are written, how a vocabulary of it is learned, and how it is read."""
    pieces = partial(BPEVocabulary.of, size=PIECES)
    return {
        "characters": (write_characters, Vocabulary.of, list),
        "symbols": (letters.write, Vocabulary.of, letters.read),
        "pieces": (letters.write, pieces, letters.read),
    }


def trained(
    strings: Strings, seconds: float, precision: str, **network: Any
) -> tuple[FlowMapPolicy, int]:
    """A denoiser after so many CPU seconds, its learning rate decayed, and its steps."""
    torch.manual_seed(0)
    make: Callable[..., Any] = af.pretrain.build
    build = partial(
        make,
        text_policy(strings, **network),
        strings,
        loss="flow_matching",
        batch_size=BATCH,
        times=DecodingTimes.of(strings),
        optimizer=partial(Muon, lr=3e-3),
        precision=precision,
        generator=0,
    )
    trial = build(steps=100)
    trial.train_step()
    started = time.process_time()
    for _ in range(10):
        trial.train_step()
    steps = max(1, round(10 * seconds / (time.process_time() - started)))
    trainer = build(steps=steps)
    for _ in track(range(steps), "training"):
        trainer.train_step()
    return trainer.average.module, steps


@torch.no_grad()
def measured(policy: FlowMapPolicy, read: Callable, rows: Strings) -> tuple[str, str, str]:
    """The bound, and how many strings are molecules, and odd rings."""
    generator = torch.Generator().manual_seed(1)
    bound = mean(likelihood_bound(policy, rows.tokens, draws=BOUNDS, generator=generator))
    states = policy.sample(DRAWN, STEPS, sampler=DenoiserODE(), generator=generator)
    smiles = read(policy.decode(states))
    valid = [text for text in canonical(smiles) if text]
    return shown(bound), f"{len(valid) / DRAWN:.3f}", shown(odd_rings(valid))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--trained", type=int, default=TRAINED)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    network = {"width": options.width, "depth": options.depth, "heads": options.heads}
    n, symbols = options.trained, af.data.molecules(n=1).vocabulary
    parts = af.data.molecules(n=n), af.data.molecules("test", options.held_out)
    lines = []
    for name, (write, learn, read) in ways(Letters(symbols)).items():
        first, second = map(write, parts)
        strings = Strings.of([*first, *second], vocabulary=learn(first))
        known, rows = strings.select(slice(n)), strings.select(slice(n, None))
        policy, steps = trained(known, options.seconds, options.precision, **network)
        alone = independent_nats(known, rows.tokens)
        sizes = [strings.length, strings.vocabulary.size, steps]
        parameters = sum(p.numel() for p in policy.parameters())
        line = [name, *sizes, f"{parameters:,}", f"{alone.mean():.1f}"]
        lines.append([*line, *measured(policy, read, rows)])
        print(lines[-1], flush=True)
    head = ["", "L", "V", "steps", "parameters", "independent tokens", "bound", "valid"]
    about = ABOUT.format(pieces=PIECES, drawn=DRAWN, steps=STEPS, **vars(options))
    write_page(
        "molecule_tokens",
        "How molecules are written",
        about,
        table([*head, "odd rings"], lines),
    )


if __name__ == "__main__":
    main()
