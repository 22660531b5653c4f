"""A channel: the parameter that names its image, and what it named before."""
