"""Damage done to a folder that holds a checkpoint: `facts.json` beside `tensors.safetensors`.

Each damage changes what the folder says; nothing here makes its checksum right again, apart from
`HOSTILE`, whose folders are whole and ask for networks that their weights are not of.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignflow.checkpoint import load_folder, save_folder

__all__ = ["DAMAGES", "HOSTILE", "Damage"]

# (folder, another sound folder of the same kind, randomness) -> what was done, in words
Damage = Callable[[Path, Path, random.Random], str]
FILES = ("facts.json", "tensors.safetensors")
JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    1e9,
    10**30,
    -(10**9),
    0.5,
    "",
    "abc",
    "../../etc",
    [],
    {},
    [1, 2],
    {"a": 1},
    [[]],
    "mlp",
    "\u0000",
    [None],
    float("nan"),
    float("inf"),
    "x" * 10_000,
]


def truncate(folder: Path, other: Path, chance: random.Random) -> str:
    path = _file(folder, chance)
    content = path.read_bytes()
    keep = chance.randrange(len(content))
    path.write_bytes(content[:keep])
    return f"{path.name} cut to {keep} of {len(content)} bytes"


def extend(folder: Path, other: Path, chance: random.Random) -> str:
    path = folder / "tensors.safetensors"
    more = chance.randbytes(chance.randint(1, 64))
    path.write_bytes(path.read_bytes() + more)
    return f"{path.name} longer by {len(more)} bytes"


def flip(folder: Path, other: Path, chance: random.Random) -> str:
    path = _file(folder, chance)
    content = bytearray(path.read_bytes())
    places = sorted(
        {chance.randrange(8 * len(content)) for _ in range(chance.choice((1, 1, 2, 9)))}
    )
    for place in places:
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    return f"bits {places} of {path.name} flipped"


def overwrite(folder: Path, other: Path, chance: random.Random) -> str:
    path = _file(folder, chance)
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    length = chance.randint(1, max(1, len(content) // 4))
    old = content[start : start + length]
    new = chance.choice((b"\0" * len(old), chance.randbytes(len(old)), old[::-1]))
    content[start : start + length] = new if new != old else bytes(b ^ 1 for b in old)
    path.write_bytes(content)
    return f"{len(old)} bytes of {path.name} from {start} on overwritten"


def exchange(folder: Path, other: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    shutil.copy(other / name, folder / name)
    return f"{name} of another checkpoint"


def rename(folder: Path, other: Path, chance: random.Random) -> str:
    facts, tensors = (folder / name for name in FILES)
    facts.rename(folder / "kept")
    tensors.rename(facts)
    (folder / "kept").rename(tensors)
    return "the two files exchanged names"


def remove(folder: Path, other: Path, chance: random.Random) -> str:
    path = _file(folder, chance)
    path.unlink()
    return f"{path.name} removed"


def replace(folder: Path, other: Path, chance: random.Random) -> str:
    """A file replaced by something that is no regular file, or never ends."""
    path = _file(folder, chance)
    path.unlink()
    kind = chance.choice(("FIFO", "folder", "loop", "dangling link", "endless link", "empty file"))
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty file":
        path.touch()
    else:
        ends = {"loop": path.name, "dangling link": "nowhere", "endless link": "/dev/zero"}
        path.symlink_to(ends[kind])
    return f"{path.name} is a {kind}"


def edit_fact(folder: Path, other: Path, chance: random.Random) -> str:
    facts = json.loads((folder / "facts.json").read_text())
    before = json.dumps(facts)
    holder, key = chance.choice(list(_leaves(facts)))
    deed = chance.choice(("set", "set", "set", "near", "remove", "add"))
    if deed == "remove":
        del holder[key]
    elif deed == "add" and isinstance(holder, dict):
        holder[chance.choice(("extra", "sha257", "module", "_target_"))] = chance.choice(JUNK)
    elif deed == "near" and isinstance(holder[key], int | float):
        holder[key] = (holder[key] + 1) if not isinstance(holder[key], bool) else not holder[key]
    else:
        holder[key] = chance.choice(JUNK)
    if json.dumps(facts) == before:
        return edit_fact(folder, other, chance)
    (folder / "facts.json").write_text(json.dumps(facts))
    return f"fact {key!r}: {deed}"


def rewrite_facts(folder: Path, other: Path, chance: random.Random) -> str:
    texts = [
        "{", "", "null", "[]", "3", '"facts"', "{}", "[" * 100_000, '{"a":' * 50_000, "NaN",
        '{"sha256": null}', '{"sha256": 3}', '{"sha256": "abc"}', "\ufeff{}", "{'a': 1}",
        "1" * 5000,
    ]  # fmt: skip
    blobs = [text.encode() for text in texts] + [b"\xff\xfe\x00", chance.randbytes(200)]
    blob = chance.choice(blobs)
    (folder / "facts.json").write_bytes(blob)
    return f"facts.json is {blob[:20]!r}..."


def edit_header(folder: Path, other: Path, chance: random.Random) -> str:
    """The header of the tensors: its length, a shape, a type, an offset, or no JSON at all."""
    path = folder / "tensors.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    entry = header[chance.choice([name for name in header if name != "__metadata__"])]
    deed = chance.choice(("length", "shape", "type", "offset", "junk", "no tensor"))
    if deed == "length":
        size = chance.choice((0, 1, 2**40, 2**63, 2**64 - 1, size + 1, size - 1))
        path.write_bytes(size.to_bytes(8, "little") + content[8:])
        return f"a header of {size} bytes"
    if deed == "shape":
        entry["shape"] = chance.choice(([2**40], [0], [-1], [1.5], "abc", [2**31, 2**31], None))
    elif deed == "type":
        entry["dtype"] = chance.choice(
            [d for d in ("F64", "I8", "BOOL", "X9", 3) if d != entry["dtype"]]
        )
    elif deed == "offset":
        entry["data_offsets"] = chance.choice(([0, 2**50], [5, 1], [-4, 0], "abc", []))
    elif deed == "no tensor":
        header = {}
    text = chance.randbytes(50) if deed == "junk" else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return f"header of the tensors: {deed}"


def replace_folder(folder: Path, other: Path, chance: random.Random) -> str:
    shutil.rmtree(folder)
    kind = chance.choice(("file", "FIFO", "loop"))
    if kind == "file":
        folder.write_text("no folder")
    elif kind == "FIFO":
        os.mkfifo(folder)
    else:
        folder.symlink_to(folder.name)
    return f"the folder is a {kind}"


DAMAGES: dict[str, tuple[Damage, int]] = {
    "truncate": (truncate, 3),
    "extend": (extend, 1),
    "flip": (flip, 5),
    "overwrite": (overwrite, 3),
    "exchange": (exchange, 1),
    "rename": (rename, 1),
    "remove": (remove, 1),
    "replace": (replace, 2),
    "edit_fact": (edit_fact, 5),
    "rewrite_facts": (rewrite_facts, 2),
    "edit_header": (edit_header, 3),
    "replace_folder": (replace_folder, 1),
}
"""By name, with how often each is done."""


def hostile(folder: Path, other: Path, chance: random.Random) -> str:
    """Sound in every byte, but for a network that these weights are not of, or for none at all."""
    tensors, facts = load_folder(folder)
    arguments = facts["arguments"]
    numbers = [key for key, value in arguments.items() if isinstance(value, int | float)]
    texts = [key for key in arguments if key not in numbers]
    sizes = [key for key in ("width", "depth", "features") if key in arguments]
    deed = chance.choice(("size", "size", "kind", "unknown", "missing", "network", "shape"))
    if deed == "size":
        key = chance.choice(sizes)
        arguments[key] = chance.choice((16_000, 10**9, 10**12, 2**63, 0, -1, -16_000, 2.5))
        deed = f"{key} {arguments[key]}"
    elif deed == "kind":
        key = chance.choice(sizes + texts)
        arguments[key] = chance.choice((None, "abc", {}, [[]], {"a": 1}))
        deed = f"{key} {arguments[key]!r}"
    elif deed == "unknown":
        arguments[chance.choice(("extra", "_target_", "self", "__class__"))] = 1
    elif deed == "missing":
        del facts["arguments"]
    elif deed == "network":
        facts["network"] = chance.choice(
            (None, "abc", "os.system", 3, [], {"mlp": 1}, "unet", "dit")
        )
    else:
        name = chance.choice([n for n, v in tensors.items() if v.ndim])
        tensors[name] = tensors[name].repeat(3, *[1] * (tensors[name].ndim - 1))
    shutil.rmtree(folder)
    save_folder(folder, tensors, facts)
    return f"whole, with another {deed}"


HOSTILE: Damage = hostile


def _file(folder: Path, chance: random.Random) -> Path:
    return folder / chance.choice(FILES)


def _leaves(node: Any):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, dict | list):
            yield from _leaves(value)
