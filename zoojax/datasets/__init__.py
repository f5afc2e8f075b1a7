"""Image sets: loading, splitting and transforming."""
