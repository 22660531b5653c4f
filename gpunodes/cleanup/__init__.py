"""What runs leave, found by run id or expiry and removed: `destroy` and `reap`."""
