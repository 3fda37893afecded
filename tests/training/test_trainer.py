"""What a training keeps when it is cut, what it tells, and what it refuses."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from alignflow.checkpoint import CheckpointError, load_folder, save_folder
from alignflow.training import Interrupted, Trainer, TrainingOptions

STEPS = 12
STORED = Path(__file__).parent / "stored"


class Fit(nn.Module):
    """Least squares of a linear map of dropped-out features, and of a weight with no optimizer.

    Args:
        fail_at: Call that raises.
        poison: A callable `(linear, call) -> another term of the loss`.
    """

    age: torch.Tensor

    def __init__(self, fail_at=None, poison=None, dtype=torch.float64):
        super().__init__()
        self.linear = nn.Linear(3, 1, dtype=dtype)
        self.spare = nn.Parameter(torch.ones(3, dtype=dtype))
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        self.dropout = nn.Dropout(0.5)
        self.calls, self.fail_at, self.poison = 0, fail_at, poison

    def forward(self, batch):
        self.age += 1
        self.calls += 1
        features = self.dropout(batch["x"].to(self.spare)) * self.spare
        if self.calls == self.fail_at:
            raise RuntimeError("the reward is away")
        terms = {"loss_fit": (self.linear(features) - 1).square().mean(), "age": self.age.double()}
        if self.poison is not None:
            terms["loss_poison"] = self.poison(self.linear, self.calls)
        return TensorDict(terms)


class Counting(torch.optim.SGD):
    """Gradient descent with a count in its groups, and one beyond what floats can tell apart."""

    def __init__(self, parameters):
        super().__init__(list(parameters)[1:], lr=0.1, momentum=0.9)
        for group in self.param_groups:
            group |= {"count": 0, "longest": math.inf, "pair": (1, 2)}

    def step(self, closure=None):
        for group in self.param_groups:
            assert group["pair"] == (1, 2) and group["longest"] == math.inf
            group["count"] += 1
            group["lr"] /= group["count"]
            for p in group["params"]:
                self.state[p].setdefault("seen", torch.tensor(2**60)).add_(1)
        return super().step(closure)


def draw(generator):
    x = torch.randn((4, 3), generator=generator, dtype=torch.float64)
    return TensorDict({"x": x}, batch_size=4)


def trainer(loss, folder=None, **options):
    settings, rest = TrainingOptions.split({"checkpoint_every": 4, "log_every": 3} | options)
    rest = {"steps": STEPS, "folder": folder} | rest
    return Trainer(loss, loss, draw, **rest, options=settings)


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def everything(trainer):
    """All that a step changes."""
    tensors, facts = trainer.state.collect()
    return {name: tensor.clone() for name, tensor in tensors.items()}, facts["optimizer_state"]


def unchanged(trainer, before):
    tensors, facts = everything(trainer)
    return facts == before[1] and all(torch.equal(x, before[0][k]) for k, x in tensors.items())


def lines(folder):
    """Of metrics, without times; what is no JSON is refused."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    parsed = [
        json.loads(line, parse_constant=refuse)
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in parsed]


class Cut(Exception):
    pass


def cut_at(*steps):
    def progress(step, total, metrics):
        if step in steps:
            raise Cut

    return progress


@pytest.mark.parametrize("optimizer", [None, Counting])
def test_a_step_that_raises_leaves_a_checkpoint_from_which_the_run_ends_the_same(
    optimizer, tmp_path
):
    """With dropout, a counter in the loss, state in the optimizer's groups, and a parameter that
    the optimizer does not have."""
    with pytest.raises(RuntimeError, match="away"):
        trainer(Fit(fail_at=8), tmp_path / "cut", optimizer=optimizer).run()
    assert load_folder(tmp_path / "cut" / "checkpoint")[1]["step"] == 7
    resumed, whole = (
        trainer(Fit(), tmp_path / name, optimizer=optimizer) for name in ("cut", "whole")
    )
    assert same(resumed.run(), whole.run())
    assert unchanged(resumed, everything(whole))
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_step_that_raises_leaves_everything_as_it_was_and_is_tried_again():
    loss = Fit(fail_at=8)
    ours = trainer(loss)
    with pytest.raises(RuntimeError, match="away"):
        ours.run()
    assert loss.age == 7
    assert same(ours.run(), trainer(Fit()).run())


@pytest.mark.parametrize("step", [3, 4, 6])
def test_a_run_cut_anywhere_ends_the_same_with_each_line_of_metrics_once(step, tmp_path):
    def evaluate(now, model):
        # what it draws is no part of the training
        return {"judged": now, "drawn": torch.rand(()).item(), "weight": model.spare.sum().item()}

    options = {"evaluate": evaluate, "log_every": 1}
    with pytest.raises(Cut):
        trainer(Fit(), tmp_path / "cut", progress=cut_at(step), **options).run()
    resumed = trainer(Fit(), tmp_path / "cut", **options).run()
    whole = trainer(Fit(), tmp_path / "whole", **options).run()
    assert same(resumed, whole) and same(resumed, trainer(Fit()).run())
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert len(lines(tmp_path / "cut")) == STEPS + STEPS // 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dropout_on_a_gpu_goes_on_as_it_was(tmp_path):
    device = torch.device("cuda")
    with pytest.raises(RuntimeError, match="away"):
        trainer(Fit(fail_at=8).to(device), tmp_path / "cut").run()
    before = torch.cuda.get_rng_state(device)
    resumed, whole = (
        trainer(Fit().to(device), tmp_path / name).run().cpu() for name in ("cut", "whole")
    )
    assert same(resumed, whole)
    assert torch.equal(torch.cuda.get_rng_state(device), before)


def test_torchs_global_randomness_is_the_generators_inside_and_untouched_outside():
    ours = trainer(Fit(), generator=5)
    before = torch.get_rng_state()
    one = ours.run()
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, trainer(Fit(), generator=5).run())
    assert not same(one, trainer(Fit(), generator=6).run())


def test_an_evaluation_that_raises_loses_no_step_and_is_made_up_for(tmp_path):
    judged = []

    def evaluate(step, model):
        judged.append(step)
        if judged == [4, 8]:
            raise RuntimeError("the judge is away")
        return {"weight": model.spare.sum().item()}

    with pytest.raises(RuntimeError, match="judge"):
        trainer(Fit(), tmp_path / "cut", evaluate=evaluate).run()
    assert load_folder(tmp_path / "cut" / "checkpoint")[1]["step"] == 8
    trainer(Fit(), tmp_path / "cut", evaluate=evaluate).run()
    assert judged == [4, 8, 8, 12]
    trainer(Fit(), tmp_path / "whole", evaluate=evaluate).run()
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    # a run that is complete is not judged again
    judged.clear()
    trainer(Fit(), tmp_path / "cut", evaluate=evaluate).run()
    assert not judged


def test_an_evaluation_killed_before_it_was_recorded_is_made_again_and_told_once(tmp_path):
    """Between the line of metrics and the record the run decides whether to stop."""

    def die(model, metrics):
        raise Cut

    options = {"evaluate": lambda step, model: {"judged": step}}
    with pytest.raises(Cut):
        trainer(Fit(), tmp_path, stop=die, **options).run()
    stops = []
    ours = trainer(Fit(), tmp_path, stop=lambda model, metrics: bool(stops.append(1)), **options)
    ours.run()
    assert len(stops) == 3
    assert [line["judged"] for line in lines(tmp_path) if "judged" in line] == [4, 8, 12]


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    options = {"evaluate": lambda step, model: {}, "stop": lambda model, metrics: True}
    for _ in range(2):
        ours = trainer(Fit(), tmp_path, **options)
        ours.run()
        assert ours.stopped and ours.step == 4


def test_a_checkpoint_of_an_earlier_version_is_continued(tmp_path):
    """Its optimizer's state lay by parameter, without groups; evaluations came before it."""
    ours = trainer(Fit(), tmp_path)
    for _ in range(4):
        ours.train_step()
    ours.save()
    tensors, facts = load_folder(tmp_path / "checkpoint")
    newer = ("random", "means", "optimizer")
    tensors = {name: x for name, x in tensors.items() if not name.startswith(newer)}
    for index, state in ours.descent.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": x for name, x in state.items()}
    old = {"step": 4, "stopped": False, "optimizer": {}, "averaged": facts["averaged"]}
    save_folder(tmp_path / "checkpoint", tensors, old)
    judged = []
    resumed = trainer(Fit(), tmp_path, evaluate=lambda step, model: judged.append(step) or {})
    assert resumed.resume() and resumed.step == 4
    for name, found in everything(resumed)[0].items():
        if not name.startswith("random"):
            assert torch.equal(found, everything(ours)[0][name]), name
    resumed.run()
    assert judged == [8, 12]


@pytest.mark.parametrize("name", ["adam", "counting"])
def test_a_checkpoint_of_an_optimizer_by_numbers_is_continued(name, tmp_path):
    """As stored before states went by the names of parameters; it was cut after step 5."""
    optimizer = Counting if name == "counting" else None
    shutil.copytree(STORED / name, tmp_path / "checkpoint")
    resumed, whole = (trainer(Fit(), folder, optimizer=optimizer) for folder in (tmp_path, None))
    assert resumed.resume() and resumed.step == 5
    # another processor may round another way
    torch.testing.assert_close(dict(resumed.run().state_dict()), dict(whole.run().state_dict()))
    state = resumed.descent.optimizer.state_dict()
    torch.testing.assert_close(state, whole.descent.optimizer.state_dict())


def test_a_checkpoint_of_another_training_is_refused_by_name(tmp_path):
    trainer(Fit(), tmp_path).run()
    for other in (
        trainer(nn.Sequential(Fit()), tmp_path),
        trainer(Fit(), tmp_path, optimizer=Counting),
    ):
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            other.run()
    with pytest.raises(
        CheckpointError, match="by another optimizer than SGD, which has no amsgrad"
    ):
        trainer(Fit(), tmp_path, optimizer=descent(0.1)).run()
    with pytest.raises(CheckpointError, match="is at step 12 of a run of 11"):
        trainer(Fit(), tmp_path, steps=11).run()


def test_a_checkpoint_of_weights_that_are_not_finite_is_refused(tmp_path):
    ours = trainer(Fit(), tmp_path)
    with torch.no_grad():
        ours.descent.loss.get_parameter("linear.bias").fill_(math.nan)
    ours.save()
    with pytest.raises(CheckpointError, match="of weights that are not finite: linear.bias"):
        trainer(Fit(), tmp_path).run()


def flat(linear, call):
    """0, with the gradient of a root at 0 times 0."""
    return (linear.weight.sum() * (0.0 if call >= 7 else 1.0)).square().sqrt()


def huge(linear, call):
    """Finite, with a gradient whose norm is beyond float32."""
    return (1e25 if call >= 7 else 0.0) * linear.weight.sum()


@pytest.mark.parametrize("poison", [flat, huge])
def test_no_step_is_made_on_a_gradient_that_is_not_finite_and_its_term_is_named(poison, tmp_path):
    ours = trainer(Fit(poison=poison, dtype=torch.float32), tmp_path)
    for _ in range(6):
        ours.train_step()
    before = everything(ours)
    with pytest.raises(
        FloatingPointError, match=r"gradient is not finite at step 6: loss_poison=(inf|nan), where"
    ):
        ours.train_step()
    assert unchanged(ours, before)
    assert all(p.grad is None for p in ours.descent.loss.parameters())
    resumed = trainer(Fit(poison=poison, dtype=torch.float32), tmp_path)
    assert resumed.resume() and unchanged(resumed, before)


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    loss = Fit(poison=lambda linear, call: linear.weight.sum() / (0.0 if call == 3 else 1.0))
    with pytest.raises(FloatingPointError, match="loss is not finite at step 2: loss_poison=inf$"):
        trainer(loss, tmp_path).run()


def descent(rate):
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


@pytest.mark.parametrize("every", [1, 4])
def test_weights_that_a_step_made_infinite_replace_no_checkpoint(every, tmp_path):
    options = {"checkpoint_every": every, "warmup": 0, "clip_norm": math.inf}
    trainer(Fit(), tmp_path, optimizer=descent(0.1), **options | {"steps": 4}).run()
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer(Fit(), tmp_path, optimizer=descent(1e200), **options).run()
    saved, facts = load_folder(tmp_path / "checkpoint")
    assert facts["step"] >= 4 and all(x.isfinite().all() for x in saved.values())


def test_weights_are_looked_at_where_nothing_is_saved_too():
    ours = trainer(Fit(), steps=1, optimizer=descent(math.inf), warmup=0)
    with pytest.raises(FloatingPointError, match="is not finite after step 1: a step has led"):
        ours.run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(number, tmp_path):
    def send(step, steps, metrics):
        if step == 6:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=f"by {number.name} after step 6 of 12; .*") as stopped:
        trainer(Fit(), tmp_path, progress=send).run()
    assert stopped.value.signal is number and str(tmp_path) in str(stopped.value)
    assert load_folder(tmp_path / "checkpoint")[1]["step"] == 6
    assert same(trainer(Fit(), tmp_path).run(), trainer(Fit()).run())


def test_a_reward_that_dies_of_the_same_signal_does_not_hide_it(tmp_path):
    def die(linear, call):
        if call == 6:
            os.kill(os.getpid(), signal.SIGINT)
            raise RuntimeError("a worker is gone")
        return linear.weight.sum()

    with pytest.raises(Interrupted, match="after step 5"):
        trainer(Fit(poison=die), tmp_path).run()
    assert load_folder(tmp_path / "checkpoint")[1]["step"] == 5


def test_without_a_folder_ctrl_c_acts_at_once():
    def send(step, steps, metrics):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it was to act")

    with pytest.raises(KeyboardInterrupt) as stopped:
        trainer(Fit(), progress=send).run()
    assert not isinstance(stopped.value, Interrupted)


def test_the_averaged_model_is_judged_in_evaluation_mode():
    modes = []
    trainer(Fit(), evaluate=lambda step, model: modes.append(model.training) or {}).run()
    assert modes == [False] * 3


def test_progress_is_told_after_each_step_with_the_newest_metrics():
    told = []
    trainer(Fit(), log_every=5, progress=lambda *told_of: told.append(told_of)).run()
    assert [step for step, _, _ in told] == list(range(1, 13))
    assert all(steps == 12 for _, steps, _ in told)
    assert [bool(metrics) for _, _, metrics in told] == [False] * 4 + [True] * 8


def test_an_autocast_around_the_run_keeps_no_old_weights():
    """It keeps casts of the weights for as long as it lasts."""

    def trained():
        return trainer(Fit(dtype=torch.float32), learning_rate=0.1, precision="bf16").run()

    alone = trained()
    with torch.autocast("cpu", torch.bfloat16):
        within = trained()
    assert same(alone, within)


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("decay", [0, 1])
def test_there_are_runs_without_a_rise_or_a_fall_of_the_rate(warmup, decay):
    rates = []
    ours = trainer(Fit(), warmup=warmup, decay=decay, learning_rate=0.5)
    ours.progress = lambda *_: rates.append(ours.descent.optimizer.param_groups[0]["lr"])
    ours.run()
    assert rates == [0.5 * ((12 - k) / 12 if decay else 1) for k in range(12)]


REFUSED = {
    "steps": [0, 2.5, math.nan, math.inf, "many", True, None],
    "warmup": [-1, 0.5, math.nan],
    "decay": [-0.1, 1.5, math.nan],
    "clip_norm": [0, -1, math.nan, -math.inf, None],
    "ema_decay": [-0.1, 1.0, math.nan],
    "learning_rate": [0, -1e-3, math.nan, math.inf, "fast"],
    "checkpoint_every": [0, -5, 2.5],
    "log_every": [0, -5, 2.5],
    "precision": ["fp16", 16, None],
    "generator": [-1, 2.5, "seed"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_number_that_is_none_of_its_kind_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        trainer(Fit(), **{name: value})


def test_counts_may_come_as_floats_and_no_clipping_as_infinity():
    ours = trainer(Fit(), steps=8.0, clip_norm=math.inf)
    ours.run()
    assert ours.step == 8 and isinstance(ours.steps, int)
