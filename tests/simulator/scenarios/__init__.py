"""The scenarios: small programs over the whole loop, each with an oracle of its own."""
