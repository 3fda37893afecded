"""The command line: `alignflow run`, and the commands around it.

Help and lists are fast: what takes long to import is imported by the command that needs it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import alignflow
from alignflow import commands
from alignflow.listing import KINDS

__all__ = ["main"]

_DESCRIPTION = "Align few-step generative models with rewards."
_RUN = """\
usage: alignflow run experiment=NAME [key=value ...] [--multirun] [--cfg job] [--config-dir DIR]

Run a pipeline from a config: its stages in order, into a folder under outputs/.

  alignflow run experiment=avatars_glasses                   the demo: steer, tune, judge, report
  alignflow run experiment=ring seed=1 strength=4            any key can be set
  alignflow run experiment=ring reward._target_=my_module.my_reward   a reward of your own
  alignflow run experiment=ring strength=1,2,4 --multirun             a sweep, for `report`
  alignflow run experiment=ring --cfg job --resolve          the config, and nothing run

`alignflow list` shows what there is to choose from; --hydra-help has every flag of Hydra's.
"""
_BENCHMARK = """\
usage: alignflow benchmark [suite=NAME] [key=value ...]

Every method against the exact tilt: its distance, as a multiple of that of exact samples, and its
cost. A run that was cut is continued.

  alignflow benchmark                            the suite `smoke`, less than a minute
  alignflow benchmark suite=exact_tilt           closed forms, strengths from weak to strong
  alignflow benchmark suite=exact_tilt suite.seeds=4 folder=outputs/mine
  alignflow benchmark suite=finetune 'only=[ring, tilt]'    a part of it, and later the rest
"""
_DEVICES = "a100, h100, h200, b200, l4, rtx4090, mi300x, epyc9654"
_REWARD = "a name that `alignflow list rewards` shows, or module:function"
_RUN_FOLDER = "outputs/ring/2026-01-01_12-00-00"
# not through argparse: everything behind these is Hydra's
_BY_HYDRA = {"run": (commands.run, _RUN), "benchmark": (commands.benchmark, _BENCHMARK)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # the user's rewards are in the working directory
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if arguments and arguments[0] in _BY_HYDRA:
        command, usage = _BY_HYDRA[arguments[0]]
        if {"-h", "--help"} & set(arguments):
            print(usage, end="")
            return 0
        return command(arguments[1:])
    options = _parser().parse_args(arguments)
    return commands.say_errors(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alignflow", description="Align few-step generative models with rewards."
    )
    parser.add_argument("--version", action="version", version=alignflow.__version__)
    add = partial(_add, parser.add_subparsers(metavar="COMMAND", required=True))
    add(commands.run, "run a pipeline from a config", "run experiment=avatars_glasses")
    add(commands.benchmark, "measure methods against the exact tilt", "benchmark suite=smoke")
    _add_sample(add)
    _add_steer(add)
    _add_advise(add)
    _add_list(add)
    _add_check_reward(add)
    _add_resume(add)
    _add_report(add)
    _add_roofline(add)
    return parser


def _add(subparsers: Any, command: Callable, summary: str, example: str) -> argparse.ArgumentParser:
    """A command, by the first word of its example."""
    added = subparsers.add_parser(
        example.split()[0],
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  alignflow {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(command=command)
    return added


def _add_sample(add: Callable[..., argparse.ArgumentParser]) -> None:
    sample = add(
        commands.sample, "draw samples of a model as a picture", "sample avatars -n 64 -o grid.png"
    )
    _add_drawing(sample)
    sample.add_argument("--steps", type=int, default=4, help="jumps from noise to data")
    sample.add_argument("--guidance", type=float, default=1.0, help="scale; 1 is the model itself")
    sample.add_argument("--strength", type=float, help="of a model that was tuned for a range")


def _add_steer(add: Callable[..., argparse.ArgumentParser]) -> None:
    steer = add(
        commands.steer,
        "steer a frozen model by a reward and show it before and after",
        "steer avatars --reward glasses --method lookahead --strength 4 -o grid.png",
    )
    _add_drawing(steer)
    steer.add_argument("--reward", required=True, help=_REWARD)
    steer.add_argument("--method", default="lookahead", help="one of `alignflow list steerers`")
    steer.add_argument("--strength", type=float, help="lambda of the tilt exp(lambda r)")
    steer.add_argument(
        "--at-strength", type=float, help="that of a model that was tuned for a range"
    )
    steer.add_argument("--steps", type=int, help="steps from noise to data")
    steer.add_argument("--particles", type=int, help="particles of one system")
    steer.add_argument(
        "--options", nargs="+", default=[], metavar="KEY=VALUE", help="of the method: step_size=0.5"
    )


def _add_advise(add: Callable[..., argparse.ArgumentParser]) -> None:
    advise = add(
        commands.advise,
        "say which method reaches the tilt within a budget, and at what cost",
        "advise avatars has_glasses --strength 2 --budget 64",
    )
    advise.add_argument("policy", help="name of a shipped model, or a folder that holds one")
    advise.add_argument("reward", help=_REWARD)
    advise.add_argument("--strength", type=float, default=1.0, help="lambda of exp(lambda r)")
    advise.add_argument("--budget", type=int, default=64, help="the most forwards a sample")
    advise.add_argument("--condition", type=int, metavar="LABEL", help="of all samples")
    advise.add_argument("--jumps", type=int, default=4, help="from noise to a sample of the base")
    advise.add_argument(
        "--tolerance", type=float, default=0.05, help="distance that counts as reached, of 0 to 1"
    )
    advise.add_argument("--samples", type=int, default=1024, help="of the base, in the pilot")
    advise.add_argument("--seed", type=int, default=0, help="of the pilot")
    advise.add_argument("--json", action="store_true", help="print all numbers as JSON")


def _add_list(add: Callable[..., argparse.ArgumentParser]) -> None:
    listing = add(commands.show, "show what there is to choose from", "list steerers")
    listing.add_argument("kind", nargs="?", choices=KINDS, help="everything by default")
    listing.add_argument("name", nargs="?", help="of a steerer or finetuner, to show its options")


def _add_check_reward(add: Callable[..., argparse.ArgumentParser]) -> None:
    check = add(
        commands.check_reward,
        "run a reward on samples and say what is wrong with it",
        "check-reward my_module:my_reward --policy avatars",
    )
    check.add_argument("reward", help=_REWARD)
    check.add_argument("--policy", default="avatars", help="model whose samples it is given")
    check.add_argument("-n", type=int, default=4, help="number of samples")


def _add_resume(add: Callable[..., argparse.ArgumentParser]) -> None:
    resume = add(commands.resume, "continue a run that was cut", f"resume {_RUN_FOLDER}")
    resume.add_argument("folder", help="of the run, or of a sweep")
    resume.add_argument(
        "--trust-config",
        action="store_true",
        help="also import targets of its config that the run did not record",
    )


def _add_report(add: Callable[..., argparse.ArgumentParser]) -> None:
    summary = "write the report of a run, or of a sweep, again"
    report = add(commands.report, summary, f"report {_RUN_FOLDER}")
    report.add_argument("folder", help="of the run, or of a sweep, whose runs are compared")


def _add_roofline(add: Callable[..., argparse.ArgumentParser]) -> None:
    roofline = add(
        commands.roofline,
        "show what decoding costs, token by token and by a flow map",
        "roofline --device h100 l4 --batch 1 64 --plot roofline.png",
    )
    model = roofline.add_argument_group("model (by default of seven billion weights)")
    for name, meaning in {
        "layers": "transformer blocks",
        "width": "features of a position",
        "heads": "attention heads",
        "kv-heads": "heads of keys and values; as many by default",
        "vocabulary": "tokens",
    }.items():
        model.add_argument(f"--{name}", type=int, metavar="N", help=meaning)
    model.add_argument("--expansion", type=float, metavar="X", help="of the MLP, 4 by default")
    model.add_argument("--dtype", help="float32, bfloat16 (the default), float16 or float8")
    _add_decoding(roofline.add_argument_group("decoding"))
    device = roofline.add_argument_group("device (h100 by default)")
    device.add_argument("--device", nargs="+", metavar="NAME", help=f"of {_DEVICES}")
    device.add_argument("--peak", type=float, metavar="TFLOP/S", help="of another device")
    device.add_argument("--bandwidth", type=float, metavar="GB/S", help="of this device")
    device.add_argument(
        "--measure",
        nargs="?",
        const="cpu",
        choices=("cpu", "cuda"),
        help="time networks on this machine, by default small ones in float32",
    )
    roofline.add_argument("--json", action="store_true", help="print all numbers as JSON")
    roofline.add_argument("--plot", metavar="FILE.png", help="draw the roofs and the decoders")


def _add_decoding(decoding: Any) -> None:
    add = decoding.add_argument
    add("--context", type=int, default=0, metavar="S", help="cached tokens before the new ones")
    add("--length", type=int, default=128, metavar="L", help="new tokens of a sequence")
    add("--batch", type=int, nargs="+", metavar="N", help="sequences; several are compared")
    add("--steps", type=int, nargs="+", metavar="N", help="of flow maps; several are compared")
    add("--block", type=int, default=4, help="tokens that speculation drafts at a time")
    add("--acceptance", type=float, default=0.7, help="probability that one is accepted")
    add("--draft", type=float, default=0.1, help="cost of a drafted token, in those of the model")


def _add_drawing(command: argparse.ArgumentParser) -> None:
    command.add_argument("policy", help="name of a shipped model, or a folder that holds one")
    command.add_argument("-n", type=int, default=64, help="number of samples")
    command.add_argument(
        "--condition", type=int, nargs="+", metavar="LABEL", help="one for all, or several in turn"
    )
    command.add_argument(
        "--template",
        nargs="+",
        metavar="PATTERN",
        help='of strings that are filled in, "mar*" or "_a__": one for all, or several in turn',
    )
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    command.add_argument(
        "-o", "--output", default="grid.png", help="the picture, a PNG; strings are printed"
    )


if __name__ == "__main__":
    sys.exit(main())
