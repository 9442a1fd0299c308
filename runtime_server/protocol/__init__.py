"""Protocol: what is said over the wire, as values of our own and back.

Knows shapes of calls and answers; not what is allowed, nor how an answer comes about.
"""
