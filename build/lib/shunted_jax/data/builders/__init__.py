"""tensorflow-datasets builders that work without TensorFlow."""
