"""How the instance that bakes is reached, made for one run."""
