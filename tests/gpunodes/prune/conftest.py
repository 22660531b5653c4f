from __future__ import annotations

from tests.gpunodes.channel.conftest import offline_clients, offline_url

__all__ = ["offline_clients", "offline_url"]
