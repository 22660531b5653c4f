"""`test-instance`: launch an instance from an image and decide on evidence whether the image is any good."""
