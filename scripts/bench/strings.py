"""A shipped model of strings beside an autoregressive model and masked diffusion.

    python scripts/bench/strings.py names
    python scripts/bench/strings.py fragments
    python scripts/bench/strings.py molecules [--samples 2000]

Needs baselines that `scripts/baselines/train.py` trained, and for molecules a judge of another seed
and width, --name molecules_judge. What was drawn is stored under outputs/strings: a run that was
cut goes on where it was; delete the folder after a change of the models.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from page import shown, table, write_page
from string_draws import Method, data_rows, drawn, methods
from string_properties import MOLECULE_PROPERTIES, PAIRS, PROPERTIES, HeldOut
from torch import Tensor

import alignflow as af
from alignflow.data import Strings
from alignflow.flow_map import FlowMap
from alignflow.likelihood_bound import likelihood_bound
from alignflow.metrics import (
    Estimate,
    canonical,
    distinct,
    entropy,
    listed,
    mean,
    odd_rings,
    rates,
)

sys.path.append(str(Path(__file__).parents[1] / "baselines"))
from models import KINDS, Baseline, facts, load

DATA: dict[str, Callable[[], Strings]] = {
    "names": af.data.names,
    "fragments": af.data.fragments,
    "molecules": af.data.molecules,
}
FOLDER = Path("outputs/strings")
BOUNDS = 4  # times, or sets of masked tokens, of a string's bound
ROWS = 500  # evaluated at a time
ABOUT = """\
{n:,} samples of each, ± standard errors; forwards are those of the network for a string. The
baselines have the tokens and about the parameters of the flow map, and at most its training time
(table of models), less where their likelihood no longer fell. *Data* are draws of the list or, for
molecules, held-out ones: no method can be better, up to errors. Flow maps jump in equal steps of t,
or where equal parts of noised tokens can be decoded (*times by decoding*); *its ODE* follows the
model's own denoiser, and *tokens drawn and noised again* ask it for the tokens of each step. Masked
diffusion unmasks equal numbers of tokens a step, at random or the most confident first."""
ABOUT_LIST = """\
The list has {size:,} strings of entropy {entropy:.2f} nats. Distinct strings and the entropy of
what was drawn depend on the number of samples, so they stand beside the data's. Errors of rates
are those of ten properties, whose rates under the list are known, in percentage points."""
ABOUT_MOLECULES = """\
The score is -log p, in nats, under a judge: an autoregressive model of another seed and width,
which is none of the baselines. Odd rings have neither 5 nor 6 atoms. Distances are Wasserstein's of
a property to {n:,} held-out molecules, over the distance of two sets of so many held-out ones. With
SELFIES nearly all strings are molecules: valid, unique and novel ones are told for completeness."""
ABOUT_LIKELIHOOD = """\
Nats a string, the padding included. An autoregressive model's is exact; the others' are bounds, of
masked diffusion over sets of masked tokens and of the flow over times (`likelihood_bound`).
Independent tokens are those of each position by frequency."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--model", help="a folder, in place of the shipped model")
    parser.add_argument("--baselines", type=Path, default=Path("outputs/baselines"))
    options = parser.parse_args()
    name, n = options.data, options.samples
    paths = {kind: options.baselines / f"{name}_{kind}.safetensors" for kind in KINDS}
    policy, models = af.load(options.model or name), {k: load(p) for k, p in paths.items()}
    strings = DATA[name]()
    held_out = af.data.molecules("test") if name == "molecules" else strings
    if name == "molecules" and 2 * PAIRS * n > len(held_out):
        parser.error(f"--samples must be at most {len(held_out) // (2 * PAIRS)}, got {n}")
    # the first n of held-out molecules are what all are compared with
    rows = slice(n if name == "molecules" else 0, None)
    compared = methods(policy, models, held_out.select(rows))
    folder = FOLDER / name
    tokens = {key: drawn(folder / f"{key}-{n}.pt", each, n) for key, each in compared.items()}
    texts = {key: strings.vocabulary.decode(each) for key, each in tokens.items()}
    if name == "molecules":
        judge = load(options.baselines / "molecules_judge.safetensors")
        scores = {key: nats(judge.loss, each) for key, each in tokens.items()}
        about = ABOUT_MOLECULES.format(n=n)
        tables = molecule_tables(compared, texts, scores, strings, held_out)
    else:
        about = ABOUT_LIST.format(size=len(strings), entropy=strings.entropy)
        tables = list_tables(name, compared, texts, strings)
    write_page(
        name,
        f"{name.capitalize()}: a flow map beside the baselines",
        f"{ABOUT.format(n=n)}\n{about}",
        f"## Samples\n\n{tables[0]}",
        f"## Properties\n\n{tables[1]}",
        f"## Likelihood\n\n{ABOUT_LIKELIHOOD}\n\n"
        f"{likelihoods(policy, models, strings, held_out, n)}",
        f"## Models\n\n{models_table(policy, models, paths)}",
    )


def list_tables(
    name: str, compared: dict[str, Method], texts: dict[str, list[str]], strings: Strings
) -> tuple[str, str]:
    """Tables of samples and of properties, of a list that is known."""
    properties = PROPERTIES[name]()
    exact = {label: 100 * strings.mean(call) for label, call in properties.items()}
    rename = canonical if name == "fragments" else list
    known = rename(strings.strings)
    samples, rows = [], [["exact", *(f"{rate:.1f}" for rate in exact.values())]]
    for key, drawn_texts in texts.items():
        written = rename(drawn_texts)
        found = {k: percent(e) for k, e in rates(drawn_texts, properties).items()}
        gaps = [abs(found[label].value - exact[label]) for label in exact]
        samples.append(
            [
                *(key, compared[key].forwards or ""),
                *(shown(listed(written, known)), f"{distinct(written):,}", shown(entropy(written))),
                *(f"{sum(gaps) / len(gaps):.1f}", f"{max(gaps):.1f}"),
            ]
        )
        rows.append([key, *(f"{e.value:.1f} ± {e.standard_error:.1f}" for e in found.values())])
    head = ["", "forwards", "on the list", "distinct", "entropy", "mean error", "largest error"]
    return table(head, samples), f"Rates in percent.\n\n{table(['', *exact], rows)}"


def molecule_tables(
    compared: dict[str, Method],
    texts: dict[str, list[str]],
    scores: dict[str, Tensor],
    strings: Strings,
    held_out: Strings,
) -> tuple[str, str]:
    """Tables of samples and of properties, of molecules."""
    n = len(texts["data"])
    others = HeldOut(held_out.select(slice(2 * PAIRS * n)).strings, n)
    known = trained_on(strings)
    samples, properties = [], []
    for key, smiles in texts.items():
        written = canonical(smiles)
        valid = [text for text in written if text]
        samples.append(
            [
                *(key, compared[key].forwards or ""),
                *(shown(mean(scores[key])), shown(odd_rings(smiles)), f"{distinct(written):,}"),
                *(f"{len(valid) / n:.3f}", f"{distinct(valid) / len(valid):.3f}"),
                f"{1 - listed(valid, known).value:.3f}",
            ]
        )
        line = [key]
        for value, distance in others.distances(valid).values():
            line += [f"{value}", f"{distance:.1f}"]
        properties.append(line)
    head = ["", "forwards", "score", "odd rings", "distinct", "valid", "unique", "novel"]
    columns = [c for label in MOLECULE_PROPERTIES for c in (label, f"distance of {label}")]
    return table(head, samples), table(["", *columns], properties)


def trained_on(strings: Strings) -> set[str]:
    """The molecules of the training data; found once, for it takes minutes."""
    path = FOLDER / "molecules" / "known.txt"
    if not path.exists():
        written = canonical(strings.strings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(written))
    return set(path.read_text().splitlines())


def likelihoods(
    policy: FlowMap, models: dict[str, Baseline], strings: Strings, held_out: Strings, n: int
) -> str:
    """A table of nats a string."""
    rows = data_rows(held_out, n, torch.Generator().manual_seed(0))
    alone = independent_nats(strings, rows)
    generator = torch.Generator().manual_seed(0)

    def masked(tokens: Tensor) -> Tensor:
        repeated = tokens.repeat(BOUNDS, 1)
        return models["masked"].loss(repeated, generator).view(BOUNDS, -1).mean(0)

    def flow(tokens: Tensor) -> Tensor:
        return likelihood_bound(policy, tokens, draws=BOUNDS, generator=generator)

    lines = [
        ["independent tokens", "exact", shown(mean(alone))],
        ["flow map", "bound", shown(mean(nats(flow, rows)))],
        ["masked diffusion", "bound", shown(mean(nats(masked, rows)))],
        ["autoregressive", "exact", shown(mean(nats(models["autoregressive"].loss, rows)))],
    ]
    if held_out is strings:
        lines.append(["the list", "exact", f"{strings.entropy:.3f}"])
    return table(["", "", "nats a string"], lines)


def independent_nats(strings: Strings, tokens: Tensor) -> Tensor:
    """-log p of rows of tokens (N, L) by the frequencies of each position alone, (N,)."""
    nats = -frequencies(strings).clamp(min=1e-9).log()
    return nats[torch.arange(strings.length), tokens.long()].sum(1)


def frequencies(strings: Strings) -> Tensor:
    """Of the tokens at each position, (L, V)."""
    length, size = strings.event_shape
    assert strings.weights is not None
    cells = strings.tokens.long() + size * torch.arange(length)
    weights = strings.weights[:, None].expand_as(cells)
    counts = torch.bincount(cells.flatten(), weights.flatten(), minlength=length * size)
    return counts.view(length, size)


@torch.no_grad()
def nats(call: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """What a callable says of rows of tokens, so many at a time."""
    return torch.cat([call(part).double() for part in tokens.split(ROWS)])


def models_table(policy: Any, models: dict[str, Baseline], paths: dict[str, Path]) -> str:
    """Parameters and training of each."""
    told = policy.facts
    rows = [
        ["flow map", f"{_parameters(policy):,}", told.get("steps", ""), told.get("minutes", "")]
    ]
    for kind, model in models.items():
        about = facts(paths[kind])
        minutes = f"{about['seconds'] / 60:.1f}"
        rows.append([kind, f"{_parameters(model):,}", about["step"], minutes])
    return table(["", "parameters", "steps", "minutes"], rows)


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.standard_error)


if __name__ == "__main__":
    main()
