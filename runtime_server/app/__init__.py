"""The gRPC application: the server, its service, its interceptors and its health checks.

The only room that imports grpc; nothing about a request is decided here.
"""
