"""How the network is computed: plain JAX first, then what a backend has better."""
