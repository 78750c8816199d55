"""Chroma's HTTP API, version 2, on a vexfs database: `vexctl serve`.

    _connection.py   HTTP/1.1 on a socket: httptools parses, limits and deadlines are ours
    _app.py          request -> route -> handler -> response; what runs where, and how much of it
    _routes.py       the table of routes, which the router and the OpenAPI document are made from
    _records.py _collections.py _system.py     the handlers
    _bodies.py _vectors.py                     JSON bodies, decoded by type
    _auth.py _config.py                        tokens; vexfs.toml
    _run.py _supervisor.py _dispatch.py        one process; several; who gets which connection

A handler is a plain function that calls the API class and returns JSON.  Nothing of a request is
ever imported, unpickled or used as a path, and the configuration of an embedding function is data
that the server keeps and gives back.
"""
