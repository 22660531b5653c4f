"""A new image when one is due: decided, baked, proven, promoted, and explained."""
