"""The HTTP door: pictures as programs ask for them that speak OpenAI's images API.

Translates, and decides nothing: a call becomes the message of `Generate` and goes to the handler
that gRPC's calls go to. Imports no gRPC.
"""
