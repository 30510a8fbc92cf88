"""Agreement with the PyTorch reference at sizes and widths that the measured cases leave out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shunted_jax
from shunted_jax.models import ShuntedTransformer
from tests.golden.cases import EVAL_CASES, case_inputs, load, state_dict_shapes
from tests.golden.fill import fill
from tests.models.strategies import model_fields
from tests.support.quick import quick_jit

torch = pytest.importorskip("torch")


def reference(fields, seed=0):
    """Returns the PyTorch network with `fill`'s weights, and those under their names."""
    from shunted_jax.convert.torch_reference import TorchShunted

    network = TorchShunted(**fields)
    weights = {name: fill(name, t.shape, seed) for name, t in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(t) for name, t in weights.items()})
    return network, weights


def to_nchw(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def test_reference_agrees_with_published_model():
    from shunted_jax.convert.torch_reference import TorchShunted

    for case in EVAL_CASES:
        golden = load(case)
        variant, weights, images = case_inputs(golden)
        extra = {"shunted_t": 0, "shunted_s": 1, "shunted_b": 2}[variant]
        depths = {"shunted_t": (1, 2, 4, 1), "shunted_s": (2, 4, 12, 1), "shunted_b": (3, 4, 24, 2)}
        network = TorchShunted(
            depths[variant], num_stem_convs=extra, num_classes=int(golden["num_classes"])
        )
        assert list(network.state_dict()) == list(state_dict_shapes(variant))
        network.load_state_dict({name: torch.from_numpy(t) for name, t in weights.items()})
        with torch.inference_mode():
            logits = network.eval()(to_nchw(images)).numpy()
        np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)


@settings(max_examples=6)
@given(fields=model_fields(), data=st.data())
def test_random_networks_agree_with_reference(fields, data):
    model = ShuntedTransformer(**fields)
    sides = st.integers(model.min_image_size, model.min_image_size + 40)
    height, width = data.draw(sides, "height"), data.draw(sides, "width")
    images = np.random.default_rng(0).standard_normal((2, height, width, fields["in_channels"]))
    images = images.astype(np.float32)
    network, weights = reference(fields)
    # Everything but the heads is read off the tensors.
    converted, variables = shunted_jax.from_torch(weights, num_heads=fields["num_heads"])
    assert converted == model
    with torch.inference_mode():
        expected = [m.numpy() for m in network.eval().features(to_nchw(images))]
        expected.append(network(to_nchw(images)).numpy())

    @quick_jit
    def outputs(variables, images):
        maps = model.apply(variables, images, method="features")
        return *maps, model.apply(variables, images)

    for ours, theirs in zip(outputs(variables, images), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
    with torch.no_grad():
        expected_training = network.train()(to_nchw(images)).numpy()

    @quick_jit
    def training(variables, images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    logits, _ = training(variables, images)
    np.testing.assert_allclose(logits, expected_training, rtol=0, atol=2e-5)
    there_and_back = shunted_jax.to_torch(model, variables)
    for name, tensor in weights.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(there_and_back[name], tensor)
    assert there_and_back.keys() == weights.keys()
