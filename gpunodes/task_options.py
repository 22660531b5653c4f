"""Help texts of options that several tasks have."""

from __future__ import annotations

OFFLINE = {"offline": "Use the offline cloud of this machine instead of AWS."}
JSON = {"json": "Print one JSON document on standard output."}
BASE = {
    "source_ami": "Id of the base image, instead of the flavor's newest.",
    "flavor": "Kind of base image: al2023, ubuntu-22.04, ubuntu-24.04 (packer/flavors/).",
}
SPOT = {"spot": "Bake on a spot instance."}
BAKE = {**BASE, **SPOT, "channel": "What the image is for; one bake of a channel at a time."}
CHANNEL = {"channel": "Which channel, such as canary, instead of the settings' one."}
