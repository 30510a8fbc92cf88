"""Operations: the platform's form alone is traced, and every transformation applies to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation

X, K = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4), np.float32([0.5, -1, 2, 1.5])


@pytest.fixture
def traced():
    """Returns a list that names the forms in the order in which they are traced."""
    return []


@pytest.fixture
def operation(traced):
    """Returns sin(x) * k over the last axis, whose CPU form has its gradients written out."""

    def form(name):
        def call(x, k):
            traced.append(name)
            return jnp.sin(x) * k

        return call

    def gradients(x, k, dout):
        traced.append("gradients")
        # Three times too large: whoever takes these gradients shows it.
        return 3 * dout * jnp.cos(x) * k, 3 * jnp.sum(
            dout * jnp.sin(x), axis=tuple(range(x.ndim - 1))
        )

    cpu = Form(form("cpu"), gradients)
    return Operation("example", form("reference"), {"cpu": cpu, "tpu": Form(form("tpu"))})


def plain(x, k):
    return jnp.sum(jnp.sin(x) * k)


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


def test_the_form_is_that_of_the_platform_that_the_program_is_for(operation, traced):
    program = jax.jit(jax.grad(lambda x: jnp.sum(run(operation, x, K, compute="auto")))).trace(X)
    # Tracing takes the reference alone, for shapes.
    assert set(traced) == {"reference"}
    for platform, expected in (("cpu", {"gradients"}), ("tpu", {"tpu"}), ("cuda", {"reference"})):
        traced.clear()
        program.lower(lowering_platforms=(platform,))
        assert set(traced) <= expected | {"reference"}, platform
        assert expected <= set(traced) or platform == "cuda"


def test_the_reference_leaves_no_step_behind(operation, traced):
    jaxpr = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(run(operation, x, K, compute="reference"))))(
        X
    )
    assert "operation" not in str(jaxpr)
    assert set(traced) == {"reference"}


def test_gradients_that_are_written_out_are_taken(operation):
    def loss(x, k):
        return jnp.sum(run(operation, x, k, compute="auto"))

    assert_close(jax.value_and_grad(plain, (0, 1))(X, K)[0], loss(X, K))
    expected = jax.tree.map(lambda leaf: 3 * leaf, jax.grad(plain, (0, 1))(X, K))
    assert_close(jax.grad(loss, (0, 1))(X, K), expected)
    assert_close(jax.jit(jax.grad(loss, (0, 1)))(X, K), expected)
    assert_close(jax.grad(jax.checkpoint(loss), (0, 1))(X, K), expected)
    batch = jnp.stack([X, X + 1])
    each = [jax.grad(plain, (0, 1))(x, K) for x in batch]
    expected = jax.tree.map(lambda *leaves: 3 * jnp.stack(leaves), *each)
    assert_close(jax.vmap(jax.grad(loss, (0, 1)), (0, None))(batch, K), expected)
    dx, dk = jax.grad(lambda x, k: jnp.sum(jax.vmap(loss, (0, None))(x, k)), (0, 1))(batch, K)
    assert_close((dx, dk), (expected[0], expected[1].sum(0)))


def opaque(function):
    """Returns `function` as autodiff cannot go through it."""
    call = jax.custom_jvp(function)

    @call.defjvp
    def refuse(primals, tangents):
        raise NotImplementedError("no derivative")

    return call


@pytest.fixture(params=["autodiff goes through the form", "and through another one"])
def exact(request):
    """Returns the same operation with gradients that are right."""

    def gradients(x, k, dout):
        dk = jnp.sum(dout * jnp.sin(x), axis=tuple(range(x.ndim - 1)))
        return dout * jnp.cos(x) * k, dk

    def call(x, k):
        return jnp.sin(x) * k

    if request.param == "and through another one":
        form = Form(opaque(call), opaque(gradients), smooth=call)
    else:
        form = Form(call, gradients)
    return Operation("example", call, {"cpu": form})


TRANSFORMATIONS = {
    "forward": lambda f: jax.jacfwd(f, (0, 1)),
    "linearize": lambda f: lambda x, k: jax.linearize(f, x, k)[1](x, k),
    "reverse of reverse": lambda f: jax.jacrev(jax.grad(f, (0, 1)), (0, 1)),
    "forward of reverse": lambda f: jax.hessian(f, (0, 1)),
    "reverse of forward": lambda f: jax.grad(lambda x, k: jax.jvp(f, (x, k), (x, k))[1], (0, 1)),
    "forward of forward": lambda f: jax.jacfwd(jax.jacfwd(f, (0, 1)), (0, 1)),
    "checkpoint": lambda f: jax.hessian(jax.checkpoint(f), (0, 1)),
    "a constant argument": lambda f: jax.grad(f, 1),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_order_of_differentiation_is_autodiffs(exact, name):
    change = TRANSFORMATIONS[name]
    ours = change(lambda x, k: jnp.sum(run(exact, x, k, compute="auto")))
    assert_close(jax.jit(ours)(X, K), jax.jit(change(plain))(X, K))


def test_what_is_linear_is_transposed(exact):
    def call(x, k):
        return run(exact, x, k, compute="auto")

    dout = np.float32([[1], [2], [3]]) + K
    (dk,) = jax.linear_transpose(lambda k: call(X, k), K)(dout)
    assert_close(dk, jnp.sum(dout * jnp.sin(X), axis=0))
    pull_back = jax.vjp(call, X, K)[1]
    (pushed,) = jax.linear_transpose(pull_back, dout)((X, K))
    assert_close(pushed, jax.jvp(lambda x, k: jnp.sin(x) * k, (X, K), (X, K))[1])


def test_a_linear_map_of_a_batch_is_transposed(exact):
    def transpose(function):
        along = jax.linearize(lambda x: function(x, K), X)[1]
        return jax.linear_transpose(jax.vmap(along), jnp.stack([X, X]))(jnp.stack([X, 2 * X]))

    ours = transpose(lambda x, k: run(exact, x, k, compute="auto"))
    assert_close(ours, transpose(lambda x, k: jnp.sin(x) * k))


@pytest.mark.parametrize("check", [True, False])
def test_inside_of_shard_map(exact, check):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x = np.linspace(0, 2, 32, dtype=np.float32).reshape(8, 4)

    @jax.jit
    def loss(x, k):
        of_part = jax.shard_map(
            lambda x, k: run(exact, x, k, compute="auto"),
            mesh=mesh,
            in_specs=(P("data"), P()),
            out_specs=P("data"),
            check_vma=check,
        )
        return jnp.sum(of_part(x, k))

    assert_close(jax.grad(loss, (0, 1))(x, K), jax.grad(plain, (0, 1))(x, K))


def test_it_is_exported_for_several_platforms_and_any_batch(exact):
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 4"), jnp.float32)
    program = jax.jit(lambda x: run(exact, x, K, compute="auto"))
    exported = export.export(program, platforms=("cpu", "tpu"))(shape)
    assert_close(exported.call(X), jnp.sin(X) * K)


def test_with_jit_switched_off_it_is_one_step(exact):
    # trax#530: JAX_DISABLE_JIT=1, to look at numbers while a network computes them.
    def call(x):
        return run(exact, x, K, compute="auto")

    with jax.disable_jit():
        assert_close(call(X), np.sin(X) * K)
        assert_close(jax.vmap(call)(X), np.sin(X) * K)
        assert_close(jax.grad(lambda x: jnp.sum(call(x)))(X), np.cos(X) * K)
