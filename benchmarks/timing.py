"""Interleaved timing (processor time, one thread), operations and memory counted, tables."""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

PERFORMANCE = Path(__file__).parent.parent / "docs" / "PERFORMANCE.md"

Step = Callable[[], object]


class Times:
    """Processor seconds of every case in every round, the cases of a round one after the other."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds = seconds

    def median(self, case: str) -> float:
        """Median seconds of a case."""
        return statistics.median(self.seconds[case])

    def ratio(self, case: str, to: str) -> float:
        """Median over rounds of one case's time over another's in the same round."""
        pairs = zip(self.seconds[case], self.seconds[to], strict=True)
        return statistics.median(a / b for a, b in pairs)


def interleave(cases: dict[str, Step], rounds: int, warmup: int = 2) -> Times:
    """Run every case once a round, so that a busy moment of the machine hits all alike."""
    for _ in range(warmup):
        for step in cases.values():
            step()
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    for round_ in range(rounds):
        order = list(cases.items())
        for case, step in order if round_ % 2 == 0 else reversed(order):
            start = time.process_time()
            step()
            seconds[case].append(time.process_time() - start)
    return Times(seconds)


def train_step(call: Callable[[Tensor], Tensor], u: Tensor, weight: Tensor, net: nn.Module) -> Step:
    """Forward and backward for the input and every parameter, gradients thrown away."""
    parameters = list(net.parameters())

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        u.grad = None
        call(u).backward(weight)

    return step


def flops(step: Step) -> int:
    """Floating-point operations of the matrix products of one step, those in place included."""

    def in_place(_: object, x: torch.Size, y: torch.Size, **__: object) -> int:
        return 2 * x[0] * x[1] * y[1]

    mapping = {torch.ops.aten.addmm_: in_place}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return counter.get_total_flops()


def saved_activations(call: Callable[[Tensor], Tensor], u: Tensor) -> int:
    """Bytes autograd keeps in tensors with a row a datum, each storage counted once."""
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.ndim == 2 and len(tensor) == len(u):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = call(u)
    total = sum(size for size, _ in kept.values())
    del out
    return total


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y against log x."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    ma, mb = statistics.fmean(a), statistics.fmean(b)
    top = sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True))
    return top / sum((p - ma) ** 2 for p in a)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three significant digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [head, ["---"] * len(head), *[[cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, float32"


def arguments(description: str, **extra: tuple[type, object, str]) -> argparse.Namespace:
    """Parse `--write`, `--rounds` and the given options, and set one thread."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help="update docs/PERFORMANCE.md")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    for name, (kind, default, text) in extra.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=default, help=text)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return parser.parse_args()


def publish(name: str, text: str, write: bool) -> None:
    """Print a section, and put it between its marks in docs/PERFORMANCE.md when asked to."""
    print(text)
    if not write:
        return
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PERFORMANCE.read_text() if PERFORMANCE.exists() else "# Performance\n"
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in page:
        before, rest = page.split(begin, 1)
        page = before + section + rest.split(end, 1)[1]
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    PERFORMANCE.write_text(page)
