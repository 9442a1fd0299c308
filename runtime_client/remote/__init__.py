"""One server: connection, stream, uploads, retries."""
