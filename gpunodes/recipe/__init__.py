"""What an image is made of: flavor, base image, pins, wheels, the fingerprint of all."""
