"""Azure Functions and uvicorn, imported without command lines, servers for developers and test clients.

uvicorn's package imports its command line and what supervises many processes. That of werkzeug, which has
the headers and forms of Azure Functions, imports a server for developers and a client for tests. Together
they are 6 % of a start's CPU time.
"""

from meter.adapters.libraries.later import run_later

run_later("uvicorn", Config="config")
run_later("werkzeug", datastructures="", exceptions="", formparser="", http="")

# ruff: noqa: E402
import azure.functions as func  # after that
from uvicorn.config import Config as Config
from uvicorn.server import Server as Server

__all__ = ["Config", "Server", "func"]
