"""Compile every configuration of the Triton kernels for GPUs that are not here.

    python scripts/kernel_table.py [--check]

Writes the table of docs/kernels.md: registers, stack, and loads and stores of local memory (LDL and
STL in the machine code: what spills is read and written there). Only what changed is compiled: a
row is known by a hash of the kernel's source, its signature and the version of Triton. --check
compiles and writes nothing, and fails if a row is missing, or if one spills.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # it is read when a kernel is defined

import triton  # pyright: ignore[reportMissingImports]
from rich.progress import track
from triton.backends.compiler import GPUTarget  # pyright: ignore[reportMissingImports]
from triton.compiler import ASTSource  # pyright: ignore[reportMissingImports]
from triton.runtime import JITFunction  # pyright: ignore[reportMissingImports]

from alignflow.kernels.online import normalizer_kernel, row_options
from alignflow.kernels.simplex_step import simplex_step_backward_kernel, simplex_step_forward_kernel
from alignflow.kernels.soft_cross_entropy import (
    soft_cross_entropy_backward_kernel,
    soft_cross_entropy_forward_kernel,
)
from alignflow.kernels.soft_embedding import (
    REDUCED,
    soft_embedding_forward_kernel,
    soft_embedding_in_logits_kernel,
    soft_embedding_in_table_kernel,
    tile_options,
)
from alignflow.tables import markdown_table

ROOT = Path(__file__).parents[1]
PAGE, STORE = ROOT / "docs" / "kernels.md", ROOT / "docs" / "kernels.json"
BEGIN, END = "<!-- table of scripts/kernel_table.py -->", "<!-- end of the table -->"
ARCHITECTURES = (80, 90, 100)
# whole, which makes wide loads; odd; of one block
ROWS = ((32_768, "bf16"), (32_768, "fp32"), (50_257, "bf16"), (500, "bf16"))
BIN = Path(triton.__path__[0]) / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Configuration:
    """A kernel with the types and values of its arguments.

    Args:
        name: Of the row.
        kernel: A function under `triton.jit`.
        pointers: Types of the elements of its tensors.
        integers: Values of its sizes and strides, of which only divisibility by 16 counts.
        floats: Names of its numbers.
        constants: Values of its constexprs.
        options: Warps and stages.
    """

    name: str
    kernel: Any
    pointers: dict[str, str]
    integers: dict[str, int]
    floats: tuple[str, ...]
    constants: dict[str, Any]
    options: dict[str, int]

    def source(self) -> ASTSource:
        signature, attributes = {}, {}
        for index, name in enumerate(self.kernel.arg_names):
            if name in self.constants:
                signature[name] = "constexpr"
            elif name in self.floats:
                signature[name] = "fp32"
            elif name in self.integers:
                signature[name] = "i32"
                if self.integers[name] % 16 == 0:
                    attributes[index,] = [["tt.divisibility", 16]]
            else:
                signature[name] = f"*{self.pointers[name]}"
                attributes[index,] = [["tt.divisibility", 16]]
        constants = {(self.kernel.arg_names.index(k),): v for k, v in self.constants.items()}
        return ASTSource(self.kernel, signature, constants, attributes)

    def key(self, architecture: int) -> str:
        # with what the kernel may call: all of its file's functions under jit
        names = self.kernel.fn.__globals__.items()
        sources = [value.src for _, value in sorted(names) if isinstance(value, JITFunction)]
        parts = [triton.__version__, str(architecture), self.kernel.src, *sources, self.name]
        parts += map(str, (self.pointers, self.integers, self.constants, self.options))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def rows_of(size: int, dtype: str) -> Iterator[Configuration]:
    """The kernels that run along rows."""
    default = row_options(size)
    shown = f"{dtype}, V = {size:,}"

    def configuration(name, kernel, logits, strides, floats=(), **constants):
        pointers = dict.fromkeys(kernel.arg_names, "fp32") | dict.fromkeys(logits, dtype)
        return Configuration(
            f"{name}, {shown}", kernel, pointers | {"labels": "i64"},
            {"V": size} | dict.fromkeys(strides, size), floats,
            {n: default[n] for n in ("BLOCK", "STAGES") if n in kernel.arg_names} | constants,
            {"num_warps": default["num_warps"]},
        )  # fmt: skip

    everything = {"HAS_A": True, "HAS_B": True, "HAS_LABELS": True}
    strides = ("stride_z", "stride_a", "stride_b")
    yield configuration(
        "soft cross-entropy, forward", soft_cross_entropy_forward_kernel, "zab", strides,
        **everything,
    )  # fmt: skip
    yield configuration(
        "soft cross-entropy, backward", soft_cross_entropy_backward_kernel,
        ("z", "a", "b", "gradient"), (*strides, "stride_gradient"), **everything,
    )  # fmt: skip
    yield configuration(
        "simplex step, forward", simplex_step_forward_kernel, ("z", "x", "result", "thresholds"),
        ("stride_z", "stride_x"), ("inverse",), TOP_K=True, ONE_BLOCK=size <= default["BLOCK"],
    )  # fmt: skip
    yield configuration(
        "simplex step, backward", simplex_step_backward_kernel,
        ("upstream", "z", "thresholds", "in_logits", "in_x"), ("stride_upstream", "stride_z"),
        ("inverse",), TOP_K=True, IN_X=True,
    )  # fmt: skip
    yield configuration("log-normalizers", normalizer_kernel, ("z",), ("stride_z",))


def tiles_of(size: int, width: int, dtype: str) -> Iterator[Configuration]:
    """The kernels that are matrix products."""
    kernels = {
        "forward": (soft_embedding_forward_kernel, tile_options(width)),
        "gradient in the logits": (soft_embedding_in_logits_kernel, tile_options(width, REDUCED)),
        "gradient in the table": (soft_embedding_in_table_kernel, tile_options(width)),
    }
    for name, (kernel, tiles) in kernels.items():
        options = {name: tiles.pop(name) for name in ("num_warps", "num_stages")}
        pointers = dict.fromkeys(kernel.arg_names, dtype) | {"normalizers": "fp32", "means": "fp32"}
        integers = {"N": 4096, "V": size, "D": width, "stride_z": size, "stride_table": width}
        yield Configuration(
            f"soft embedding, {name}, {dtype}, V = {size:,}, d = {width}", kernel, pointers,
            integers, (), tiles, options,
        )  # fmt: skip


def configurations() -> list[Configuration]:
    rows = [configuration for row in ROWS for configuration in rows_of(*row)]
    return [*rows, *tiles_of(32_768, 512, "bf16")]


def resources(configuration: Configuration, architecture: int) -> dict[str, int]:
    """Registers, bytes of stack and shared memory, and accesses to local memory."""
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(configuration.source(), target=target, options=configuration.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (_dumped(option, file.name) for option in ("-res-usage", "-sass"))
    found = dict(re.findall(r"(REG|STACK):(\d+)", usage))
    return {
        "registers": int(found["REG"]),
        "stack": int(found["STACK"]),
        "shared": compiled.metadata.shared,
        "local": len(re.findall(r"\b(?:LDL|STL)\b", code)),
    }


def _dumped(option: str, path: str) -> str:
    done = subprocess.run(
        [BIN / "cuobjdump", option, path], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def table(found: dict[str, dict[str, int]]) -> str:
    rows = []
    for configuration in configurations():
        uses = [found[configuration.key(architecture)] for architecture in ARCHITECTURES]
        columns = (
            " / ".join(str(use[name]) for use in uses) for name in ("registers", "stack", "local")
        )
        rows.append([configuration.name, str(configuration.options["num_warps"]), *columns])
    names = " / ".join(f"sm_{architecture}" for architecture in ARCHITECTURES)
    head = ["", "warps", f"registers, {names}", "stack, bytes", "LDL and STL"]
    return markdown_table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    known = json.loads(STORE.read_text()) if STORE.exists() else {}
    wanted = {c.key(a): (c, a) for c in configurations() for a in ARCHITECTURES}
    missing = [key for key in wanted if key not in known]
    if check and missing:
        sys.exit(
            f"{len(missing)} rows of {PAGE.name} are out of date: {wanted[missing[0]][0].name}"
        )
    for key in track(missing, "compiled"):
        known[key] = resources(*wanted[key])
        STORE.write_text(json.dumps(known, indent=1) + "\n")
    known = {key: known[key] for key in wanted}
    spilling = [wanted[key] for key, use in known.items() if use["local"]]
    if not check:
        STORE.write_text(json.dumps(known, indent=1) + "\n")
        before, rest = PAGE.read_text().split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{table(known)}\n\n{END}{after}")
    for configuration, architecture in spilling:
        print(f"spills on sm_{architecture}: {configuration.name}")
    sys.exit(bool(spilling))


if __name__ == "__main__":
    main()
