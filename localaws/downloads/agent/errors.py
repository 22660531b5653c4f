"""What can go wrong in the stand-in agent.

AgentError             base; one sentence that says what to do
├── ConfigurationError the JSON cannot be used
└── MetadataError      the instance metadata service did not answer
"""


class AgentError(Exception):
    """Base of every error that ends the agent on purpose."""


class ConfigurationError(AgentError):
    """The JSON cannot be used."""


class MetadataError(AgentError):
    """The instance metadata service did not answer."""
