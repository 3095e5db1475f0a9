"""A TCP and Unix proxy to run: `python -m uringloop proxy LISTEN UPSTREAM...`.

Each connection that is accepted gets one to an upstream, and `uringloop.relay` carries the
bytes. Nothing outside the command line imports this package; `uringloop` itself works
without it and without what it needs (click, rich: the extra `cli`).

    addresses, back_off, proxy_protocol   pure
    upstreams                             who is next, and who is left alone
    listening, tls                        sockets and contexts, made before anything runs
    connection, server                    one client's life, and all of them
    log, status                           lines, and what a terminal shows
    serving, supervisor, command          one process, several, and their command line
"""
