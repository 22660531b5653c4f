"""`roll`: Auto Scaling groups get the image that a channel names, and their instances are replaced."""
