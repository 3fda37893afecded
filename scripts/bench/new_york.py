"""Tokens that depend on each other, all written at once: flow maps beside draws of each for itself.

    python scripts/bench/new_york.py

New York and San Diego are learned by `experiment=new_york`, groups of equal tokens and a table of
sixteen pairs by the same settings. Trainings are stored under outputs/new_york, where a run that
was cut goes on.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from masked_pairs import train_masked
from page import DOCS, table, write_page
from torch import Tensor

import alignflow as af
from alignflow import pipeline
from alignflow.data import Vocabulary
from alignflow.distillation import DecodingTimes
from alignflow.flow_map import FlowMap
from alignflow.policies import TokenDiT
from alignflow.report.drawing import MODELS, frame
from alignflow.simplex import one_hot_states
from alignflow.targets import Sequences
from alignflow.training import TrainingOptions

FOLDER = Path("outputs/new_york")
SAMPLES = 100_000
STEPS = (1, 2, 4, 8)
PAIRS = ("New York", "San Diego", "New Diego", "San York")
Draw = Callable[[torch.Generator], Tensor]
Ways = dict[str, tuple[int, Draw]]
SHOWN = ("each token from D_0", "masked diffusion, 1", "Euler steps, 64", "flow map, 1")


def groups(number: int, size: int) -> Sequences:
    """Strings of so many groups of equal tokens, each of two letters at one half."""
    tokens = torch.tensor(list(product(range(2), repeat=number))).repeat_interleave(size, 1)
    return Sequences(tokens, None, Vocabulary(["a", "b"]))


PROBLEMS = {
    "3 equal tokens": groups(1, 3),
    "6 tokens, two groups of three": groups(2, 3),
    "8 tokens, two groups of four": groups(2, 4),
    "16 pairs of random weights": Sequences.random(2, Vocabulary(list("abcd")), seed=2, std=2.0),
}


def settings() -> Any:
    """Those of the experiment."""
    with initialize_config_module("alignflow.configs", version_base="1.3"):
        return compose("config", overrides=["experiment=new_york"])


def learn(name: str, target: Sequences, config: Any) -> FlowMap:
    """A flow map of a list, of the sizes and by the training of the experiment."""
    length, size = target.event_shape
    network = {key: config.policy.module[key] for key in ("width", "depth", "heads")}
    options = pipeline.build(config.training)
    options["times"] = DecodingTimes(size, boundary=options["times"].boundary)
    torch.manual_seed(0)
    module = TokenDiT(length, size, **network)
    policy = af.FlowMapPolicy(module, (length, size), "simplex")
    folder = FOLDER / name.replace(" ", "_")
    return af.pretrain(policy, target, **options, generator=0, folder=folder)


def ways_to_draw(policy: FlowMap, target: Sequences, config: Any) -> Ways:
    """Calls of the network, and states (n, L, V), of each way to draw."""
    length, size = target.event_shape
    network = {key: config.policy.module[key] for key in ("width", "depth", "heads")}
    training = pipeline.build(config.training)
    steps, batch_size = training.pop("steps"), training.pop("batch_size")
    options = TrainingOptions.split(training)[0]
    masked = train_masked(target, steps, batch_size, options, **network)

    def each_for_itself(generator: torch.Generator) -> Tensor:
        denoiser = policy.denoiser(policy.noise(SAMPLES, generator), 0.0)
        tokens = torch.multinomial(denoiser.flatten(0, 1), 1, generator=generator)
        return one_hot_states(tokens.view(SAMPLES, length), size)

    def masked_draw(steps: int) -> Draw:
        return lambda generator: one_hot_states(masked.sample(SAMPLES, steps, generator), size)

    def euler(steps: int) -> Draw:
        return lambda generator: by_euler(policy, policy.noise(SAMPLES, generator), steps)

    def jumps(steps: int) -> Draw:
        return lambda generator: policy.sample(SAMPLES, steps, generator=generator)

    return {
        "exact samples": (0, lambda generator: target.sample(SAMPLES, generator=generator)),
        "each token from D_0": (1, each_for_itself),
        **{f"masked diffusion, {k}": (k, masked_draw(k)) for k in STEPS if k <= length},
        **{f"Euler steps, {k}": (k, euler(k)) for k in (*STEPS, 64)},
        **{f"flow map, {k}": (k, jumps(k)) for k in STEPS},
    }


def by_euler(policy: FlowMap, x: Tensor, steps: int) -> Tensor:
    """Euler steps of the velocity, even in time."""
    for k in range(steps):
        x = x + policy.velocity(x, k / steps) / steps
    return x


def sampled(policy: FlowMap, target: Sequences, config: Any) -> tuple[Ways, dict[str, Tensor]]:
    """The ways to draw, and the states of each, from one seed."""
    with torch.enable_grad():
        ways = ways_to_draw(policy, target, config)
    states = {name: draw(torch.Generator().manual_seed(1)) for name, (_, draw) in ways.items()}
    return ways, states


def distances(target: Sequences, states: dict[str, Tensor]) -> dict[str, float]:
    """Total variation of each way."""
    return {name: target.total_variation(x).item() for name, x in states.items()}


def frequencies(target: Sequences, states: Tensor) -> list[float]:
    """Of the four pairs."""
    strings = target.decode(states)
    return [strings.count(pair) / len(strings) for pair in PAIRS]


def draw(pairs: dict[str, list[float]], found: dict[str, dict[str, float]]) -> None:
    """The four pairs as bars, and total variation against steps."""
    with frame(9, 3.2) as figure:
        bars, lines = figure.subplots(1, 2)
        width = 0.8 / len(pairs)
        for i, (name, values) in enumerate(pairs.items()):
            places = [k + i * width for k in range(len(PAIRS))]
            bars.bar(places, values, width, color=MODELS[i % len(MODELS)], label=name)
        bars.set_xticks([k + 0.4 - width / 2 for k in range(len(PAIRS))], PAIRS)
        bars.set_ylabel("fraction of samples")
        bars.legend(frameon=False)
        for i, (name, values) in enumerate(found.items()):
            by_steps = [values[f"flow map, {k}"] for k in STEPS]
            lines.plot(STEPS, by_steps, "o-", markersize=4, color=MODELS[i], label=name)
        lines.set(xscale="log", yscale="log", xlabel="steps of the flow map",
                  ylabel="total variation")  # fmt: skip
        lines.set_xticks(STEPS, map(str, STEPS))
        lines.minorticks_off()
        lines.grid()
        lines.legend(frameon=False)
        figure.savefig(DOCS / "new_york.png")


@torch.no_grad()
def main() -> None:
    config = settings()
    with torch.enable_grad():
        run = pipeline.run(config, FOLDER / "run")
    policy = af.load(run / "stages" / "pretrain" / "model")
    cities = pipeline.build(config.data)
    ways, states = sampled(policy, cities, config)
    pairs = {name: frequencies(cities, x) for name, x in states.items()}
    far = distances(cities, states)
    rows = [
        [name, calls or "", *(f"{value:.3f}" for value in pairs[name]), f"{far[name]:.3f}"]
        for name, (calls, _) in ways.items()
    ]
    found = {}
    for name, problem in PROBLEMS.items():
        with torch.enable_grad():
            learned = learn(name, problem, config)
        found[name] = distances(problem, sampled(learned, problem, config)[1])
    draw({name: pairs[name] for name in SHOWN}, found)
    more = dict.fromkeys(way for each in found.values() for way in each)
    training, module = config.training, config.policy.module
    write_page(
        "new_york",
        "New York and San Diego",
        "Two strings of two words, each at one half. A method that draws each token for itself in "
        "one step writes New Diego as often as New York; so does masked diffusion, which needs as "
        "many steps as there are tokens that depend on each other. A flow map writes both words at "
        "once.",
        f"TokenDiT of width {module.width} and {module.depth} blocks, {training.steps:,} steps of "
        f"batch {training.batch_size}, for the flow map and for masked diffusion; {SAMPLES:,} "
        "samples. Euler steps are of the flow map's velocity.",
        "![The four pairs by method, and total variation by steps](new_york.png)",
        table(["method", "calls", *PAIRS, "total variation"], rows),
        "## More tokens",
        "Total variation to the exact distribution, by method and number of network calls. In "
        "groups all tokens are equal, and each of two letters has one half; the sixteen pairs are "
        "all pairs of four letters, weighted by the soft-max of Gaussian logits.",
        table(
            ["method", *found],
            [[way, *(_shown(each, way) for each in found.values())] for way in more],
        ),
    )


def _shown(found: dict[str, float], way: str) -> str:
    return f"{found[way]:.3f}" if way in found else ""


if __name__ == "__main__":
    main()
