"""The node agent: serves containerd's pulls and streams blobs from the nearest peer that holds them.

The rooms stand in the order in which a pull walks through them: ``oci`` (the specs, pure),
``listen`` (sockets and HTTP), ``content`` (what this node has), ``holders`` (who else has it),
``members`` (who is there), ``pull`` (what to do next, pure), ``transfer`` (doing it), ``observe``.
``app`` wires them together.
"""
