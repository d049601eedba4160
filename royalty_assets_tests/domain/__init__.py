"""Tests of the pure domain: oracles and properties; nothing here opens a file or a socket."""
