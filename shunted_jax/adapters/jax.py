"""JAX: what it says where no scheduler tells a process of others."""


def found_no_cluster(error: ValueError) -> bool:
    """Returns whether `jax.distributed.initialize()` found no cluster that it knows.

    Args:
        error: which it raised, called without addresses.
    """
    return "coordinator_address should be defined" in str(error)
