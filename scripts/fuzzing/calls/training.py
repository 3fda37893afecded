"""Pretraining, the posterior and the parts of their losses."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of trainings."""
    quick = {"steps": "1", "batch_size": "4"}
    trainer = {
        "learning_rate": v.positive(),
        "warmup": v.count(0),
        "decay": v.fraction(),
        "clip_norm": v.positive().filter(lambda text: text != "inf"),  # which clips nothing
        "ema_decay": v.fraction(),
        "precision": v.choice("fp32", "bf16"),
        "checkpoint_every": v.count(),
        "log_every": v.count(),
        "optimizer": v.each("3", "'adam'", "nan", "{}", "True", "torch.zeros(2)"),
        "evaluate": v.function(optional=True),
        "progress": v.each("3", "'abc'", "nan", "{}", "object()"),
    }
    data = v.among(
        v.states(rows=True).filter(lambda text: text not in ("torch.zeros(2)", "torch.zeros")),
        v.each("torch.zeros(4, 2).long()", "torch.zeros(16, 2, 2)", "labels", "np.zeros((4, 3))"),
        v.each("lambda n: None", "lambda n: torch.zeros(n, 3)", "lambda n: torch.zeros(1, 2)"),
        v.each("lambda: 0", "[torch.zeros(3)] * 4", "torch.utils.data.TensorDataset"),
    )
    losses = ("flow_matching", "psd", "psd_midpoint", "lsd", "esd", "meanflow")
    common = {
        "steps": v.count(),
        "batch_size": v.count(),
        "generator": v.generator(),
        "folder": v.folder(),
        "compile": v.flag(),
        "diagonal_fraction": v.fraction(),
        "times": v.instance(optional=True),
        "condition_dropout": v.fraction(),
        "invertibility": v.nonnegative(),
    }
    return [
        valid(
            "af.pretrain",
            {"policy": "policy", "data": "points", **quick},
            policy=v.policy(network=True),
            data=data,
            loss=v.choice(*losses),
            teacher=v.instance("red", "network", optional=True),
            unknown=("steps", "batch_size", "learning_rate", "ema_decay", "clip_norm"),
            **common,
            **trainer,
        ),
        valid(
            "af.learn_posterior",
            {"policy": "policy", **quick},
            policy=v.policy(network=True),
            loss=v.choice("psd", "psd_midpoint", "lsd", "esd"),
            teacher=v.choice("glass", "data"),
            energy_score=v.instance(optional=True),
            unknown=("steps", "teacher", "diagonal_fraction"),
            **common,
        ),
        valid(
            "af.learn_value",
            {"policy": "policy", "reward": "red", "samples": "16", **quick},
            policy=v.policy(),
            reward=v.reward(),
            strengths=v.each("3", "(1.0,)", "(2.0, 1.0)", "(nan, 1.0)", "'02'"),
            samples=v.count(),
            sampling_steps=v.count(),
            network=v.each("3", "'mlp'", "policies.MLP(3)"),
            power=v.each("0.5", "nan", "'one'", "3"),
            unknown=("steps", "samples", "sampling_steps"),
            **trainer,
        ),
        valid(
            "UniformTimes",
            boundary=v.fraction(),
            both_directions=v.flag(),
        ),
        valid(
            "LogitNormalTimes",
            mean=v.finite(),
            std=v.nonnegative(),
        ),
        valid("PSD", split=v.choice("uniform", "midpoint"), stop_gradient=v.choice("convex")),
        valid("LossWeight", frequencies=v.count()),
    ]
