"""`plan`: what a bake would make, what is new in it, what it would take."""
