"""Stand-in for the Amazon CloudWatch agent: reads the same JSON and publishes the same memory, swap and disk metrics.

`localaws.downloads.package` makes a Debian package of it. It runs on an instance with that instance's Python, so
nothing here imports the rest of localaws.
"""

VERSION = "1.0.0+standin"
