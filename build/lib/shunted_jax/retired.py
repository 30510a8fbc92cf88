"""Fields that the network had before, and what to take in their place.

`models.ShuntedTransformer` and `config.ModelConfig` had them alike, and neither imports the other.
What was saved in format 1 still names them.
"""

COMPUTE = ("auto", "reference", "pallas")  # what the field in their place can be

RETIRED = dict.fromkeys(
    ("depthwise_form", "feed_forward_form", "attend_form"),
    f"take 'compute', which is one of {', '.join(COMPUTE)}",
)
