"""Programs that are copied to an instance and run there; they import nothing but the standard library."""
