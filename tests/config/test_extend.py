"""Code of the user's: named where the user says so, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lidcli.config import kinds
from lidcli.config.plan import plan_grid
from lidcli.config.read import codes_in, load_files
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError

CODE = """
from lidcli.extend import Data, Decoder, Points

class Spline(Decoder):
    knots: int = 5
    slope: float = 1.0

    def build(self, latent, outputs):
        return ("spline", self.knots, latent, outputs)

class Rings(Points):
    rings: int = 2

    def build(self):
        return ("rings", self.rings)

class Idle(Decoder):
    pass

def function():
    pass
"""

MINE = """
models:
  splined: {decoder: {use: "mine_code:Spline", knots: 7}}
  plain: {}
data:
  rings: {use: "mine_code:Rings", rings: 3, model: {latent: 2, categories: 2}}
  dots: {kind: points, decoder: {slope: 2.0}}
  bare: {kind: points}
experiments:
  trial: {models: [splined, plain], data: [rings, dots], set: {decoder: {slope: 4.0}}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with code of the user's, of which nothing is allowed yet."""
    (tmp_path / "mine_code.py").write_text(CODE)
    (tmp_path / "mine.yaml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, "_allowed", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine_code", None)


def test_a_kind_of_ones_own_has_its_own_settings(here: Path) -> None:
    known = load_files([here / "mine.yaml"], trusted=[here / "mine.yaml"])
    config = resolve(known, model="splined", data="rings", overrides=[("decoder.slope", 3)])
    assert config.decoder.kind == "mine_code:Spline"
    assert config.decoder.build(2, 4) == ("spline", 7, 2, 4)
    assert config.decoder.slope == 3.0
    assert config.data.build() == ("rings", 3)
    assert config.data.name == "rings"
    assert config.likelihood.kind == "gaussian"
    assert RunConfig.of(config.document()) == config


def test_settings_of_ones_own_are_shared_like_ours(here: Path) -> None:
    known = load_files([here / "mine.yaml"], trusted=[here / "mine.yaml"])
    assert resolve(known, model="splined", data="dots").decoder.slope == 2.0
    assert not hasattr(resolve(known, model="plain", data="dots").decoder, "slope")
    grid = {"decoder.knots": [3, 4]}
    plan = plan_grid(known, "g", models=["splined", "plain"], data=["dots"], grid=grid, seeds=[0])
    assert [run.method for run in plan.runs] == ["splined", "splined", "plain"]
    with pytest.raises(ConfigError, match="a kind of yours has it"):
        resolve(known, model="plain", data="dots", overrides=[("decoder.knots", 3)])
    with pytest.raises(ConfigError, match=r"did you mean decoder\.knots"):
        resolve(known, model="splined", data="dots", overrides=[("decoder.knot", 3)])


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("data: {dots: {kind: points, decoder: {hiden: 64}}}", "did you mean decoder.hidden?"),
        ("profiles: {small: {decoder: {hiden: 64}}}", "did you mean decoder.hidden?"),
        ("defaults: {decoder: {hiden: 64}}", "did you mean decoder.hidden?"),
    ],
)
def test_code_of_ones_own_hides_no_typing_error_elsewhere(
    here: Path, trusted: bool, level: str, told: str
) -> None:
    (here / "typo.yaml").write_text(level)
    paths = [here / "mine.yaml", here / "typo.yaml"]
    known = load_files(paths, trusted=paths if trusted else [])
    profile = "small" if "small" in known.profiles else None
    with pytest.raises(ConfigError) as caught:
        resolve(known, model="plain", data="dots", profile=profile)
    assert told in str(caught.value)


def test_what_code_that_is_not_imported_may_have_is_said(here: Path) -> None:
    known = load_files([here / "mine.yaml"])
    with pytest.raises(ConfigError) as caught:
        resolve(known, model="plain", data="dots")
    told = "(if it is one of mine_code:Spline, name the file that says so with -c)"
    assert f"Unknown setting 'decoder.slope' {told}; there are" in str(caught.value)
    (here / "beside.yaml").write_text(
        'defaults: {decoder: {use: "mine_code:Spline", knots: 3}}\n'
        "data: {circles: {kind: points, decoder: {kind: mlp, layers: 5}}}"
    )
    known = load_files([here / "mine.yaml", here / "beside.yaml"])
    assert resolve(known, model="plain", data="circles").decoder.layers == 5


def test_all_values_of_ones_own_kind_are_part_of_the_runs_name(here: Path) -> None:
    known = load_files([here / "mine.yaml"], trusted=[here / "mine.yaml"])
    one, other = (
        resolve(known, model="splined", data="dots", overrides=[("decoder.knots", knots)]).run_id
        for knots in (5, 6)
    )
    assert one != other


def test_code_is_imported_only_if_a_file_named_on_the_command_line_names_it(here: Path) -> None:
    known = load_files([here / "mine.yaml"])
    with pytest.raises(ConfigError, match="nothing named on this command line allows it"):
        resolve(known, model="splined", data="dots")
    document = resolve(known, model="plain", data="bare").document()
    document["decoder"] = {"kind": "mine_code:Spline"}
    with pytest.raises(ConfigError, match="nothing named on this command line allows it"):
        RunConfig.of(document)
    assert "mine_code" not in sys.modules
    kinds.allow(["mine_code:Spline"])
    assert RunConfig.of(document).decoder.knots == 5
    assert kinds.allowed() == ["mine_code:Spline"]


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("mine_code:Nothing", "cannot be imported: AttributeError"),
        ("no_such_module:X", "cannot be imported: ModuleNotFoundError"),
        ("broken_code:X", "cannot be imported: ZeroDivisionError: division by zero."),
        (":X", "cannot be imported"),
        ("mine_code:", "cannot be imported"),
        ("mine_code:function", "must be a class derived from lidcli.extend.Decoder"),
        ("mine_code:Rings", "must be a class derived from lidcli.extend.Decoder"),
        ("os:getcwd", "must be a class derived from lidcli.extend.Decoder"),
    ],
)
def test_code_that_is_no_kind_is_one_sentence(here: Path, use: str, told: str) -> None:
    (here / "broken_code.py").write_text("1 / 0")
    (here / "wrong.yaml").write_text(f'models: {{odd: {{decoder: {{use: "{use}"}}}}}}')
    paths = [here / "mine.yaml", here / "wrong.yaml"]
    known = load_files(paths, trusted=paths)
    with pytest.raises(ConfigError) as caught:
        resolve(known, model="odd", data="dots")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_without_build_says_so(here: Path) -> None:
    kinds.allow(["mine_code:Idle"])
    known = load_files([here / "mine.yaml"])
    config = resolve(
        known, model="plain", data="bare", overrides=[("decoder.use", "mine_code:Idle")]
    )
    with pytest.raises(ConfigError, match="Idle needs a method build"):
        config.decoder.build(1, 1)


def test_a_kind_and_a_use_at_once_are_refused(here: Path) -> None:
    (here / "both.yaml").write_text('models: {odd: {decoder: {use: "a:B", kind: mlp}}}')
    with pytest.raises(ConfigError, match="give use or kind, not both"):
        load_files([here / "both.yaml"])


def test_names_are_found_wherever_a_kind_is_named() -> None:
    tree = {
        "defaults": {"train": {"use": "a:A"}},
        "models": {"m": {"use": "a:B", "encoder": {"kind": "a:C"}}},
        "data": {"d": {"use": "a:D", "models": {"m": {"use": "a:E", "decoder": {"use": "a:F"}}}}},
        "experiments": {"e": {"title": "no:code", "grid": {"decoder.use": ["a:G", "mlp"]},
                              "set": {"likelihood": {"use": "a:H"}}}},
        "profiles": {"p": {"inference": {"use": "a:I"}}},
    }  # fmt: skip
    assert sorted(codes_in(tree)) == [
        ("data", "a:D"),
        ("decoder", "a:F"),
        ("decoder", "a:G"),
        ("encoder", "a:C"),
        ("inference", "a:I"),
        ("likelihood", "a:H"),
        ("model", "a:B"),
        ("model", "a:E"),
        ("train", "a:A"),
    ]


ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_files([ROOT / "experiments.yaml"])
FAILING = """
import sys
import torch
from lidcli.extend import Decoder

print("hello")

class Fails(Decoder):
    def build(self, latent, outputs):
        raise RuntimeError("oops")

class Huge(Decoder):
    def build(self, latent, outputs):
        raise MemoryError

class Short(Decoder):
    def build(self, latent):
        return torch.nn.Linear(latent, 2)
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Fails", "RuntimeError: oops"), ("Short", "TypeError: Short.build() takes 2 positional")],
)
def test_a_build_of_ones_own_that_fails_is_named(here: Path, name: str, reason: str) -> None:
    (here / "mine_code.py").write_text(FAILING)
    kinds.allow([f"mine_code:{name}"])
    decoder = kinds.imported(f"mine_code:{name}")(kind=f"mine_code:{name}")
    with pytest.raises(ConfigError) as caught:
        decoder.build(2, 4)
    assert str(caught.value).startswith(f"mine_code:{name}.build failed: {reason}")


def test_a_build_that_needs_too_much_memory_is_no_wrong_setting(here: Path) -> None:
    (here / "mine_code.py").write_text(FAILING)
    kinds.allow(["mine_code:Huge"])
    with pytest.raises(MemoryError):
        kinds.imported("mine_code:Huge")(kind="mine_code:Huge").build(2, 4)


def test_what_a_module_prints_does_not_reach_stdout(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine_code.py").write_text(FAILING)
    kinds.allow(["mine_code:Fails"])
    kinds.imported("mine_code:Fails")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("status", ["0", "3"])
def test_a_module_that_exits_is_said(here: Path, status: str) -> None:
    (here / "mine_code.py").write_text(f"import sys\nsys.exit({status})\n")
    kinds.allow(["mine_code:Fails"])
    with pytest.raises(ConfigError, match=f"cannot be imported: SystemExit: {status}"):
        kinds.imported("mine_code:Fails")


@pytest.mark.parametrize("seed", [2**63, 2**64])
def test_an_integer_that_no_file_holds_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"seed = .* is not usable: should be at most 9e\+18"):
        resolve(SHIPPED, model="vae", data="pinwheel", seed=seed)


@pytest.mark.parametrize("key", ["train.learning_rate", "inference.free_bits"])
def test_a_number_beyond_single_precision_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} = 1e\\+300 is not usable: should"):
        resolve(SHIPPED, model="vae", data="pinwheel", overrides=[(key, 1e300)])


def test_more_threads_than_any_machine_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads = 100000"):
        resolve(SHIPPED, model="vae", data="pinwheel", overrides=[("runtime.threads", 100000)])
