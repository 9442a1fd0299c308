"""Files with which harnesses of others send the requests of `cascade bench` to `serve --http`."""
