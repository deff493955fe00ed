"""The layers of docs/DESIGN.md, held by walking the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lidcli"
MODULES = sorted(PACKAGE.rglob("*.py"))

EVERYWHERE = {"errors", "names", "plain"}
ALLOWED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "errors": set(),
    "names": set(),
    "plain": set(),
    "extend": {"config", "metrics"},
    "config": {"errors"},
    "data": {"config", "errors"},
    "nn": set(),
    "models": {"nn", "errors"},
    "inference": {"models", "nn", "config", "errors"},
    "metrics": {"models", "nn", "config", "errors"},
    "store": {"config", "errors"},
    "training": {"inference", "metrics", "store", "models", "nn", "data", "config", "errors"},
    "diagnose": {"metrics", "models", "names"},
    "sweep": {"training", "store", "config", "errors"},
    "report": {"metrics", "store", "data", "config", "errors"},
    "cli": {
        "sweep",
        "report",
        "training",
        "diagnose",
        "inference",
        "metrics",
        "store",
        "models",
        "nn",
        "data",
        "config",
        "errors",
    },
}


def part(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_the_layers_below_it(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("lidcli.")}
    assert used - {own} <= ALLOWED[own] | EVERYWHERE


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_report_and_cli_keep_torch_out_of_their_top_level(path: Path) -> None:
    if part(path) not in {"config", "report", "cli", "data"}:
        return
    heavy = {"torch", "zuko", "jax", "numpyro"}
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & heavy


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_command_line_prints(path: Path) -> None:
    if part(path) == "cli":
        return
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@pytest.mark.parametrize("command", [["--help"], ["report", "--help"], ["list", "models"]])
def test_light_commands_never_import_torch(command: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['lid', *{command!r}]\n"
        "from lidcli.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
