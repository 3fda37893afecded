"""Mistakes on the command line: each is told in a few words that name it, and leaves no folder."""

from pathlib import Path

import pytest

from alignflow.cli import main
from alignflow.policies import MLP, FlowMapPolicy

MODULE = """
import torch
import alignflow as af

@af.reward(differentiable=True)
def right(points):
    return points[:, 0]

number = 3

def needs(points, scale):
    return scale * points[:, 0]

class Judge(torch.nn.Module):
    labels, exclusive = ("a", "b", "a"), True
    def features(self, points):
        return points
    def forward(self, points):
        return points
"""
TINY = [
    "policy=mlp",
    "policy.module.width=8",
    "reward=ring",
    "steerer=lookahead",
    "steerer.steps=2",
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4, weighed: 0}",
]
TUNED = ["finetuner=weighted", "stages=[finetune, steer, evaluate]"]
TRAINED = ["data=ring", "training=default", "stages=[pretrain, steer, evaluate]"]
LATER = [*TRAINED[:2], TUNED[0], "strength=1.0", "stages=[pretrain, finetune, steer]"]
STOCHASTIC = [*TRAINED[:2], "stages=[learn_posterior, steer, evaluate]"]

RUNS = [
    # settings of the run
    (["seed=1.5"], "seed must be a whole number"),
    (["seed=-1"], "seed must be a whole number"),
    (["seed=one"], "seed must be a whole number"),
    (["seed=null"], "seed must be a whole number"),
    (["seed=true"], "seed must be a whole number"),
    (["device=gpu"], "device must be cpu, cuda:N or mps, got 'gpu'"),
    (["device=cuad"], "did you mean 'cuda'"),
    (["device=cuda:99"], "device=cuda:99 is not there"),
    (["device=cpu:3"], "device=cpu:3 is not there"),
    (["device=3"], "device must be"),
    (["precision=fp23"], "did you mean 'fp32'"),
    (["precision=null"], "precision must be one of fp32, bf16"),
    (["compile=maybe"], "compile must be true or false"),
    (["compile=1"], "compile must be true or false"),
    (["name=null"], "name must be a text"),
    (["condition=glasses"], "condition must be a label"),
    (["condition=1.5"], "condition must be a label"),
    (["condition=[1,a]"], "condition must be a label"),
    (["reference=nope"], "reference must be a mapping, got 'nope'"),
    (["held_out=3"], "held_out must be a mapping, got 3"),
    (["beside=3"], "beside must be a mapping, got 3"),
    (["+beside.a=dps"], "beside.a must be a mapping, got 'dps'"),
    (["+beside.a.method=dsp"], "did you mean 'dps'"),
    (["+beside.a={method: dps, draws: 2}"], "draws=2 would do nothing"),
    (["+beside.a={method: dps, strength: 2}"], "beside.a.strength: the strength of a run"),
    (["+beside.lookahead.method=dps"], "beside.lookahead has the name of the run's own"),
    (["loader=nope"], "loader must be a mapping"),
    (["stages=steer"], "stages must be a list"),
    (["stages=null"], "stages must be a list"),
    (["stages=[]"], "stages must be a list"),
    (["stages=[ster, evaluate]"], "did you mean 'steer'"),
    (["stages=[evaluate, steer]"], "in the order"),
    (["stages=[steer, steer]"], "once each"),
    (["~seed"], "the config lacks seed"),
    (["evaluation=null"], "evaluation must be a mapping"),
    (["evaluation.samples=2.5"], "evaluation.samples must be a whole number of at least 2"),
    (["evaluation.samples=many"], "evaluation.samples must be a whole number"),
    (["evaluation.samples=1"], "evaluation.samples must be a whole number of at least 2"),
    (["evaluation.steps=0"], "evaluation.steps must be a whole number of at least 1"),
    (["evaluation.batch_size=-4"], "evaluation.batch_size must be"),
    (["evaluation.weighed=5"], "evaluation.weighed needs a reference"),
    (["+evaluation.sampels=3"], "did you mean 'samples'"),
    (["~evaluation.steps"], "evaluation lacks steps"),
    (["evaluation.sampler=ode"], "evaluation.sampler must be null or have a _target_, got 'ode'"),
    (["evaluation.sampler={noise: fresh}"], "evaluation.sampler must be null or have a _target_"),
    (["evaluation.sampler={_target_: my_module.Judge}"], "evaluation.sampler must be what steps"),
    (["name=${nothing}"], "nothing"),
    # parts
    (["strength=abc"], "strength must be a finite number of at least 0"),
    (["strength=-1"], "strength must be"),
    (["strength=.nan"], "strength must be"),
    (["strength=[1,2]"], "strength is a range, from 1 to 2, and only the stage finetune"),
    (["strength=[2,1]"], "must run from a lower to a larger one"),
    (["steerer.steps=2.5"], "steerer.steps must be a whole number"),
    (["steerer.steps=0"], "steerer.steps must be a whole number"),
    (["+steerer.particles=none"], "steerer.particles must be a whole number"),
    (["+steerer.eta=1"], "eta"),
    (["steerer.method=lookahaed"], "method must be one of"),
    ([*TUNED, "finetuner.steps=0"], "finetuner.steps must be a whole number"),
    ([*TUNED, "finetuner.strength=abc"], "strength must be"),
    ([*TUNED, "finetuner.learning_rate=0"], "finetuner.learning_rate must be a positive number"),
    ([*TUNED, "finetuner.batch_size=x"], "finetuner.batch_size must be"),
    ([*TUNED, "steerer.strength=1", "finetuner.strength=3"], "must share its strength"),
    ([*TUNED, "finetuner.method=wieghted", "strength=1.0"], "did you mean 'weighted'"),
    ([*TRAINED, "training.steps=-5"], "training.steps must be"),
    ([*TRAINED, "training.batch_size=1.5"], "training.batch_size must be"),
    ([*TRAINED, "training.learning_rate=fast"], "training.learning_rate must be"),
    ([*TRAINED, "data=folder", "data.path=nowhere", "data.size=8"], "nowhere is no folder"),
    ([*TRAINED, "data=folder"], "leaves data.path open"),
    # of a training behind another stage
    ([*LATER, "finetuner.pool=0"], "pool must be a whole number"),
    ([*LATER, "++finetuner.annealing_stages=x"], "annealing_stages must be"),
    (
        [*LATER, "++finetuner.annealing_stages=9999"],
        "annealing_stages must lie between 1 and steps",
    ),
    ([*LATER, "+finetuner.poool=1"], "did you mean 'pool'"),
    ([*LATER, "+finetuner.warmup=-1"], "warmup must be"),
    ([*LATER, "training.loss=psdd"], "loss"),
    ([*TRAINED, "++training.warmup=x"], "warmup must be"),
    ([*TRAINED, "+training.diagonal_fraction=2"], "diagonal_fraction"),
    ([*STOCHASTIC, "+training.teacher=gals"], "did you mean 'glass'"),
    # names
    (["experiment=rnig"], "did you mean 'ring'"),
    (["exprement=ring"], "did you mean 'experiment'"),
    (["strenght=2"], "did you mean 'strength'"),
    (["~steerer", "steerer.steps=2"], "steerer.steps=2 would do nothing: choose a steerer"),
    (["steerer=fmtt", "steerer.nois=0.3"], "did you mean 'noise'"),
    (["sed=3"], "did you mean 'seed'"),
    (["reward=redess"], "did you mean 'redness'"),
    (["steerer=lokahead"], "did you mean 'lookahead'"),
    (["policy=mpl"], "did you mean 'mlp'"),
    (["+sede=3"], "did you mean 'seed'"),
    (["~steerer.nothing"], "nothing"),
    (["~reward"], "needs reward"),
    # what is named is not there, or takes something else
    (["reward._target_=nowhere.reward"], "nowhere.reward cannot be imported"),
    (["reward._target_=my_module.absent"], "my_module.absent cannot be imported"),
    (["reward._target_=my_module.right", "reward.scale=2"], "takes no scale"),
    (["reward=custom"], "reward._target_ open"),
    (["reward._target_=3"], "_target_ must be an import path, got 3"),
    (["reward._target_="], "_target_"),
    (["+judge._target_=alignflow.nothing"], "judge: alignflow.nothing cannot be imported"),
    (["+judge._target_=my_module.Judge"], "two labels of one name: a"),
    (["+judge._target_=my_module.right"], "judge"),
    (["policy._target_=my_module.Net"], "policy: my_module.Net cannot be imported"),
    (["policy.module._target_=alignflow.policies.MLP", "policy.module.widht=3"], "'width'"),
    (["policy=custom"], "no key 'width' in policy.module"),
    (["policy.event_shape=x"], "policy"),
    (["+held_out.a=my_module.absent"], "my_module.absent cannot be imported"),
    (["+held_out={a: my_module.right, a_error: my_module.right}"], "held_out.a_error"),
    (["+reference._target_=nowhere.law"], "reference: nowhere.law cannot be imported"),
    # no override at all
    (["word"], "word"),
    (["steerer:3"], "'steerer:3' cannot be read as an override"),
    (["hydra.run.dir=my_module.py"], "my_module.py must be a folder, and is a file"),
    (["evaluation.samples=[1"], "no viable alternative"),
    (["hydra.run.dir=my_module.py/run"], "my_module.py"),
    (["hydra.run.dirr=run"], "dirr"),
    (["--config-dir", "nowhere"], "nowhere"),
]

OTHERS = [
    (["sample", "points", "-o", "grid.xyz"], "must end in .png"),
    (["sample", "points", "-o", "grid"], "must end in .png"),
    (["sample", "points", "-o", "folder.png"], "is a folder"),
    (["sample", "points", "-o", "my_module.py/grid.png"], "cannot be written"),
    (["sample", "points", "--steps", "0"], "steps"),
    (["sample", "my_module.py"], "neither a shipped model"),
    (["steer", "points", "--reward", "rign"], "did you mean 'ring'"),
    (["steer", "points", "--reward", "similarity"], "leaves reward.image open"),
    (["steer", "points", "--reward", "ring", "--method", "lokahead"], "did you mean 'lookahead'"),
    (["steer", "points", "--reward", "ring", "--strength", "nan"], "strength"),
    (["steer", "points", "--reward", "ring", "--options", "step_size"], "must be KEY=VALUE"),
    (["steer", "points", "--reward", "ring", "--options", "step_size=[1"], "no viable alternative"),
    (
        ["check-reward", "ring", "--policy", "points", "-n", "1"],
        "n must be a whole number of at least 2",
    ),
    (["resume", "my_module.py"], "no run folder"),
    (["report", "my_module.py"], "no run folder"),
    (["benchmark", "suite=smoek"], "did you mean 'smoke'"),
    (["benchmark", "suite.seed=3"], "did you mean 'seeds'"),
    (["benchmark", "suite.seeds=0"], "suite.seeds must be a whole number of at least 1"),
    (["benchmark", "suite.seeds=[1]"], "suite.seeds must be a whole number of at least 1"),
    (["benchmark", "suite.samples=true"], "suite.samples must be a whole number of at least 2"),
    (["benchmark", "suite.samples=[]"], "suite.samples must be a number or a list"),
    (["benchmark", "only=3"], "only must be a list of names"),
    (["benchmark", "+onlly=1"], "did you mean 'only'"),
    (["benchmark", "folder=my_module.py"], "my_module.py must be a folder, and is a file"),
    (["sample", "points", "--seed", "-1"], "--seed must be"),
    (["sample", "points", "--guidance", "nan"], "guidance must be"),
    (["sample", "points", "--steps", "2.5"], "argument --steps: invalid int value: '2.5'"),
    (["sample", "points", "-n", "0"], "n must be a whole number of at least 1"),
    (["check-reward", "my_module:number", "--policy", "points"], "my_module:number is no reward"),
]


def words_only(value):
    return " ".join(value)[-60:] if isinstance(value, list) else ""


@pytest.fixture
def cwd(cwd):
    """A working directory with a module and a small model of the user's own."""
    Path("my_module.py").write_text(MODULE)
    Path("folder.png").mkdir()
    FlowMapPolicy(MLP(2, width=8), (2,)).save("points")
    return cwd


def refused(arguments, message, capsys):
    """Run the command line, which must tell the error and leave everything as it was."""
    before = sorted(Path().rglob("*"))
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    shown = capsys.readouterr().err
    assert status in (1, 2) and "Traceback" not in shown
    assert message in shown and "error: " in shown
    left = [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
    assert left == before


@pytest.mark.parametrize(("words", "message"), RUNS, ids=words_only)
def test_a_mistaken_run_is_told_by_name_and_leaves_no_folder(words, message, cwd, capsys):
    refused(["run", *TINY, *words], message, capsys)


@pytest.mark.parametrize(("arguments", "message"), OTHERS, ids=words_only)
def test_a_mistake_of_another_command_is_told_by_name(arguments, message, cwd, capsys):
    refused(arguments, message, capsys)


def test_a_refused_sweep_leaves_no_folder(cwd, capsys):
    refused(["run", *TINY, "seed=1.5,2.5", "--multirun"], "seed must be a whole number", capsys)


def test_a_refused_run_leaves_what_stood_there(cwd, capsys):
    Path("outputs/mine").mkdir(parents=True)
    Path("outputs/mine/graph.txt").write_text("of my own")
    refused(["run", *TINY, "seed=1.5", "hydra.run.dir=outputs/mine"], "seed", capsys)
    assert Path("outputs/mine/graph.txt").read_text() == "of my own"


def test_a_training_that_is_refused_at_its_door_leaves_no_folder(cwd, capsys):
    refused(["run", *TINY, *TRAINED, "training.loss=psdd"], "loss", capsys)


def test_a_traceback_is_shown_to_those_who_ask_for_it(cwd, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="seed must be a whole number"):
        main(["run", *TINY, "seed=1.5"])
