"""A page for browsers: a server, a proxy that translates gRPC-Web, and the page's files."""
