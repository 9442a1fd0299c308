"""The text encoder family: tokenizer and stage."""
