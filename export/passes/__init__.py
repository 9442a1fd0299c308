"""Graph passes: the exported graph rewritten into the algebra that runs fastest on a processor."""
