"""The record of an image: document, packages, page; `explain` and `compare`."""
