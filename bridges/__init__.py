"""How Spikeloop talks: the environment's process on one side, the network's on the other.

``wire`` is the format of the bytes, ``protocol`` the rules of a conversation (neither knows a socket), ``addresses``
opens the sockets, ``host`` and ``client`` are the two ends. The page ``docs/wire.md`` has all that somebody needs who
writes a client in another language.
"""
