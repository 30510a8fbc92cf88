"""`python -m shunted_jax.data.preview`: where `shunted_jax.commands.preview` was before."""

import runpy

if __name__ == "__main__":
    runpy.run_module("shunted_jax.commands.preview", run_name="__main__")
