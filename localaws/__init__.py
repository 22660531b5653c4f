"""AWS on one Linux machine: moto's API in front of instances that really boot."""
