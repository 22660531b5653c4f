"""`build-ami`: the steps of a bake, Packer, the seal, one bake of a channel at a time."""
