"""OCPP: the local central system. `server` is the way in; `station` the session; `v16` and `profiles` the words.

Source: OCPP 1.6 edition 2, OCPP-J 1.6 and its security extension; what real stations do differently is in the modules.
"""
