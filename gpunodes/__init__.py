"""What the Invoke tasks call: bake an image, prove it on a fresh instance, take everything down again."""
