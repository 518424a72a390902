"""A stand-in for one Azure OpenAI account, with predictable usage and faults on demand."""
