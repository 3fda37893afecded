"""Damage to the folder of a checkpoint: by a disk, by a kill, or by a stranger who signs it.

    make_policy(number).save(folder)
    what = damage(folder, other, random, POLICY_DAMAGES)

All of it must be refused, by a CheckpointError that names the folder.
"""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from alignflow.checkpoint.format import sha256, written
from alignflow.policies import EGNN, MLP, DiT, FlowMapPolicy, UNet

__all__ = ["DAMAGES", "POLICY_DAMAGES", "damage", "make_policy", "sign"]

FILES = ("facts.json", "tensors.safetensors")
Facts = dict[str, Any]
Chance = random.Random
HUGE = 10**400
# of a sound policy without classes or context
WRONG: dict[str, list[Any]] = {
    "format": [0, 2, "1", True, 1.5, None, [1]],
    "network": [None, 3, [], {}, "os.system", "MLP", ""],
    "arguments": [None, [], "x", 3, {"self": 1}],
    "dtype": [3, "int64", "float", "float32 ", True, []],
    "event_shape": [None, 2, "2", [], ["2"], [2.5], [-2], [0], [True], [10**12], [HUGE], {}],
    "parametrization": [None, 1, "epsilon", ""],
    "decode": [
        *(None, 1, "jpeg", "os.system", [], {}, {"name": "image"}),
        {"name": "os.system", "arguments": {}},
        {"name": "image", "arguments": {"size": 3}},
        {"name": "image", "arguments": {}, "dtype": "int64"},
    ],
    "invertible": [None, 0, 1, "false", "", []],
    "stochastic": [None, 0, 1, "false", "", [], True],
    "data_std": [None, 0, -1.0, "1", True, [], HUGE],
    "facts": [None, [], "x", 3],
}
ANY = [None, -1, 0, 2.5, 1e300, "3", [], {}, True, 10**9, 10**12, 2**63, HUGE, "../../etc"]
WRONG_ARGUMENTS: dict[str, list[Any]] = {
    "scale": [None, -1, 0, "3", [], {}, True, HUGE],
    "classes": [value for value in ANY if value != 0],
    "widths": [*ANY, [8.5], ["8"], [8] * 1000, [10**9, 10**9], [16_000, 16_000]],
    "attention": [*ANY, [1, 0], ["no", "no"], [True] * 1000],
}
BOMBS = [
    *(b"", b"{", b"null", b"[]", b"3", b"{}", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{'a': 1}"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"1" * 5000, b'{"sha256": null}'),
    *(b'{"sha256": "abc"}', b'{"sha256": {"tensors": "../../x", "facts": "x"}}'),
]


def make_policy(number: int) -> FlowMapPolicy:
    """A small policy, one of each network in turn."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        module, shape = [
            (lambda: MLP(2, 8, 2, scale=1.5), (2,)),
            (lambda: EGNN(4, 2, width=8, depth=1), (3, 2)),
            (lambda: DiT(1, 4, 2, width=8, depth=1, heads=2), (1, 4, 4)),
            (lambda: UNet(1, (8, 8), 1, (False, True)), (1, 4, 4)),
        ][number % 4]
        facts = {"name": "a model", "learned": 3, "rate": 1e-3}
        return FlowMapPolicy(module(), shape, facts=facts)


def damage(
    folder: Path, other: Path, chance: Chance, damages: dict[str, "Damage"] | None = None
) -> str:
    """Damage one of two folders that differ; in words, what was done.

    Args:
        folder: Of the checkpoint.
        other: Another sound one of its kind.
        chance: Source of randomness.
        damages: To choose from; `DAMAGES`, which any checkpoint may suffer, by default.
    """
    damages = damages or DAMAGES
    before = _meaning(folder)
    while True:
        name = chance.choice(list(damages))
        done = damages[name](folder, other, chance)
        # what leaves every fact and every tensor as it was is no damage
        if _meaning(folder) != before:
            return f"{name}: {done}"


def sign(folder: Path, facts: Facts, blob: bytes | None = None) -> None:
    """Write facts, and perhaps tensors, with the checksum that they should have."""
    tensors = folder / "tensors.safetensors"
    if blob is not None:
        tensors.write_bytes(blob)
    facts = {name: value for name, value in facts.items() if name != "sha256"}
    (folder / "facts.json").write_bytes(written(facts, sha256(tensors.read_bytes())))


def truncated(folder: Path, other: Path, chance: Chance) -> str:
    path, content = _one(folder, chance)
    length = chance.randrange(len(content))
    path.write_bytes(content[:length])
    return f"{path.name} to {length} bytes"


def lengthened(folder: Path, other: Path, chance: Chance) -> str:
    path, content = _one(folder, chance)
    more = chance.choice([b"\0", b"x", chance.randbytes(64), content])
    path.write_bytes(content + more)
    return f"{path.name} by {len(more)} bytes"


def flipped(folder: Path, other: Path, chance: Chance) -> str:
    path, content = _one(folder, chance)
    place = chance.randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    return f"bit {place} of {path.name}"


def overwritten(folder: Path, other: Path, chance: Chance) -> str:
    path, content = _one(folder, chance)
    start = chance.randrange(len(content))
    part = content[start : start + chance.randint(1, 512)]
    path.write_bytes(content[:start] + bytes(len(part)) + content[start + len(part) :])
    return f"{len(part)} bytes of {path.name} from {start}"


def exchanged(folder: Path, other: Path, chance: Chance) -> str:
    name, source = chance.choice(FILES), chance.choice(FILES)
    shutil.copy(other / source, folder / name)
    return f"{name} is {source} of another"


def missing(folder: Path, other: Path, chance: Chance) -> str:
    path, _ = _one(folder, chance)
    path.unlink()
    return path.name


def no_file(folder: Path, other: Path, chance: Chance) -> str:
    path, _ = _one(folder, chance)
    path.unlink()
    kind = chance.choice(["FIFO", "socket", "folder", "loop", "device", "nowhere"])
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            # a socket's whole path has to be short
            descriptor = os.open(folder, os.O_RDONLY)
            opened.bind(f"/proc/self/fd/{descriptor}/{path.name}")
            os.close(descriptor)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path.name, "device": "/dev/zero", "nowhere": "nothing"}[kind])
    return f"{path.name} is a {kind}"


def sparse(folder: Path, other: Path, chance: Chance) -> str:
    path, _ = _one(folder, chance)
    os.truncate(path, 2**40)
    return f"{path.name} of a terabyte"


def bombed(folder: Path, other: Path, chance: Chance) -> str:
    bomb = chance.choice(BOMBS)
    (folder / "facts.json").write_bytes(bomb)
    return repr(bomb[:20])


def altered(folder: Path, other: Path, chance: Chance) -> str:
    """A fact of another value, or one more, and the checksum as it was."""
    facts = _facts(folder)
    if chance.random() < 0.1:
        chance.choice([facts, facts["sha256"]])["extra"] = 1
        (folder / "facts.json").write_text(json.dumps(facts))
        return "one more"
    place, key = chance.choice(list(_leaves(facts)))
    old = place[key]
    new = {bool: lambda: not old, int: lambda: old + 1, float: lambda: old * 2}
    place[key] = chance.choice([None, "x", new.get(type(old), lambda: f"{old}x")()])
    (folder / "facts.json").write_text(json.dumps(facts))
    return f"{key} from {old!r} to {place[key]!r}"


def unknown(folder: Path, other: Path, chance: Chance) -> str:
    facts = _facts(folder)
    key = chance.choice(["extra", "_target_", "__class__", "self", "module"])
    facts["arguments"][key] = chance.choice([1, "os.system", "/etc/passwd"])
    sign(folder, facts)
    return f"argument {key}, signed"


def wrong_fact(folder: Path, other: Path, chance: Chance) -> str:
    facts = _facts(folder)
    key = chance.choice(list(WRONG))
    facts[key] = chance.choice(WRONG[key])
    sign(folder, facts)
    return f"{key}={str(facts[key])[:40]}, signed"


def lacking(folder: Path, other: Path, chance: Chance) -> str:
    facts = _facts(folder)
    # older versions wrote neither of the others
    key = chance.choice(sorted(set(WRONG) - {"dtype", "stochastic", "data_std"}))
    del facts[key]
    sign(folder, facts)
    return f"{key}, signed"


def wrong_argument(folder: Path, other: Path, chance: Chance) -> str:
    facts = _facts(folder)
    key = chance.choice(list(facts["arguments"]))
    facts["arguments"][key] = chance.choice(WRONG_ARGUMENTS.get(key, ANY))
    sign(folder, facts)
    return f"{key}={str(facts['arguments'][key])[:40]}, signed"


def wrong_tensors(folder: Path, other: Path, chance: Chance) -> str:
    tensors = load((folder / "tensors.safetensors").read_bytes())
    name = chance.choice(list(tensors))
    value = tensors[name]
    kind = chance.choice(
        ["NaN", "infinite", "whole", "complex", "longer", "renamed", "gone", "more"]
    )
    if kind in ("NaN", "infinite"):
        value.view(-1)[chance.randrange(value.numel())] = float(kind[:3])
    elif kind == "longer":
        tensors[name] = torch.cat([value, value])
    elif kind in ("renamed", "gone"):
        del tensors[name]
    else:
        tensors[name] = value.to({"whole": torch.int64, "complex": torch.complex64}.get(kind))
    if kind in ("renamed", "more"):
        tensors[f"{name}.more"] = value.clone()
    sign(folder, _facts(folder), save(tensors))
    return f"{name} is {kind}, signed"


def wrong_header(folder: Path, other: Path, chance: Chance) -> str:
    content = (folder / "tensors.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    entry = header[chance.choice(list(header))]
    key = chance.choice(["length", "shape", "dtype", "data_offsets"])
    new: Any = {
        "length": [0, 1, length - 1, length + 1, 2**40, 2**63, 2**64 - 1],
        "shape": [[2**40], [0], [-1], [1.5], "abc", [2**62, 4], None, [True]],
        "dtype": ["F128", "I64", "F4", 3, None, "BOOL", []],
        "data_offsets": [[0, 2**50], [8, 4], [-4, 0], "abc", [], [0, 0, 0], None, [HUGE, HUGE]],
    }[key]
    new = chance.choice(new)
    if key != "length":
        entry[key] = new
        text = json.dumps(header).encode()
        new, content = len(text), bytes(8) + text + data
    sign(folder, _facts(folder), new.to_bytes(8, "little") + content[8:])
    return f"{key}, signed"


def no_folder(folder: Path, other: Path, chance: Chance) -> str:
    shutil.rmtree(folder)
    kind = chance.choice(["FIFO", "file", "loop"])
    if kind == "FIFO":
        os.mkfifo(folder)
    elif kind == "file":
        folder.write_text("x")
    else:
        folder.symlink_to(folder.name)
    return kind


def emptied(folder: Path, other: Path, chance: Chance) -> str:
    """Nothing is left: no model, where a training would begin anew."""
    shutil.rmtree(folder)
    if chance.random() < 0.5:
        folder.mkdir()
        return "an empty folder"
    return "no folder"


Damage = Callable[[Path, Path, Chance], str]
DAMAGES: dict[str, Damage] = {
    function.__name__: function
    for function in (
        *(truncated, lengthened, flipped, overwritten, exchanged, missing, no_file, sparse, bombed),
        *(altered, no_folder),
    )
}
"""By name: a callable `(folder, another one, randomness)` that says what it did."""

POLICY_DAMAGES: dict[str, Damage] = DAMAGES | {
    function.__name__: function
    for function in (
        *(emptied, unknown, wrong_fact, lacking, wrong_argument, wrong_tensors, wrong_header),
    )
}
"""The same, with those that a stranger signs; only a policy is sure to refuse them."""


def _one(folder: Path, chance: Chance) -> tuple[Path, bytes]:
    path = folder / chance.choice(FILES)
    return path, path.read_bytes()


def _facts(folder: Path) -> Facts:
    return json.loads((folder / "facts.json").read_bytes())


def _leaves(node: Any):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            yield from _leaves(value)
        else:
            yield node, key


def _meaning(folder: Path) -> Any:
    """What a folder says, its checksum included; None if it says nothing."""
    try:
        facts, tensors = (folder / name for name in FILES)
        if not all(file.is_file() and file.stat().st_size < 2**30 for file in (facts, tensors)):
            return None
        return json.dumps(json.loads(facts.read_bytes()), sort_keys=True), tensors.read_bytes()
    except (OSError, ValueError, RecursionError):
        return None
