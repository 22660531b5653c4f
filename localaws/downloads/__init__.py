"""A local stand-in for the bucket that serves the CloudWatch agent: same paths, a signed package, a stand-in agent."""
