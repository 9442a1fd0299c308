"""The cloud half: hosts components of a bundle behind gRPC.

Only the configuration is named here, so that importing the package costs nothing; `server.serve`
runs it, `cli.register` adds it to the `cascade` command.
"""

from runtime_server.config import ServerConfig as ServerConfig
