"""What is in use and what is old, at a glance: `status`."""
