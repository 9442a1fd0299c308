"""Wire: the messages between a client and a server as values, encoded and decoded in one place.

The protocol layer of both halves: `GenerateCall` and the events of its stream, `ServerInfo`,
contexts, cancels, errors as google.rpc.Status, and the limits that both sides keep. Each message
has one value, one encoder and one decoder; only this package imports the generated code of
`protos`. Bytes in, bytes out: channels, retries and what a request may ask for are known elsewhere.
"""
