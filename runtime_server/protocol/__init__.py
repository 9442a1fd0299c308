"""Protocol: how a call of gRPC ends, and what is sent where a message does not fit.

The messages themselves are in `wire`; this knows neither what is allowed nor how an answer comes
about.
"""
