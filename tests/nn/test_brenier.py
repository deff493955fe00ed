"""A Brenier map is the gradient of its potential, exactly, in every form and transformation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lidcli.nn import BrenierMap

SETTINGS = ["smooth", "leaky"]
BACKWARDS = ["plain", "by-hand"]


def some_map(
    dim: int = 7,
    hidden: int = 16,
    layers: int = 4,
    *,
    active: int | None = 3,
    activation: str = "smooth",
    backward: str = "plain",
    epsilon: float = 0.5,
    seed: int = 0,
) -> BrenierMap:
    """A float64 map away from its start, so that no parameter is at a special value."""
    torch.manual_seed(seed)
    g = BrenierMap(
        dim,
        hidden,
        layers,
        active=active,
        activation=activation,
        backward=backward,
        inverse_lipschitz=epsilon,
    ).double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return g


def reference(g: BrenierMap, u: Tensor) -> Tensor:
    """The same map by double backpropagation through a potential written out independently."""
    phi, alpha = g.icnn, g.icnn.slope
    x = F.pad(u, (0, g.dim - g.active))
    A = list(phi.input_weights)
    z = F.leaky_relu(x @ A[0].T + phi.biases[0], alpha) ** 2
    for layer in range(1, phi.layers - 1):
        t = z @ torch.exp(phi.log_weights[layer - 1]).T
        t = t + x @ A[layer].T + phi.biases[layer]
        if phi.activation == "leaky":
            z = F.leaky_relu(t, alpha)
        else:
            z = alpha * t + (1 - alpha) * torch.logaddexp(t, torch.zeros_like(t))
    scalar = z @ torch.exp(phi.log_scalar) + x @ phi.scalar_input
    if phi.activation == "leaky":
        scalar = F.leaky_relu(scalar + phi.scalar_bias, alpha)
    potential = torch.exp(phi.log_gain) * scalar + g.inverse_lipschitz * (x**2).sum(-1) / 2
    return torch.autograd.grad(potential.sum(), x, create_graph=True)[0]


def gradients(out: Tensor, weight: Tensor, u: Tensor, g: BrenierMap) -> list[Tensor]:
    """Gradients of a weighted sum for the input and every parameter, zero where there is none."""
    wanted = [u, *g.parameters()]
    found = torch.autograd.grad((out * weight).sum(), wanted, allow_unused=True)
    pairs = zip(found, wanted, strict=True)
    return [torch.zeros_like(x) if dx is None else dx for dx, x in pairs]


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Equal within a tolerance relative to the largest expected entry."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
@pytest.mark.parametrize(("dim", "active"), [(5, 5), (7, 3), (4, 1)])
@pytest.mark.parametrize("layers", range(2, 14))
def test_values_and_gradients_equal_double_backpropagation(
    layers: int, dim: int, active: int, activation: str, backward: str
) -> None:
    g = some_map(dim, layers=layers, active=active, activation=activation, backward=backward)
    u = torch.randn(11, active, dtype=torch.float64, requires_grad=True)
    expected, out = reference(g, u), g(u)
    weight = torch.randn_like(expected)
    assert_close(out, expected)
    known = gradients(expected, weight, u, g)
    scale = max(theirs.abs().max() for theirs in known)
    for mine, theirs in zip(gradients(out, weight, u, g), known, strict=True):
        assert (mine - theirs).abs().max() <= 1e-12 * scale


@pytest.mark.parametrize("backward", BACKWARDS)
def test_saturated_activations_are_exact_on_the_scale_of_the_gradient(backward: str) -> None:
    g = some_map(backward=backward)
    u = (30 * torch.randn(50, 3, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(50, 7, dtype=torch.float64)
    assert_close(g(u), reference(g, u))
    expected = gradients(reference(g, u), weight, u, g)
    scale = max(theirs.abs().max() for theirs in expected)
    for mine, theirs in zip(gradients(g(u), weight, u, g), expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-12 * scale


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
@pytest.mark.parametrize("layers", [2, 3, 5])
def test_first_and_second_derivatives_pass_gradcheck(
    layers: int, activation: str, backward: str
) -> None:
    g = some_map(4, 6, layers, active=2, activation=activation, backward=backward)
    names = [name for name, _ in g.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in g.parameters()]
    u = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def call(u: Tensor, *values: Tensor) -> Tensor:
        return functional_call(g, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(call, (u, *values))
    assert torch.autograd.gradgradcheck(call, (u, *values), atol=1e-4)


@pytest.mark.parametrize("activation", SETTINGS)
def test_by_hand_a_graph_can_be_differentiated_twice_over(activation: str) -> None:
    g = some_map(activation=activation, backward="by-hand")
    u = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    out = g(u).square().sum()
    wanted = [u, *g.icnn.input_weights, *g.icnn.log_weights]
    once = torch.autograd.grad(out, wanted, retain_graph=True)
    for first, again in zip(once, torch.autograd.grad(out, wanted), strict=True):
        assert torch.equal(first, again)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_a_penalty_on_the_gradient_reaches_an_input_that_depends_on_the_weights(
    activation: str, backward: str
) -> None:
    g, twin = (some_map(activation=activation, backward=kind) for kind in (backward, "plain"))
    found = []
    for chosen, formula in ((g, g), (twin, lambda u: reference(twin, u))):
        u = torch.ones(4, 3, dtype=torch.float64) * chosen.icnn.input_weights[0][:4, :3]
        (slope,) = torch.autograd.grad(formula(u).square().sum(), u, create_graph=True)
        slope.square().sum().backward()
        found.append([0 * p if p.grad is None else p.grad for p in chosen.parameters()])
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).abs().max() <= 1e-11 * max(p.abs().max() for p in found[1])


@pytest.mark.parametrize("dim", [3, 7])
@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_forward_mode_and_batched_gradients_give_the_jacobian(
    activation: str, backward: str, dim: int
) -> None:
    g = some_map(dim, activation=activation, backward=backward)
    u = torch.randn(2, 3, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda v: reference(g, v).sum(0), u)
    direction = torch.randn_like(u)
    assert_close(jvp(g, (u,), (direction,))[1].sum(0), (expected * direction).sum((1, 2)))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(g(forward_ad.make_dual(u, direction)))
        assert_close(dual.tangent.sum(0), (expected * direction).sum((1, 2)))
    rows = torch.eye(dim, dtype=torch.float64)[:, None].expand(dim, 2, dim)
    u.requires_grad_()
    wanted = [u, *g.parameters()]
    batched = torch.autograd.grad(g(u), wanted, rows, is_grads_batched=True, allow_unused=True)
    assert_close(batched[0], expected)
    for row in range(dim):
        alone = torch.autograd.grad(g(u), wanted, rows[row], allow_unused=True)
        for one, many in zip(alone, batched, strict=True):
            assert (one is None) == (many is None)
            if one is not None:
                assert_close(many[row], one)


@pytest.mark.parametrize("activation", SETTINGS)
def test_checkpointing_by_hand_gives_the_same_gradients(activation: str) -> None:
    g = some_map(activation=activation, backward="by-hand")
    u = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(g(u).square().sum(), u)[0]
    out = checkpoint(g, u, use_reentrant=False)
    assert_close(torch.autograd.grad(out.square().sum(), u)[0], expected)


def test_a_pre_activation_of_zero_has_the_lower_slope_in_every_form() -> None:
    found = []
    for backward in BACKWARDS:
        g = some_map(activation="leaky", backward=backward)
        with torch.no_grad():
            for bias in g.icnn.biases:
                bias.zero_()
        u = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        out = g(u)
        found.append([out, *gradients(out, torch.ones_like(out), u, g)])
    for plain, by_hand in zip(*found, strict=True):
        assert_close(by_hand, plain)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_stacked_maps_under_vmap_equal_a_loop(activation: str, backward: str) -> None:
    maps = [some_map(activation=activation, backward=backward, seed=seed) for seed in range(3)]
    parameters, buffers = stack_module_state(maps)
    u = torch.randn(9, 3, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], u: Tensor) -> Tensor:
        return functional_call(maps[0], (parameters, buffers), (u,)).sin().sum()

    stacked = vmap(grad(loss), (0, 0, None))(parameters, buffers, u)
    for index, g in enumerate(maps):
        wanted = dict(g.named_parameters())
        found = torch.autograd.grad(g(u).sin().sum(), list(wanted.values()), allow_unused=True)
        for name, single in zip(wanted, found, strict=True):
            if single is not None:
                assert_close(stacked[name][index], single)
    values = vmap(lambda p, b: functional_call(maps[0], (p, b), (u,)))(parameters, buffers)
    assert_close(values, torch.stack([g(u) for g in maps]))


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_a_row_by_row_vmap_equals_the_batch(activation: str, backward: str) -> None:
    g = some_map(activation=activation, backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64)
    assert_close(vmap(g)(u), g(u))


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_compiled_whole_it_gives_the_same(activation: str, backward: str) -> None:
    torch.compiler.reset()
    g = some_map(activation=activation, backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 7, dtype=torch.float64)
    compiled = torch.compile(g, backend="aot_eager", fullgraph=True)
    assert_close(compiled(u), g(u))
    expected = gradients(g(u), weight, u, g)
    for mine, theirs in zip(gradients(compiled(u), weight, u, g), expected, strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
def test_no_grad_gives_the_same_value_and_no_graph(activation: str, backward: str) -> None:
    g = some_map(activation=activation, backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64)
    with torch.no_grad():
        out = g(u)
    assert not out.requires_grad
    assert torch.equal(out, g(u))
    with torch.inference_mode():
        assert torch.equal(g(u), out)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("activation", SETTINGS)
@pytest.mark.parametrize("layers", [2, 4])
def test_bf16_autocast_trains_close_to_float32(layers: int, activation: str, backward: str) -> None:
    g = some_map(layers=layers, activation=activation, backward=backward).float()
    u = torch.randn(64, 3)
    full = g(u)
    with torch.autocast("cpu", torch.bfloat16):
        out = g(u)
    rounding = layers * torch.finfo(torch.bfloat16).eps
    assert (out - full).abs().median() < rounding * full.abs().median()
    g.icnn.input_weights[0].grad = None
    out.float().square().sum().backward()
    found = g.icnn.input_weights[0].grad
    assert found.dtype == torch.float32
    expected = torch.autograd.grad(full.square().sum(), g.icnn.input_weights[0])[0]
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("backward", BACKWARDS)
def test_under_autocast_the_quadratic_term_keeps_the_inputs_precision(backward: str) -> None:
    g = BrenierMap(2, 8, 2, inverse_lipschitz=0.5, backward=backward)
    with torch.no_grad():
        g.icnn.log_gain.fill_(-40.0)
    u = torch.tensor([[1.0, 0.0], [1.003, 0.0]])
    with torch.autocast("cpu", torch.bfloat16):
        out = g(u)
    torch.testing.assert_close(out, 0.5 * u)


@pytest.mark.parametrize("backward", BACKWARDS)
def test_under_autocast_double_stays_double_and_does_not_mix(backward: str) -> None:
    g = some_map(backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(g(u), reference(g, u))
        with pytest.raises(ValueError, match=r"input of torch.float32, got torch.float64 \(9, 3\)"):
            g.float()(u)


@pytest.mark.parametrize("backward", BACKWARDS)
def test_frozen_weights_pass_the_gradient_to_the_input_alone(backward: str) -> None:
    g = some_map(backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(g(u).sum(), u)[0]
    g.requires_grad_(False)
    assert_close(torch.autograd.grad(g(u).sum(), u)[0], expected)


def test_by_hand_saves_at_most_half_the_activations_of_double_backpropagation() -> None:
    def saved(call: object) -> int:
        storages: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            if t.ndim == 2 and t.shape[0] == 50:
                storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            kept = call()  # noqa: F841 the graph must live while its tensors are counted
        return sum(storages.values())

    for activation in SETTINGS:
        for layers in (2, 5, 9):
            g = some_map(12, layers=layers, activation=activation, backward="by-hand")
            u = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
            assert 2 * saved(lambda: g(u)) <= saved(lambda: reference(g, u))  # noqa: B023


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 5, 3), (0, 3)])
def test_leading_shapes_are_kept(shape: tuple[int, ...]) -> None:
    g = some_map()
    u = torch.randn(*shape, dtype=torch.float64)
    assert g(u).shape == (*shape[:-1], 7)
    assert g.potential(u).shape == shape[:-1]


@pytest.mark.parametrize("activation", SETTINGS)
def test_the_map_is_the_gradient_of_its_potential(activation: str) -> None:
    g = some_map(3, active=3, activation=activation)
    u = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    assert_close(g(u), torch.autograd.grad(g.potential(u).sum(), u)[0])


@pytest.mark.parametrize("activation", SETTINGS)
def test_the_start_is_in_range_at_any_depth(activation: str) -> None:
    for layers in range(2, 14):
        torch.manual_seed(layers)
        g = BrenierMap(20, 128, layers, active=10, activation=activation)
        u = torch.randn(200, 10)
        assert 1e-3 < g(u).std() < 1e3
        assert 0.3 < g.calibrate(u).std() < 0.7
        g(u).square().sum(1).mean().backward()
        assert all(p.grad.norm() < 100 for p in g.parameters() if p.grad is not None)


def test_calibration_gives_the_network_the_asked_standard_deviation() -> None:
    g = BrenierMap(20, 64, 5, active=10, gain=0.7, inverse_lipschitz=2.0)
    u = torch.randn(300, 10)
    out = g.calibrate(u)
    assert torch.equal(out, g(u))
    assert g.icnn.gradient(u).std().item() == pytest.approx(0.7, rel=1e-5)


def test_every_parameter_of_the_smooth_map_learns() -> None:
    g = some_map(layers=5)
    g(torch.randn(9, 3, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in g.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backward", BACKWARDS)
def test_cuda_equals_cpu(backward: str) -> None:
    g = some_map(backward=backward)
    u = torch.randn(9, 3, dtype=torch.float64)
    expected = g(u)
    assert_close(g.cuda()(u.cuda()).cpu(), expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dim": 3, "active": 4}, r"active \(K=4\).*dim \(D=3\)"),
        ({"layers": 1}, "layers=1"),
        ({"hidden": 0}, "hidden=0"),
        ({"inverse_lipschitz": -0.1}, "inverse_lipschitz must be >= 0"),
        ({"inverse_lipschitz": math.nan}, "inverse_lipschitz must be >= 0"),
        ({"gain": 0.0}, "gain must be > 0"),
        ({"slope": 0.0}, r"slope must lie in \(0, 1\]"),
        ({"hidden": 2, "inverse_lipschitz": 0.0}, "H=2 < active K=3.*raise hidden or inverse"),
        ({"activation": "relu"}, "'relu'"),
        ({"backward": "magic"}, "'magic'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    values = {"dim": 7, "hidden": 16, "layers": 3, "active": 3} | arguments
    with pytest.raises(ValueError, match=said):
        BrenierMap(**values)


@pytest.mark.parametrize(
    ("u", "said"),
    [
        (torch.zeros(5, 4), r"\(\.\.\., 3\), got \(5, 4\)"),
        (torch.tensor(1.0), r"got \(\)"),
        (torch.zeros(5, 3, dtype=torch.float64), "expected an input of torch.float32"),
        (torch.zeros(5, 3, dtype=torch.long), "got torch.int64"),
    ],
)
def test_wrong_inputs_are_named(u: Tensor, said: str) -> None:
    g = BrenierMap(7, 16, 3, active=3)
    for call in (g, g.potential):
        with pytest.raises(ValueError, match=said):
            call(u)


@pytest.mark.parametrize("u", [torch.zeros(0, 3), torch.full((4, 3), math.nan)])
def test_calibration_refuses_a_batch_it_cannot_use(u: Tensor) -> None:
    with pytest.raises(ValueError, match="calibration needs"):
        BrenierMap(7, 16, 3, active=3).calibrate(u)
