"""Runtime environment: JAX startup, populations on devices, processes, signals."""
