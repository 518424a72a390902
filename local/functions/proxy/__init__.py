"""The host's proxy, imitated: what Kestrel and YARP do to requests, answers and failures.

`caller` serves a caller's connection: it reads `head` and `body`, has the request `rewritten`, and
`forward` sends it to the worker, whose answer goes back through `answer`. Measured on the real proxy;
the tests in tests/local/functions run against both.
"""
