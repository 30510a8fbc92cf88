"""`python -m shunted_jax.data.prepare`: where `shunted_jax.commands.prepare` was before."""

import runpy

if __name__ == "__main__":
    runpy.run_module("shunted_jax.commands.prepare", run_name="__main__")
