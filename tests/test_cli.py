"""The command line, as a user meets it: help, lists, pictures, runs, and errors of one line."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import alignflow
from alignflow.checkpoint import load_folder
from alignflow.cli import main
from alignflow.data import Vocabulary
from alignflow.pictures import save_picture, tile
from alignflow.policies import MLP, FlowMapPolicy, TokenDiT, UNet

COMMANDS = [
    "run", "sample", "steer", "advise", "list", "check-reward", "resume", "report", "roofline",
]  # fmt: skip
REWARD = """
import alignflow as af

@af.reward(differentiable=True)
def right(points):
    return points[:, 0]

def broken(points):
    return points

def count_a(strings):
    return [float(string.count("a")) for string in strings]
"""
TINY = [
    "policy=mlp",
    "policy.module.width=8",
    "stages=[steer, evaluate, report]",
    "steerer=lookahead",
    "steerer.steps=2",
    "evaluation={samples: 4, base_samples: 4, steps: 1, batch_size: 4}",
]


@pytest.fixture
def cwd(cwd):
    """An empty working directory with a user's reward and two small models."""
    Path("my_module.py").write_text(REWARD)
    FlowMapPolicy(MLP(2, width=8), (2,)).save("points")
    unet = UNet(channels=1, widths=(32,), attention=(False,), blocks=1, classes=3)
    FlowMapPolicy(unet, (1, 8, 8), decode="image").save("images")
    return cwd


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command, capsys):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
    assert f"  alignflow {command} " in capsys.readouterr().out


def test_help_and_lists_come_without_importing_torch(cwd):
    code = (
        "import contextlib, sys; from alignflow.cli import main; main(['list'])\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"PYTHONPATH": str(Path(alignflow.__file__).parent.parent)},
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("experiments", "avatars_glasses"),
        ("policies", "ring"),
        ("rewards", "glasses"),
        ("steerers", "lookahead"),
        ("finetuners", "weighted"),
        ("data", "digits"),
    ],
)
def test_a_list_shows_what_there_is(kind, name, capsys):
    assert main(["list", kind]) == 0
    shown = capsys.readouterr().out
    assert kind in shown and name in shown


@pytest.mark.parametrize(
    ("kind", "method", "row"),
    [
        ("steerers", "glass", "solver str 'heun'"),
        ("steerers", "fmtt", "particles int 8 M, of each system"),
        ("finetuners", "tilt", "pool int 8192 candidates at a time;"),
        ("finetuners", "direct", "regularizer Regularizer | None PathKL() D: PathKL()"),
        ("finetuners", "grpo", "environment str | Callable"),
    ],
)
def test_the_options_of_a_method_are_listed_with_type_default_and_meaning(
    kind, method, row, capsys
):
    assert main(["list", kind, method]) == 0
    shown = capsys.readouterr().out
    call = {"steerers": alignflow.steer, "finetuners": alignflow.finetune}[kind]
    assert all(name in shown for name in call.options(method))
    assert all(name in shown for name in ("option", "type", "default", "meaning"))
    assert row in " ".join(shown.split())


def test_options_of_what_has_none_are_refused(capsys):
    assert main(["list", "steerers", "glas"]) == 1
    assert "did you mean 'glass'" in capsys.readouterr().err
    assert main(["list", "finetuners", "tilts"]) == 1
    assert "must be one of direct" in capsys.readouterr().err
    assert main(["list", "rewards", "ocr"]) == 1
    assert "only steerers" in capsys.readouterr().err


def test_sample_writes_a_grid_of_images(cwd):
    arguments = ["--condition", "0", "2", "--guidance", "1.5", "--steps", "1"]
    assert main(["sample", "images", "-n", "9", *arguments, "-o", "deep/grid.png"]) == 0
    # three by three images of 8 pixels with a gap of 1, four times as large
    assert Image.open("deep/grid.png").size == (4 * 26, 4 * 26)


def test_samples_repeat_by_their_seed(cwd):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        main(
            [
                "sample",
                "images",
                "-n",
                "2",
                "--steps",
                "1",
                "--seed",
                str(seed),
                "-o",
                f"{name}.png",
            ]
        )
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b and a != c


def test_steer_shows_points_before_and_after(cwd, capsys):
    arguments = ["--reward", "my_module:right", "--strength", "3", "--steps", "2"]
    options = ["--options", "step_size=2.0"]
    assert main(["steer", "points", "-n", "64", *arguments, *options, "-o", "points.png"]) == 0
    shown = capsys.readouterr().out
    before, after = (
        float(line.split()[-1]) for line in shown.splitlines() if "mean reward" in line
    )
    assert after > before + 1
    assert "Ascent(step_size=2)" in shown
    width, height = Image.open("points.png").size
    assert width > height


def test_the_command_that_is_advised_runs(cwd, capsys):
    command = ["advise", "points", "my_module:right", "--budget", "12", "--samples", "128"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "source_mcmc" in shown and "effective size of the pilot" in shown
    program, *advised = shlex.split(shown.splitlines()[-1])
    assert program == "alignflow" and main(advised) == 0
    assert "after: mean reward" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"].startswith("alignflow steer points")
    auto = ["--method", "auto", "--options", "budget=12", "samples=64"]
    assert main(["steer", "points", "--reward", "my_module:right", *auto]) == 0


def test_strings_are_printed(cwd, capsys):
    vocabulary = Vocabulary("abc")
    network = TokenDiT(4, 3, width=8, depth=1, heads=2)
    FlowMapPolicy(network, (4, 3), "simplex", decode=vocabulary).save("strings")
    assert main(["sample", "strings", "-n", "3", "--steps", "2"]) == 0
    lines = capsys.readouterr().out.split()
    assert len(lines) == 3 and all(len(line) == 4 and set(line) <= set("abc") for line in lines)
    arguments = ["--reward", "my_module:count_a", "--method", "best_of_n", "--steps", "2"]
    assert main(["steer", "strings", "-n", "3", *arguments, "--options", "particles=8"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[-3:]]
    assert sum(after.count("a") for _, after in rows) > sum(b.count("a") for b, _ in rows)
    assert not list(cwd.glob("*.png"))


def test_templates_are_filled_in(cwd, capsys):
    network = TokenDiT(4, 3, width=8, depth=1, heads=2, infill=True)
    FlowMapPolicy(network, (4, 3), "simplex", decode=Vocabulary("abc")).save("strings")
    command = ["sample", "strings", "-n", "5", "--steps", "1", "--template", "ab*", "__cb"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(len(line) == 4 for line in lines)
    # in turn
    assert all(line.startswith("ab") for line in lines[::2])
    assert all(line.endswith("cb") for line in lines[1::2])
    arguments = ["--reward", "my_module:count_a", "--method", "best_of_n", "--steps", "1"]
    assert main(["steer", "strings", "-n", "3", *arguments, "--template", "*cb"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[-3:]]
    assert all(text.endswith("cb") for row in rows for text in row)
    for message, more in {
        "give --condition or --template, not both": ["--condition", "1"],
        "holds 'X' at position 0": ["--template", "X*"],
        "takes 5 tokens, more than length=4": ["--template", "a____"],
        "fixes all 4 tokens: nothing is left to fill in": ["--template", "abca"],
    }.items():
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err


def test_a_template_for_a_model_that_takes_none_is_refused(cwd, capsys):
    network = TokenDiT(4, 3, width=8, depth=1, heads=2)
    FlowMapPolicy(network, (4, 3), "simplex", decode=Vocabulary("abc")).save("strings")
    for name, message in [
        ("strings", "was not trained to fill in"),
        ("images", "model of strings"),
    ]:
        assert main(["sample", name, "--template", "a*"]) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("error: ") and message in shown


def test_check_reward_tells_sound_from_broken(cwd, capsys):
    assert main(["check-reward", "my_module:right", "--policy", "points"]) == 0
    assert "sound" in capsys.readouterr().out
    assert main(["check-reward", "my_module:broken", "--policy", "points"]) == 1
    assert "one number for each" in capsys.readouterr().out


def test_run_takes_a_reward_from_the_working_directory(cwd, capsys):
    custom = "reward._target_=my_module.right"
    assert main(["run", *TINY, custom, "hydra.run.dir=outputs/mine"]) == 0
    assert "report: outputs/mine/report.html" in capsys.readouterr().out
    run = Path("outputs/mine")
    command = (run / "command.txt").read_text()
    assert command.startswith("alignflow run reward=custom policy=mlp") and custom in command
    assert not (run / ".hydra").exists()
    (run / "report.html").unlink()
    assert main(["report", "outputs/mine"]) == 0
    assert (run / "report.html").exists()
    assert main(["resume", "outputs/mine"]) == 0


def test_a_custom_reward_takes_nothing_over_from_the_one_it_replaces(cwd, capsys):
    custom = "reward._target_=my_module.right"
    assert main(["run", "experiment=avatars_glasses", custom, "--cfg", "job", "-p", "reward"]) == 0
    assert capsys.readouterr().out.split("\n", 1)[1].strip() == "_target_: my_module.right"


def test_run_sweeps(cwd):
    custom = "reward._target_=my_module.right"
    tiny = [*TINY, "stages=[steer]", custom, "strength=1,2", "hydra.sweep.dir=sweep"]
    assert main(["run", *tiny, "--multirun"]) == 0
    commands = [Path(f"sweep/{job}/command.txt").read_text() for job in (0, 1)]
    assert "strength=1" in commands[0] and "strength=2" in commands[1]


def test_run_takes_the_configs_of_a_user(cwd, capsys):
    Path("mine/reward").mkdir(parents=True)
    Path("mine/reward/right.yaml").write_text("_target_: my_module.right\n")
    arguments = ["--config-dir", "mine", *TINY, "reward=right", "--cfg", "job", "-p", "reward"]
    assert main(["run", *arguments]) == 0
    assert "my_module.right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nowhere"], "neither a shipped model"),
        (["sample", "points", "-n", "0"], "n must be a whole number of at least 1"),
        (["steer", "points", "--reward", "nothing"], "no reward 'nothing'"),
        (["advise", "points", "nothing"], "no reward 'nothing'"),
        (["advise", "points", "my_module:right", "--budget", "2"], "less than a sample"),
        (["advise", "points", "my_module:right", "--budget", "0"], "budget must be"),
        (["advise", "points", "my_module:right", "--strength", "0"], "strength must be above 0"),
        (["advise", "nowhere", "my_module:right"], "neither a shipped model"),
        (
            ["steer", "points", "--reward", "my_module:right", "--method", "auto"]
            + ["--options", "budget=2"],
            "budget=2 is less than a sample",
        ),
        (["steer", "points", "--reward", "my_module:broken"], "needs the gradient"),
        (
            ["steer", "points", "--reward", "my_module:right", "--options", "stepsize=1"],
            "does not take stepsize",
        ),
        (["resume", "nowhere"], "no run folder"),
        (["report", "nowhere"], "no run folder"),
        (["check-reward", "my_module:absent", "--policy", "points"], "cannot be imported"),
        (["run", *TINY, "reward._target_=my_module.right", "+strenght=2"], "strenght"),
        (["run", *TINY, "reward._target_=my_module.right", "+steerer.eta=2"], "take eta"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else value,
)
def test_what_the_user_can_mend_is_one_message(arguments, message, cwd, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    shown = capsys.readouterr().err
    assert status == 1 and message in shown and "Traceback" not in shown


# --- pictures ---


def test_a_tile_has_every_image_in_reading_order_and_white_between():
    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 2, 2) / 4
    grid = tile(images)
    assert grid.shape == (1, 5, 5)
    assert (grid[0, 0, 0], grid[0, 0, 3], grid[0, 3, 0]) == (0.0, 0.25, 0.5)
    assert (grid[0, 2] == 1).all() and (grid[0, 3:, 3:] == 1).all()


def test_what_is_neither_an_image_nor_a_point_in_the_plane_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match=r"got samples of shape \(5,\)"):
        save_picture(tmp_path / "a.png", {"a": torch.zeros(2, 5)})
    with pytest.raises(ValueError, match="tensors of one shape"):
        save_picture(tmp_path / "a.png", {"a": ["text"]})


def test_a_checkpoint_that_sample_reads_is_the_one_that_was_saved(cwd):
    tensors, facts = load_folder("points")
    assert facts["network"] == "mlp" and tensors["first.weight"].shape == (8, 4)


def test_a_command_keeps_the_folder_of_its_configs(cwd):
    Path("my configs/reward").mkdir(parents=True)
    Path("my configs/reward/right.yaml").write_text("_target_: my_module.right\n")
    arguments = ["--config-dir", "my configs", *TINY, "reward=right", "hydra.run.dir=mine"]
    assert main(["run", *arguments]) == 0
    command = Path("mine/command.txt").read_text()
    assert command.startswith("alignflow run --config-dir 'my configs' policy=mlp")


def test_an_installed_package_s_reward_is_chosen_by_its_name(cwd, monkeypatch, capsys):
    facts = cwd / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[alignflow.rewards]\nmine = my_module:right\n")
    monkeypatch.syspath_prepend(cwd)
    assert main(["run", *TINY, "reward=mine", "hydra.run.dir=mine"]) == 0
    assert "reward: right" in capsys.readouterr().out
    assert main(["resume", "mine"]) == 0
