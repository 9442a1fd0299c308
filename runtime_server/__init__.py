"""The cloud half: hosts components of a bundle behind gRPC.

Only the configuration is named here, so that importing the package costs nothing;
`lifecycle.process` runs it, `cli.register` adds it to the `cascade` command. Its rooms import
downwards only; docs/explanation/architecture.md lists them in that order.
"""

from runtime_server.config.config import ServerConfig as ServerConfig
