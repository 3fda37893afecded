"""Targets with a closed form, and their rewards."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of targets."""
    mixture = {
        "weights": "torch.ones(2)",
        "means": "torch.eye(2)",
        "covariances": "torch.eye(2).expand(2, 2, 2)",
    }
    at = {"x": "x", "t": "0.5"}
    return [
        valid(
            "targets.GaussianMixture",
            mixture,
            weights=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(2)",
                "-torch.ones(2)",
                "torch.full((2,), nan)",
                "torch.ones(3)",
                "torch.ones(2, 2)",
                "[1.0, -1.0]",
                "{}",
                "torch.tensor([1.0, inf])",
            ),
            means=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(3, 2)",
                "torch.full((2, 2), nan)",
                "torch.eye(2).long()",
                "torch.zeros(2)",
                "{}",
                "torch.full((2, 2), inf)",
            ),
            covariances=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(2, 2, 2)",
                "-torch.eye(2).expand(2, 2, 2)",
                "torch.full((2, 2, 2), nan)",
                "torch.eye(2)",
                "torch.ones(2, 2, 2).triu()",
                "{}",
            ),
            tolerance=v.positive(optional=True),
        ),
        valid("ring.denoiser", at, x=v.states(), t=v.time()),
        valid(
            "ring.posterior_sample",
            {**at, "k": "2"},
            x=v.states(),
            t=v.time(),
            k=v.count(),
            generator=v.generator(),
        ),
        valid("ring.log_density", {"x": "x"}, x=v.states(), t=v.time()),
        valid(
            "ring.tilted",
            {"reward": "targets.ring_reward()", "strength": "1.0"},
            reward=v.reward(),
            strength=v.finite(),
        ),
        valid(
            "targets.Empirical",
            {"data": "points"},
            data=v.each(
                "None",
                "3",
                "'abc'",
                "torch.zeros(0, 2)",
                "torch.full((4, 2), nan)",
                "torch.zeros(())",
                "torch.zeros(4, 2).long()",
                "torch.zeros(4, 2).bool()",
                "{}",
                "torch.zeros(4, 2) * inf",
            ),
            log_weight=v.each(
                "3",
                "'abc'",
                "torch.zeros(3)",
                "torch.full((16,), nan)",
                "torch.full((16,), inf)",
                "torch.full((16,), -inf)",
                "torch.zeros(16, 1, 2)",
            ),
            chunk=v.count(),
        ),
        valid("targets.Checkerboard", squares=v.count(), extent=v.positive()),
        valid("targets.ring", modes=v.count(), radius=v.positive(), variance=v.positive()),
        valid(
            "targets.mixture",
            {"dimension": "2"},
            dimension=v.count(),
            components=v.count(),
            seed=v.count(0),
            separation=v.nonnegative(),
        ),
        valid(
            "targets.Linear",
            {"direction": "torch.ones(2)"},
            direction=v.each(
                "None",
                "3",
                "'abc'",
                "torch.full((2,), nan)",
                "torch.full((2,), inf)",
                "{}",
            ),
        ),
        valid(
            "targets.Quadratic",
            {"center": "torch.zeros(2)"},
            center=v.each("None", "'abc'", "torch.full((2,), nan)", "torch.full((2,), inf)", "{}"),
            precision=v.finite().filter(
                lambda text: text not in ("torch.zeros(2)", "np.array([1, 2])")
            ),
        ),
        valid("targets.build_cluster", {"name": "'dw4'"}, name=v.choice("dw4", "lj13")),
        valid("targets.lennard_jones", {"particles": "3"}, particles=v.count(2)),
        valid("targets.double_well", {"particles": "3"}, particles=v.count(2)),
        valid(
            "targets.bump_reward",
            center=v.each("None", "'abc'", "(nan, 0.0)", "(1.0,)", "3", "(inf, 0.0)"),
            std=v.positive(),
        ),
        valid("targets.inverse_problem_reward", observation=v.finite(), std=v.positive()),
        valid(
            "targets.cycloid_ring",
            {"components": "4"},
            components=v.count(),
            std=v.positive(),
        ),
    ]
