"""Train a shipped classifier: what rewards are made of, or the judge of results.

The two differ in architecture, in seed and in the images that they learn from. What is written into
the model's card is measured on images that neither has seen, with the weights as they are shipped.

    python scripts/train_classifiers.py --which avatars --role reward
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor, nn

from alignflow.checkpoint import load_parameters, save_folder
from alignflow.data import ATTRIBUTES, CHARACTERS, Images, avatars, deform, digits, glyphs
from alignflow.policies import judges
from alignflow.rewards import classifier
from alignflow.training import TrainingOptions, fit

Network = classifier.Classifier | judges.Judge

BATCH = 128
DRAWN, TESTED = 24_000, 8_000  # images of the data sets that are drawn
FIRST = {"reward": 100_000, "judge": 200_000, "test": 300_000}  # generators learn from 0 on
SPLIT = {"reward": "train", "judge": "judge_train", "test": "judge_test"}
SEED = {"reward": 1, "judge": 2}
BLUR_AND_NOISE = {"reward": 1.0, "judge": 0.2}
STEPS = {
    ("avatars", "reward"): 2000,
    ("avatars", "judge"): 2500,
    ("digits", "reward"): 1200,
    ("digits", "judge"): 1500,
    ("glyphs", "reward"): 900,
    ("glyphs", "judge"): 900,
}


def load_data(which: str, part: str) -> tuple[Images, str]:
    """The images of one part ("reward", "judge" or "test"), and what they are in words."""
    if which == "digits":
        return digits(SPLIT[part]), f"digits({SPLIT[part]!r})"
    n = TESTED if part == "test" else DRAWN
    draw = {"avatars": avatars, "glyphs": glyphs}[which]
    return draw(n, FIRST[part]), f"{which}({n}, first={FIRST[part]})"


def build(which: str, role: str) -> Network:
    names = {"avatars": ATTRIBUTES, "digits": "0123456789", "glyphs": CHARACTERS}[which]
    channels, size = (3, 16) if which == "avatars" else (1, 28)
    exclusive = which != "avatars"
    if role == "reward":
        stride = 1 if which == "avatars" else 2
        widths = (32, 64, 96) if which == "digits" else (32, 64, 80)
        return classifier.Classifier(names, channels, size, exclusive, widths, stride)
    widths = (32, 64) if which == "avatars" else (24, 48)
    return judges.Judge(names, channels, size, exclusive, widths)


def labels_of(images: Images) -> Tensor:
    """Classes (N,), or attributes (N, A) as 0 or 1."""
    if images.condition is not None:
        return images.labels[images.condition]
    return torch.stack(list(images.labels.values()), dim=1).float()


def soften(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Half of the images blurred and noisy, each to its own degree, as a generator's may be."""
    n = len(images)
    blur, noise, whether = torch.rand(3, n, 1, 1, 1, generator=generator)
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    soft = torch.lerp(images, smooth, strength * blur)
    soft = soft + 0.25 * strength * noise * torch.randn(images.shape, generator=generator)
    return torch.where(whether < 0.5, soft.clamp(0, 1), images)


class LabelLoss(nn.Module):
    """Cross-entropy of classes, or of each attribute on its own; without class weights, so that
    probabilities are about calibrated."""

    def __init__(self, model: Network):
        super().__init__()
        self.model = model

    def forward(self, batch: TensorDict) -> TensorDict:
        logits = self.model(batch["image"]).float()
        loss = F.cross_entropy if self.model.exclusive else F.binary_cross_entropy_with_logits
        return TensorDict({"loss_label": loss(logits, batch["label"])})


def train(which: str, role: str) -> Network:
    torch.manual_seed(SEED[role])
    images, _ = load_data(which, role)
    labels, model = labels_of(images), build(which, role)

    def sample_batch(generator: torch.Generator) -> TensorDict:
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        pixels = images.pixels[rows].float() / 255
        if which == "digits":
            pixels = deform(pixels, generator)
        pixels = soften(pixels, BLUR_AND_NOISE[role], generator)
        return TensorDict({"image": pixels, "label": labels[rows]}, batch_size=BATCH)

    options = TrainingOptions(
        optimizer=lambda parameters: torch.optim.AdamW(parameters, 3e-3, weight_decay=0.02),
        decay=0.6,
        ema_decay=0.98,
        precision="bf16",
        progress=lambda step, steps, metrics: print(f"{step}/{steps} {metrics}", flush=True),
    )
    averaged = fit(
        LabelLoss(model),
        model,
        sample_batch,
        steps=STEPS[which, role],
        generator=torch.Generator().manual_seed(SEED[role]),
        options=options,
    )
    model.load_state_dict(averaged.state_dict())
    return model


@torch.no_grad()
def measure(model: Network, images: Images) -> dict:
    """Accuracies on images that were not learned from."""
    pixels, labels = images.pixels.split(500), labels_of(images)
    logits = torch.cat([model(part.float() / 255) for part in pixels])
    if model.exclusive:
        found = logits.argmax(1)
        confused = torch.stack([labels, found], 1)[found != labels].tolist()
        pairs = [f"{model.labels[true]} read as {model.labels[read]}" for true, read in confused]
        common = sorted(set(pairs), key=pairs.count, reverse=True)[:5]
        recall = [(found == labels)[labels == i].float().mean() for i in range(len(model.labels))]
        return {
            "accuracy": round((found == labels).float().mean().item(), 4),
            "worst_recall": round(min(recall).item(), 4),
            "commonest_errors": {pair: pairs.count(pair) for pair in common},
        }
    return {name: _binary(logits[:, i], labels[:, i].bool()) for i, name in enumerate(model.labels)}


def _binary(logit: Tensor, truth: Tensor) -> dict[str, float]:
    recall = (logit[truth] > 0).float().mean()
    specificity = (logit[~truth] <= 0).float().mean()
    figures = {
        "balanced_accuracy": (recall + specificity) / 2,
        "recall": recall,
        "specificity": specificity,
        "rate": truth.float().mean(),
        "mean_probability": logit.sigmoid().mean(),
    }
    return {name: round(value.item(), 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--which", choices=("avatars", "digits", "glyphs"), required=True)
    parser.add_argument("--role", choices=("reward", "judge"), required=True)
    which, role = (arguments := parser.parse_args()).which, arguments.role
    start = time.perf_counter()
    model = train(which, role)
    seconds = time.perf_counter() - start
    halved = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    load_parameters(model, halved, "the model in half precision")  # measured as it is shipped
    images, held_out = load_data(which, "test")
    facts = {
        "network": "classifier" if role == "reward" else "judge",
        "arguments": model.arguments,
        "card": {
            "command": f"python scripts/train_classifiers.py --which {which} --role {role}",
            "learned_from": load_data(which, role)[1],
            "measured_on": held_out,
            "measured": measure(model.eval(), images),
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": STEPS[which, role],
            "batch_size": BATCH,
            "seed": SEED[role],
            "seconds": round(seconds),
        },
    }
    folder = (classifier.FOLDER if role == "reward" else judges.FOLDER) / which
    save_folder(folder, halved, facts)
    print(json.dumps(facts["card"], indent=2))


if __name__ == "__main__":
    main()
