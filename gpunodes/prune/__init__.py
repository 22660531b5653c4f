"""Old images: what still refers to them, what is due to them, and how they go: deprecated, disabled, deregistered."""
