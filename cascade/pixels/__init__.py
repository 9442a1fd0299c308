"""The pixels family: pictures by groups of pixels, every value decided on the host in integers."""
