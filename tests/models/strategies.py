"""Random small networks for property tests."""

from hypothesis import strategies as st


@st.composite
def model_fields(draw):
    """Draws fields of a `ShuntedTransformer` of one to three stages that compiles in seconds."""
    stages = draw(st.integers(1, 3), "stages")

    def each(strategy, name):
        return tuple(draw(strategy, f"{name} of stage {number}") for number in range(1, stages + 1))

    # Ratios fall from stage to stage as in the paper, so that small images do for all of them.
    sr_ratios = tuple(
        draw(st.sampled_from([ratio for ratio in (8, 6, 4, 2, 1) if ratio * 2**stage <= 8]))
        for stage in range(stages)
    )
    num_heads = each(st.sampled_from([2, 4]), "heads")
    head_dims = each(st.sampled_from([4, 5, 8]), "channels a head")
    return {
        "depths": draw(st.sampled_from([(1,) * stages, (2, *(1,) * (stages - 1))])),
        "embed_dims": tuple(n * d for n, d in zip(num_heads, head_dims, strict=True)),
        "num_heads": num_heads,
        "mlp_ratios": each(st.sampled_from([1, 2, 3]), "mlp_ratio"),
        "sr_ratios": sr_ratios,
        "num_stem_convs": draw(st.integers(0, 2)),
        "num_classes": draw(st.integers(1, 5)),
        "in_channels": draw(st.sampled_from([1, 3, 4])),
        "qkv_bias": draw(st.booleans()),
    }
